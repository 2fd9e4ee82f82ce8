"""Two files that would write the same objects: found however the target is spelled, and never imagined."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from data_export.config.load import Loaded, load_beside, load_customers

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
    "another zone": (gs(), gs() | {"timezone": "Europe/London"}),
    "another length of windows": (gs(), gs() | {"interval": "weekly", "start_date": "2025-03-17"}),
    "once, one day long": (gs(), gs() | {"interval": "once", "end_date": "2025-03-17"}),
    "open end meets later start": (gs(), gs() | {"start_date": "2030-01-01"}),
    "sftp": (sftp(), sftp()),
    "sftp, spelled otherwise": (sftp(), sftp("/x/", sftp_host="HOST.example", sftp_port=22)),
    "sftp by connection": (sftp(conn_id="c"), sftp("/x/", conn_id="c")),
    "s3 by the same connection": (gs("s3://bucket/x", conn_id="c"), gs("s3://bucket/x/", conn_id="c")),
    "s3 by the platform's connection, named in one": (gs("s3://bucket/x"), gs("s3://bucket/x", conn_id="export_s3")),
}
APART = {
    "another folder": (gs(), gs("gs://bucket/y/")),
    "a folder below": (gs(), gs("gs://bucket/x/y/")),
    "another bucket": (gs(), gs("gs://bucket2/x/")),
    "another cloud": (gs(), gs("s3://bucket/x/")),
    "s3 by another connection, perhaps another server": (gs("s3://b-b/x/"), gs("s3://b-b/x/", conn_id="minio")),
    "another site": (gs(), gs() | {"site_id": [OTHER_SITE]}),
    "another type": (gs(), gs() | {"export_type": "work-orders-states"}),
    "one after the other": (gs() | {"end_date": "2026-01-01"}, gs() | {"start_date": "2026-01-01"}),
    "not enabled": (gs(), gs() | {"enabled": False}),
    "mail": (EMAIL, EMAIL),
    "another sftp user, perhaps another root": (sftp(), sftp(sftp_username="we")),
    "another port": (sftp(), sftp(sftp_port=2222)),
    "login folder or root": (sftp("/x"), sftp("x")),
    "sftp by another connection": (sftp(conn_id="c"), sftp(conn_id="d")),
}


@pytest.mark.parametrize("case", COLLIDE)
def test_a_collision_is_told_of_both_files_with_both_names_and_takes_neither_away(case: str, tmp_path: Path) -> None:
    loaded = load_two(tmp_path, *COLLIDE[case])
    for problem, name, other in zip(loaded.problems, ("acme", "beta"), ("beta", "acme"), strict=True):
        assert problem.name == name
        assert f"{name}.yaml and {other}.yaml would write the same files" in problem.message
        assert f"of site {SITE}): change " in problem.message
        assert problem.line is not None
        lines = (tmp_path / f"{name}.yaml").read_text().splitlines()
        assert str(problem.key).rpartition(".")[2] in lines[problem.line - 1]
    assert list(loaded.exports) == ["acme", "beta"]
    assert loaded.broken() == {}
    assert loaded.errors().keys() == {"acme", "beta"}


@pytest.mark.parametrize("case", APART)
def test_what_cannot_meet_is_no_collision(case: str, tmp_path: Path) -> None:
    loaded = load_two(tmp_path, *APART[case])
    assert [str(problem) for problem in loaded.problems if problem.is_error] == []
    assert list(loaded.exports) == ["acme", "beta"]


def test_of_many_files_each_is_told_of_one_that_it_collides_with(tmp_path: Path) -> None:
    load_two(tmp_path, gs(), gs() | {"site_id": [SITE, OTHER_SITE]})
    (tmp_path / "gamma.yaml").write_text((tmp_path / "acme.yaml").read_text().replace(SITE, OTHER_SITE))
    told = [problem.message.partition(" would")[0] for problem in load_customers(tmp_path).problems]
    assert told == ["acme.yaml and beta.yaml", "beta.yaml and acme.yaml", "gamma.yaml and beta.yaml"]


@pytest.mark.parametrize(
    "spelled",
    [SITE, SITE.upper(), SITE.replace("-", ""), f"'{{{SITE}}}'", f"'urn:uuid:{SITE}'", '"\\x34' + SITE[1:] + '"'],
)
def test_beside_an_export_all_are_found_that_could_write_its_files_however_they_spell_a_site(
    spelled: str, tmp_path: Path
) -> None:
    load_two(tmp_path, gs(), gs() | {"site_id": [OTHER_SITE]})
    text = (tmp_path / "acme.yaml").read_text()
    (tmp_path / "gamma.yaml").write_text(text.replace(SITE, spelled))
    (tmp_path / "broken.yaml").write_text(f"{text}nonsense: {SITE}\n")
    (tmp_path / "folder.yaml").mkdir()
    assert load_beside("acme", tmp_path).exports.keys() == {"acme", "gamma"}
    assert load_beside("beta", tmp_path).exports.keys() <= {"beta", "gamma"}


def test_what_can_collide_is_looked_at_by_a_manifest_too(tmp_path: Path) -> None:
    """Which is of all sites, so that two of them in one folder are one object."""
    with_manifest, other = gs() | {"manifest": True}, gs() | {"site_id": [OTHER_SITE]}
    load_two(tmp_path, with_manifest, other)
    assert load_beside("acme", tmp_path).exports.keys() == {"acme"}
    load_two(tmp_path, with_manifest, other | {"manifest": True})
    beside = load_beside("acme", tmp_path)
    assert beside.exports.keys() == {"acme", "beta"}
    assert beside.errors()["acme"]
