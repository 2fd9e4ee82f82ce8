"""From Airflow connections to the core's clients.

Provider hooks make them, so that every way of Airflow to hold credentials works. Nothing here connects: clients are
handed over as factories and opened by the core inside its own event loop.
"""

import os
import smtplib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from airflow.sdk import BaseHook, Connection, Variable
from airflow.sdk.exceptions import AirflowException
from airflow.sdk.log import mask_secret

from data_export.config.connectors import SFTP_PORT, CloudStorageConfig, SftpConfig
from data_export.config.load import load_named
from data_export.config.models import CustomerExport
from data_export.config.platform import PlatformSettings
from data_export.config.secrets import MASK, reference_of
from data_export.delivery.base import Destination, Store
from data_export.delivery.gcs import GcsStore
from data_export.delivery.local import LocalStore
from data_export.delivery.s3 import S3Store
from data_export.delivery.sftp import SftpDestination, SftpLogin
from data_export.errors import ConfigError, TargetUnavailable

#: Set by the embedded platform only: address of the server that serves a `file://` staging folder.
LOCAL_LINK_BASE_URL = "DATA_EXPORT_LOCAL_LINK_BASE_URL"


def connection(conn_id: str) -> Connection:
    """The Airflow connection.

    Raises:
        ConfigError: there is none of that id.
    """
    try:
        found: Connection = BaseHook.get_connection(conn_id)
    except AirflowException as error:
        raise ConfigError(
            f"Airflow connection {conn_id!r} cannot be read ({type(error).__name__}): add it with "
            f"`airflow connections add {conn_id} ...`, as AIRFLOW_CONN_{conn_id.upper()}, or in the secrets backend"
        ) from None
    return found


def source_dsn(conn_id: str) -> str:
    """libpq address of the source, with its password: never to be logged."""
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    connection(conn_id)
    uri: str = PostgresHook(postgres_conn_id=conn_id).get_uri()
    return "postgresql://" + uri.partition("://")[2]  # the hook names its own driver in the scheme


def store(uri: str, conn_id: str, impersonate: str | None = None) -> Store:
    """The object store at `gs://`, `s3://` or `file://`."""
    builders = {"gs": _gcs, "s3": _s3, "file": _local}
    return builders[urlsplit(uri).scheme](uri, conn_id, impersonate)


def destination(name: str, export: CustomerExport, settings: PlatformSettings) -> Destination:
    """The customer's target.

    Raises:
        ConfigError: a connection or secret it needs is not there.
    """
    config = export.connector_config
    if isinstance(config, CloudStorageConfig):
        defaults = {"gs": settings.targets.gs_conn_id, "s3": settings.targets.s3_conn_id, "file": ""}
        return store(config.storage_uri, config.conn_id or defaults[config.scheme], config.impersonate)
    if isinstance(config, SftpConfig):
        transfers = export.transfers_at_once(settings.limits.sites_at_once)
        return _sftp(name, config, connections=config.max_connections // transfers)
    raise ConfigError(f"{name}: connector {export.connector_type} has no destination of its own")


def smtp_factory(conn_id: str) -> Callable[[], smtplib.SMTP]:
    """Makes logged-in clients of the mail server; the caller closes each."""
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    connection(conn_id)

    def connect() -> smtplib.SMTP:
        try:
            client = SmtpHook(conn_id).get_conn()._smtp_client  # the hook logs in, but its own sending hides refusals
        except AirflowException as error:  # what it raises when the server hangs up again and again
            raise TargetUnavailable(f"the mail server of connection {conn_id!r} is not reached: {error}") from None
        if not isinstance(client, smtplib.SMTP):
            raise ConfigError(f"Airflow connection {conn_id!r} is not an SMTP connection")
        return client

    return connect


def _gcs(uri: str, conn_id: str, impersonate: str | None) -> Store:
    from airflow.providers.google.cloud.hooks.gcs import GCSAsyncHook, GCSHook

    connection(conn_id)
    options = {"gcp_conn_id": conn_id} | ({"impersonation_chain": impersonate} if impersonate else {})
    return GcsStore(
        uri,
        client=lambda: GCSHook(**options).get_conn(),
        aio_client=lambda session: GCSAsyncHook(**options).get_storage_client(session),
        credentials=lambda: GCSHook(**options).get_credentials(),
    )


def _s3(uri: str, conn_id: str, _impersonate: str | None) -> Store:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    _check_verify(conn_id, connection(conn_id).extra_dejson.get("verify"))
    return S3Store(
        uri,
        client=lambda: S3Hook(aws_conn_id=conn_id).get_conn(),
        session=lambda: S3Hook(aws_conn_id=conn_id).get_session(),
    )


def _check_verify(conn_id: str, verify: object) -> None:
    """boto3 takes a bundle of authorities from the connection; obstore, which moves the data, from the process only."""
    if verify in (False, "false", "False"):
        raise ConfigError(
            f"Airflow connection {conn_id!r} has verify: false: certificates are always verified, remove it"
        )
    if isinstance(verify, str) and verify not in ("", "true", "True") and not os.environ.get("SSL_CERT_FILE"):
        raise ConfigError(
            f"Airflow connection {conn_id!r} has verify: {verify}: set SSL_CERT_FILE={verify} on the workers too, else "
            "data does not pass"
        )


def _local(uri: str, _conn_id: str, _impersonate: str | None) -> Store:
    return LocalStore(Path(unquote(urlsplit(uri).path)), link_base_url=os.environ.get(LOCAL_LINK_BASE_URL))


def _sftp(name: str, config: SftpConfig, *, connections: int) -> Destination:
    login = _login_of_connection(config.conn_id) if config.conn_id else _login_of_file(name, config)
    return SftpDestination(
        login, config.sftp_remote_path, upload=config.sftp_upload, verify=config.verify, connections=connections
    )


def _login_of_file(name: str, config: SftpConfig) -> SftpLogin:
    return SftpLogin(
        host=config.sftp_host or "",
        port=config.sftp_port,
        username=config.sftp_username or "",
        private_key_path=config.sftp_private_key_path,
        passphrase=_passphrase(name, config),
        host_key=config.sftp_host_key or "",
    )


def _login_of_connection(conn_id: str) -> SftpLogin:
    """Reads the keys of the SFTP and SSH connection types: private_key, key_file, private_key_passphrase, host_key."""
    found = connection(conn_id)
    extra = found.extra_dejson
    if not extra.get("host_key"):
        raise ConfigError(
            f"Airflow connection {conn_id!r} has no host_key in its extra: add the server's public key "
            f"(`python -m data_export_airflow check --host-key {found.host or 'HOST'}` shows it)"
        )
    if extra.get("private_key"):
        for line in extra["private_key"].splitlines():  # Airflow masks a value line by line, never across lines
            mask_secret(line)
    return SftpLogin(
        host=found.host or "",
        port=found.port or SFTP_PORT,
        username=found.login or "",
        private_key=extra.get("private_key"),
        private_key_path=extra.get("key_file"),
        passphrase=extra.get("private_key_passphrase"),
        password=found.password,
        host_key=extra["host_key"],
    )


def _passphrase(name: str, config: SftpConfig) -> str | None:
    secret = config.sftp_private_key_passphrase
    if secret is not None and secret.get_secret_value() == MASK:  # a frozen plan holds no secret: ask the file again
        current = load_named(name).connector_config
        secret = current.sftp_private_key_passphrase if isinstance(current, SftpConfig) else None
    if secret is None:
        return None
    value = _referenced(name, reference_of(secret)) or secret.get_secret_value()
    mask_secret(value)
    return value


def _referenced(name: str, reference: tuple[str, str] | None) -> str | None:
    if reference is None:
        return None
    kind, key = reference
    value = os.environ.get(key) if kind == "env" else Variable.get(key, default=None)
    if not value:
        where = "environment variable" if kind == "env" else "Airflow Variable"
        raise ConfigError(f"{name}: sftp_private_key_passphrase refers to {kind}:{key}, but {where} {key} is not set")
    return str(value)
