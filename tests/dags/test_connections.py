"""What comes of an Airflow connection, with the providers' own hooks."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from data_export.errors import ConfigError, TargetUnavailable
from data_export_airflow.connections import smtp_factory, store
from demo.servers.loop_thread import LoopThread
from demo.servers.smtp import SmtpServer
from tests.connectors.tcp_proxy import TcpProxy


def define(monkeypatch: pytest.MonkeyPatch, conn_id: str, **fields: object) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


class TestMail:
    @pytest.fixture
    def hanging_up(self, tmp_path: Path) -> Iterator[TcpProxy]:
        """A mail server, and before it a proxy that hangs up."""
        thread = LoopThread("proxy")
        with SmtpServer(tmp_path, login=("exporter", "s3cret-password"), tls=False) as server:
            proxy = TcpProxy(server.port)
            thread.run(proxy.__aenter__())
            yield proxy
            thread.run(proxy.__aexit__())
        thread.close()

    def mail(self, monkeypatch: pytest.MonkeyPatch, port: int) -> None:
        extra = {"disable_ssl": True, "disable_tls": True, "retry_limit": 2, "timeout": 5}
        login = {"login": "exporter", "password": "s3cret-password"}
        define(monkeypatch, "mail", conn_type="smtp", host="127.0.0.1", port=port, extra=extra, **login)

    def test_a_server_that_hangs_up_once_is_asked_again(
        self, hanging_up: TcpProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.mail(monkeypatch, hanging_up.port)
        hanging_up.drop = 1
        with closing(smtp_factory("mail")()) as client:
            assert client.noop()[0] == 250

    def test_a_server_that_always_hangs_up_is_a_transient_fault(
        self, hanging_up: TcpProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.mail(monkeypatch, hanging_up.port)
        hanging_up.drop = 99
        with pytest.raises(TargetUnavailable, match="the mail server of connection 'mail' is not reached"):
            smtp_factory("mail")()


class TestS3:
    def amazon(self, monkeypatch: pytest.MonkeyPatch, verify: object) -> None:
        define(monkeypatch, "bucket", conn_type="aws", login="key", password="secret", extra={"verify": verify})

    def test_verification_cannot_be_switched_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.amazon(monkeypatch, False)
        with pytest.raises(ConfigError, match="'bucket' has verify: false: certificates are always verified"):
            store("s3://acme/", "bucket")

    def test_authorities_of_the_connection_must_be_the_process_s_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        self.amazon(monkeypatch, "/etc/acme-ca.pem")
        with pytest.raises(ConfigError, match=r"set SSL_CERT_FILE=/etc/acme-ca\.pem on the workers too"):
            store("s3://acme/", "bucket")
        monkeypatch.setenv("SSL_CERT_FILE", "/etc/acme-ca.pem")
        assert store("s3://acme/", "bucket").uri == "s3://acme/"
