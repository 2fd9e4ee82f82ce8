"""Reads back what customers have received, from their own servers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import boto3
import httpx
from azure.storage.blob import ContainerClient
from botocore.config import Config

from data_export.config.models import CustomerExport
from data_export.delivery.registry import CloudStorageConfig
from data_export.delivery.sftp.config import SftpConfig
from demo.fill import bucket_objects
from demo.platform import EmbeddedPlatform
from demo.servers.abfs import ACCOUNT, KEY


class Received(Protocol):
    """One customer's target as the customer sees it."""

    uri: str

    def names(self) -> list[str]:
        """Every object's name below the target's root, sorted."""
        ...

    def read(self, name: str) -> bytes: ...

    def written(self) -> dict[str, str]:
        """Of every object's name what changes when it is written again, be it with the same bytes."""
        ...


def received(platform: EmbeddedPlatform, export: CustomerExport) -> Received | None:
    """The target of an export; None for the email connector, whose target is a mailbox."""
    config = export.connector_config
    if isinstance(config, SftpConfig):
        return _Folder(platform, config.sftp_remote_path)
    if isinstance(config, CloudStorageConfig):
        buckets: dict[str, Callable[[EmbeddedPlatform, str], Received]]
        buckets = {"gs": _GoogleBucket, "s3": _S3Bucket, "abfs": _AzureContainer}
        return buckets[config.kind](platform, config.storage_uri)
    return None


class _Folder:
    def __init__(self, platform: EmbeddedPlatform, path: str) -> None:
        self.uri = f"sftp://{platform.sftp.host}{path.rstrip('/')}/"
        self._root: Path = platform.sftp.root / path.strip("/")

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file())

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def written(self) -> dict[str, str]:
        stats = {name: (self._root / name).stat() for name in self.names()}
        return {name: f"{stat.st_ino} {stat.st_mtime_ns}" for name, stat in stats.items()}


class _GoogleBucket:
    def __init__(self, platform: EmbeddedPlatform, uri: str) -> None:
        self.uri = uri
        self._bucket, self._prefix = _split(uri)
        self._client = httpx.Client(base_url=platform.gcs.url, trust_env=False)

    def names(self) -> list[str]:
        names = bucket_objects(self._client, self._bucket)
        return sorted(name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix))

    def read(self, name: str) -> bytes:
        path = f"/storage/v1/b/{self._bucket}/o/{quote(self._prefix + name, safe='')}"
        return self._client.get(path, params={"alt": "media"}).raise_for_status().content

    def written(self) -> dict[str, str]:
        path = f"/storage/v1/b/{self._bucket}/o"
        answer = self._client.get(path, params={"prefix": self._prefix}).raise_for_status().json()
        return {entry["name"].removeprefix(self._prefix): entry["updated"] for entry in answer["items"]}


class _S3Bucket:
    def __init__(self, platform: EmbeddedPlatform, uri: str) -> None:
        self.uri = uri
        self._bucket, self._prefix = _split(uri)
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=platform.s3.url,
            region_name="us-east-1",
            aws_access_key_id="customer",
            aws_secret_access_key="customer",
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )

    def names(self) -> list[str]:
        return sorted(self.written())

    def read(self, name: str) -> bytes:
        content: bytes = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()
        return content

    def written(self) -> dict[str, str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        found: list[Mapping[str, Any]] = [entry for page in pages for entry in page.get("Contents", [])]
        return {entry["Key"].removeprefix(self._prefix): entry["LastModified"].isoformat() for entry in found}


class _AzureContainer:
    def __init__(self, platform: EmbeddedPlatform, uri: str) -> None:
        assert platform.abfs, "no azurite-blob on this machine"
        self.uri = uri
        bucket, self._prefix = _split(uri)
        self._client = ContainerClient(f"{platform.abfs.url}/{ACCOUNT}", bucket.partition("@")[0], KEY)

    def names(self) -> list[str]:
        return sorted(self.written())

    def read(self, name: str) -> bytes:
        return self._client.download_blob(self._prefix + name).readall()

    def written(self) -> dict[str, str]:
        found = self._client.list_blobs(name_starts_with=self._prefix)
        return {blob.name.removeprefix(self._prefix): str(blob.etag) for blob in found}


def _split(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    return parts.netloc, parts.path.lstrip("/")
