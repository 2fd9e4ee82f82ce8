"""The embedded platform: the servers that a real installation talks to, with demo data, on this one machine."""

import json
import secrets
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from demo.data import DemoData, build
from demo.fill import fill_images, fill_source
from demo.guard import Guard
from demo.servers.abfs import ACCOUNT, KEY, AbfsServer
from demo.servers.gcs import GcsServer
from demo.servers.postgres import PostgresServer
from demo.servers.s3 import S3Server
from demo.servers.sftp import SftpServer
from demo.servers.smtp import SmtpServer

LOOPBACK = "127.0.0.1"
READER = "data_export_reader"
MAILER = "data-export"
IMAGES_BUCKET, CUSTOMER_BUCKET, STAGING_BUCKET = "platform-images", "demo-customer", "platform-staging"


class Ports(NamedTuple):
    """Of the six servers; `abfs` stays 0 where Azurite is not installed."""

    postgres: int
    gcs: int
    s3: int
    sftp: int
    smtp: int
    abfs: int = 0


ANY_PORTS = Ports(0, 0, 0, 0, 0)


class EmbeddedPlatform:
    """Runs all servers while the `with` block lasts; what they hold, and where they listen, stays in `state`.

    `metadata` is Airflow's database beside the platform's own, `abfs` None where Azurite is not installed.

    Args:
        state: folder of everything kept.
        listen: address that the servers listen on.
        ports: theirs; 0 is the one of the last time, so that links in mails go on working, or where that is taken any
            that is free.
    """

    def __init__(self, state: Path, listen: str = LOOPBACK, ports: Ports = ANY_PORTS) -> None:
        self.state = state.absolute()
        self.state.mkdir(parents=True, exist_ok=True)
        self.secrets = Secrets(self.state / "secrets.json")
        self._ports_file = self.state / "ports.json"
        last = Ports(**json.loads(self._ports_file.read_text())) if self._ports_file.exists() else ANY_PORTS
        free = (port if port and free_port(port) == port else 0 for port in last)
        ports = Ports(*(wanted or before for wanted, before in zip(ports, free, strict=True)))
        self.postgres = PostgresServer(self.state / "postgres", ports.postgres, listen=listen, durable=False)
        self.gcs = GcsServer(self.state / "gcs", ports.gcs, listen=listen)
        self.s3 = S3Server(self.state / "s3", ports.s3, listen=listen, keeps=True)
        self.sftp = SftpServer(self.state / "sftp", ports.sftp, listen=listen)
        # Without TLS, since the machine's own certificate authorities do not know the server's certificate.
        login = MAILER, self.secrets["smtp_password"]
        self.smtp = SmtpServer(self.state / "mail", ports.smtp, listen=listen, login=login, tls=False)
        self.abfs: AbfsServer | None = None
        if AbfsServer.installed():
            self.abfs = AbfsServer(self.state / "abfs", ports.abfs, listen=listen, keeps=True)

    def __enter__(self) -> Self:
        self.state.joinpath("gcs").mkdir(exist_ok=True)
        with ExitStack() as stack:
            guard = stack.enter_context(Guard())
            for server in (self.postgres, self.gcs, self.s3, self.sftp, self.smtp):
                stack.enter_context(server)
            guard.watch(int((self.postgres.data / "postmaster.pid").read_text().split()[0]))
            self._source = self.postgres.create_database("platform")
            self.metadata = self.postgres.create_database("airflow")
            for bucket in (IMAGES_BUCKET, CUSTOMER_BUCKET):
                self.gcs.create_bucket(bucket)
            for bucket in (CUSTOMER_BUCKET, STAGING_BUCKET):
                self.s3.create_bucket(bucket)
            if self.abfs:
                stack.enter_context(self.abfs).create_bucket(CUSTOMER_BUCKET)
            used = Ports(*(server.port for server in (self.postgres, self.gcs, self.s3, self.sftp, self.smtp)))
            used = used._replace(abfs=self.abfs.port if self.abfs else 0)
            self._ports_file.write_text(json.dumps(used._asdict()))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def fill(self) -> DemoData:
        """Stores the demo data where it is not there yet, and returns it."""
        data = build()
        fill_source(self._source, data, READER, self.secrets["source_password"])
        fill_images(self.gcs.url, IMAGES_BUCKET, data)
        return data

    def environment(self, host: str = LOOPBACK) -> dict[str, str]:
        """What tells the service where everything is: Airflow connections, and settings over `platform.yaml`.

        `host` is the name under which the service reaches this machine.
        """
        # Airflow warns in a task's log that it cannot mask what has less than five characters, a secret or not.
        google = _connection("google_cloud_platform", extra={"project": "demo-platform", "is_anonymous": True})
        amazon_options: dict[str, Any] = {"endpoint_url": f"http://{host}:{self.s3.port}", "region_name": "us-east-1"}
        if host != LOOPBACK:  # a bucket's name in front of a host's does not resolve; boto3 itself sees to addresses
            amazon_options["config_kwargs"] = {"s3": {"addressing_style": "path"}}
        amazon = _connection("aws", login="demo-platform", password=self.secrets["s3_password"], extra=amazon_options)
        return self._azure_connection(host) | {
            "STORAGE_EMULATOR_HOST": f"http://{host}:{self.gcs.port}",
            "AIRFLOW_CONN_EXPORT_SOURCE": self._source_connection(host),
            "AIRFLOW_CONN_EXPORT_IMAGES": google,
            "AIRFLOW_CONN_EXPORT_GS": google,
            "AIRFLOW_CONN_EXPORT_S3": amazon,
            "AIRFLOW_CONN_EXPORT_STAGING": amazon,
            "AIRFLOW_CONN_EXPORT_SMTP": _connection(
                "smtp",
                host=host,
                port=self.smtp.port,
                login=MAILER,
                password=self.secrets["smtp_password"],
                extra={"disable_ssl": True, "disable_tls": True},
            ),
            "AIRFLOW_CONN_DEMO_SFTP": self._sftp_connection(host),
            "DATA_EXPORT_SOURCE__IMAGES_URI": f"gs://{IMAGES_BUCKET}/{{site_id}}/{{input_id}}{{file_extension}}",
            "DATA_EXPORT_TARGETS__ALLOW_HTTP": "true",  # the demo's servers have no certificates
            "DATA_EXPORT_STAGING__URI": f"s3://{STAGING_BUCKET}/exports/",
        }

    def _azure_connection(self, host: str) -> dict[str, str]:
        if self.abfs is None:
            return {}
        url = f"http://{host}:{self.abfs.port}/{ACCOUNT}"
        extra = {}
        if host != LOOPBACK:  # the account's name would be looked for in that of the host
            at = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={url};"
            extra = {"connection_string": at}
        return {"AIRFLOW_CONN_EXPORT_ABFS": _connection("wasb", host=url, login=ACCOUNT, password=KEY, extra=extra)}

    def _source_connection(self, host: str) -> str:
        return _connection(
            "postgres",
            host=host,
            port=self.postgres.port,
            schema="platform",
            login=READER,
            password=self.secrets["source_password"],
        )

    def _sftp_connection(self, host: str) -> str:
        extra = {
            "private_key": self.sftp.private_key_path.read_text(),
            "private_key_passphrase": self.sftp.passphrase,
            "host_key": self.sftp.host_key,
        }
        return _connection("sftp", host=host, port=self.sftp.port, login=self.sftp.username, extra=extra)


def free_port(wanted: int = 0) -> int:
    """`wanted` if it is free on this machine, else any that is."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, wanted))
        except OSError:
            return free_port()
        return int(probe.getsockname()[1])


class Secrets:
    """Random secrets by name, made when first asked for and kept in a file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def __getitem__(self, name: str) -> str:
        if name not in self._known:
            self._known[name] = secrets.token_urlsafe(64)  # shorter than 64 bytes, Airflow warns of its signatures
            self._path.touch(mode=0o600)
            self._path.write_text(json.dumps(self._known))
        return self._known[name]


def _connection(conn_type: str, **fields: Any) -> str:
    """An Airflow connection as the JSON that `AIRFLOW_CONN_<ID>` takes."""
    return json.dumps({"conn_type": conn_type, **fields})
