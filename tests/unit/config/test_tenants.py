"""Nobody's file leaves the bounds of its customer, and nothing is delivered into the platform's own stores."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from data_export.config.load import load_customers
from data_export.config.models import EXPORT
from data_export.config.platform import load_platform
from data_export.config.tenants import load_tenants, require_bounds
from data_export.config.validate import load_values
from data_export.errors import ConfigError

SITE, OTHER = "433a60f6-9756-473e-b1e9-9e89e24bb787", "533a60f6-9756-473e-b1e9-9e89e24bb787"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBKmDUYdhbUUG9vTjPLPwTbYPn2AtXoAhVrMMGCZV9xu"
ACME: dict[str, Any] = {
    "sites": [SITE],
    "targets": [
        "gs://acme-*/",
        "s3://shared/acme/",
        "abfs://acme-*@acmedata/exports/",
        "sftp://sftp.acme.example/in/",
        "sftp://[::1]:2222/~/x",
        "sftp://MÜNCHEN.example/in/",
        "sftp://[2001:DB8:0:0::0001]:22/in/",
    ],
    "conn_ids": ["acme_*"],
    "impersonate": ["acme@platform.example"],
    "email_domains": ["acme.example", "*.acme.example", "münchen.example"],
}


def write(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, ensure_ascii=False))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATA_EXPORT_TARGETS__ALLOW_LOCAL", "true")
    monkeypatch.setenv("DATA_EXPORT_TENANTS_FILE", str(tmp_path / "tenants.yaml"))
    write(tmp_path / "tenants.yaml", {"acme": ACME, "other": {"sites": [OTHER], "targets": ["gs://other/"]}})
    folder = tmp_path / "customers"
    folder.mkdir()
    return folder


def values(connector: str = "cloud_storage", **changes: Any) -> dict[str, Any]:
    top = {key: changes.pop(key) for key in ("customer", "site_id") if key in changes}
    known: dict[str, dict[str, Any]] = {
        "cloud_storage": {"storage_uri": "gs://acme-data/x/", "export_images": False},
        "email": {"emails": ["bi@acme.example"]},
        "sftp": {
            "export_images": False,
            "sftp_host": "sftp.acme.example",
            "sftp_username": "acme",
            "sftp_host_key": KEY,
            "sftp_private_key_path": "/keys/acme",
            "sftp_remote_path": "/in/x",
        },
    }
    head = {"customer": "acme", "site_id": [SITE], "interval": "daily", "start_date": "2025-03-16"}
    return head | {"connector_type": connector, "connector_config": known[connector] | changes} | top


def problems(folder: Path, file: dict[str, Any]) -> list[str]:
    write(folder / "acme.yaml", file)
    found = [str(problem) for problem in load_customers(folder).problems]
    try:  # what each step of a run asks says the same
        require_bounds("acme", EXPORT.validate_python(file), load_platform())
        assert not found
    except ConfigError:
        assert found
    return found


def to(uri: str) -> dict[str, Any]:
    return values(storage_uri=uri)


@pytest.mark.parametrize(
    "file",
    [
        to("gs://acme-data/"),
        to("gs://acme-1/x"),
        to("s3://shared/acme"),
        to("s3://shared/acme/deep/er/"),
        to("abfs://acme-data@acmedata/exports/x/"),
        values(conn_id="acme_bucket", impersonate="acme@platform.example"),
        values("email"),
        values("email", emails=["BI@ACME.example", "a@eu.acme.example", "b@a.b.acme.example"]),
        values("email", emails=["bi@xn--mnchen-3ya.example"]),
        values("sftp"),
        values("sftp", sftp_host="SFTP.acme.example", sftp_remote_path="/in"),
        values("sftp", sftp_host="::1", sftp_port=2222, sftp_remote_path="x/y"),
        values("sftp", sftp_host="0:0:0:0:0:0:0:1", sftp_port=2222, sftp_remote_path="x/y"),
        values("sftp", sftp_host="2001:db8::1"),
        values("sftp", sftp_host="xn--mnchen-3ya.example"),
        values(customer="other", site_id=[OTHER], storage_uri="gs://other/x/"),
    ],
)
def test_what_is_within_the_bounds_passes(folder: Path, file: dict[str, Any]) -> None:
    assert problems(folder, file) == []


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (values(customer=None), "customer: is missing, and"),
        (values(customer="nobody"), "customer: 'nobody' is not in"),
        (values(site_id=[SITE, OTHER]), f"site_id[1]: {OTHER} is not among the sites of customer acme"),
        (to("gs://acme/"), "storage_uri: 'gs://acme/' is not among the targets"),
        (to("gs://evil-acme-data/"), "is not among the targets"),
        (to("s3://acme-data/"), "is not among the targets"),
        (to("s3://shared/acme-evil/"), "is not among the targets"),
        (to("s3://shared/ACME/"), "is not among the targets"),
        (to("s3://shared/"), "is not among the targets"),
        (to("abfs://acme-data@evil/exports/"), "is not among the targets"),
        (to("abfs://evil@acmedata/exports/"), "is not among the targets"),
        (to("abfs://acme-data@acmedata/"), "is not among the targets"),
        (values(conn_id="other_bucket"), "conn_id: 'other_bucket' is not among the conn_ids"),
        (values(conn_id="xacme_bucket"), "is not among the conn_ids"),
        (values(conn_id="ACME_bucket"), "is not among the conn_ids"),
        (values(impersonate="other@platform.example"), "is not among the impersonate"),
        (
            values("email", emails=["a@acme.example", "a@evil.example"]),
            "emails[1]: evil.example is not among the email",
        ),
        (values("email", emails=["a@acme.example.evil.example"]), "is not among the email_domains"),
        (values("email", emails=["a@evilacme.example"]), "is not among the email_domains"),
        (values("sftp", sftp_host="evil.example"), "is not among the targets"),
        (values("sftp", sftp_port=2222), "is not among the targets"),
        (values("sftp", sftp_host="2001:db8::2"), "is not among the targets"),
        (values("sftp", sftp_host="xn--mnchen-3ya.evil"), "is not among the targets"),
        (values("sftp", sftp_remote_path="in/x"), "is not among the targets"),
        (values("sftp", sftp_remote_path="/inner"), "is not among the targets"),
        (values("sftp", sftp_remote_path="/"), "is not among the targets"),
    ],
)
def test_what_leaves_the_bounds_is_refused(folder: Path, file: dict[str, Any], words: str) -> None:
    found = problems(folder, file)
    assert words in " ".join(found)
    assert load_customers(folder).exports == {}


def test_a_config_of_a_dag_of_ones_own_is_held_against_them_too() -> None:
    assert load_values("own", values())
    with pytest.raises(ConfigError, match="is not among the targets of customer acme"):
        load_values("own", to("gs://evil/"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("acme: {sites: [nonsense]}", "tenants.yaml:1: acme.sites[0]"),
        ("acme:\n  sites: []\n  targets: [gs://a/../b/]", "tenants.yaml:3: acme.targets[0]"),
        ("acme:\n  sites: []\n  targets: [gs://a%2Fb/]", "is not a target"),
        ("acme:\n  sites: []\n  targets: ['*']", "is not a target"),
        (
            "acme:\n  sites: []\n  targets: ['gs://user@acme/']",
            "write e.g. gs://acme-*/exports/, abfs://exports@acmedata/",
        ),
        ("acme:\n  sites: []\n  targets: ['abfs://acmedata/']", "is not a target"),
        ("acme:\n  sites: []\n  targets: ['abfs://a@b@c/']", "is not a target"),
        ("acme:\n  sites: []\n  targets: ['gs://a*b*c*d*e/']", "is not a target"),
        ("acme:\n  sites: []\n  conn_ids: ['*']", "is not a name"),
        ("acme:\n  sites: []\n  email_domains: ['a@acme.example']", "is not a domain"),
        ("acme:\n  sites: []\n  email_domains: ['*']", "is not a domain"),
        ("acme:\n  sites: []\n  mails: []", "tenants.yaml:3: acme.mails"),
        ("acme: {}", "acme"),
        ("acme: [", "tenants.yaml"),
    ],
)
def test_where_the_tenants_cannot_be_read_nothing_passes(folder: Path, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "tenants.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_tenants()
    assert words in str(caught.value)
    assert "cannot be compared with the tenants" in problems(folder, values())[0]


def test_a_moved_file_that_is_not_there_stops_everything(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tenants.yaml").unlink()
    assert "correct DATA_EXPORT_TENANTS_FILE" in problems(folder, values())[0]


class TestWithoutTenants:
    @pytest.fixture(autouse=True)
    def none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("DATA_EXPORT_TENANTS_FILE")

    def warnings(self, folder: Path, one: dict[str, Any], other: dict[str, Any]) -> list[str]:
        write(folder / "one.yaml", one)
        write(folder / "other.yaml", other)
        loaded = load_customers(folder)
        assert set(loaded.exports) == {"one", "other"}
        return [str(problem) for problem in loaded.problems]

    @pytest.mark.parametrize("other", [to("gs://other/"), to("s3://acme-data/"), values("email"), values("sftp")])
    def test_a_site_that_two_customers_get_is_warned_of(self, folder: Path, other: dict[str, Any]) -> None:
        assert self.warnings(folder, values(), other) == []  # both say that they are acme's
        (found,) = self.warnings(folder, values(customer=None), other | {"customer": None})
        assert "warning: site_id: " in found
        assert "is exported by one.yaml to another place too" in found

    def test_two_folders_of_one_bucket_are_one_customer_s(self, folder: Path) -> None:
        one, other = (to(f"gs://acme/{part}/") | {"customer": None} for part in "ab")
        assert self.warnings(folder, one, other) == []

    @pytest.mark.parametrize(
        ("staging", "target"),
        [
            ("gs://platform/staging/", "gs://platform/staging/"),
            ("gs://platform/staging/", "gs://platform/staging"),
            ("gs://platform/staging/", "gs://platform/staging/deep/"),
            ("gs://platform/staging/", "gs://platform/"),
            ("file:///{}/staging/", "file:///{}/staging/x"),
            ("file:///{}/staging/", "file:///{}/link/x"),
            ("file:///{}/link/", "file:///{}/staging/x"),
        ],
    )
    def test_the_platform_s_own_stores_are_no_target(
        self, folder: Path, tmp_path: Path, staging: str, target: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "staging").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "staging")
        root = str(tmp_path).lstrip("/")
        images = staging.format(root) + "{site_id}/{input_id}"
        for name, value in (("STAGING__URI", staging.format(root)), ("SOURCE__IMAGES_URI", images)):
            with monkeypatch.context() as patch:
                patch.setenv(f"DATA_EXPORT_{name}", value)
                (found,) = problems(folder, to(target.format(root)))
                assert "is never a target" in found
        assert problems(folder, to("gs://platform-other/")) == []


@pytest.mark.parametrize(
    "account",
    [
        "victim@platform.example:generateAccessToken#@acme.example",
        "victim@platform.example:generateAccessToken?quotaUser=@acme.example",
        "victim%40platform.example:generateAccessToken?alt=json&fields=*&x=@acme.example",
        "victim@platform.example,acme@acme.example",
        "../victim@acme.example",
        "acme",
    ],
)
def test_an_account_leads_to_no_other_one(folder: Path, account: str) -> None:
    """It becomes a part of an address at Google, of which a `#` or `?` would cut off what the pattern is about."""
    write(folder.parent / "tenants.yaml", {"acme": ACME | {"impersonate": ["*@acme.example", "acme"]}})
    write(folder / "acme.yaml", values(impersonate=account))
    (problem,) = map(str, load_customers(folder).problems)
    assert "impersonate: " in problem
    assert "is not a service account: write the e-mail of one" in problem


@pytest.mark.parametrize("pattern", ["abfs://acme*/x/", "abfs://acme-*data/x/"])
def test_a_star_does_not_reach_from_the_container_into_the_account(folder: Path, tmp_path: Path, pattern: str) -> None:
    write(tmp_path / "tenants.yaml", {"acme": {"sites": [SITE], "targets": [pattern.replace("*", "*@*", 1)]}})
    assert problems(folder, to("abfs://acme-1@data/x/")) == []
    write(tmp_path / "tenants.yaml", {"acme": {"sites": [SITE], "targets": [pattern]}})
    assert "is not a target" in problems(folder, to("abfs://acme-1@data/x/"))[0]


def test_the_file_has_room_for_thousands_of_customers(folder: Path, tmp_path: Path) -> None:
    tenant = f"  sites: [{SITE}, {OTHER}]\n  targets: ['gs://acme-exports/', 's3://acme/x/']\n  conn_ids: [acme_*]\n"
    (tmp_path / "tenants.yaml").write_text("".join(f"acme{n or ''}:\n{tenant}" for n in range(5000)))
    assert problems(folder, to("gs://acme-exports/")) == []
    (tmp_path / "tenants.yaml").write_text("x" * (4 * 1024 * 1024 + 1))
    assert "is bigger than 4,096 KiB: remove what is no longer used" in problems(folder, values())[0]
    (tmp_path / "tenants.yaml").write_text(f"acme: {{sites: [{', '.join('a' * 200_000)}]}}")
    assert "passes 200,000 values: remove what is no longer used" in problems(folder, values())[0]


def test_the_file_is_read_again_only_once_it_has_changed(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    time.sleep(1.1)  # no longer than this a change may go unseen by its stamp
    first = load_tenants()
    assert load_tenants() is first
    write(file, {"other": {"sites": [OTHER]}})
    assert list(load_tenants() or ()) == ["other"]
