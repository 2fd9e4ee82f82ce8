"""From Airflow connections to the core's clients.

Provider hooks make them, so that every way of Airflow to hold credentials works. Nothing here connects: clients are
handed over as factories and opened by the core inside its own event loop.
"""

import os
import smtplib
from collections.abc import Callable
from pathlib import Path
from typing import Any
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
from data_export.delivery.gcs.store import GcsStore
from data_export.delivery.local.store import LocalStore
from data_export.delivery.s3.store import S3Store
from data_export.delivery.sftp.destination import SftpDestination, SftpLogin
from data_export.errors import ConfigError, TargetUnavailable
from data_export_airflow.connections.faults import check_aws, check_extra, check_smtp, settings_of, text_of, unread

#: Set by the embedded platform only: address of the server that serves a `file://` staging folder.
LOCAL_LINK_BASE_URL = "DATA_EXPORT_LOCAL_LINK_BASE_URL"
_GOOGLE_KEY = (
    "give it a service account's key, all of the JSON as it was downloaded (in private_key line ends are \\n, not "
    "\\\\n), or let it use credentials of the workers' machine"
)
_AWS_SETTINGS = "correct its key, and region_name, endpoint_url, profile_name, role and config_kwargs in its extra"
_SFTP_TEXTS = ("host_key", "private_key", "key_file", "private_key_passphrase")


def connection(conn_id: str) -> Connection:
    """The Airflow connection.

    Raises:
        ConfigError: there is none of that id, or it is malformed.
    """
    try:
        found: Connection = BaseHook.get_connection(conn_id)
    except AirflowException as error:
        raise unread(conn_id, error) from None
    check_extra(conn_id, found.extra)
    return found


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

    check_smtp(connection(conn_id))

    def connect() -> smtplib.SMTP:
        with settings_of(conn_id, "correct its host, login, password and the numbers in its extra"):
            hook = SmtpHook(conn_id)
            try:
                client = hook.get_conn()._smtp_client  # the hook logs in, but its own sending hides refusals
            except AirflowException as error:  # what it raises when the server hangs up again and again
                raise TargetUnavailable(f"the mail server of connection {conn_id!r} is not reached: {error}") from None
            except BaseException:
                if isinstance(hook._smtp_client, smtplib.SMTP):  # connected, but the login was refused
                    hook._smtp_client.close()
                raise
        if not isinstance(client, smtplib.SMTP):
            raise ConfigError(f"Airflow connection {conn_id!r} is not an SMTP connection")
        return client

    return connect


def _gcs(uri: str, conn_id: str, impersonate: str | None) -> Store:
    from airflow.providers.google.cloud.hooks.gcs import GCSAsyncHook, GCSHook
    from google.auth.exceptions import DefaultCredentialsError

    connection(conn_id)
    options = {"gcp_conn_id": conn_id} | ({"impersonation_chain": impersonate} if impersonate else {})

    async def aio_client(session: Any) -> Any:
        with settings_of(conn_id, _GOOGLE_KEY, DefaultCredentialsError):
            return await GCSAsyncHook(**options).get_storage_client(session)

    def made(method: str) -> Any:
        with settings_of(conn_id, _GOOGLE_KEY, DefaultCredentialsError):
            return getattr(GCSHook(**options), method)()

    return GcsStore(
        uri,
        client=lambda: made("get_conn"),
        aio_client=aio_client,
        credentials=lambda: made("get_credentials"),
    )


def _s3(uri: str, conn_id: str, _impersonate: str | None) -> Store:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.exceptions import (
        InvalidS3AddressingStyleError,
        NoRegionError,
        ParamValidationError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    check_aws(connection(conn_id))
    refused = (
        InvalidS3AddressingStyleError,
        NoRegionError,
        ParamValidationError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    def made(method: str) -> Any:
        with settings_of(conn_id, _AWS_SETTINGS, *refused):
            return getattr(S3Hook(aws_conn_id=conn_id), method)()

    def session() -> Any:
        found = made("get_session")
        if found.get_credentials() is None:
            raise ConfigError(
                f"Airflow connection {conn_id!r} gives no AWS credentials, and the workers' machine has none: fill in "
                "its login (the id of an access key) and password (the secret)"
            )
        return found

    return S3Store(uri, client=lambda: made("get_conn"), session=session)


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
    texts = {key: text_of(conn_id, extra, key) for key in _SFTP_TEXTS}
    if not (found.host and found.login):
        raise ConfigError(f"Airflow connection {conn_id!r} lacks host or login: give both")
    if not texts["host_key"]:
        raise ConfigError(
            f"Airflow connection {conn_id!r} has no host_key in its extra: add the server's public key "
            f"(`python -m data_export_airflow check --host-key {found.host}` shows it)"
        )
    for line in (texts["private_key"] or "").splitlines():  # Airflow masks a value line by line, never across lines
        mask_secret(line)
    return SftpLogin(
        host=found.host,
        port=found.port or SFTP_PORT,
        username=found.login,
        private_key=texts["private_key"] or None,
        private_key_path=texts["key_file"] or None,
        passphrase=texts["private_key_passphrase"],
        password=found.password,
        host_key=texts["host_key"],
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
