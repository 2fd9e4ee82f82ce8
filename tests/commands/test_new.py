"""`new`: right at once, commented, and free of what the example says of others."""

import json
import re
from pathlib import Path

import pytest

from data_export.config.load import load_customer
from data_export.config.platform import ROOT
from data_export.config.sites import names_of
from data_export_airflow.commands.cli import main

SITE, OTHER = "433a60f6-9756-473e-b1e9-9e89e24bb787", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"
BLOB = "acme.blob.core.windows.net/in/exports/"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKVxyfTCcjn26PI+Tfr7ObEb3hvLDhy0UdbwohIWOB5T"
TARGETS = {
    "gs": "gs://acme-bucket/exports/",
    "s3": "s3://acme-bucket/exports/",
    "abfs": "abfs://exports@acmeaccount/exports/",
    "sftp": "sftp://acme@sftp.acme.example:2222/in/exports",
    "email": "bi@acme.example, ops@acme.example",
}


def needed(scheme: str) -> list[str]:
    """The flags without which there is no file."""
    server = [f"connector_config.sftp_host_key={KEY}", "connector_config.sftp_private_key_path=/keys/acme"]
    more = [word for pair in server for word in ("--set", pair)] if scheme == "sftp" else []
    return ["--site", SITE, "--target", TARGETS[scheme], *more]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    return tmp_path


def test_all_by_flags(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--site",
        SITE,
        "--site",
        OTHER,
        "--target",
        "s3://bucket/x/",
        "--interval",
        "0 6 * * 1",
        "--no-images",
    ]
    more = ["--timezone", "Europe/Paris", "--start-date", "2025-04-07T06:00:00", "--set", "delivery_receipt=true"]
    assert main(["new", "acme", *arguments, *more]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{folder}/acme.yaml is written.")
    assert "airflow dags unpause data_export__acme" in out
    export = load_customer(folder / "acme.yaml")
    assert (export.scheme, export.interval, len(export.site_id)) == ("s3", "0 6 * * 1", 2)
    assert (export.export_images, export.delivery_receipt) == (False, True)
    assert main(["validate"]) == 0


def test_a_server_by_flags(folder: Path) -> None:
    key = [
        "--set",
        "connector_config.sftp_private_key_path=/keys/acme",
        "--set",
        f"connector_config.sftp_host_key={KEY}",
    ]
    assert main(["new", "acme", "--site", SITE, "--target", "sftp://us@host.example/in", *key]) == 0
    by_connection = ["--target", "sftp:///in2", "--set", "connector_config.conn_id=theirs"]
    assert main(["new", "beta", "--site", SITE, *by_connection]) == 0
    assert {load_customer(folder / f"{name}.yaml").scheme for name in ("acme", "beta")} == {"sftp"}


@pytest.mark.parametrize("scheme", list(TARGETS))
def test_of_every_connector(scheme: str, folder: Path) -> None:
    assert main(["new", "acme", *needed(scheme), "--start-date", "2025-04-01"]) == 0
    export = load_customer(folder / "acme.yaml")
    assert export.scheme == scheme
    assert export.model_dump(exclude={"connector_config"}, exclude_defaults=True, mode="json") == {
        "site_id": [SITE],
        "interval": "daily",
        "start_date": "2025-04-01",
        "connector_type": export.connector_type,
    }
    (example,) = (path for path in (ROOT / "include/examples").glob("*.yaml") if load_customer(path).scheme == scheme)
    comments = [line for line in example.read_text().splitlines() if line.lstrip().startswith("#")]
    text = (folder / "acme.yaml").read_text()
    assert [line for line in text.splitlines() if line in comments] == comments
    in_force = "\n".join(line for line in text.splitlines() if not line.strip().startswith("#"))
    for value in ("9b1deb4d", "customer", "platform", "deepomatic", "data_export_", "2025-03"):
        assert value not in in_force, "another customer's"


def test_the_help_and_these_cases_name_every_connector(capsys: pytest.CaptureFixture[str]) -> None:
    examples = {load_customer(path).scheme for path in (ROOT / "include/examples").glob("*.yaml")}
    assert {*TARGETS} == examples
    with pytest.raises(SystemExit):
        main(["new", "--help"])
    named = re.findall(r"--connector\s+\{([\w,]+)\}", capsys.readouterr().out)
    assert {name for names in named for name in names.split(",")} == examples


def test_what_the_server_is_told_comes_from_the_target(folder: Path) -> None:
    assert main(["new", "acme", *needed("sftp"), "--no-images"]) == 0
    assert load_customer(folder / "acme.yaml").connector_config.model_dump(exclude_defaults=True) == {
        "sftp_host": "sftp.acme.example",
        "sftp_port": 2222,
        "sftp_username": "acme",
        "sftp_private_key_path": "/keys/acme",
        "sftp_host_key": KEY,
        "sftp_remote_path": "/in/exports",
        "export_images": False,
    }


@pytest.mark.parametrize("scheme", list(TARGETS))
def test_keys_that_an_example_has_not_are_added(scheme: str, folder: Path) -> None:
    more = ["owner=a@b.example", "limits.max_window_days=31", "limits.earliest=2024-01-01"]
    more += ["connector_config.if_exists=keep"]
    assert main(["new", "acme", *needed(scheme), *(word for pair in more for word in ("--set", pair))]) == 0
    export = load_customer(folder / "acme.yaml")
    assert (export.owner, export.limits.max_window_days, str(export.limits.earliest)) == (
        "a@b.example",
        31,
        "2024-01-01",
    )
    assert export.connector_config.if_exists == "keep"


def test_lists_and_sections_of_sections_are_set(folder: Path) -> None:
    more = [
        """on_delivery.emails=["a@x.example", 'b@x.example', ]""",
        "on_delivery.webhook.url=https://hooks.x.example/in",
    ]
    more += ["on_delivery.webhook.secret=env:DATA_EXPORT_SECRET_X", "audit.days=7"]
    assert main(["new", "acme", *needed("gs"), *(word for pair in more for word in ("--set", pair))]) == 0
    export = load_customer(folder / "acme.yaml")
    assert export.on_delivery is not None
    assert export.on_delivery.emails == ("a@x.example", "b@x.example")
    assert export.on_delivery.webhook is not None
    assert str(export.on_delivery.webhook.url) == "https://hooks.x.example/in"
    assert export.audit is not None


def test_what_is_next_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "acme", "--json", *needed("gs")]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["file"], made["dag_id"]) == (f"{folder}/acme.yaml", "data_export__acme")
    assert "python -m data_export_airflow check acme" in made["next"]


@pytest.mark.parametrize("once", [["--interval", "once"], ["--set", "interval=once"]])
def test_once_has_no_backfill(once: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*once, "--start-date", "2025-03-01", "--set", "end_date=2025-04-01", *needed("gs")]
    assert main(["new", "acme", *arguments, "--json"]) == 0
    assert [step for step in json.loads(capsys.readouterr().out)["next"] if "backfill" in step] == []
    (folder / "acme.yaml").unlink()
    assert main(["new", "acme", *arguments]) == 0
    out = capsys.readouterr().out
    assert "airflow dags unpause" in out
    assert "backfill acme" not in out


def test_sites_may_stand_in_one_flag(folder: Path) -> None:
    assert main(["new", "acme", "--site", f"{SITE}, {OTHER}", "--target", TARGETS["gs"]]) == 0
    assert len(load_customer(folder / "acme.yaml").site_id) == 2


def test_sites_may_have_names(folder: Path) -> None:
    names = {"Paris Nord": SITE, 'L\'Île, "Est": {b} #1': OTHER, "null": "f" * 32}
    sites = [word for name, uuid in names.items() for word in ("--site", f"{name}={uuid}")]
    assert main(["new", "acme", *sites, "--target", TARGETS["gs"]]) == 0
    found = load_customer(folder / "acme.yaml").site_id
    assert {name: uuid.hex for uuid, name in names_of(found).items()} == {
        name: uuid.replace("-", "") for name, uuid in names.items()
    }


def test_values_that_yaml_would_take_for_something_else_are_quoted(folder: Path) -> None:
    awkward = '/a: b #c "d" \\'
    needed_but_key = [word for word in needed("sftp") if word != "connector_config.sftp_private_key_path=/keys/acme"][
        :-1
    ]
    more = ["--interval", "*/30 * * * *", "--set", f"connector_config.sftp_private_key_path={awkward}"]
    assert main(["new", "acme", *needed_but_key, *more]) == 0
    export = load_customer(folder / "acme.yaml")
    assert (export.interval, export.connector_config.model_dump()["sftp_private_key_path"]) == ("*/30 * * * *", awkward)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], ["--site: is missing", "--target: is missing: give gs://bucket/folder/, s3://"]),
        (["--site", SITE], ["--target: is missing: give gs://bucket/folder/"]),
        (
            ["--target", "ftp://bucket", "--site", "x", "--interval", "0 25 * * *", "--timezone", "Paris"],
            [
                "--target: 'ftp://bucket' is not one: give gs://",
                "--site: 'x' is not a uuid",
                "its hour '25'",
                "--timezone: 'Paris' is not",
            ],
        ),
        (["--target", "sftp://us:canary@host/x"], ["leave the password out", "--site: is missing"]),
        (["--set", "owner", "--start-date", "16.3."], ["--target: is missing", "--site: is", "--start-date: '16.3.'"]),
        (["--connector", "ftp"], ["'ftp' is not a connector: use one of abfs"]),
        (["--target", "bucket/x", "--site", SITE], ["--target: 'bucket/x' is not one: give gs://"]),
        (["--target", "http://bucket/x"], ["--target: 'http://bucket/x' is not one: give gs://"]),
        (["--connector", "gs", "--target", "bucket/x"], ["--target: 'bucket/x' is not one: give gs://"]),
        (["--site", SITE, "--connector", "gs", "--target", "file:///x/"], ["--target: file:// is for demo and tests"]),
        (["--target", f"https://{BLOB}"], ["--target: the address is spelled in another tool's way: write abfs://in@"]),
        (["--connector", "abfs", "--target", f"https://{BLOB}"], ["tool's way: write abfs://in@acme/exports/"]),
        (
            ["--site", SITE, "--connector", "gs", "--target", "s3://bucket/x/"],
            ["not gs: leave --connector out, or give"],
        ),
        (["--site", SITE, "--target", "sftp://us@host:99999/x"], ["port that is not valid: write 1 to 65535"]),
        (["--site", SITE, "--target", "sftp://us:canary@host/x"], ["leave the password out"]),
        (["--target", "gs://bucket/x", "--interval", "once"], ["--site: is missing", "--set end_date: is missing"]),
        (["--target", "gs://bucket/x", "--site", "x"], ["--site: 'x' is not a uuid"]),
        (["--connector", "gs"], ["--site: is missing", "--target: is missing: add it (gs://bucket/folder/"]),
        (
            ["--target", "sftp://us@host/in"],
            [
                "--site: is missing",
                "--set connector_config.sftp_private_key_path: is missing",
                "--set connector_config.sftp_host_key: is missing",
            ],
        ),
        (["--site", SITE, "--site", SITE, "--target", "gs://bucket/x"], ["twice"]),
        (["--site", f"A={SITE}", "--site", OTHER, "--target", "gs://bucket/x"], [f"--site {OTHER}: write NAME=UUID"]),
        (["--site", f"A={SITE},B={OTHER}", "--target", "gs://bucket/x"], ["write NAME=UUID, once for each site"]),
        (["--site", f"A={SITE}", "--site", f"A={OTHER}"], ["--target: is missing"]),
        (["--site", f"A={SITE}", "--site", f"A={OTHER}", "--target", "gs://bucket/x"], ["another site has that name"]),
        (["--site", "A.b=x", "--target", "gs://bucket/x"], ["--site A.b: 'x' is not a uuid"]),
        (["--site", "A=}: x", "--target", "gs://bucket/x"], ["--site A: '}: x' is not a uuid"]),
        (["--site", f"={SITE}", "--target", "gs://bucket/x"], ["--site: has the name '': write 1 to 80"]),
        (["--site", f"{SITE}=A", "--target", "gs://bucket/x"], ["in the place of a name: write A:"]),
        (["--site", SITE, "--target", "gs://bucket/x", "--set", "connector_config.storage_uri=gs://y/"], ["twice"]),
        (["--site", SITE, "--target", "gs://bucket/x", "--set", "owner=a@b.c", "--set", "owner=d@e.f"], ["twice"]),
        (["--site", SITE, "--target", "gs://bucket/x", "--interval", "dayly"], ["--interval:", "did you mean daily?"]),
        (["--site", SITE, "--target", "gs://bucket/x", "--set", "nonsense=1"], ["is not a key that is known here"]),
        (["--site", SITE, "--target", "gs://bucket/x", "--set", "owner"], ["write KEY=VALUE"]),
    ],
)
def test_everything_that_is_missing_or_wrong_is_named_and_nothing_written(
    arguments: list[str], said: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "acme", *arguments]) == 2
    err = capsys.readouterr().err
    assert [words for words in said if words not in err] == []
    assert "canary" not in err
    assert err.endswith("nothing was written\n")
    assert list(folder.iterdir()) == []


def test_a_collision_is_refused_and_a_file_that_is_there_stays(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "acme", *needed("gs")]) == 0
    text = (folder / "acme.yaml").read_text()
    assert main(["new", "beta", *needed("gs")]) == 2
    assert "beta.yaml and acme.yaml would write the same files" in capsys.readouterr().err
    assert main(["new", "acme", *needed("s3")]) == 1
    assert "is there already" in capsys.readouterr().err
    assert [path.read_text() for path in folder.iterdir()] == [text]


@pytest.mark.parametrize("name", ["../acme", "Acme", "a_b", "", "a/b", "acme.yaml"])
def test_a_name_that_is_not_valid(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", name, *needed("gs")]) == 1
    assert "is not an export's name" in (err := capsys.readouterr().err)
    assert not name.strip("./") or "(did you mean " in err


def test_a_folder_that_is_not_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(folder / "gone"))
    assert main(["new", "acme", *needed("gs")]) == 1
    assert "cannot be written (No such file or directory): create the folder" in capsys.readouterr().err
