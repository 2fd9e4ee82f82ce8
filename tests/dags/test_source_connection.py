"""Every setting of the source's connection reaches libpq, on real servers: with TLS, a socket, several hosts."""

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import psycopg
import pytest
from airflow.providers.postgres.hooks.postgres import PostgresHook

from data_export.config.platform import load_platform
from data_export.errors import ConfigError, CredentialsUnavailable, SourceRejected
from data_export.limits import limits_of
from data_export.plan import prepare
from data_export.source.database import open_source
from data_export.source.queries import Query
from data_export.window import ExportWindow
from data_export_airflow.connections.source import source_dsn
from data_export_airflow.execution import auditing, steps
from demo.servers.postgres import PostgresServer
from tests.customers import SITE, export
from tests.unit.source_kit import check_source

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
ODD = "a b'c\\d@e/f?g=h&i%20j:k#é\"://x"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """Debian's PostgreSQL, whose build has TLS, with a certificate for the name localhost."""
    if not DEBIAN:
        pytest.skip("no PostgreSQL with TLS: its cases are not tested (apt-get install postgresql)")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "server.key", folder / "server.crt"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    for path in (key, certificate):
        path.chmod(0o640 if os.geteuid() == 0 else 0o600)
        if os.geteuid() == 0:
            os.chown(path, 0, 65534)
    settings = {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
    settings |= {"unix_socket_directories": str(folder)}
    folder.chmod(0o777)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEMO_POSTGRES_BIN", str(DEBIAN[-1].parent))
        with PostgresServer(tmp_path_factory.mktemp("postgres"), durable=False, settings=settings) as running:
            running.create_database("source")
            yield running


@pytest.fixture
def certificate(server: PostgresServer) -> str:
    return server._settings["ssl_cert_file"]


def define(monkeypatch: pytest.MonkeyPatch, server: PostgresServer, **changes: object) -> str:
    fields = {"conn_type": "postgres", "host": "localhost", "port": server.port, "schema": "source"}
    fields |= {"login": "postgres", "password": server.password} | changes
    monkeypatch.setenv("AIRFLOW_CONN_SRC", json.dumps({name: value for name, value in fields.items() if value}))
    return source_dsn("src")


def asked(dsn: str, text: str) -> object:
    with open_source(dsn) as source:
        return source.value(Query(text, ((0, len(text), Path("x.sql"), True),)))


TLS = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


def test_tls_settings_of_the_extra_are_kept(
    server: PostgresServer, certificate: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    verified = {"sslmode": "verify-full", "sslrootcert": certificate}
    assert asked(define(monkeypatch, server, extra=verified), TLS) is True
    assert asked(define(monkeypatch, server, extra={"sslmode": "disable"}), TLS) is False
    (tmp_path / "other.crt").write_text(Path(certificate).read_text()[:64] + "\n")
    for changes in (
        {"extra": {"sslmode": "verify-full"}},
        {"extra": verified, "host": "127.0.0.1"},
        {"extra": verified | {"sslrootcert": str(tmp_path / "other.crt")}},
        {"extra": {"sslmode": "verify-ful"}},
    ):
        with pytest.raises(SourceRejected, match=r"source\.conn_id"):
            asked(define(monkeypatch, server, **changes), TLS)


def test_tls_settings_of_a_uri_are_kept(
    server: PostgresServer, certificate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"postgresql://postgres:{quote(server.password, safe='')}@localhost:{server.port}/source"
    monkeypatch.setenv("AIRFLOW_CONN_SRC", f"{uri}?sslmode=verify-full&sslrootcert={quote(certificate, safe='')}")
    assert asked(source_dsn("src"), TLS) is True
    monkeypatch.setenv("AIRFLOW_CONN_SRC", f"{uri}?sslmode=verify-full")
    with pytest.raises(SourceRejected, match="certificate"):
        asked(source_dsn("src"), TLS)


def test_a_server_without_tls_is_refused_where_tls_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with PostgresServer(tmp_path / "plain", durable=False) as plain:
        plain.create_database("source")
        dsn = define(monkeypatch, plain, extra={"sslmode": "require"})
        with pytest.raises(SourceRejected, match="does not support SSL"):
            asked(dsn, TLS)


def test_check_says_which_tls_is_in_use(
    server: PostgresServer, certificate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(**extra: str) -> tuple[bool, str]:
        result, *_ = check_source(define(monkeypatch, server, extra=extra), export())
        return result.ok, result.detail

    ok, detail = said(sslmode="verify-full", sslrootcert=certificate)
    assert ok
    assert detail.startswith("TLSv1.")
    assert detail.endswith("sslmode verify-full: certificate and host name verified")
    assert "certificate not verified: set sslmode to verify-full" in said(sslmode="require")[1]
    assert said(sslmode="disable")[1].startswith("not encrypted (sslmode disable)")
    ok, detail = said(sslmode="verify-full")
    assert not ok
    assert "source.conn_id" in detail


def test_an_unknown_setting_is_refused_by_name(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, words in {"sslmod": 'invalid connection option "sslmod"', "x y": "'x y' in its extra"}.items():
        with pytest.raises((SourceRejected, ConfigError), match=words):
            asked(define(monkeypatch, server, extra={name: "require"}), TLS)
    with pytest.raises(ConfigError, match="a options in its extra that is no text"):
        define(monkeypatch, server, extra={"options": ["-c", "x"]})


def test_other_settings_are_kept(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"application_name": "it's \\ ours", "options": "-c geqo_threshold=7", "keepalives": True, "passfile": None}
    dsn = define(monkeypatch, server, extra=extra)
    assert asked(dsn, "SELECT current_setting('application_name')") == "it's \\ ours"
    assert asked(dsn, "SELECT current_setting('geqo_threshold')") == "7"
    assert asked(define(monkeypatch, server), "SELECT current_setting('application_name')") == "data_export"


def test_the_host_may_be_a_folder_or_several(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = server._settings["unix_socket_directories"]
    by_socket = define(monkeypatch, server, host=folder)
    assert asked(by_socket, "SELECT inet_server_addr() IS NULL") is True
    uri = f"postgresql://postgres:{quote(server.password, safe='')}@{quote(folder, safe='')}:{server.port}/source"
    monkeypatch.setenv("AIRFLOW_CONN_SRC", uri)
    assert asked(source_dsn("src"), "SELECT inet_server_addr() IS NULL") is True
    for hosts in (f"127.0.0.1:1,localhost:{server.port}", f"{folder}/none,localhost", f"localhost:{server.port}"):
        assert asked(define(monkeypatch, server, host=hosts), "SELECT inet_server_addr() IS NULL") is False


def test_any_character_may_be_in_login_password_and_database(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        role, database = psycopg.sql.Identifier(ODD), psycopg.sql.Identifier(ODD)
        create = psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, psycopg.sql.Literal(ODD))
        admin.execute(create)
        admin.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(database))
    dsn = define(monkeypatch, server, login=ODD, password=ODD, schema=ODD)
    assert asked(dsn, "SELECT current_user::text || current_database()") == ODD + ODD
    with pytest.raises(SourceRejected, match="authentication failed") as caught:
        asked(define(monkeypatch, server, login="nobody", password=ODD), TLS)
    assert ODD not in str(caught.value)


def test_a_token_of_amazon_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fields = {"conn_type": "postgres", "host": "db.example", "login": "reader", "extra": {"iam": True}}
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE_TEST", json.dumps(fields))
    with pytest.raises(ConfigError, match="'source_test' cannot be used"):
        source_dsn("source_test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with pytest.raises(CredentialsUnavailable, match="AWS gives no token for its login"):
        source_dsn("source_test")


def test_each_connection_of_a_step_and_of_an_audit_has_a_token_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of Amazon's lives for 15 minutes; a task connects again hours later."""
    settings, exported, numbers = load_platform(), export(), count(1)
    fields = {"conn_type": "postgres", "host": "db.example", "login": "reader", "extra": {"iam": True}}
    monkeypatch.setenv(f"AIRFLOW_CONN_{settings.source.conn_id.upper()}", json.dumps(fields))
    monkeypatch.setattr(PostgresHook, "get_iam_token", lambda *_: ("reader", f"token-{next(numbers)}", 5432))
    given: list[Any] = []
    monkeypatch.setattr(steps, "extract_site", lambda *arguments, **_: given.append(arguments[3]))
    monkeypatch.setattr(steps, "store", lambda *_: None)
    window = ExportWindow(datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC))
    plan = prepare("acme", exported, window, limits_of("acme", exported, settings.limits), datetime.now(UTC))
    steps.Steps(plan, settings).extract(UUID(SITE), 1)
    given.append(auditing._source(exported, settings).dsn)
    made = [dsn().partition("password=")[2].split()[0] for dsn in given for _ in range(2)]
    assert made == ["'token-1'", "'token-2'", "'token-3'", "'token-4'"]
