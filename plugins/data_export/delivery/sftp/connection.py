"""The login that an Airflow connection brings."""

from contextlib import suppress
from typing import Any

from data_export.config.fields import host_keys
from data_export.delivery.connector import Connections
from data_export.delivery.sftp import SFTP_PORT
from data_export.delivery.sftp.login import SftpLogin
from data_export.errors import ConfigError

_SFTP_TEXTS = ("host_key", "private_key", "key_file", "private_key_passphrase")


def login_of_connection(conn_id: str, connections: Connections) -> SftpLogin:
    """Reads the keys of the SFTP and SSH connection types: private_key, key_file, private_key_passphrase, host_key."""
    found = connections.read(conn_id)
    extra = found.extra_dejson
    if isinstance(extra.get("host_key"), list):
        with suppress(ValueError):  # then it is no text
            extra = extra | {"host_key": host_keys(extra["host_key"])}
    texts = {key: _text_of(conn_id, extra, key) for key in _SFTP_TEXTS}
    if not (found.host and found.login):
        raise ConfigError(f"Airflow connection {conn_id!r} lacks host or login: give both")
    if not texts["host_key"]:
        raise ConfigError(
            f"Airflow connection {conn_id!r} has no host_key in its extra: add the server's public key "
            f"(`python -m data_export_airflow check --host-key {found.host}` shows it)"
        )
    connections.mask(texts["private_key"])
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


def _text_of(conn_id: str, extra: dict[str, Any], key: str) -> str | None:
    """The text at a key of the extra.

    Raises:
        ConfigError: it is something else.
    """
    value = extra.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"Airflow connection {conn_id!r} has a {key} in its extra that is no text: put it in quotes")
    return value
