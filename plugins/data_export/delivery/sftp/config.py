"""`connector_config` of the SFTP connector, and how it finds the login."""

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import unquote, urlsplit

from pydantic import ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from data_export.config.fields import (
    ConnId,
    Flag,
    Host,
    HostKey,
    Plain,
    SecretReference,
    Whole,
    path_inside,
    quoted_address,
)
from data_export.delivery.base import Destination
from data_export.delivery.connector import Connections, ConnectorConfig, require_type
from data_export.delivery.sftp import SFTP_PORT, server_address, sftp_account, sftp_uri
from data_export.errors import ConfigError

if TYPE_CHECKING:
    from data_export.delivery.sftp.login import SftpLogin

_SFTP_TEXTS = ("host_key", "private_key", "key_file", "private_key_passphrase")


class SftpConfig(ConnectorConfig):
    """A folder of an SFTP server whose host key is pinned."""

    summary: ClassVar[str] = "files on the customer's SFTP server"
    target_key: ClassVar[str] = "sftp_remote_path"

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["conn_id"]},
                {"required": ["sftp_host", "sftp_username", "sftp_private_key_path", "sftp_host_key"]},
            ]
        }
    )

    conn_id: ConnId | None = Field(
        default=None, description="Airflow connection that brings host, user, key and host key, in place of those here"
    )
    sftp_host: Host | None = Field(
        default=None, validate_default=True, description="host name or address of the server"
    )
    sftp_port: Whole = Field(default=SFTP_PORT, ge=1, le=65535, description="port of the server")
    sftp_username: Plain | None = Field(
        default=None, validate_default=True, min_length=1, description="the user that the customer made for us"
    )
    sftp_private_key_path: Plain | None = Field(
        default=None, validate_default=True, description="absolute path of our private key on the workers"
    )
    sftp_private_key_passphrase: SecretReference | None = Field(
        default=None,
        description="env:DATA_EXPORT_SECRET_... or var:NAME (Airflow Variable) that holds its passphrase",
    )
    sftp_host_key: HostKey | None = Field(
        default=None, validate_default=True, description="the server's public key, e.g. ssh-ed25519 AAAA..."
    )
    sftp_remote_path: Plain = Field(
        min_length=1, description="base folder; begins with / or at the user's login folder"
    )
    export_images: Flag = Field(description="whether the images that the data refers to are copied too")
    max_connections: Whole = Field(
        default=4,
        ge=1,
        le=32,
        description="connections that copy images to the server at once, over all sites and runs",
    )
    sftp_upload: Literal["rename", "direct"] = Field(
        default="rename",
        description="rename: write next to the final name, then rename; direct: for servers that refuse to rename: "
        "readers may see a file that is still being written; with if_exists: replace only",
    )
    verify: Literal["size", "read-back"] = Field(
        default="size",
        description="what proves that a file arrived: the size the server says, or reading it back for its checksum",
    )

    @field_validator("sftp_host", "sftp_username", "sftp_private_key_path", "sftp_host_key")
    @classmethod
    def _here_or_in_connection(cls, value: str | None, info: ValidationInfo) -> str | None:
        conn_id = info.data.get("conn_id", "unknown because it is wrong itself")
        if conn_id is None and value is None:
            host = info.data.get("sftp_host") or "HOST"
            shown = f"; `python -m data_export_airflow check --host-key {host}` shows it"
            hint = shown if info.field_name == "sftp_host_key" else ""
            raise ValueError(f"is missing: write it, or name an Airflow connection in conn_id{hint}")
        return value

    @field_validator(
        "sftp_host",
        "sftp_port",
        "sftp_username",
        "sftp_private_key_path",
        "sftp_private_key_passphrase",
        "sftp_host_key",
    )
    @classmethod
    def _not_beside_connection(cls, value: object, info: ValidationInfo) -> object:
        if info.data.get("conn_id") is not None and value is not None and value != SFTP_PORT:
            raise ValueError("cannot be combined with conn_id, whose connection brings its own: remove one of the two")
        return value

    @field_validator("sftp_upload")
    @classmethod
    def _direct_replaces(cls, value: str, info: ValidationInfo) -> str:
        if value == "direct" and info.data.get("if_exists", "replace") != "replace":
            raise ValueError(
                f"direct works with if_exists: replace only, not {info.data['if_exists']}: what a killed run left of a "
                "file under its final name would stay there for good"
            )
        return value

    @field_validator("sftp_private_key_path")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and not PurePosixPath(value).is_absolute():
            raise ValueError(f"{quoted_address(value)} is not an absolute path: workers have no common working folder")
        return value

    @field_validator("sftp_remote_path")
    @classmethod
    def _inside(cls, value: str) -> str:
        if value.startswith("~"):
            raise ValueError(f"{quoted_address(value)} begins with ~, which SFTP does not know: leave '~/' out")
        return path_inside(value)

    @property
    def kind(self) -> str:
        return "sftp"

    def address(self) -> str:
        if self.conn_id is not None:
            return sftp_uri(f"<{self.conn_id}>", self.sftp_remote_path)
        account = sftp_account(self.sftp_username or "", self.sftp_host or "", self.sftp_port)
        return sftp_uri(account, self.sftp_remote_path)

    def bounded_address(self) -> str | None:
        """Without the user; a path that begins at the login folder, wherever that is, stands below `~`."""
        path = self.sftp_remote_path if self.sftp_remote_path.startswith("/") else f"/~/{self.sftp_remote_path}"
        return None if self.conn_id else f"sftp://{server_address(self.sftp_host or '', self.sftp_port)}{path}"

    def identity(self) -> tuple[str, ...]:
        """A user's name belongs to it, since servers commonly show each user another root."""
        path = self.sftp_remote_path.rstrip("/")
        if self.conn_id is not None:
            return ("sftp", self.conn_id, path)
        return ("sftp", f"{(self.sftp_host or '').lower()}:{self.sftp_port}", self.sftp_username or "", path)

    def describe(self) -> str:
        named = f"connection `{self.conn_id}`"
        server = named if self.conn_id else f"`sftp://{server_address(self.sftp_host or '', self.sftp_port)}`"
        return f"{server}, folder `{self.sftp_remote_path}`"

    def parallel_transfers(self, at_once: int, sites: int) -> int:
        """As many as have a connection each within `max_connections`."""
        return min(at_once, sites, self.max_connections)

    def reads_images_back(self) -> bool:
        return self.verify == "read-back"

    def secrets(self) -> dict[str, SecretStr]:
        found = self.sftp_private_key_passphrase
        return {} if found is None else {"sftp_private_key_passphrase": found}

    def secrets_open(self) -> tuple[str, ...]:
        return (self.sftp_private_key_path or "",)

    @classmethod
    def keys_of(cls, target: str) -> dict[str, str | list[str]] | None:
        parts = urlsplit(target)
        if parts.scheme != "sftp":
            return None
        if parts.password is not None:
            raise ValueError("--target holds a password: SFTP servers are entered with a key, leave the password out")
        try:
            port = str(parts.port or "")
        except ValueError:
            raise ValueError("--target holds a port that is not valid: write 1 to 65535, or leave it out") from None
        named = {"host": parts.hostname, "port": port, "username": parts.username, "remote_path": parts.path}
        return {f"sftp_{key}": unquote(value) for key, value in named.items() if value}

    def open(self, connections: Connections, transfers: int) -> Destination:
        from data_export.delivery.sftp.destination import SftpDestination

        login = login_of_connection(self.conn_id, connections) if self.conn_id else self._login(connections)
        return SftpDestination(
            login,
            self.sftp_remote_path,
            upload=self.sftp_upload,
            verify=self.verify,
            connections=self.max_connections // transfers,
        )

    def _login(self, connections: Connections) -> "SftpLogin":
        from data_export.delivery.sftp.login import SftpLogin

        return SftpLogin(
            host=self.sftp_host or "",
            port=self.sftp_port,
            username=self.sftp_username or "",
            private_key_path=self.sftp_private_key_path,
            passphrase=connections.secret("sftp_private_key_passphrase", self.sftp_private_key_passphrase),
            host_key=self.sftp_host_key or "",
        )


def login_of_connection(conn_id: str, connections: Connections) -> "SftpLogin":
    """Reads the keys of the SFTP and SSH connection types: private_key, key_file, private_key_passphrase, host_key."""
    from data_export.delivery.sftp.login import SftpLogin

    found = connections.read(conn_id)
    require_type(found, "sftp", "ssh")
    texts = {key: _text_of(conn_id, found.extra_dejson, key) for key in _SFTP_TEXTS}
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
