"""Two files that would write the same objects: found however the target is spelled, and never imagined."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from data_export.config.load import Loaded, load_customers

SITE, OTHER_SITE = "433a60f6-9756-473e-b1e9-9e89e24bb787", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA" + "A" * 44


def gs(uri: str = "gs://bucket/x/", **config: Any) -> dict[str, Any]:
    return {
        "connector_type": "cloud_storage",
        "connector_config": {"storage_uri": uri, "export_images": True} | config,
    }


def sftp(path: str = "/x", **config: Any) -> dict[str, Any]:
    server = {
        "sftp_host": "host.example",
        "sftp_username": "us",
        "sftp_private_key_path": "/key",
        "sftp_host_key": KEY,
    }
    return {
        "connector_type": "sftp",
        "connector_config": (config if "conn_id" in config else server | config)
        | {"sftp_remote_path": path, "export_images": True},
    }


EMAIL = {"connector_type": "email", "connector_config": {"emails": ["a@customer.example"]}}


def load_two(folder: Path, one: dict[str, Any], other: dict[str, Any]) -> Loaded:
    base = {"site_id": [SITE], "interval": "daily", "start_date": "2025-03-16"}
    for name, values in (("acme", one), ("beta", other)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(base | values))
    return load_customers(folder)


COLLIDE = {
    "the same": (gs(), gs()),
    "a slash at the end": (gs("gs://bucket/x"), gs("gs://bucket/x/")),
    "another account at the same bucket": (gs(), gs(impersonate="x@y.example", conn_id="other")),
    "a site in common": (gs(), gs() | {"site_id": [OTHER_SITE, SITE]}),
    "midnights that sometimes agree": (gs(), gs() | {"timezone": "Europe/London"}),
    "a cron expression that may agree": (gs(), gs() | {"interval": "0 0 * * *"}),
    "once, one day long": (gs(), gs() | {"interval": "once", "end_date": "2025-03-17"}),
    "open end meets later start": (gs(), gs() | {"start_date": "2030-01-01"}),
    "sftp": (sftp(), sftp()),
    "sftp, spelled otherwise": (sftp(), sftp("/x/", sftp_host="HOST.example", sftp_port=22)),
    "sftp by connection": (sftp(conn_id="c"), sftp("/x/", conn_id="c")),
    "s3 by the same connection": (gs("s3://bucket/x", conn_id="c"), gs("s3://bucket/x/", conn_id="c")),
}
APART = {
    "another folder": (gs(), gs("gs://bucket/y/")),
    "a folder below": (gs(), gs("gs://bucket/x/y/")),
    "another bucket": (gs(), gs("gs://bucket2/x/")),
    "another cloud": (gs(), gs("s3://bucket/x/")),
    "s3 by another connection, perhaps another server": (gs("s3://b-b/x/"), gs("s3://b-b/x/", conn_id="minio")),
    "another site": (gs(), gs() | {"site_id": [OTHER_SITE]}),
    "another type": (gs(), gs() | {"export_type": "work-orders-states"}),
    "another length of windows": (gs(), gs() | {"interval": "weekly"}),
    "months and weeks": (gs() | {"interval": "monthly"}, gs() | {"interval": "weekly"}),
    "once, a year long": (gs(), gs() | {"interval": "once", "end_date": "2026-03-16"}),
    "one after the other": (gs() | {"end_date": "2026-01-01"}, gs() | {"start_date": "2026-01-01"}),
    "not enabled": (gs(), gs() | {"enabled": False}),
    "mail": (EMAIL, EMAIL),
    "another sftp user, perhaps another root": (sftp(), sftp(sftp_username="we")),
    "another port": (sftp(), sftp(sftp_port=2222)),
    "login folder or root": (sftp("/x"), sftp("x")),
    "sftp by another connection": (sftp(conn_id="c"), sftp(conn_id="d")),
}


@pytest.mark.parametrize("case", COLLIDE)
def test_a_collision_names_both_files_and_spares_the_first(case: str, tmp_path: Path) -> None:
    loaded = load_two(tmp_path, *COLLIDE[case])
    (problem,) = loaded.problems
    assert problem.path.name == "beta.yaml"
    assert "beta.yaml and acme.yaml would write the same files" in problem.message
    assert f"of site {SITE}): change " in problem.message
    assert problem.line is not None
    lines = (tmp_path / "beta.yaml").read_text().splitlines()
    assert str(problem.key).rpartition(".")[2] in lines[problem.line - 1]
    assert list(loaded.exports) == ["acme"]


@pytest.mark.parametrize("case", APART)
def test_what_cannot_meet_is_no_collision(case: str, tmp_path: Path) -> None:
    loaded = load_two(tmp_path, *APART[case])
    assert [str(problem) for problem in loaded.problems] == []
    assert list(loaded.exports) == ["acme", "beta"]


def test_a_file_that_collides_does_not_stop_a_third(tmp_path: Path) -> None:
    load_two(tmp_path, gs(), gs() | {"site_id": [SITE, OTHER_SITE]})
    (tmp_path / "gamma.yaml").write_text((tmp_path / "acme.yaml").read_text().replace(SITE, OTHER_SITE))
    assert list(load_customers(tmp_path).exports) == ["acme", "gamma"]
