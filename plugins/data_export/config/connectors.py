"""The `connector_config` of each connector. Names and meanings are the service's public page, "Connector types"."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from data_export.config.secrets import SecretReference

IfExists = Literal["replace", "keep", "revision"]
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_CONN_ID = re.compile(r"[A-Za-z0-9_.-]{1,250}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,45}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
CLOUD_SCHEMES = ("gs", "s3", "file")


def _plain(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError(f"{value!r} has a control or direction character: remove it")
    return value


def _email(value: str) -> str:
    if not _EMAIL.fullmatch(value):
        raise ValueError(f"{value!r} is not an e-mail address: write one such as bi-team@customer.example")
    return value


def _conn_id(value: str) -> str:
    if not _CONN_ID.fullmatch(value):
        raise ValueError(f"{value!r} is not the id of an Airflow connection: use letters, digits, '_', '.' and '-'")
    return value


def path_inside(path: str) -> str:
    """The path without a part that would leave it.

    Raises:
        ValueError: `..`, `.`, empty parts, backslashes, control or direction characters.
    """
    _plain(path)
    if "\\" in path:
        raise ValueError(f"{path!r} has a backslash: separate folders with '/'")
    parts = path.strip("/").split("/") if path.strip("/") else []
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{path!r} has an empty, '.' or '..' part: write the plain folder")
    return path


Plain = Annotated[str, AfterValidator(_plain)]
Email = Annotated[str, AfterValidator(_email)]
ConnId = Annotated[str, AfterValidator(_conn_id)]


class ConnectorConfig(BaseModel):
    """What every connector has."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    if_exists: IfExists = Field(
        default="replace",
        description="what to do with another content at an existing name: replace it, keep it, or write <name>.r2.json",
    )


class EmailConfig(ConnectorConfig):
    """A temporary link to one data file, by mail. Images cannot be exported this way."""

    emails: tuple[Email, ...] = Field(min_length=1, description="who receives the link")
    link_ttl_hours: int | None = Field(
        default=None, ge=1, le=168, description="hours the link works (platform default: 12)"
    )
    export_images: Literal[False] = Field(default=False, description="always false: a link carries no images")

    @field_validator("export_images", mode="before")
    @classmethod
    def _no_images(cls, value: object) -> object:
        if value is True:
            raise ValueError(
                "is not possible with the email connector, whose link carries the data file only: "
                "remove it, or use cloud_storage or sftp"
            )
        return value

    @field_validator("emails")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len({address.lower() for address in value}) < len(value):
            raise ValueError("names an address twice: remove one")
        return value


class CloudStorageConfig(ConnectorConfig):
    """A folder of a bucket, `gs://` or `s3://`."""

    storage_uri: str = Field(description="gs://bucket/folder/ or s3://bucket/folder/")
    export_images: bool = Field(description="whether the images that the data refers to are copied too")
    conn_id: ConnId | None = Field(
        default=None, description="Airflow connection to use instead of the platform's default"
    )
    impersonate: Plain | None = Field(default=None, description="gs only: service account to impersonate")

    @field_validator("storage_uri")
    @classmethod
    def _uri(cls, value: str) -> str:
        parts = urlsplit(_plain(value))
        if parts.scheme not in CLOUD_SCHEMES:
            raise ValueError(
                f"{value!r} does not begin with gs:// or s3://: write e.g. gs://my-bucket/deepomatic/production/"
            )
        if parts.query or parts.fragment or "@" in parts.netloc or ":" in parts.netloc:
            raise ValueError(
                f"{parts.scheme}:// address has more than bucket and folder: remove user, port, '?' and '#'"
            )
        if parts.scheme != "file" and not _BUCKET.fullmatch(parts.netloc):
            raise ValueError(f"{parts.netloc!r} is not a bucket name: use 3 to 222 of a-z, 0-9, '-', '_' and '.'")
        path_inside(parts.path)
        return value if value.endswith("/") else value + "/"

    @model_validator(mode="after")
    def _impersonate_only_on_gs(self) -> "CloudStorageConfig":
        if self.impersonate and self.scheme != "gs":
            raise ValueError("impersonate works with gs:// only: remove it, or put a role into the Airflow connection")
        return self

    @property
    def scheme(self) -> str:
        return urlsplit(self.storage_uri).scheme


class SftpConfig(ConnectorConfig):
    """A folder of an SFTP server whose host key is pinned."""

    sftp_host: str | None = Field(default=None, description="host name or address; not with conn_id")
    sftp_port: int = Field(default=22, ge=1, le=65535)
    sftp_username: Plain | None = Field(default=None, min_length=1, description="dedicated user; not with conn_id")
    sftp_private_key_path: str | None = Field(
        default=None, description="absolute path of our private key on the workers"
    )
    sftp_private_key_passphrase: SecretReference | None = Field(
        default=None, description="env:NAME or var:NAME (Airflow Variable) that holds the key's passphrase"
    )
    sftp_host_key: Plain | None = Field(default=None, description="the server's public key, e.g. `ssh-ed25519 AAAA...`")
    sftp_remote_path: Plain = Field(description="base folder on the server")
    export_images: bool = Field(description="whether the images that the data refers to are copied too")
    conn_id: ConnId | None = Field(default=None, description="Airflow connection in place of host, user and key")

    @field_validator("sftp_host")
    @classmethod
    def _host(cls, value: str | None) -> str | None:
        if value is not None and not _HOST.fullmatch(value):
            raise ValueError(f"{value!r} is not a host name or address: leave out sftp://, user and port")
        return value

    @field_validator("sftp_private_key_path")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and not PurePosixPath(_plain(value)).is_absolute():
            raise ValueError(f"{value!r} is not an absolute path: workers have no common working folder")
        return value

    @field_validator("sftp_remote_path")
    @classmethod
    def _inside(cls, value: str) -> str:
        return path_inside(value)

    @model_validator(mode="after")
    def _host_or_connection(self) -> "SftpConfig":
        inline = {
            "sftp_host": self.sftp_host,
            "sftp_username": self.sftp_username,
            "sftp_private_key_path": self.sftp_private_key_path,
        }
        if self.conn_id:
            given = [name for name, value in inline.items() if value is not None]
            if given:
                raise ValueError(f"conn_id stands in place of {', '.join(given)}: remove one or the other")
            return self
        missing = [name for name, value in inline.items() if value is None]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing: write it, or name an Airflow connection in conn_id")
        if self.sftp_host_key is None:
            raise ValueError(
                "sftp_host_key missing: paste the server's public key (its administrator, or the `check` "
                "command, shows it); a server is never trusted unseen"
            )
        return self
