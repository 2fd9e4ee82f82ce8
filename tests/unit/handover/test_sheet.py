"""The hand-over sheet of each connector: whole, ready to paste, and without anything secret or any foreign markup."""

import json
import re
import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from data_export.config.load import load_customer
from data_export.config.models import AnyExport
from data_export.config.platform import ROOT, PlatformSettings, load_platform
from data_export.errors import ConfigError
from data_export.handover.contents import Expected, Sheet, make_sheet
from data_export.handover.loading import ENGINES, LOADERS, fields, kit, kit_zip
from data_export.handover.render import html, markdown
from data_export.window import ExportWindow
from tests.customers import SITE, export

GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = ("cloud-storage-gs", "cloud-storage-s3", "cloud-storage-abfs", "sftp", "email")
NOW = datetime(2025, 3, 20, 9, tzinfo=UTC)
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKVxyfTCcjn26PI+Tfr7ObEb3hvLDhy0UdbwohIWOB5T"
PRINCIPALS = {
    "export_gs": "exports@platform-project.iam.gserviceaccount.com",
    "export_s3_customer": "arn:aws:iam::123456789012:role/exports",
    "export_abfs_customer": "9a8b7c6d-0000-4000-8000-000000000000",
}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PlatformSettings:
    (tmp_path / "data_export_sftp_key.pub").write_text(f"{PUBLIC} somebody@here\n")
    monkeypatch.setenv("DATA_EXPORT_KEYS_DIR", str(tmp_path))
    monkeypatch.setenv("DATA_EXPORT_NETWORK__EGRESS", '["203.0.113.7", "203.0.113.16/28"]')
    monkeypatch.setenv("DATA_EXPORT_MAIL__CONTACT", "data-team@platform.example")
    monkeypatch.setenv("DATA_EXPORT_MAIL__PLATFORM", "Example Platform")
    monkeypatch.setenv("DATA_EXPORT_TARGETS__PRINCIPALS", json.dumps(PRINCIPALS))
    return load_platform()


def windows(start: datetime = datetime(2025, 3, 19, 23, tzinfo=UTC)) -> list[Expected]:
    days = [start + number * timedelta(days=1) for number in range(4)]
    return [Expected(ExportWindow(one, two), two + timedelta(minutes=5)) for one, two in pairwise(days)]


def sheet(name: str, settings: PlatformSettings, engine: str | None = None) -> Sheet:
    return make_sheet(
        name, load_customer(ROOT / "include" / "examples" / f"{name}.yaml"), settings, windows(), NOW, engine
    )


def of(given: AnyExport, settings: PlatformSettings, name: str = "acme") -> str:
    return markdown(make_sheet(name, given, settings, windows(), NOW, "duckdb"))


def sftp(**changes: Any) -> AnyExport:
    config = {
        "sftp_host": "sftp.acme.example",
        "sftp_username": "exports",
        "sftp_private_key_path": "/opt/airflow/keys/acme",
        "sftp_host_key": PUBLIC,
        "sftp_remote_path": "in/exports",
        "export_images": True,
    }
    return export(connector_type="sftp", connector_config=config | changes)


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({}, 'open sftp://YOUR_USER@sftp.acme.example; mirror {} "in/exports/" acme'),
        ({"sftp_port": 2222}, 'open sftp://YOUR_USER@sftp.acme.example:2222; mirror {} "in/exports/" acme'),
        ({"sftp_host": "2001:db8::1"}, 'open sftp://YOUR_USER@[2001:db8::1]; mirror {} "in/exports/" acme'),
        ({"sftp_remote_path": "/"}, 'open sftp://YOUR_USER@sftp.acme.example; mirror {} "/" acme'),
        ({"sftp_remote_path": "/it's; \"x"}, 'open sftp://YOUR_USER@sftp.acme.example; mirror {} "/it\'s; \\"x/" acme'),
    ],
)
def test_files_are_fetched_by_sftp_alone(changes: dict[str, object], command: str, settings: PlatformSettings) -> None:
    """A server that speaks SFTP need not offer a shell, which rsync needs."""
    (line,) = (line for line in of(sftp(**changes), settings).splitlines() if line.startswith("lftp "))
    left_out = "--exclude-glob inputs/ --exclude-glob .data-export-*"
    assert shlex.split(line) == ["lftp", "-c", command.format(left_out)]


def test_a_copy_from_s3_sees_a_corrected_file_of_the_same_size(settings: PlatformSettings) -> None:
    text = markdown(sheet("cloud-storage-s3", settings, "duckdb"))
    (line,) = (line for line in text.splitlines() if line.startswith("aws s3 sync"))
    assert line.endswith(" --exact-timestamps")


@pytest.mark.parametrize("engine", [None, "duckdb", "postgresql"])
def test_the_command_that_copies_the_files_is_there_once(settings: PlatformSettings, engine: str | None) -> None:
    text = markdown(sheet("cloud-storage-s3", settings, engine))
    assert text.count("\naws s3 sync") == 1


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        ({}, "on your schedule."),
        ({"compression": "gzip"}, "Write `compression = 'GZIP'` there, and end the URIs with `.json.gz`."),
        (
            {"compression": "zstd"},
            "It does not read `.json.zst`: use another loader, or ask us for `compression: gzip`.",
        ),
        ({"file_format": "parquet"}, "ask us for `file_format: json`."),
    ],
)
def test_bigquery_says_what_it_takes_of_the_files(
    settings: PlatformSettings, packed: dict[str, object], words: str
) -> None:
    config = {"storage_uri": "gs://bucket/x/", "export_images": True}
    given = export(connector_type="cloud_storage", connector_config=config, **packed)
    text = markdown(make_sheet("acme", given, settings, windows(), NOW, "bigquery"))
    (line,) = (line for line in text.splitlines() if line.startswith("Put your bucket into"))
    assert line.endswith(words)


@pytest.mark.parametrize("engine", ["bigquery", "snowflake"])
def test_an_engine_that_reads_a_bucket_is_not_offered_for_mailed_files(settings: PlatformSettings, engine: str) -> None:
    text = markdown(make_sheet("acme", export(), settings, windows(), NOW, engine)).partition("\n```sql loaders/")[0]
    assert "It reads a bucket, and these files come by mail: use another loader" in text
    assert "load.sql" not in text


def test_no_server_is_said_to_show_whole_files_alone_if_it_does_not_rename(settings: PlatformSettings) -> None:
    whole, part = "A file is there complete or not at all.", "A file can be seen before it is complete"
    for upload, said, not_said in (("rename", whole, part), ("direct", part, whole)):
        text = of(sftp(sftp_upload=upload), settings)
        assert said in text
        assert not_said not in text


def test_a_copy_from_azure_can_be_repeated(settings: PlatformSettings) -> None:
    """`az` wants the folder to be there, and otherwise gives up at the first file that is."""
    text = markdown(sheet("cloud-storage-abfs", settings, "duckdb"))
    (line,) = (line for line in text.splitlines() if "download-batch" in line)
    assert line.startswith("mkdir -p cloud-storage-abfs && az ")
    assert " --overwrite " in line


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_is_what_was_read_and_found_good(name: str, settings: PlatformSettings) -> None:
    """Without the loader kit, which has tests of its own, and the fields, which are those of the schema."""
    text = markdown(sheet(name, settings, "duckdb"))
    head, _, rest = text.partition("## What the fields mean")
    shown = head + rest[rest.index("## Load the files") :].partition("\n```sql loaders/")[0]
    assert shown == (GOLDEN / f"{name}.md").read_text(), f"tests/unit/handover/golden/{name}.md differs"


@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_is_open_where_the_platform_says_who_it_is(name: str, settings: PlatformSettings) -> None:
    of_us = {"cloud-storage-gs": (f"let exports@platform-project.iam.gserviceaccount.com act as {_SERVICE_ACCOUNT}",)}
    found = sheet(name, settings)
    assert found.open == of_us.get(name, ())
    assert re.findall(r"\bOUR_", markdown(found)) == []


_SERVICE_ACCOUNT = "customer-acme-data-export@platform-project.iam.gserviceaccount.com"


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_open_is_said_with_its_place(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATA_EXPORT_KEYS_DIR", str(tmp_path))
    found = sheet(name, load_platform())
    said = " ".join(found.open)
    assert "set mail.contact in include/platform.yaml" in said
    assert ("set network.egress in include/platform.yaml" in said) == (name != "email")
    for placeholder in set(re.findall(r"\bOUR_[A-Z_]+", markdown(found))):
        assert f"{placeholder} is " in said


def test_a_connection_that_names_the_server_leaves_its_key_and_user_open(settings: PlatformSettings) -> None:
    config = {"conn_id": "acme_sftp", "sftp_remote_path": "/in", "export_images": False}
    found = make_sheet(
        "acme", export(connector_type="sftp", connector_config=config), settings, windows(), NOW, "duckdb"
    )
    assert found.open == ("OUR_PUBLIC_KEY and OUR_USER are those of connection acme_sftp: write them in by hand",)
    text = markdown(found)
    assert "echo 'restrict,command=\"internal-sftp\" OUR_PUBLIC_KEY'" in text
    assert "acme_sftp" not in text


def test_every_field_of_the_schema_is_explained(settings: PlatformSettings) -> None:
    text, found = markdown(sheet("sftp", settings)), [*fields()]
    assert len(found) == 26
    for field in found:
        assert f"| `{field['path']}` | {field['type']} | {field['meaning']} |" in text
    kinds = {field["path"].rpartition(".")[2]: field["type"] for field in found}
    assert (kinds["site_id"], kinds["update_date"], kinds["task_name"]) == ("uuid", "timestamp or null", "text or null")


def test_every_file_of_the_loader_kit_is_in_the_sheet(settings: PlatformSettings) -> None:
    text = markdown(sheet("sftp", settings))
    files = [path for path in LOADERS.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.name for path in LOADERS.iterdir() if path.is_dir()} - {"__pycache__"} == {*ENGINES}
    assert len(files) > 12
    for path in files:
        assert f" loaders/{path.relative_to(LOADERS).as_posix()}\n{path.read_text().rstrip()}\n```" in text
    assert kit_zip() == kit_zip()


@pytest.mark.parametrize("engine", ENGINES)
def test_one_engine_is_enough_for_those_who_have_one(engine: str, settings: PlatformSettings) -> None:
    paths = {path for path, _ in kit(engine)}
    text = markdown(sheet("cloud-storage-gs", settings, engine))
    assert {other for other in ENGINES if f"loaders/{other}/" in text.partition("\n```sql loaders/")[0]} <= {
        engine,
        "python",
    }
    assert "questions.sql" in paths
    assert {path.partition("/")[0] for path in paths} - {"questions.sql", "python", engine} == set()


CANARY = "canary5ecret"


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("form", ["markdown", "html", "json"])
def test_no_secret_is_in_it(
    name: str, form: str, settings: PlatformSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A passphrase in the file, a webhook's secret, and every field of every connection that the export names."""
    everything = {
        "conn_type": "generic",
        **{key: f"{CANARY}-{key}" for key in ("login", "password", "host", "schema")},
        "extra": {
            key: f"{CANARY}-{key}"
            for key in (
                "private_key", "key_file", "host_key", "keyfile_dict", "key_path", "aws_secret_access_key", "role_arn",
                "endpoint_url", "sas_token", "connection_string", "tenant_id", "token",
            )
        },
    }  # fmt: skip
    for conn in (
        "gs",
        "s3",
        "abfs",
        "smtp",
        "staging",
        "images",
        "source",
        "gs_customer",
        "s3_customer",
        "abfs_customer",
    ):
        monkeypatch.setenv(f"AIRFLOW_CONN_EXPORT_{conn.upper()}", json.dumps(everything))
    monkeypatch.setenv("DATA_EXPORT_SECRET_ACME_HOOK", CANARY)
    monkeypatch.setenv("DATA_EXPORT_SIGNING_KEY", CANARY)
    (tmp_path / "data_export_sftp_key").write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{CANARY}\n")
    text = (ROOT / "include" / "examples" / f"{name}.yaml").read_text()
    path = tmp_path / f"{name}.yaml"
    path.write_text(text.replace("var:data_export_sftp_passphrase", CANARY))
    found = make_sheet(name, load_customer(path), settings, windows(), NOW)
    shown = {"markdown": markdown, "html": html, "json": lambda one: json.dumps([one.values, one.open], default=str)}
    said = shown[form](found)
    assert CANARY not in said
    assert "PRIVATE KEY" not in said
    assert "env:" not in said.partition("## Load the files")[0] or form == "json"


HOSTILE = "a`|<img src=x onerror=alert(1)> ; id 'b\" ![x](http:x) ```"


def test_no_markup_and_no_command_comes_from_a_customer_file(settings: PlatformSettings) -> None:
    given = sftp(sftp_remote_path=f"/{HOSTILE}", sftp_username=HOSTILE)
    found = make_sheet("acme", given, settings, windows(), NOW, "duckdb")
    page = html(found)
    assert "<img" not in page
    assert page.count("href=") == page.count('href="#') + page.count('href="data:application/zip;base64,')
    (made,) = re.findall(r"^install -d -o .*$", markdown(found), re.MULTILINE)
    assert shlex.split(made) == ["install", "-d", "-o", HOSTILE, f"/{HOSTILE}"]


@pytest.mark.parametrize("path", ["```", "x/~~~", "`x`"])
def test_no_path_ends_a_block_of_code(settings: PlatformSettings, path: str) -> None:
    page = html(make_sheet("acme", sftp(sftp_remote_path=path), settings, windows(), NOW, "duckdb"))
    (tree,) = [
        block for block in re.findall(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL) if "&lt;input id" in block
    ]
    assert SITE in tree


@pytest.mark.parametrize("name", EXAMPLES)
def test_commands_are_right_for_a_shell_and_policies_are_json(name: str, settings: PlatformSettings) -> None:
    text = markdown(sheet(name, settings))
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        subprocess.run(["bash", "-n"], input=block.encode(), check=True)
    for block in re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        json.loads(block)


def test_a_policy_names_what_the_file_asks_for(settings: PlatformSettings) -> None:
    config = {
        "storage_uri": "s3://bucket/x/",
        "export_images": True,
        "sse": "aws:kms",
        "sse_kms_key_id": "arn:aws:kms:eu-west-1:1:key/k",
        "acl": "bucket-owner-full-control",
    }
    text = of(export(connector_type="cloud_storage", connector_config=config), settings)
    assert '"s3:PutObjectAcl"' in text
    assert '"kms:GenerateDataKey"' in text
    assert "arn:aws:kms:eu-west-1:1:key/k" in text


@pytest.mark.parametrize(
    ("partition", "principal"), [("aws-cn", "arn:aws-cn:iam::1:role/x"), ("aws", "arn:aws:iam::1:user/x")]
)
def test_resources_are_in_the_partition_of_who_writes(
    partition: str, principal: str, settings: PlatformSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_TARGETS__PRINCIPALS", json.dumps({"export_s3": principal}))
    config = {"storage_uri": "s3://bucket/x/", "export_images": True}
    text = of(export(connector_type="cloud_storage", connector_config=config), load_platform())
    assert f'"Resource": "arn:{partition}:s3:::bucket/x/*"' in text
    assert f'"AWS": "{principal}"' in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"interval": "weekly"}, "every week, the week before, from Monday to Monday; 5 min after"),
        ({"interval": "0 6 * * 1"}, r"by the cron expression 0 6 \* \* 1: the time since the one before; 5 min after"),
        ({"limits": {"settle_minutes": 0}}, "from midnight to midnight; from the window's end on"),
        ({"limits": {"late_after_hours": 0.5}}, "If a file is not there 30 min after"),
        ({"end_date": "2026-01-01"}, "| From | 2024-01-01 00:00 to 2026-01-01 00:00, exclusive |"),
        ({"enabled": False}, "Nothing is scheduled yet. This is what a file is called."),
        ({"file_format": "parquet"}, "One row of the file, a work order. `metadata`, `analyzed_value` and `corrected_"),
        ({"file_format": "parquet"}, "-f loaders/duckdb/load_parquet.sql"),
        ({"compression": "gzip"}, "compressed with gzip"),
        ({"export_type": "work-orders-states"}, "ask us for `work-orders-timeline` if you need them"),
    ],
)
def test_it_says_what_the_file_says(changes: dict[str, Any], said: str, settings: PlatformSettings) -> None:
    assert said in of(export(**changes), settings)


def test_many_sites_are_all_named_and_the_layout_is_short(settings: PlatformSettings) -> None:
    sites = [f"00000000-0000-4000-8000-{number:012}" for number in range(40)]
    text = of(sftp().model_copy(update={"site_id": export(site_id=sites).site_id}), settings)
    assert all(f"- `{site}`" in text for site in sites)
    assert text.count("  and 37 more, alike") == 1


def test_a_firewall_of_azure_has_an_option_for_each_kind_of_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_EXPORT_NETWORK__EGRESS", '["203.0.113.7", "2001:db8::/64"]')
    text = markdown(sheet("cloud-storage-abfs", load_platform()))
    assert re.findall(r"network-rule add .* (--ip.*)", text) == [
        "--ip-address 203.0.113.7",
        "--ipv6-address 2001:db8::/64",
    ]


def test_sites_have_their_names(settings: PlatformSettings) -> None:
    text = of(sftp().model_copy(update={"site_id": export(site_id={"Lyon *Sud*": SITE}).site_id}), settings)
    assert f"- `{SITE}` Lyon \\*Sud\\*\n" in text
    assert f"  {SITE}/    Lyon *Sud*\n" in text


@pytest.mark.parametrize(
    ("value", "kept"),
    [("203.0.113.7", "203.0.113.7"), ("203.0.113.7/32", "203.0.113.7"), ("2001:db8::/64", "2001:db8::/64")],
)
def test_an_address_of_ours(value: str, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_EXPORT_NETWORK__EGRESS", json.dumps([value]))
    assert load_platform().network.egress == (kept,)


@pytest.mark.parametrize("value", ["worker.example", "203.0.113.300", "203.0.113.7/28", ""])
def test_what_is_no_address(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_EXPORT_NETWORK__EGRESS", json.dumps([value]))
    with pytest.raises(ConfigError, match=r"is not an address: write an address such as 203\.0\.113\.7"):
        load_platform()
