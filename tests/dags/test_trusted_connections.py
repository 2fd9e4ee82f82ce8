"""A connection is used for what it is for, by TLS, and a key is a file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_export.config.platform import load_platform
from data_export.delivery.registry import open_store
from data_export.delivery.sftp.connection import login_of_connection
from data_export.delivery.sftp.login import _read_key
from data_export.errors import ConfigError
from data_export_airflow.connections.clients import AirflowConnections, smtp_factory, store
from data_export_airflow.connections.source import source_dsn
from tests.dags.bad_connection import CANARY, define, opened

LOGIN: dict[str, Any] = {"host": "host.example", "login": "key", "password": CANARY}
USES: dict[str, Callable[[], object]] = {
    "gs": lambda: store("gs://acme/", "bad"),
    "s3": lambda: store("s3://acme/", "bad"),
    "abfs": lambda: store("abfs://exports@acme/", "bad"),
    "sftp": lambda: login_of_connection("bad", AirflowConnections()),
    "smtp": lambda: smtp_factory("bad"),
    "postgres": lambda: source_dsn("bad"),
}
RIGHT = {
    "gs": ("google_cloud_platform", "google-cloud-platform"),
    "s3": ("aws", "s3", "AWS"),
    "abfs": ("wasb",),
    "sftp": ("sftp", "ssh"),
    "smtp": ("smtp",),
    "postgres": ("postgres", "postgresql"),
}
ALL = sorted({"http", "generic", *(kind for kinds in RIGHT.values() for kind in kinds)})


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", ["", *ALL])
def test_a_connection_of_another_type_is_refused(use: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"host_key": "ssh-ed25519 AAAA"} if use == "sftp" else {}
    define(monkeypatch, conn_type=kind, extra=extra, **LOGIN)
    if kind in ("", *RIGHT[use]):
        USES[use]()
        return
    with pytest.raises(ConfigError, match=f"Airflow connection 'bad' is of type .*, but {RIGHT[use][0]}") as caught:
        USES[use]()
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("extra", "passes"),
    [
        ({"endpoint_url": "https://s3.acme.example"}, True),
        ({"endpoint_url": "http://s3.acme.example"}, False),
        ({"endpoint_url": " HTTP://s3.acme.example:80/x"}, False),
        ({"service_config": {"s3": {"endpoint_url": "http://10.0.0.1"}}}, False),
        ({"endpoint_url": "http://localhost.evil.example"}, False),
        ({"endpoint_url": "http://127.0.0.1@evil.example"}, False),
        ({"endpoint_url": "http://127.0.0.1.evil.example"}, False),
        ({"host": "http://s3.acme.example"}, False),
        ({"api_endpoint": "http://storage.acme.example"}, False),
        ({"endpoint_url": "http://localhost:9000"}, True),
        ({"endpoint_url": "http://127.0.0.1:9000/"}, True),
        ({"endpoint_url": "http://[::1]:9000"}, True),
    ],
)
def test_a_customer_s_target_is_reached_by_tls(
    extra: dict[str, Any], passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(monkeypatch, conn_type="aws", extra=extra, **LOGIN)
    assert AirflowConnections().read("bad")  # the platform's own stores are its own affair
    if passes:
        assert AirflowConnections("acme", load_platform().targets).read("bad")
        return
    with pytest.raises(ConfigError, match=r"without TLS: write https://, or set targets\.allow_http"):
        AirflowConnections("acme", load_platform().targets).read("bad")
    monkeypatch.setenv("DATA_EXPORT_TARGETS__ALLOW_HTTP", "true")
    assert AirflowConnections("acme", load_platform().targets).read("bad")


@pytest.mark.parametrize(
    ("variable", "kind", "uri"),
    [
        ("AWS_ENDPOINT_URL", "aws", "s3://acme/"),
        ("AWS_ENDPOINT_URL_S3", "aws", "s3://acme/"),
        ("STORAGE_EMULATOR_HOST", "google_cloud_platform", "gs://acme/"),
    ],
)
def test_nor_does_the_environment_lead_it_elsewhere(
    variable: str, kind: str, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"region_name": "eu-west-1"} if kind == "aws" else {"is_anonymous": True}
    define(monkeypatch, conn_type=kind, extra=extra, **LOGIN)
    monkeypatch.setenv(variable, "http://10.0.0.1:9000")
    with pytest.raises(ConfigError, match="without TLS"):
        opened(open_store(uri, "bad", AirflowConnections("acme", load_platform().targets)))


def test_only_a_file_of_a_key_s_size_is_read(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"k" * 65536)
    (tmp_path / "link").symlink_to(key)
    assert _read_key(str(key)) == _read_key(str(tmp_path / "link")) == key.read_bytes()
    (tmp_path / "large").write_bytes(b"k" * 65537)
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "environ").symlink_to("/proc/self/environ")
    names = [str(tmp_path / name) for name in ("large", "empty", "pipe", "environ", ".")]
    for path in [*names, "/dev/zero", "/dev/null", "/proc/self/environ"]:
        with pytest.raises(
            ConfigError, match="is not a file that holds a private key: name a regular file of 1 to 65,536 bytes"
        ):
            _read_key(path)
