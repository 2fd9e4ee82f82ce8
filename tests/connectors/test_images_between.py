"""`copy_images` between the real connectors on real servers: everything arrives, a repeat sends nothing."""

import gzip
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID, uuid4

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_export.content import Content
from data_export.delivery.base import Destination, ServerSideCopy
from data_export.delivery.local.store import LocalStore
from data_export.delivery.s3.store import S3Store
from data_export.delivery.sftp.destination import SftpDestination, SftpLogin
from data_export.errors import TargetNotFound
from data_export.images import CopyLimits, copy_images, source_key_of
from data_export.receipt import ImagesCopied
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.gcs import GcsServer
from demo.servers.s3 import S3Server
from demo.servers.sftp import SftpServer
from demo.servers.strict import s3_error
from tests.connectors.gcs.stores import gcs_store
from tests.connectors.s3.stores import client_of, key_session, s3_store

SITE = UUID("433a60f6-9756-473e-b1e9-9e89e24bb787")
COUNT = 30
LOST = str(UUID(int=99))
SOURCE_KEY = source_key_of("{site_id}/{input_id}{file_extension}", SITE)


class Places:
    """Makes an empty place of a kind: a new bucket or folder each time."""

    def __init__(self, folder: Path, servers: ExitStack) -> None:
        self._folder = folder
        self._gcs = servers.enter_context(GcsServer(folder / "gcs"))
        self._s3 = servers.enter_context(S3Server(folder / "s3"))
        self._sftp = servers.enter_context(SftpServer(folder / "sftp"))

    def make(self, kind: str) -> Destination:
        name = f"b-{uuid4().hex}"
        if kind == "gs":
            self._gcs.create_bucket(name)
            return gcs_store(self._gcs.url, f"gs://{name}/images/")
        if kind == "s3":
            self._s3.create_bucket(name)
            return s3_store(self._s3.url, f"s3://{name}/images/")
        if kind == "sftp":
            server = self._sftp
            key, phrase = str(server.private_key_path), server.passphrase
            login = SftpLogin(
                server.host, server.username, server.host_key, server.port, private_key_path=key, passphrase=phrase
            )
            return SftpDestination(login, f"{server.base}{name}")
        return LocalStore(self._folder / name)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    with ExitStack() as servers:
        yield Places(tmp_path_factory.mktemp("places"), servers)


MEMORY, FILES = CopyLimits(), CopyLimits(in_memory_bytes=0)


@pytest.mark.parametrize(
    ("of", "to", "limits"),
    [
        pytest.param("gs", "gs", MEMORY, id="gs to gs by the server"),
        pytest.param("s3", "s3", MEMORY, id="s3 to s3 by the server"),
        pytest.param("gs", "s3", MEMORY, id="gs to s3"),
        pytest.param("gs", "s3", FILES, id="gs to s3 through files"),
        pytest.param("s3", "gs", MEMORY, id="s3 to gs"),
        pytest.param("s3", "gs", FILES, id="s3 to gs through files"),
        pytest.param("gs", "sftp", MEMORY, id="gs to sftp"),
        pytest.param("gs", "sftp", FILES, id="gs to sftp through files"),
        pytest.param("file", "sftp", MEMORY, id="file to sftp"),
    ],
)
async def test_images_arrive_and_a_repeat_sends_nothing(places, tmp_path, of, to, limits):
    ids = [str(UUID(int=n)) for n in range(COUNT)]
    listed = tmp_path / "images.parquet"
    extensions = [".png" if n % 2 else None for n in range(COUNT)]
    pq.write_table(pa.table({"input_id": ids, "file_extension": pa.array(extensions, pa.string())}), listed)
    images = {input_id: input_id.encode() * 50 for input_id in ids[1:]}  # the first is missing

    async with places.make(of) as source, places.make(to) as target:
        for input_id, extension in zip(ids[1:], extensions[1:], strict=True):
            await source.create(SOURCE_KEY(input_id, extension), Content.of_bytes(images[input_id]))

        async def copy() -> ImagesCopied:
            return await copy_images(
                listed, site_id=SITE, source=source, source_key=SOURCE_KEY, destination=target, limits=limits
            )

        missing = {"site_id": SITE, "missing_at_source": 1, "missing": [ids[0]]}
        assert isinstance(target, ServerSideCopy) == (to in ("gs", "s3"))
        assert of != to or target.can_copy_from(source)
        assert await copy() == ImagesCopied(copied=COUNT - 1, bytes=sum(map(len, images.values())), **missing)
        assert await copy() == ImagesCopied(already_there=COUNT - 1, **missing)
        for input_id, extension in zip(ids[1:], extensions[1:], strict=True):
            key = f"{SITE}/inputs/{input_id}{extension or ''}"
            assert b"".join([chunk async for chunk in target.read(key)]) == images[input_id]


PICTURE = b"\x89PNG" + b"pixels" * 1000


@pytest.mark.parametrize("of", ["gs", "s3"])
@pytest.mark.parametrize("to", ["gs", "s3", "sftp", "file"])
async def test_images_that_are_stored_as_gzip_arrive_as_images(places, tmp_path, of, to):
    ids = [str(UUID(int=n)) for n in range(3)]
    listed = tmp_path / "images.parquet"
    pq.write_table(pa.table({"input_id": ids, "file_extension": pa.array([".png"] * 3, pa.string())}), listed)
    async with places.make(of) as source, places.make(to) as target:
        for input_id, data, encoding in zip(
            ids, (gzip.compress(PICTURE), PICTURE, b"?"), ("gzip", "aws-chunked", "br"), strict=True
        ):
            await put_encoded(places, source, SOURCE_KEY(input_id, ".png"), data, encoding)

        async def copy() -> ImagesCopied:
            return await copy_images(listed, site_id=SITE, source=source, source_key=SOURCE_KEY, destination=target)

        copied = await copy()
        assert (copied.copied, copied.failed) == (2, 1)
        assert "Content-Encoding br" in copied.failures[0]
        assert (await copy()).already_there == 2
        for input_id in ids[:2]:
            assert b"".join([chunk async for chunk in target.read(f"{SITE}/inputs/{input_id}.png")]) == PICTURE


async def put_encoded(places: Places, store: Destination, key: str, data: bytes, encoding: str) -> None:
    bucket, name = store.root.bucket, store.root.name(key)
    if isinstance(store, S3Store):
        client = client_of(places._s3.url, key_session())
        client.put_object(Bucket=bucket, Key=name, Body=data, ContentEncoding=encoding)
        client.close()
    else:
        headers = {"Content-Type": "multipart/related; boundary=x"}
        resource = json.dumps({"name": name, "contentEncoding": encoding})
        body = f"--x\r\nContent-Type: application/json\r\n\r\n{resource}\r\n--x\r\n".encode()
        body += b"Content-Type: image/png\r\n\r\n" + data + b"\r\n--x--"
        url = f"{places._gcs.url}/upload/storage/v1/b/{bucket}/o?uploadType=multipart"
        async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
            assert answer.status == 200


async def test_a_missing_target_bucket_is_not_taken_for_a_missing_image(places, tmp_path):
    listed, input_id = tmp_path / "images.parquet", str(UUID(int=1))
    pq.write_table(pa.table({"input_id": [input_id], "file_extension": pa.array([".png"], pa.string())}), listed)
    async with places.make("gs") as source, gcs_store(places._gcs.url, "gs://absent-bucket/exports/") as target:
        await source.create(SOURCE_KEY(input_id, ".png"), Content.of_bytes(b"image"))
        with pytest.raises(TargetNotFound, match="gs://absent-bucket/exports/: no such bucket or folder: create it"):
            await copy_images(listed, site_id=SITE, source=source, source_key=SOURCE_KEY, destination=target)


@pytest.mark.parametrize("count", [1, 3])
async def test_an_image_that_the_store_lists_and_has_lost_fails_alone(places, tmp_path, count):
    """As Ceph does where the data of an object are gone: HEAD finds it, GET and copies do not."""

    async def lost(request: Exchange, forward: Forward) -> Answer:
        from_lost = LOST in request.headers.get("x-amz-copy-source", "")
        if from_lost or (request.method == "GET" and LOST in request.path):
            return s3_error(404, "NoSuchKey", "The specified key does not exist.")
        return await forward(request)

    ids = [LOST, *(str(UUID(int=n)) for n in range(1, count))]
    listed = tmp_path / "images.parquet"
    pq.write_table(pa.table({"input_id": ids, "file_extension": pa.array([".png"] * count, pa.string())}), listed)
    with FaultProxy(places._s3.url, lost) as proxy:
        for to in ("s3", "gs", "file"):
            async with places.make("s3") as filled:
                for input_id in ids:
                    await filled.create(SOURCE_KEY(input_id, ".png"), Content.of_bytes(b"image"))
            place = s3_store(proxy.url, f"s3://{filled.root.bucket}/elsewhere/") if to == "s3" else places.make(to)
            async with s3_store(proxy.url, filled.uri) as source, place as target:
                copied = await copy_images(
                    listed, site_id=SITE, source=source, source_key=SOURCE_KEY, destination=target
                )
            assert (copied.copied, copied.failed) == (count - 1, 1), to
            assert "is damaged: the store knows it" in copied.failures[0]


async def test_images_in_another_tenants_bucket_are_streamed(places, tmp_path):
    """Where tenants have names of their own, the target's server says of a copy that there is no such bucket."""
    ids = [str(UUID(int=n)) for n in range(COUNT)]
    listed = tmp_path / "images.parquet"
    pq.write_table(pa.table({"input_id": ids, "file_extension": pa.array([".png"] * COUNT, pa.string())}), listed)

    async def of_the_target(request: Exchange, forward: Forward) -> Answer:
        if "x-amz-copy-source" in request.headers:
            return s3_error(404, "NoSuchBucket", "The specified bucket does not exist")
        return await forward(request)

    with FaultProxy(places._s3.url, of_the_target) as proxy:
        async with places.make("s3") as source, places.make("s3") as made:
            for input_id in ids:
                await source.create(SOURCE_KEY(input_id, ".png"), Content.of_bytes(input_id.encode()))
        async with s3_store(proxy.url, source.uri) as source, s3_store(proxy.url, made.uri) as target:
            copied = await copy_images(listed, site_id=SITE, source=source, source_key=SOURCE_KEY, destination=target)
            assert (copied.copied, copied.missing_at_source, copied.failed) == (COUNT, 0, 0)
            for input_id in ids:
                assert b"".join([chunk async for chunk in target.read(f"{SITE}/inputs/{input_id}.png")]) == (
                    input_id.encode()
                )
