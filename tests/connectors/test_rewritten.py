"""Metadata outlive the bytes that they were written with: a customer's script that writes an object anew hands on what
was there, and an append at Azure leaves it. What they say of other bytes does not count, whichever version wrote it."""

import gzip
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from azure.storage.blob import BlobServiceClient
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from data_export.content import Content, Digests
from data_export.delivery.base import Destination, StoredObject
from data_export.delivery.deliver import deliver
from data_export.pipeline.file import FilesThere
from data_export.receipt import Transformed
from demo.servers.abfs import ACCOUNT, KEY, AbfsServer
from demo.servers.gcs import GcsServer
from demo.servers.s3 import S3Server
from tests.connectors.abfs.stores import store_at
from tests.connectors.contract import read_all
from tests.connectors.gcs.stores import gcs_store
from tests.connectors.s3.stores import client_of, key_session, s3_store

LINES = b'{"id":1,"name":"a"}\n' * 1000
PACKED = gzip.compress(LINES, 9, mtime=0)
NAME = "file.json.gz"
#: What versions before this one did not keep.
NEW = {"data-export-size", "data_export_size", "data-export-crc32c"}

Rewrite = Callable[[bytes, bool], None]


class Place(NamedTuple):
    """A customer's folder, and what writes the file there anew with the metadata that it has, or an older one's."""

    store: Destination
    rewrite: Rewrite


def on_s3(url: str, folder: str) -> Place:
    client, target = client_of(url, key_session()), {"Bucket": "bucket", "Key": f"{folder}/{NAME}"}

    def rewrite(data: bytes, older: bool) -> None:
        kept = client.head_object(**target)["Metadata"]
        kept = {name: value for name, value in kept.items() if not older or name != "data-export-size"}
        client.put_object(**target, Body=data, Metadata=kept)

    return Place(s3_store(url, f"s3://bucket/{folder}/"), rewrite)


def on_gcs(url: str, folder: str) -> Place:
    client = Client("demo", AnonymousCredentials(), client_options={"api_endpoint": url})

    def rewrite(data: bytes, older: bool) -> None:
        kept = client.bucket("bucket").get_blob(f"{folder}/{NAME}").metadata
        blob = client.bucket("bucket").blob(f"{folder}/{NAME}")
        blob.metadata = {name: value for name, value in kept.items() if not older or name not in NEW}
        blob.upload_from_string(data)

    return Place(gcs_store(url, f"gs://bucket/{folder}/"), rewrite)


def on_azure(url: str, folder: str) -> Place:
    def rewrite(data: bytes, older: bool) -> None:
        with BlobServiceClient(f"{url}/{ACCOUNT}", KEY) as service:
            blob = service.get_blob_client("bucket", f"{folder}/{NAME}")
            kept = blob.get_blob_properties().metadata
            kept = {name: value for name, value in kept.items() if not older or name not in NEW}
            blob.upload_blob(data, overwrite=True, metadata=kept)

    return Place(store_at(url, "bucket", f"{folder}/"), rewrite)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Callable[[str], Place]]]:
    folder = tmp_path_factory.mktemp("servers")
    with GcsServer(folder / "gcs") as gcs, S3Server(folder / "s3") as s3:
        gcs.create_bucket("bucket")
        s3.create_bucket("bucket")
        found = {"gs": lambda name: on_gcs(gcs.url, name), "s3": lambda name: on_s3(s3.url, name)}
        if not AbfsServer.installed():
            yield found
            return
        with AbfsServer(folder / "azurite") as abfs:
            abfs.create_bucket("bucket")
            yield found | {"abfs": lambda name: on_azure(abfs.url, name)}


@pytest.fixture(params=["gs", "s3", "abfs"])
def place(request: pytest.FixtureRequest, servers: dict[str, Callable[[str], Place]]) -> Place:
    if request.param not in servers:
        pytest.skip("no azurite-blob on this machine: npm install -g azurite, or set AZURITE, to run these")
    return servers[request.param](uuid4().hex)


@pytest.fixture
def content(tmp_path: Path) -> Content:
    (tmp_path / "data").write_bytes(PACKED)
    made = Content.of_file(tmp_path / "data")
    return replace(made, digests=replace(made.digests, records_sha256=hashlib.sha256(LINES).hexdigest()))


def transformed_of(content: Content) -> Transformed:
    sums: dict[str, Any] = {name: getattr(content.digests, name) for name in ("sha256", "crc32c", "records_sha256")}
    return Transformed(
        site_id=UUID(int=1), data_key="a", images_key="b", work_orders=1000, images=0, bytes=content.size, **sums
    )


async def outcome(place: Place, content: Content, there: FilesThere) -> str:
    return (await deliver(place.store, lambda _: NAME, content, "replace", read=there.read)).outcome


@pytest.mark.parametrize("older", [False, True], ids=["with a size", "of an older version"])
async def test_other_records_under_our_metadata_are_other_content(
    place: Place, content: Content, tmp_path: Path, older: bool
) -> None:
    redacted = gzip.compress(LINES[:2000], mtime=0)
    async with place.store as store:
        assert await outcome(place, content, FilesThere(store, tmp_path / "there", "gzip", "receipt")) == "created"
        place.rewrite(redacted, older)
        assert await read_all(store, NAME) == redacted
        assert await outcome(place, content, FilesThere(store, tmp_path / "there", "gzip", "receipt")) == "replaced"
        assert await read_all(store, NAME) == PACKED


@pytest.mark.parametrize("older", [False, True], ids=["with a size", "of an older version"])
async def test_the_same_records_are_said_to_be_as_they_are_there(
    place: Place, content: Content, tmp_path: Path, older: bool
) -> None:
    packed_anew = gzip.compress(LINES, 1, mtime=0)
    async with place.store as store:
        there = FilesThere(store, tmp_path / "there", "gzip", "receipt")
        assert await outcome(place, content, there) == "created"
        assert await there.other_bytes(NAME, transformed_of(content)) is None
        place.rewrite(packed_anew, older)
        assert await outcome(place, content, there) == "unchanged"
        found = await there.other_bytes(NAME, transformed_of(content))
    assert found is not None
    assert (found.bytes, found.sha256) == (len(packed_anew), hashlib.sha256(packed_anew).hexdigest())


async def test_the_same_bytes_of_an_older_version_are_not_read(place: Place, content: Content) -> None:
    async def never(_destination: Destination, stored: StoredObject) -> Digests:
        raise AssertionError(f"{stored} is read")

    async with place.store as store:
        await store.create(NAME, content)
        place.rewrite(PACKED, True)
        assert (await deliver(store, lambda _: NAME, content, "replace", read=never)).outcome == "unchanged"
