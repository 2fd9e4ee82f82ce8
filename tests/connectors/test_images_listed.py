"""Images in a bucket are recognised by a listing of their folder, on each cloud's server; a look decides the rest."""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote
from uuid import UUID, uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from azure.storage.blob import BlobClient, ContentSettings, generate_container_sas
from multidict import CIMultiDict

from data_export.content import Content
from data_export.delivery.base import Destination
from data_export.delivery.local.store import LocalStore
from data_export.images import CopyLimits, CopyRules, copy_images
from data_export.receipt import ImagesCopied
from demo.servers.abfs import ACCOUNT, KEY, AbfsServer
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.gcs import GcsServer
from demo.servers.s3 import S3Server
from demo.servers.strict import StrictGcs, StrictS3, gcs_error, s3_error
from tests.connectors.abfs.stores import store_at
from tests.connectors.contract import SITE
from tests.connectors.gcs.stores import gcs_store
from tests.connectors.kill_kit import SOURCE_KEY
from tests.connectors.s3.stores import client_of, key_session, s3_store

COUNT = 25
IDS = [str(UUID(int=number)) for number in range(COUNT)]
#: A folder whose name needs encoding, as each server does it.
FOLDER = "für Acme/a+b & c%20d/"
PAGES = {"gs": "maxResults", "s3": "max-keys", "abfs": "maxresults"}


@dataclass
class Between:
    """What a test wants of the server: pages of so many names, a refusal of lists, an event after a list."""

    kind: str
    strict: StrictGcs | StrictS3 | None
    page: int = 1000
    refuses_lists: bool = False
    after_list: Callable[[], Awaitable[None]] | None = None
    of_prefix: str = ""
    #: What the server leaves out of its lists, as a regular expression.
    drops: bytes = b""
    asked: list[str] = field(default_factory=list)

    async def __call__(self, request: Exchange, forward: Forward) -> Answer:
        if not self._lists(request):
            if ".png" in request.path or "name=" in request.url.raw_query_string or b".png" in request.body[:2000]:
                self.asked.append(request.method)
            return await (self.strict(request, forward) if self.strict else forward(request))
        self.asked.append("list")
        if self.refuses_lists:
            return {"gs": gcs_error(403, "no storage.objects.list"), "s3": s3_error(403, "AccessDenied", "no")}.get(
                self.kind, Answer(403, CIMultiDict({"x-ms-error-code": "AuthorizationPermissionMismatch"}))
            )
        start = int(request.url.query.get("pageToken", 0))
        request.url = request.url.update_query({PAGES[self.kind]: str(self.page)})
        answer = await forward(request)
        if self.kind == "gs":  # the emulator knows no pages
            said = json.loads(answer.body)
            items = said.get("items", [])
            following = {"nextPageToken": str(start + self.page)} if len(items) > start + self.page else {}
            answer.body = json.dumps({"items": items[start : start + self.page], **following}).encode()
        if self.drops:
            answer.body = re.sub(self.drops, b"", answer.body)
        if self.after_list and self.of_prefix in request.url.query["prefix"]:
            happens, self.after_list = self.after_list, None
            await happens()
        return answer

    def _lists(self, request: Exchange) -> bool:
        query = request.url.query
        if request.method != "GET" or "uploads" in query:
            return False
        return query.get("comp") == "list" or "list-type" in query or request.path.endswith("/o")


@dataclass
class Place:
    """A new bucket of one cloud, the way to it that counts what is asked, and one to it that does not."""

    kind: str
    server: GcsServer | S3Server | AbfsServer
    proxy: FaultProxy
    between: Between
    bucket: str = field(default_factory=lambda: f"b-{uuid4().hex}")

    def __post_init__(self) -> None:
        self.server.create_bucket(self.bucket)
        self.between.page, self.between.refuses_lists = 1000, False
        self.between.after_list, self.between.of_prefix, self.between.drops = None, "", b""

    def open(self, *, counted: bool = True, folder: str = FOLDER) -> Destination:
        url = self.proxy.url if counted else self.server.url
        if self.kind == "gs":
            return gcs_store(url, f"gs://{self.bucket}/{folder}")
        if self.kind == "s3":
            return s3_store(url, f"s3://{self.bucket}/{folder}")
        ends = datetime.now(UTC) + timedelta(hours=1)
        token = generate_container_sas(ACCOUNT, self.bucket, KEY, permission="racwdl", expiry=ends)
        return store_at(url, self.bucket, folder, token)

    def asked(self) -> list[str]:
        """What was asked since the last time: `list`, or the method of a request about an image."""
        asked, self.between.asked[:] = sorted(self.between.asked), []
        return asked


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple]]:
    folder = tmp_path_factory.mktemp("clouds")
    with ExitStack() as opened:
        found: dict[str, tuple] = {}
        kinds = {"gs": (GcsServer, StrictGcs()), "s3": (S3Server, StrictS3()), "abfs": (AbfsServer, None)}
        for kind, (made, strict) in kinds.items():
            if made is AbfsServer and not AbfsServer.installed():
                continue
            server, between = opened.enter_context(made(folder / kind)), Between(kind, strict)
            found[kind] = (server, opened.enter_context(FaultProxy(server.url, between)), between)
        yield found


@pytest.fixture(params=["gs", "s3", "abfs"])
def place(request: pytest.FixtureRequest, servers: dict[str, tuple]) -> Place:
    if request.param not in servers:
        pytest.skip("no azurite-blob on this machine: npm install -g azurite, or set AZURITE, to run these")
    return Place(request.param, *servers[request.param])


@pytest.fixture
def images(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"input_id": IDS, "file_extension": [".png"] * COUNT}), tmp_path / "images.parquet")
    for number, input_id in enumerate(IDS):
        path = tmp_path / "images" / SOURCE_KEY(input_id, ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(input_id.encode() * (number != 3))  # the fourth is empty
    return tmp_path


def at_target(number: int) -> str:
    return f"{SITE}/inputs/{IDS[number]}.png"


async def copy(
    images: Path, destination: Destination, rules: CopyRules | None = None, source: Destination | None = None
) -> ImagesCopied:
    async with LocalStore(images / "images") as local:
        return await copy_images(
            images / "images.parquet",
            site_id=SITE,
            source=source or local,
            source_key=SOURCE_KEY,
            destination=destination,
            rules=rules or CopyRules(),
            limits=CopyLimits(backoff_seconds=0),
        )


async def test_an_image_that_changes_or_goes_after_the_listing_arrives_as_it_is(place: Place, images: Path) -> None:
    new = Content.of_bytes(b"z" * 36, "image/png")

    async def change() -> None:
        async with place.open(counted=False, folder="images/") as another:
            await another.replace(SOURCE_KEY(IDS[0], ".png"), new)
            await another.delete(SOURCE_KEY(IDS[1], ".png"))

    async with place.open(folder="images/") as source, place.open() as target:
        for input_id in IDS:
            await source.create(SOURCE_KEY(input_id, ".png"), Content.of_bytes(input_id.encode(), "image/png"))
        place.between.after_list = lambda: asyncio.to_thread(asyncio.run, change())
        place.between.of_prefix = FOLDER if place.kind == "s3" else "images/"  # of which the last listing is
        copied = await copy(images, target, source=source)
        assert (copied.copied + copied.already_there, copied.missing_at_source) == (COUNT - 1, 1)
        assert await held(target, 0) == b"z" * 36


async def held(target: Destination, number: int) -> bytes:
    return b"".join([chunk async for chunk in target.read(at_target(number))])


async def test_the_first_time_no_image_is_looked_at_and_again_no_image_is_asked_for(place: Place, images: Path) -> None:
    async with place.open() as target:
        await target.stat("warm.png")  # S3's server is asked once what it can do
        place.asked()
        assert (await copy(images, target)).copied == COUNT
        asked = place.asked()
        assert asked.count("list") == 1
        if place.kind != "s3":  # a server of S3 other than Amazon's is looked at as long as it may not refuse a second
            assert len(asked) == 1 + COUNT, asked
        place.between.page = 10
        assert (await copy(images, target)).already_there == COUNT
        assert place.asked() == ["list"] * 3


async def test_from_store_to_store_the_same_cloud_again_is_two_listings(place: Place, images: Path) -> None:
    async with place.open(folder="images/") as source, place.open() as target:
        for number, input_id in enumerate(IDS):
            content = Content.of_bytes(input_id.encode() * (number != 3), "image/png")
            await source.create(SOURCE_KEY(input_id, ".png"), content)
        place.asked()
        assert (await copy(images, target, source=source)).copied == COUNT
        asked = place.asked()
        assert asked.count("list") == (1 if place.kind == "s3" else 2)  # whose listing spares no look at its images
        assert place.kind != "gs" or len(asked) == 2 + COUNT, asked  # the others are asked for the headers of each
        assert (await copy(images, target, source=source)).already_there == COUNT
        assert place.asked() == ["list"] * 2


async def test_other_bytes_of_the_same_size_are_seen(place: Place, images: Path) -> None:
    async with place.open() as target:
        await copy(images, target)
        for number in (5, 6):
            await target.replace(at_target(number), Content.of_bytes(b"x" * 36))
        assert (await copy(images, target, CopyRules("keep"))).kept == 2
        assert (await copy(images, target, CopyRules("revision"))).kept == 2
        await target.delete(at_target(7))
        copied = await copy(images, target)
        assert (copied.copied, copied.already_there) == (3, COUNT - 3)
        assert [await held(target, number) for number in (5, 6, 7)] == [IDS[number].encode() for number in (5, 6, 7)]
        assert await held(target, 3) == b""


async def test_a_listing_that_is_refused_is_no_reason_not_to_copy(place: Place, images: Path) -> None:
    async with place.open() as target:
        assert (await copy(images, target)).copied == COUNT
        place.between.refuses_lists = True
        assert (await copy(images, target)).already_there == COUNT


@pytest.mark.parametrize(
    "drops",
    [
        pytest.param(rb'<Size>[^<]*</Size>|<Content-Length>[^<]*</Content-Length>|"size": *"\d+",?', id="sizes"),
        pytest.param(
            rb'<(ETag|Content-MD5|Metadata)>.*?</\1>|"(md5Hash|crc32c)": *"[^"]+",',
            id="digests",
        ),
        pytest.param(rb"(?s).*", id="everything"),
    ],
)
async def test_a_listing_that_says_less_is_no_reason_to_send_again(place: Place, images: Path, drops: bytes) -> None:
    async with place.open() as target:
        assert (await copy(images, target)).copied == COUNT
        place.between.drops = drops
        copied = await copy(images, target)
        assert (copied.copied, copied.already_there) == (0, COUNT)


async def test_what_was_written_after_the_listing_is_not_overwritten(place: Place, images: Path) -> None:
    async def write() -> None:
        async with place.open(counted=False) as another:
            await another.create(at_target(0), Content.of_bytes(b"x" * 36))
            await another.create(at_target(1), Content.of_bytes(IDS[1].encode()))

    async with place.open() as target:
        place.between.after_list = lambda: asyncio.to_thread(asyncio.run, write())
        copied = await copy(images, target, CopyRules("keep"))
        assert (copied.copied, copied.kept, copied.already_there) == (COUNT - 2, 1, 1)
        assert await held(target, 0) == b"x" * 36


async def test_an_object_whose_digest_no_listing_knows_is_looked_at(place: Place, images: Path) -> None:
    """What came to S3 in parts; and to Azure without MD5, where a look says no more than the listing."""
    if place.kind == "gs":
        pytest.skip("Cloud Storage knows a crc32c of everything")
    put = in_parts if place.kind == "s3" else without_md5
    async with place.open() as target:
        await copy(images, target)
        for content, kept in ((b"y" * 36, place.kind == "s3"), (IDS[8].encode(), False)):
            put(place, FOLDER + at_target(8), content)
            place.asked()
            copied = await copy(images, target, CopyRules("keep"))
            assert (copied.kept, copied.already_there) == (kept, COUNT - kept)
            assert len(place.asked()) < 6


def in_parts(place: Place, name: str, content: bytes) -> None:
    client, target = client_of(place.server.url, key_session()), {"Bucket": place.bucket, "Key": name}
    kept = {"data-export-sha256": hashlib.sha256(content).hexdigest()}
    upload = target | {"UploadId": client.create_multipart_upload(**target, Metadata=kept)["UploadId"]}
    part = client.upload_part(**upload, PartNumber=1, Body=content)
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]})
    client.close()


def without_md5(place: Place, name: str, content: bytes) -> None:
    url = f"{place.server.url}/{ACCOUNT}/{place.bucket}/{quote(name)}"
    with BlobClient.from_blob_url(url, {"account_name": ACCOUNT, "account_key": KEY}) as blob:
        blob.upload_blob(content, overwrite=True)
        blob.set_http_headers(ContentSettings(content_type="image/png"))
