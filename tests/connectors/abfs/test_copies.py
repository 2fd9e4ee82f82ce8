"""Copies that Azure makes by itself, from one container to another."""

import gzip
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from azure.storage.blob import BlobServiceClient, ContentSettings
from multidict import CIMultiDict

from data_export.content import Content
from data_export.delivery.abfs.store import AbfsStore
from data_export.delivery.local.store import LocalStore
from data_export.errors import AccessDenied, ObjectExists, TargetNotFound, VerificationFailed
from data_export.images import copy_images, source_key_of
from demo.servers.abfs import ACCOUNT, KEY, AbfsServer
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.strict import PutsFromUrl
from tests.connectors.abfs.stores import store_at, usual_store
from tests.connectors.contract import SITE, read_all

PICTURE = b"\x89PNG" + b"pixels" * 1000


@pytest.fixture
def service(server: AbfsServer) -> Iterator[BlobServiceClient]:
    with BlobServiceClient(f"{server.url}/{ACCOUNT}", KEY) as service:
        yield service


@pytest.fixture
async def source(server: AbfsServer) -> AsyncIterator[AbfsStore]:
    name = f"images-{uuid4().hex}"
    server.create_bucket(name)
    async with usual_store(server.url, name) as source:
        yield source


@pytest.fixture
def proxy(server: AbfsServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.url, PutsFromUrl()) as proxy:
        yield proxy


@pytest.fixture
async def target(proxy: FaultProxy, container: str) -> AsyncIterator[AbfsStore]:
    async with usual_store(proxy.url, container) as target:
        yield target


def put(service: BlobServiceClient, source: AbfsStore, settings: dict[str, str], **options: Any) -> None:
    """An image as the platform keeps it."""
    blob = service.get_blob_client(source.container.container_name, source.root.name("private.png"))
    blob.upload_blob(b"pixels", content_settings=ContentSettings(content_type="image/png", **settings), **options)


def copied(service: BlobServiceClient, target: AbfsStore) -> Any:
    blob = service.get_blob_client(target.container.container_name, target.root.name("image.png"))
    assert blob.get_blob_tags() == {}
    return blob.get_blob_properties()


async def test_hands_over_nothing_of_the_platform(
    service: BlobServiceClient, source: AbfsStore, target: AbfsStore
) -> None:
    put(service, source, {}, metadata={"operator": "secret", "sha256": "of another tool"}, tags={"cost": "secret"})
    stored = await target.copy_from(source, "private.png", "image.png")
    assert stored.digests.matches(Content.of_bytes(b"pixels", md5=True).digests)
    found = copied(service, target)
    assert found.metadata == {"data_export_size": "6"}
    assert found.content_settings.content_type == "image/png"
    assert found.copy.source is None, "the customer would see where the platform keeps it, and a link to it"
    assert found.copy.id is None


@pytest.mark.parametrize("header", ["cache_control", "content_disposition", "content_language"])
async def test_headers_that_azure_would_copy_along_stay_behind(
    service: BlobServiceClient, source: AbfsStore, target: AbfsStore, header: str
) -> None:
    put(service, source, {header: "secret"})
    await target.copy_from(source, "private.png", "image.png")
    assert copied(service, target).content_settings[header] is None


async def test_an_empty_image_arrives_too(source: AbfsStore, target: AbfsStore) -> None:
    await source.create("folder/a.png", Content.of_bytes(b""))
    ((listed,),) = [page async for page in source.files_in("folder")]
    assert (await target.copy_from(source, "folder/a.png", "a.png", listed)).digests.size == 0
    assert await read_all(target, "a.png") == b""
    await source.replace("folder/a.png", Content.of_bytes(b"pixels"))
    await target.copy_from(source, "folder/a.png", "b.png", listed)
    assert await read_all(target, "b.png") == b"pixels"
    with pytest.raises(ObjectExists):
        await target.copy_from(source, "folder/a.png", "a.png", listed)


async def test_a_server_that_does_not_copy_is_a_reason_to_stream(
    server: AbfsServer, source: AbfsStore, container: str
) -> None:
    await source.create("a.png", Content.of_bytes(b"pixels"))
    async with usual_store(server.url, container) as target:
        with pytest.raises(AccessDenied, match="this server cannot do that"):
            await target.copy_from(source, "a.png", "image.png")
        assert await target.stat("image.png") is None


async def test_a_copy_whose_answer_is_lost_is_recognised(
    source: AbfsStore, target: AbfsStore, proxy: FaultProxy
) -> None:
    for name, md5 in (("a.png", True), ("b.png", False)):
        await source.create(name, Content.of_bytes(b"pixels", md5=md5))
        proxy.lose_answer(method="PUT")
        assert (await target.copy_from(source, name, name)).digests.md5
        assert await read_all(target, name) == b"pixels"
    assert len(proxy.requests("PUT")) == 2


async def test_our_digests_go_along(service: BlobServiceClient, source: AbfsStore, target: AbfsStore) -> None:
    await source.create("a", Content.of_bytes(b"pixels", "image/png"))
    assert (await target.copy_from(source, "a", "image.png")).digests.sha256
    with pytest.raises(ObjectExists):
        await target.copy_from(source, "a", "image.png")
    with pytest.raises(TargetNotFound):
        await target.copy_from(source, "absent", "b")


async def test_images_that_are_stored_as_gzip_arrive_as_images(
    server: AbfsServer, container: str, tmp_path: Path
) -> None:
    name, ids = f"images-{uuid4().hex}", [str(UUID(int=n)) for n in range(4)]
    server.create_bucket(name)
    listed = tmp_path / "images.parquet"
    pq.write_table(pa.table({"input_id": ids, "file_extension": pa.array([".png"] * 4, pa.string())}), listed)
    key_of = source_key_of("{site_id}/{input_id}{file_extension}", SITE)
    stored = [(gzip.compress(PICTURE), "gzip"), (PICTURE, "gzip"), (gzip.compress(PICTURE), "X-GZIP"), (b"?", "br")]
    with BlobServiceClient(f"{server.url}/{ACCOUNT}", KEY) as service:
        for input_id, (data, encoding) in zip(ids, stored, strict=True):
            blob = service.get_blob_client(name, f"exports/{key_of(input_id, '.png')}")
            blob.upload_blob(data, content_settings=ContentSettings(content_encoding=encoding))
    for place in (usual_store(server.url, container), LocalStore(tmp_path / "files")):
        async with usual_store(server.url, name) as source, place as target:
            for copied, there in ((3, 0), (0, 3)):
                result = await copy_images(listed, site_id=SITE, source=source, source_key=key_of, destination=target)
                assert (result.copied, result.already_there, result.failed) == (copied, there, 1), result
            for input_id in ids[:3]:
                assert await read_all(target, f"{SITE}/inputs/{input_id}.png") == PICTURE


async def test_a_listed_image_costs_one_request_and_one_that_has_changed_is_not_copied(
    server: AbfsServer, container: str, source: AbfsStore
) -> None:
    await source.create("folder/a.png", Content.of_bytes(b"pixels", "image/png"))
    (page,) = [page async for page in source.files_in("folder")]
    with FaultProxy(server.url, PutsFromUrl()) as proxy:
        async with usual_store(proxy.url, container) as target:
            copied = await target.copy_from(source, "folder/a.png", "image.png", page[0])
            assert [request.method for request in proxy.seen] == ["PUT"]
            assert await read_all(target, "image.png") == b"pixels"
            assert copied.digests.matches(page[0].digests)
            await source.replace("folder/a.png", Content.of_bytes(b"others", "image/png"))
            with pytest.raises(ObjectExists):
                await target.copy_from(source, "folder/a.png", "other.png", page[0])
            assert await target.stat("other.png") is None


async def test_azure_is_asked_to_compare_the_md5_of_what_it_copies(
    server: AbfsServer, container: str, source: AbfsStore
) -> None:
    """Azurite takes the header and compares nothing, so the refusal is the proxy's, as Azure words it."""
    image = Content.of_bytes(b"pixels", "image/png", md5=True)
    await source.create("folder/a.png", image)
    (page,) = [page async for page in source.files_in("folder")]
    refusal = Answer(400, CIMultiDict({"x-ms-error-code": "Md5Mismatch"}))
    asked: list[str | None] = []

    async def compare(request: Exchange, forward: Forward) -> Answer:
        if request.method != "PUT":
            return await forward(request)
        asked.append(request.headers.get("x-ms-source-content-md5"))
        return await PutsFromUrl()(request, forward) if len(asked) == 1 else refusal

    with FaultProxy(server.url, compare) as proxy:
        async with store_at(proxy.url, container) as target:
            await target.copy_from(source, "folder/a.png", "image.png", page[0])
            with pytest.raises(VerificationFailed, match="other bytes arrived than were sent"):
                await target.copy_from(source, "folder/a.png", "other.png", page[0])
    assert {*asked} == {image.digests.md5}
