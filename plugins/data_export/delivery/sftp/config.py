"""`connector_config` of the SFTP connector, and how it finds the login."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, ClassVar, Literal
from urllib.parse import unquote, urlsplit

from pydantic import ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from data_export.check.results import CheckResult
from data_export.config.fields import (
    ConnId,
    Flag,
    Host,
    Plain,
    SecretReference,
    Whole,
    no_placeholder,
    path_inside,
    quoted_address,
)
from data_export.delivery.base import Destination
from data_export.delivery.connector import Connections, ConnectorConfig
from data_export.delivery.handed_over import Handover
from data_export.delivery.sftp import SFTP_PORT, server_address, sftp_account, sftp_uri
from data_export.delivery.sftp.host_keys import HostKeys
from data_export.wording import as_code

if TYPE_CHECKING:
    from data_export.delivery.sftp.login import SftpLogin


class SftpConfig(ConnectorConfig):
    """A folder of an SFTP server whose host key is pinned."""

    summary: ClassVar[str] = "files on the customer's SFTP server"
    target_key: ClassVar[str] = "sftp_remote_path"
    also_called: ClassVar[frozenset[str]] = frozenset({"ssh", "scp", "ssh_ftp", "sshfs"})

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
    sftp_host_key: HostKeys | None = Field(
        default=None,
        validate_default=True,
        description="the server's public key, e.g. ssh-ed25519 AAAA..., or a list of them (clusters, rotation)",
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
    max_open_files: Whole = Field(
        default=64,
        ge=1,
        le=1024,
        description="files that are open at the server at once, over all connections, sites and runs",
    )
    sftp_upload: Literal["rename", "direct"] = Field(
        default="rename",
        description="rename: write next to the final name, then rename; direct: for servers that refuse to rename: "
        "readers may see a file that is still being written; with if_exists: replace only",
    )
    sftp_legacy_algorithms: Flag = Field(
        default=False, description="true lets old servers in that know SHA-1 algorithms and CBC ciphers only"
    )
    verify: Literal["size", "read-back", "none"] = Field(
        default="size",
        description="what proves that a file arrived: the size the server says, or reading it back for its checksum; "
        "none: nothing but the server's word, for drop boxes that take files away; with sftp_upload: direct only",
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

    @field_validator("verify")
    @classmethod
    def _unverified_is_direct(cls, value: str, info: ValidationInfo) -> str:
        if value == "none" and info.data.get("sftp_upload", "direct") != "direct":
            raise ValueError(
                "none works with sftp_upload: direct only: a file that is taken away cannot be renamed any more"
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
        return no_placeholder(path_inside(value))

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
        return (
            "sftp",
            f"{(self.sftp_host or '').lower().rstrip('.')}:{self.sftp_port}",
            self.sftp_username or "",
            path,
        )

    def describe(self) -> str:
        named = f"connection {as_code(self.conn_id)}"
        server = named if self.conn_id else f"`sftp://{server_address(self.sftp_host or '', self.sftp_port)}`"
        return f"{server}, folder {as_code(self.sftp_remote_path, 1000)}"

    def parallel_transfers(self, at_once: int, sites: int) -> int:
        """As many as have a connection and an open file each within `max_connections` and `max_open_files`."""
        return min(at_once, sites, self.max_connections, self.max_open_files)

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
        from data_export.delivery.sftp.connection import login_of_connection
        from data_export.delivery.sftp.destination import SftpDestination

        login = self._login(connections)
        if self.conn_id:
            login = replace(login_of_connection(self.conn_id, connections), legacy_algorithms=login.legacy_algorithms)
        return SftpDestination(
            login,
            self.sftp_remote_path,
            upload=self.sftp_upload,
            verify=self.verify,
            connections=self.max_connections // transfers,
            concurrency=self.max_open_files // transfers,
        )

    async def check(self, target: Destination, folders: Sequence[str]) -> list[CheckResult]:
        from data_export.delivery.sftp.connection import check_renaming

        results = await super().check(target, folders)
        return results + (await check_renaming(target, results) if self.sftp_upload == "rename" else [])

    def handover(self) -> Handover:
        from data_export.delivery.sftp.connection import handed_over

        return handed_over(self)

    def _login(self, connections: Connections) -> "SftpLogin":
        from data_export.delivery.sftp.login import SftpLogin

        return SftpLogin(
            host=self.sftp_host or "",
            port=self.sftp_port,
            username=self.sftp_username or "",
            private_key_path=self.sftp_private_key_path,
            passphrase=connections.secret("sftp_private_key_passphrase", self.sftp_private_key_passphrase),
            host_key=self.sftp_host_key or "",
            legacy_algorithms=self.sftp_legacy_algorithms,
        )
