"""From Airflow connections to the core's clients.

Provider hooks make them, so that every way of Airflow to hold credentials works. Nothing here connects: clients are
handed over as factories and opened by the core inside its own event loop.
"""

import os
import smtplib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pkgutil import resolve_name
from typing import Any
from urllib.parse import urlsplit

from airflow.sdk import BaseHook, Connection, Variable
from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError
from airflow.sdk.log import mask_secret
from pydantic import SecretStr

from data_export.config.fields import MASK, reference_of
from data_export.config.load import load_named
from data_export.config.models import CustomerExport
from data_export.config.platform import PlatformSettings, TargetSettings
from data_export.delivery.base import Destination, Store
from data_export.delivery.connector import ConnectorConfig
from data_export.delivery.registry import SCHEMES, open_store
from data_export.delivery.sftp.connection import login_of_connection
from data_export.errors import ConfigError, DataExportError, TargetUnavailable
from data_export_airflow.connections.faults import (
    check_extra,
    check_https,
    check_smtp,
    endpoints,
    require_https,
    settings_of,
    unasked,
    unread,
)


def connection(conn_id: str) -> Connection:
    """The Airflow connection.

    Raises:
        ConfigError: no connection has that id, it is malformed, or may not be read.
        CredentialsUnavailable: what holds it does not answer.
    """
    try:
        found: Connection = BaseHook.get_connection(conn_id)
    except (AirflowException, AirflowRuntimeError, PermissionError) as error:
        raise unread(conn_id, error) from None
    check_extra(conn_id, found.extra)
    return found


def store(uri: str, conn_id: str) -> Store:
    """A store of the platform's own: staging, or the images."""
    return open_store(uri, conn_id, AirflowConnections())


def destination(name: str, export: CustomerExport, settings: PlatformSettings) -> Destination:
    """The customer's target.

    Raises:
        ConfigError: a connection or secret that it needs is not there, or the customer gets a link.
    """
    config = export.connector_config
    transfers = export.transfers_at_once(settings.limits.sites_at_once)
    found = _with_secrets(name, config).open(AirflowConnections(name, settings.targets), transfers)
    if found is None:
        raise ConfigError(f"{name}: connector {export.connector_type} has no destination of its own")
    return found


def sftp_folder(conn_id: str, path: str) -> Destination:
    """A folder of the connection's server; a path without `/` in front begins at the user's login folder."""
    from data_export.delivery.sftp.destination import SftpDestination  # late: few need it

    return SftpDestination(login_of_connection(conn_id, AirflowConnections()), path)


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


def has_console(uri: str, connections: "AirflowConnections", conn_id: str | None = None) -> bool:
    """Whether the provider's console shows what is at an address: not where it is on a server of somebody else's."""
    scheme = SCHEMES.get(uri.partition("://")[0])
    if scheme is None or not scheme.console:
        return False
    if not scheme.connection_names_server:
        return True
    try:
        found = connections.read(conn_id or connections.default_conn_id(scheme.name))
    except DataExportError:  # which keeps no run from ending
        return False
    named = [address for _, address in endpoints(found.extra_dejson)]
    named += [os.environ[name] for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3") if os.environ.get(name)]
    return all((urlsplit(address).hostname or "").endswith(".amazonaws.com") for address in named)


class AirflowConnections:
    """What connectors open their clients with (`data_export.delivery.connector.Connections`)."""

    def __init__(self, name: str = "", targets: TargetSettings | None = None) -> None:
        self._name, self._targets = name, targets

    def read(self, conn_id: str) -> Connection:
        found = connection(conn_id)
        if self._needs_https:
            check_https(found)
        return found

    def require_https(self, conn_id: str, key: str, address: str) -> None:
        if self._needs_https:
            require_https(conn_id, key, address)

    @property
    def _needs_https(self) -> bool:
        """Of customers' targets; the platform's own stores are its own affair."""
        return self._targets is not None and not self._targets.allow_http

    def hook(self, class_path: str, **options: Any) -> Any:
        return resolve_name(class_path)(**options)

    def settings_of(self, conn_id: str, fix: str, *refused: type[Exception]) -> AbstractContextManager[None]:
        return settings_of(conn_id, fix, *refused)

    def secret(self, key: str, value: SecretStr | None) -> str | None:
        if value is None:
            return None
        found = self._referenced(key, reference_of(value)) or value.get_secret_value()
        mask_secret(found)
        return found

    def mask(self, text: str | None) -> None:
        for line in (text or "").splitlines():  # Airflow masks a value line by line, never across lines
            mask_secret(line)

    def default_conn_id(self, scheme: str) -> str:
        return self._targets.conn_id_of(scheme) if self._targets else ""

    def _referenced(self, key: str, reference: tuple[str, str] | None) -> str | None:
        if reference is None:
            return None
        kind, name = reference
        value = os.environ.get(name) if kind == "env" else _variable(name)
        if not value:
            where = "environment variable" if kind == "env" else "Airflow Variable"
            raise ConfigError(f"{self._name}: {key} refers to {kind}:{name}, but {where} {name} is not set")
        return str(value)


def _variable(name: str) -> Any:
    try:
        found = Variable.get(name, default=None)
    except (AirflowRuntimeError, PermissionError):
        found = None
    if found is None and (fault := unasked("variable", name)):
        raise fault
    return found


def _with_secrets(name: str, config: ConnectorConfig) -> ConnectorConfig:
    """A frozen plan holds no secret that stands in the customer file: the file is asked again."""
    lost = [key for key, secret in config.secrets().items() if secret.get_secret_value() == MASK]
    if not lost:
        return config
    current = load_named(name).connector_config
    found = current.secrets() if current.secrets_open() == config.secrets_open() else {}
    if missing := [key for key in lost if key not in found]:
        raise ConfigError(
            f"{name}: the run began with a {missing[0]} written in the customer file, which a plan never holds, and "
            f"the file has no longer one for {' '.join(config.secrets_open())}: put it back, or clear the run from "
            "`prepare` on; a reference (env:NAME or var:NAME) outlives edits of the file"
        )
    return config.model_copy(update={key: found[key] for key in lost})
