"""A customer file made from an example: right at once, commented, and free of what the example says of others."""

from pathlib import Path
from typing import Any

import pytest

from data_export.config.example import examples, filled
from data_export.config.load import load_customer
from data_export.config.new import new_file, scheme_of, target_values
from data_export.config.problems.problems import BrokenFile
from data_export.errors import ConfigError

SITE = "0d3c6e0c-2d8f-4a63-9c6e-4f2f6e5f0a11"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii"
TARGETS = {
    "gs": "gs://acme-bucket/exports/",
    "s3": "s3://acme-bucket/exports/",
    "sftp": "sftp://acme@sftp.acme.example:2222/in/exports",
    "email": "bi@acme.example, ops@acme.example",
}


def values(scheme: str, **more: Any) -> dict[str, Any]:
    usual = {
        "site_id": [SITE],
        "interval": "daily",
        "start_date": "2025-04-01",
        **target_values(scheme, TARGETS[scheme]),
    }
    if scheme == "sftp":
        usual["connector_config.sftp_private_key_path"] = "/keys/acme"
        usual["connector_config.sftp_host_key"] = KEY
    if scheme != "email":
        usual["connector_config.export_images"] = "false"
    return usual | {key.replace("__", "."): value for key, value in more.items()}


@pytest.mark.parametrize("scheme", list(examples()))
def test_of_every_connector(scheme: str, tmp_path: Path) -> None:
    path = new_file("acme", scheme, values(scheme), tmp_path)
    export = load_customer(path)
    assert (export.scheme, export.interval, str(export.site_id[0])) == (scheme, "daily", SITE)
    assert export.model_dump(exclude={"connector_config"}, exclude_defaults=True, mode="json") == {
        "site_id": [SITE],
        "interval": "daily",
        "start_date": "2025-04-01",
        "connector_type": export.connector_type,
    }
    example = examples()[scheme].read_text().splitlines()
    comments = [line for line in example if line.lstrip().startswith("#")]
    assert [line for line in path.read_text().splitlines() if line in comments] == comments


@pytest.mark.parametrize("scheme", list(examples()))
def test_nothing_in_force_is_another_customers(scheme: str, tmp_path: Path) -> None:
    in_force = [
        line for line in filled(examples()[scheme], values(scheme)).splitlines() if not line.strip().startswith("#")
    ]
    text = "\n".join(in_force)
    for value in ("433a60f6", "9b1deb4d", "customer", "platform", "deepomatic", "data_export_", "2025-03"):
        assert value not in text


def test_what_the_server_is_told_comes_from_the_target(tmp_path: Path) -> None:
    config = load_customer(new_file("acme", "sftp", values("sftp"), tmp_path)).connector_config
    assert config.model_dump(exclude_defaults=True) == {
        "sftp_host": "sftp.acme.example",
        "sftp_port": 2222,
        "sftp_username": "acme",
        "sftp_private_key_path": "/keys/acme",
        "sftp_host_key": KEY,
        "sftp_remote_path": "/in/exports",
        "export_images": False,
    }


@pytest.mark.parametrize("scheme", ["gs", "s3", "email"])
def test_keys_that_an_example_has_not_are_added(scheme: str, tmp_path: Path) -> None:
    more = {"owner": "a@b.example", "limits__max_window_days": "31", "limits__earliest": "2024-01-01"}
    export = load_customer(
        new_file("acme", scheme, values(scheme, **more, connector_config__if_exists="keep"), tmp_path)
    )
    assert (export.owner, export.limits.max_window_days, str(export.limits.earliest)) == (
        "a@b.example",
        31,
        "2024-01-01",
    )
    assert export.connector_config.if_exists == "keep"


def test_values_that_yaml_would_take_for_something_else_are_quoted(tmp_path: Path) -> None:
    awkward = {"interval": "*/30 * * * *", "connector_config__impersonate": 'a: b #c "d" \\'}
    export = load_customer(new_file("acme", "gs", values("gs", **awkward), tmp_path))
    assert export.interval == "*/30 * * * *"
    assert export.connector_config.model_dump()["impersonate"] == 'a: b #c "d" \\'


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        new_file("acme", "gs", values("gs"), tmp_path)
    assert (tmp_path / "acme.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"interval": "dayly"}, "did you mean daily"),
        ({"site_id": [SITE, SITE]}, "twice"),
        ({"nonsense": "1"}, "is not a key that is known here"),
        ({"connector_config__storage_uri": "gs://taken/"}, "acme.yaml and aaa.yaml would write the same files"),
    ],
)
def test_nothing_is_written_that_would_be_refused(more: dict[str, Any], words: str, tmp_path: Path) -> None:
    new_file("aaa", "gs", values("gs", connector_config__storage_uri="gs://taken/"), tmp_path)
    with pytest.raises(BrokenFile, match=words) as broken:
        new_file("acme", "gs", values("gs", **more), tmp_path)
    assert {problem.path for problem in broken.value.problems} == {tmp_path / "acme.yaml"}
    assert [path.name for path in tmp_path.iterdir()] == ["aaa.yaml"]


@pytest.mark.parametrize("name", ["../acme", "Acme", "a_b", "", "-a", "a/b"])
def test_a_name_that_is_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no export's name"):
        new_file(name, "gs", values("gs"), tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no folder: create it"):
        new_file("acme", "gs", values("gs"), tmp_path / "gone")


def test_a_target_tells_its_connector_and_holds_no_password() -> None:
    assert {scheme: scheme_of(target) for scheme, target in TARGETS.items()} == {scheme: scheme for scheme in TARGETS}
    assert scheme_of("bucket/folder") is None
    with pytest.raises(ValueError, match="leave the password out") as error:
        target_values("sftp", "sftp://us:canary@host/in")
    assert "canary" not in str(error.value)
