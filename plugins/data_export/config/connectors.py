"""The `connector_config` of each connector. Names and meanings are the service's public page, "Connector types".

A check that needs two keys sits on the later declared one, so that its message names that key's line.
"""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from data_export.config.fields import (
    SPELLED_WHOLE,
    ConnId,
    Email,
    Flag,
    Host,
    HostKey,
    Plain,
    StoreUri,
    Whole,
    path_inside,
    quoted_address,
)
from data_export.config.secrets import SecretReference

IfExists = Literal["replace", "keep", "revision"]
SFTP_PORT = 22
LONGEST_LINK_HOURS = 168  # where signed links of Cloud Storage and S3 end at the latest
LinkHours = Annotated[int, Field(ge=1, le=LONGEST_LINK_HOURS), SPELLED_WHOLE]


def server_address(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def sftp_account(username: str, host: str, port: int) -> str:
    """`user@host:port`, without the port where it is the usual one."""
    return f"{username}@{server_address(host, port).removesuffix(f':{SFTP_PORT}')}"


def sftp_uri(server: str, folder: str) -> str:
    """`sftp://<server>/<folder>/`; a folder below the user's own is written as one below the root is."""
    path = folder.strip("/")
    return f"sftp://{server}/{path}/" if path else f"sftp://{server}/"


class ConnectorConfig(BaseModel):
    """What every connector has."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    if_exists: IfExists = Field(
        default="replace",
        description="another content at an existing name: replace it, keep it, or write <from>_<to>.r2.json beside it",
    )


class EmailConfig(ConnectorConfig):
    """A temporary link to one data file, by mail. Images cannot be exported this way."""

    emails: tuple[Email, ...] = Field(
        min_length=1,
        description="who receives the link, one or more addresses",
        json_schema_extra={"uniqueItems": True},
    )
    link_ttl_hours: LinkHours | None = Field(
        default=None,
        description=f"hours the link works, 1 to {LONGEST_LINK_HOURS} (default: the platform's, 12)",
    )
    export_images: Flag = Field(
        default=False, description="always false: a link carries no images", json_schema_extra={"const": False}
    )

    @field_validator("emails")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        seen: set[str] = set()
        for address in value:
            if address.lower() in seen:
                raise ValueError(f"names {address} twice: remove one")
            seen.add(address.lower())
        return value

    @field_validator("export_images")
    @classmethod
    def _no_images(cls, value: bool) -> bool:
        if value:
            raise ValueError(
                "true is not possible with the email connector, whose link carries the data file only: "
                "remove it, or use cloud_storage or sftp"
            )
        return value


class CloudStorageConfig(ConnectorConfig):
    """A folder of a bucket, `gs://` or `s3://`."""

    storage_uri: StoreUri = Field(description="gs://bucket/folder/ or s3://bucket/folder/")
    export_images: Flag = Field(description="whether the images that the data refers to are copied too")
    conn_id: ConnId | None = Field(
        default=None, description="Airflow connection to use instead of the platform's default for the scheme"
    )
    impersonate: Plain | None = Field(
        default=None, min_length=1, description="gs:// only: e-mail of the service account to act as"
    )

    @field_validator("impersonate")
    @classmethod
    def _only_on_gs(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and not info.data.get("storage_uri", "gs://").startswith("gs://"):
            raise ValueError("works with gs:// only: remove it, or put a role into the Airflow connection")
        return value

    @property
    def scheme(self) -> str:
        return self.storage_uri.partition("://")[0]


class SftpConfig(ConnectorConfig):
    """A folder of an SFTP server whose host key is pinned."""

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
        default=None, description="env:NAME or var:NAME (Airflow Variable) that holds the key's passphrase"
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
        description="rename: write beside the final name, then rename; direct: for servers that refuse to rename: "
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
            raise ValueError("stands beside conn_id, whose connection brings its own: remove one of the two")
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
