"""The embedded platform: the servers that a real installation talks to, with demo data, on this one machine."""

import json
import os
import secrets
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from demo.data import DemoData, build
from demo.fill import fill_images, fill_source
from demo.guard import Guard
from demo.servers.gcs import GcsServer
from demo.servers.postgres import PostgresServer
from demo.servers.s3 import S3Server
from demo.servers.sftp import SftpServer
from demo.servers.smtp import SmtpServer

READER = "data_export_reader"
IMAGES_BUCKET, CUSTOMER_BUCKET, STAGING_BUCKET = "platform-images", "demo-customer", "platform-staging"


class EmbeddedPlatform:
    """Runs all servers while the `with` block lasts; what they hold stays in `state`, S3's objects excepted.

    `source` and `metadata` are the two databases of one PostgreSQL: the platform's own, and Airflow's.
    """

    def __init__(self, state: Path) -> None:
        self.state = state.absolute()
        self.state.mkdir(parents=True, exist_ok=True)
        self.secrets = Secrets(self.state / "secrets.json")
        self.postgres = PostgresServer(self.state / "postgres", durable=False)
        self.gcs = GcsServer(self.state / "gcs")
        self.s3 = S3Server(self.state / "s3")
        self.sftp = SftpServer(self.state / "sftp")
        self.smtp = SmtpServer(self.state / "mail")

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
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def fill(self) -> DemoData:
        """Stores the demo data where it is not there yet, and returns it."""
        data = build()
        fill_source(self._source, data, READER, self.secrets["source_password"])
        fill_images(self.gcs.url, IMAGES_BUCKET, data)
        return data

    def environment(self) -> dict[str, str]:
        """What tells the service where everything is: Airflow connections, and settings over `platform.yaml`."""
        google = _connection("google_cloud_platform", extra={"project": "demo", "is_anonymous": True})
        # Path style: bucket names in front of 127.0.0.1 do not resolve.
        amazon_options = {
            "endpoint_url": self.s3.url,
            "region_name": "us-east-1",
            "config_kwargs": {"signature_version": "s3v4", "s3": {"addressing_style": "path"}},
        }
        amazon = _connection("aws", login="demo", password=self.secrets["s3_password"], extra=amazon_options)
        return {
            "STORAGE_EMULATOR_HOST": self.gcs.url,
            "AIRFLOW_CONN_EXPORT_SOURCE": self._source_connection(),
            "AIRFLOW_CONN_EXPORT_IMAGES": google,
            "AIRFLOW_CONN_EXPORT_GS": google,
            "AIRFLOW_CONN_EXPORT_S3": amazon,
            "AIRFLOW_CONN_EXPORT_STAGING": amazon,
            "AIRFLOW_CONN_EXPORT_SMTP": _connection(
                "smtp", host=self.smtp.host, port=self.smtp.port, extra={"disable_ssl": True, "disable_tls": True}
            ),
            "AIRFLOW_CONN_DEMO_SFTP": self._sftp_connection(),
            "DATA_EXPORT_STATE_DIR": str(self.state),
            "DATA_EXPORT_SOURCE__IMAGES_URI": f"gs://{IMAGES_BUCKET}/{{site_id}}/{{input_id}}{{file_extension}}",
            "DATA_EXPORT_STAGING__URI": f"s3://{STAGING_BUCKET}/exports/",
            # A proxy of the user's environment must not get what is meant for this machine.
            "NO_PROXY": ",".join(filter(None, ["127.0.0.1,localhost", os.environ.get("NO_PROXY")])),
        }

    def _source_connection(self) -> str:
        return _connection(
            "postgres",
            host=self.postgres.host,
            port=self.postgres.port,
            schema="platform",
            login=READER,
            password=self.secrets["source_password"],
        )

    def _sftp_connection(self) -> str:
        extra = {
            "private_key": self.sftp.private_key_path.read_text(),
            "private_key_passphrase": self.sftp.passphrase,
            "host_key": self.sftp.host_key,
        }
        return _connection("sftp", host=self.sftp.host, port=self.sftp.port, login=self.sftp.username, extra=extra)


class Secrets:
    """Random secrets by name, made when first asked for and kept in a file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def __getitem__(self, name: str) -> str:
        if name not in self._known:
            self._known[name] = secrets.token_urlsafe(32)
            self._path.touch(mode=0o600)
            self._path.write_text(json.dumps(self._known))
        return self._known[name]


def _connection(conn_type: str, **fields: Any) -> str:
    """An Airflow connection as the JSON that `AIRFLOW_CONN_<ID>` takes."""
    return json.dumps({"conn_type": conn_type, **fields})
