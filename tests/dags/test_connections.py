"""What comes of an Airflow connection, with the providers' own hooks."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncssh
import pytest
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from botocore.httpsession import get_cert_path
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from data_export.check.check import check_mail
from data_export.config.models import EXPORT
from data_export.config.platform import load_platform
from data_export.content import Content
from data_export.delivery.base import Destination
from data_export.delivery.gcs.store import GcsStore
from data_export.errors import ConfigError, TargetUnavailable
from data_export_airflow.connections.clients import destination, smtp_factory, store
from demo.servers.loop_thread import LoopThread
from demo.servers.s3 import S3Server
from demo.servers.sftp import SftpServer
from demo.servers.smtp import SmtpServer
from tests.connectors.tcp_proxy import TcpProxy

HTTPS = {"endpoint_url": "https://127.0.0.1:1"}
#: One certificate in the form that OpenSSL alone reads.
TRUSTED = Path(get_cert_path(True)).read_text().partition("-----END")[0].replace("BEGIN ", "BEGIN TRUSTED ") + (
    "-----END TRUSTED CERTIFICATE-----\n"
)


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

    def test_verification_cannot_be_switched_off(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else whoever sits in between has the password, and the links to all data."""
        with SmtpServer(tmp_path, login=("exporter", "s3cret-password")) as server:
            extra: dict[str, object] = {"disable_ssl": True, "retry_limit": 1, "timeout": 5}
            fields = {"conn_type": "smtp", "host": "127.0.0.1", "port": server.port, "login": "exporter"}
            fields["password"] = "s3cret-password"
            define(monkeypatch, "mail", **fields, extra=extra | {"ssl_context": "none"})
            with pytest.raises(ConfigError, match=r"'mail' has ssl_context: none: .* always verified.*SSL_CERT_FILE"):
                smtp_factory("mail")
            for context in ({}, {"ssl_context": "default"}):
                define(monkeypatch, "mail", **fields, extra=extra | context)
                monkeypatch.delenv("SSL_CERT_FILE", raising=False)
                (result,) = check_mail(smtp_factory("mail"), "a@b.example", ["c@d.example"])
                assert "certificate is not trusted" in result.detail, "not that a setting is wrong"
                assert "SSL_CERT_FILE" in result.detail
                monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
                first, _ = check_mail(smtp_factory("mail"), "a@b.example", ["c@d.example"])
                assert first.detail == "a@b.example, by TLS, certificate verified"

    def test_a_check_says_that_mail_is_not_encrypted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with SmtpServer(tmp_path, login=("exporter", "s3cret-password"), tls=False) as server:
            self.mail(monkeypatch, server.port)
            first, _ = check_mail(smtp_factory("mail"), "a@b.example", ["c@d.example"])
        assert first.ok
        assert "a@b.example, not encrypted: where the server offers TLS, remove disable_tls" in first.detail


class TestS3:
    def amazon(self, monkeypatch: pytest.MonkeyPatch, verify: object) -> None:
        define(monkeypatch, "bucket", conn_type="aws", login="key", password="secret", extra={"verify": verify})

    def test_verification_cannot_be_switched_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.amazon(monkeypatch, False)
        with pytest.raises(ConfigError, match="'bucket' has verify: false: certificates are always verified"):
            store("s3://acme/", "bucket")

    @pytest.mark.parametrize("content", [None, "", "nothing", "folder", TRUSTED])
    @pytest.mark.parametrize("named", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "verify"])
    async def test_a_file_with_no_authorities_is_named(
        self, named: str, content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bundle = tmp_path / "bundle.pem"
        if content == "folder":
            bundle.mkdir()
        elif content is not None:
            bundle.write_text(content)
        for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        extra = dict(HTTPS)
        if named == "verify":
            extra[named] = str(bundle)
        else:
            monkeypatch.setenv(named, str(bundle))
        define(monkeypatch, "bucket", conn_type="aws", login="key", password="secret", extra=extra)
        with pytest.raises(ConfigError, match=r"'bucket': .*bundle\.pem .*AWS_CA_BUNDLE.* holds no certificates"):
            await store("s3://acme/", "bucket").__aenter__()

    @pytest.mark.parametrize("named", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
    async def test_a_variable_that_is_empty_is_a_setting_to_correct(
        self, named: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a file of variables leaves it; boto3 takes none of it."""
        for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(named, "")
        define(monkeypatch, "bucket", conn_type="aws", login="key", password="secret", extra=HTTPS)
        with pytest.raises(ConfigError, match=r"'bucket'.*REQUESTS_CA_BUNDLE"):
            await store("s3://acme/", "bucket").__aenter__()

    async def test_opening_it_makes_one_session(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        made = []
        of_airflow = S3Hook.get_session
        monkeypatch.setattr(S3Hook, "get_session", lambda *a, **k: made.append(of_airflow(*a, **k)) or made[-1])
        with S3Server(tmp_path) as server:
            server.create_bucket("acme")
            extra = {"endpoint_url": server.url, "region_name": "eu-west-3"}
            define(monkeypatch, "bucket", conn_type="aws", login="key", password="secret", extra=extra)
            opened = store("s3://acme/", "bucket")
            for number in (1, 2):  # a store may be opened again
                async with opened as staging:
                    assert await staging.create(f"{number}", Content.of_bytes(b"1"))
                assert len(made) == number


def destination_of(connector_type: str, **config: object) -> Destination:
    """The target of a customer file, by way of its model."""
    file = {
        "site_id": ["433a60f6-9756-473e-b1e9-9e89e24bb787"],
        "interval": "daily",
        "start_date": "2025-03-16",
        "connector_type": connector_type,
        "connector_config": {"export_images": True} | config,
    }
    return destination("acme", EXPORT.validate_python(file), load_platform())


class TestGcs:
    def test_the_customer_s_service_account_is_the_one_that_acts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        platform = {
            "type": "service_account",
            "client_email": "platform@platform.example",
            "token_uri": "https://oauth2.invalid/token",
            "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        }
        define(monkeypatch, "bucket", conn_type="google_cloud_platform", extra={"keyfile_dict": json.dumps(platform)})
        accounts = []
        for config in ({}, {"impersonate": "acme@platform.example"}):
            target = destination_of("cloud_storage", storage_uri="gs://acme/", conn_id="bucket", **config)
            assert isinstance(target, GcsStore)
            accounts.append(target.account())
        assert accounts == ["platform@platform.example", "acme@platform.example"]


class Recording(asyncssh.SFTPServer):
    """Remembers which files were opened, and how."""

    opened: list[tuple[str, bool]]

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        self.opened.append((path.decode().rpartition("/")[2], bool(pflags & asyncssh.FXF_WRITE)))
        return super().open(path, pflags, attrs)


class TestSftp:
    @pytest.fixture
    def server(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SftpServer]:
        Recording.opened = []
        with SftpServer(tmp_path, sftp=Recording) as server:
            monkeypatch.setenv("DATA_EXPORT_SECRET_ACME", server.passphrase)
            yield server

    def target(self, server: SftpServer, port: int | None = None, **config: object) -> Destination:
        login = {
            "sftp_host": server.host,
            "sftp_port": port or server.port,
            "sftp_username": server.username,
            "sftp_private_key_path": str(server.private_key_path),
            "sftp_private_key_passphrase": "env:DATA_EXPORT_SECRET_ACME",
            "sftp_host_key": server.host_key,
            "sftp_remote_path": "exports",
        }
        return destination_of("sftp", **login, **config)

    @pytest.mark.parametrize("upload", ["rename", "direct"])
    @pytest.mark.parametrize("verify", ["size", "read-back"])
    def test_upload_and_verify_are_those_of_the_customer_file(
        self, server: SftpServer, upload: str, verify: str
    ) -> None:
        target = self.target(server, sftp_upload=upload, verify=verify)

        async def deliver() -> None:
            async with target:
                await target.create("site/image.png", Content.of_bytes(b"image"))

        asyncio.run(deliver())
        written = [name for name, writes in Recording.opened if writes]
        assert (written == ["image.png"]) == (upload == "direct")
        read = [name for name, writes in Recording.opened if not writes]
        assert bool(read) == (verify == "read-back")

    @pytest.mark.parametrize("allowed", [1, 3])
    def test_no_more_connections_than_the_customer_allows(self, server: SftpServer, allowed: int) -> None:
        async def connections() -> int:
            async with (
                TcpProxy(server.port) as proxy,
                self.target(server, proxy.port, max_connections=allowed) as target,
            ):
                await asyncio.gather(*(target.stat(f"site/{number}.png") for number in range(200)))
                return proxy.most

        assert asyncio.run(connections()) == allowed
