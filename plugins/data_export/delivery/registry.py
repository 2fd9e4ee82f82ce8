"""All connectors: a new one is its folder below `delivery/` and one line here.

A connector of its own (`connector_type`) is a line in `CONNECTORS`. An object store that `cloud_storage` reaches is a
line in `SCHEMES`, and its own keys, if it has some, a base of `CloudStorageConfig`.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from data_export.check.results import CheckResult
from data_export.config.fields import (
    PERCENT_ENCODED,
    ConnId,
    Flag,
    no_placeholder,
    path_inside,
    plain,
    quoted_address,
)
from data_export.delivery.abfs import config as abfs
from data_export.delivery.base import Destination, Store
from data_export.delivery.connector import Connections, ConnectorConfig, Scheme
from data_export.delivery.email.config import EmailConfig
from data_export.delivery.gcs import config as gcs
from data_export.delivery.handed_over import Handover
from data_export.delivery.local import config as local
from data_export.delivery.s3 import config as s3
from data_export.delivery.sftp.config import SftpConfig
from data_export.wording import as_code

SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in (gcs.SCHEME, s3.SCHEME, abfs.SCHEME, local.SCHEME)}


def bucket_schemes() -> str:
    """`gs:// or s3://`, for messages."""
    return " or ".join(f"{name}://" for name, scheme in SCHEMES.items() if scheme.has_buckets)


def scheme_of(uri: str) -> Scheme:
    """The kind of store that an address names."""
    return SCHEMES[uri.partition("://")[0]]


def _respelled(uri: str) -> str | None:
    return next((found for scheme in SCHEMES.values() if (found := scheme.respelled(uri))), None)


def store_uri(value: str) -> str:
    """`gs://bucket/folder/`, `s3://bucket/folder/` or `file:///folder/`, always ending in `/`.

    Raises:
        ValueError: another scheme, no bucket, or anything but a bucket and plain folders.
    """
    name, _, rest = plain(value).partition("://")
    bucket, _, folder = rest.partition("/")
    scheme = SCHEMES.get(name)
    if respelled := _respelled(value):
        raise ValueError(f"the address is spelled in another tool's way: write {respelled}")
    if scheme is None:
        raise ValueError(
            f"{quoted_address(value)} does not begin with {bucket_schemes()}: "
            "write e.g. gs://my-bucket/deepomatic/production/"
        )
    is_bucket = re.fullmatch(scheme.bucket, bucket) is not None
    if (not is_bucket and ("@" in bucket or ":" in bucket)) or "?" in rest or "#" in rest:
        raise ValueError(f"the {name}:// address has more than bucket and folder: remove user, port, '?' and '#'")
    if not scheme.has_buckets and (bucket or not folder):
        raise ValueError(
            f"{quoted_address(value)} names no absolute folder: write three slashes, e.g. file:///srv/exports/"
        )
    if scheme.has_buckets and not is_bucket:
        raise ValueError(f"{quoted_address(bucket)} is not a bucket name: {scheme.bucket_rule}")
    if PERCENT_ENCODED.search(folder):
        raise ValueError(f"{quoted_address(value)} is percent-encoded: write the folder's plain characters")
    no_placeholder(folder)
    # `removesuffix` in path_inside forgives one slash at the end; one at the beginning would be an empty part here
    path_inside("/" + folder)
    return value if value.endswith("/") else value + "/"


StoreUri = Annotated[
    str, AfterValidator(store_uri), WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(SCHEMES)})://"})
]


class CloudStorageBase(ConnectorConfig):
    """What a folder of a bucket has, whatever holds it."""

    summary: ClassVar[str] = "files in the customer's bucket, gs://, s3:// or abfs://"
    target_key: ClassVar[str] = "storage_uri"
    also_called: ClassVar[frozenset[str]] = frozenset(
        {"bucket", "object_storage", *SCHEMES}.union(*(scheme.also_called for scheme in SCHEMES.values()))
    )

    storage_uri: StoreUri = Field(
        description="gs://bucket/folder/, s3://bucket/folder/ or abfs://container@account/folder/"
    )
    export_images: Flag = Field(description="whether the images that the data refers to are copied too")
    conn_id: ConnId | None = Field(
        default=None, description="Airflow connection to use instead of the platform's default for the scheme"
    )

    @field_validator("*")
    @classmethod
    def _of_this_scheme(cls, value: object, info: ValidationInfo) -> object:
        for scheme in SCHEMES.values():
            fix, uri = scheme.own_keys.get(info.field_name or ""), info.data.get("storage_uri")
            if value and fix and uri and scheme is not scheme_of(uri):
                raise ValueError(f"works with {scheme.name}:// only: remove it, or {fix}")
        return value

    @property
    def kind(self) -> str:
        return self.scheme.name

    @property
    def scheme(self) -> Scheme:
        return scheme_of(self.storage_uri)

    def address(self) -> str:
        return self.storage_uri

    def identity(self) -> tuple[str, ...]:
        return (self.storage_uri, (self.conn_id or "") if self.scheme.connection_names_server else "")

    def describe(self) -> str:
        return as_code(self.storage_uri, 1200)

    @classmethod
    def keys_of(cls, target: str) -> dict[str, str | list[str]] | None:
        known = target.partition("://")[0] in SCHEMES or _respelled(target)
        return {"storage_uri": target} if known else None

    def open(self, connections: Connections, transfers: int) -> Destination:
        scheme = self.scheme
        conn_id = self.conn_id or connections.default_conn_id(scheme.name)
        return scheme.open(self.storage_uri, conn_id, connections, self._own_keys())

    def handover(self) -> Handover:
        return self.scheme.handover(self.storage_uri, self._own_keys())

    def _own_keys(self) -> dict[str, Any]:
        return {key: getattr(self, key, None) for key in self.scheme.own_keys}

    async def check(self, target: Destination, folders: Sequence[str]) -> list[CheckResult]:
        check = self.scheme.check
        return await (check(target, folders) if check else super().check(target, folders))


class CloudStorageConfig(gcs.GcsKeys, s3.S3Keys, CloudStorageBase):
    """A folder of a bucket, of any scheme."""


#: The model of each `connector_type`.
CONNECTORS: dict[str, type[ConnectorConfig]] = {
    "email": EmailConfig,
    "cloud_storage": CloudStorageConfig,
    "sftp": SftpConfig,
}


def kinds() -> tuple[str, ...]:
    """Every value that `ConnectorConfig.kind` can have."""
    return tuple(CONNECTORS.keys() - {"cloud_storage"}) + tuple(SCHEMES)


def open_store(uri: str, conn_id: str, connections: Connections) -> Store:
    """A store of the platform's own: staging, or the images."""
    return scheme_of(uri).open(uri, conn_id, connections, {})
