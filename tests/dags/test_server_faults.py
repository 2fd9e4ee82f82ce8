"""Connections to SFTP, mail and database servers whose settings cannot be used; see also the cloud's."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk._shared.secrets_masker.secrets_masker import redact
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from data_export.check.check import check_mail
from data_export.delivery.base import Destination
from data_export.delivery.email.send import connected
from data_export.delivery.sftp.config import SftpConfig
from data_export.errors import ConfigError, PermanentError
from data_export_airflow.connections.clients import destination, smtp_factory
from data_export_airflow.connections.source import source_dsn
from demo.servers.smtp import SmtpServer
from tests.customers import export
from tests.dags.bad_connection import CANARY, define, opened, refusal

PEM = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBnZSyjYHGkgzDWLNRyLbIGHGzTKVcmKXRcwTLhUsNEr"


def sftp(monkeypatch: pytest.MonkeyPatch, extra: dict[str, object], **changes: object) -> Destination:
    fields = {"conn_type": "sftp", "host": "127.0.0.1", "port": 9, "login": "acme"} | changes
    define(monkeypatch, **fields, extra={"host_key": HOST_KEY, "private_key": PEM} | extra)
    config = {"export_images": True, "conn_id": "bad", "sftp_remote_path": "/x"}
    target = export(connector_type="sftp", connector_config=config)
    assert isinstance(target.connector_config, SftpConfig)
    settings: Any = SimpleNamespace(limits=SimpleNamespace(sites_at_once=4), targets=None)
    return destination("acme", target, settings)


class TestSftp:
    @pytest.mark.parametrize("key", ["private_key", "key_file", "private_key_passphrase", "host_key"])
    @pytest.mark.parametrize("value", [5, [CANARY], {"a": CANARY}, True])
    def test_what_must_be_text_is_refused_otherwise(
        self, key: str, value: object, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refusal(lambda: sftp(monkeypatch, {key: value}), f"has a {key} in its extra that is no text")

    @pytest.mark.parametrize("field", ["host", "login"])
    def test_a_server_and_a_user_are_needed(self, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
        refusal(lambda: sftp(monkeypatch, {}, **{field: ""}), "lacks host or login")

    @pytest.mark.parametrize("changes", [{"host": f"{'a' * 70}.example"}, {"host": "a..b"}, {"port": 99999}], ids=str)
    def test_what_no_server_can_be_called_fails_at_once(
        self, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(ConfigError, match="is not valid in SSH"):
            opened(sftp(monkeypatch, {}, **changes))

    @pytest.mark.parametrize(
        "extra",
        [
            {"private_key": PEM.replace("\n", "\\n")},
            {"private_key": PEM[:120]},
            {"private_key": CANARY},
            {"private_key": None, "key_file": "/no\u0000where"},
        ],
        ids=["line ends escaped", "cut off", "no key", "no file name"],
    )
    def test_a_key_that_is_none_fails_at_once(self, extra: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigError, match="is not a private key that OpenSSH would read: correct it") as caught:
            opened(sftp(monkeypatch, extra))
        assert CANARY not in str(caught.value)

    def test_no_line_of_the_key_is_ever_logged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__CORE__HIDE_SENSITIVE_VAR_CONN_FIELDS", "true")
        sftp(monkeypatch, {})
        for line in PEM.splitlines()[1:-1]:
            assert line not in redact(f"asyncssh read {line} of a file")


class TestMail:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Any:
        with SmtpServer(tmp_path, login=("exporter", CANARY), tls=False) as server:
            yield server

    def mail(self, monkeypatch: pytest.MonkeyPatch, port: int, changes: dict[str, Any]) -> None:
        extra = {"disable_ssl": True, "disable_tls": True, "retry_limit": 1, "timeout": 3}
        fields = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "login": "exporter", "password": CANARY}
        define(monkeypatch, **(fields | changes | {"extra": extra | changes.get("extra", {})}))

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"host": ""}, "has no host"),
            ({"password": None}, "has half a login"),
            ({"login": None}, "has half a login"),
            ({"extra": {"disable_tls": "false"}}, "has disable_tls as the text 'false', which Airflow takes for true"),
            ({"extra": {"disable_ssl": "no"}}, "has disable_ssl as the text 'no', which Airflow takes for true"),
            ({"host": "a..b"}, "cannot be used (UnicodeError)"),
            ({"password": "caf\u00e9"}, "cannot be used (UnicodeEncodeError)"),
            ({"extra": {"retry_limit": "x"}}, "cannot be used (ValueError)"),
            ({"extra": {"timeout": CANARY}}, "cannot be used (ValueError)"),
            ({"extra": {"ssl_context": CANARY, "disable_ssl": False}}, "cannot be used (RuntimeError)"),
        ],
        ids=str,
    )
    def test_settings_that_are_none_are_refused(
        self, server: SmtpServer, changes: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.mail(monkeypatch, server.port, changes)
        refusal(lambda: smtp_factory("bad")(), words)

    def test_tls_where_the_server_begins_without_is_no_network_fault(
        self, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.mail(monkeypatch, server.port, {"extra": {"disable_ssl": False}})
        (result,) = check_mail(smtp_factory("bad"), "a@b.example", ["c@d.example"])
        assert "set disable_ssl in the SMTP connection's extra for STARTTLS" in result.detail
        with pytest.raises(PermanentError):
            connected(smtp_factory("bad"))


class TestSource:
    @pytest.mark.parametrize(
        "changes",
        [{"host": "[::1]"}, {"host": "[::1"}, {"host": "x]"}],
        ids=str,
    )
    def test_an_address_that_is_none_is_refused(
        self, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        define(monkeypatch, **({"conn_type": "postgres", "host": "x", "login": "u", "password": CANARY} | changes))
        refusal(lambda: source_dsn("bad"), "write an IPv6 address without")
