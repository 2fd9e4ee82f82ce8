"""Faults on the way to Azure, through real requests."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient
from azure.storage.blob.aio import BlobClient

from data_export.content import Content
from data_export.delivery.abfs.write import BlockWriter
from data_export.errors import DataExportError, ObjectExists, TargetUnavailable, VerificationFailed
from demo.servers.abfs import ACCOUNT, KEY, AbfsServer
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from tests.connectors.abfs.refusals import Refuses, azure_error
from tests.connectors.abfs.stores import QUICK, store_at
from tests.connectors.contract import DATA_KEY, random_bytes, read_all

BLOCK = "comp=block&"
COMMIT = "comp=blocklist"


@pytest.fixture
def proxy(server: AbfsServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.url) as proxy:
        yield proxy


def the_content(tmp_path: Path, size: int) -> Content:
    path = tmp_path / "content"
    path.write_bytes(random_bytes(size))
    return Content.of_file(path)


@pytest.mark.parametrize("only_new", [True, False])
@pytest.mark.parametrize("size", [1000, 9 << 20])
async def test_a_lost_answer_is_recognised_and_nothing_sent_twice(
    proxy: FaultProxy, container: str, tmp_path: Path, size: int, only_new: bool
) -> None:
    content = the_content(tmp_path, size)
    proxy.lose_answer(method="PUT", path=COMMIT if size > 1000 else "")
    async with store_at(proxy.url, container) as store:
        made = await (store.create if only_new else store.replace)(DATA_KEY, content)
        assert made.digests.matches(content.digests)
        assert size <= proxy.body_bytes("PUT") < size + 10_000
        assert await read_all(store, DATA_KEY) == random_bytes(size)


@pytest.mark.parametrize("kind", ["reset", "stall", "503", "429", "500"])
async def test_a_block_that_fails_is_sent_again_alone(
    proxy: FaultProxy, container: str, tmp_path: Path, kind: str
) -> None:
    content = the_content(tmp_path, 9 << 20)
    if kind == "reset":
        proxy.reset_request(1 << 20, path=BLOCK)
    elif kind == "stall":
        proxy.stall(path=COMMIT)
    else:
        proxy.answer(int(kind), path=BLOCK)
    async with store_at(proxy.url, container) as store:
        await store.create(DATA_KEY, content)
        assert len(proxy.requests("PUT", BLOCK)) == (3 if kind == "stall" else 4)
        assert await read_all(store, DATA_KEY) == random_bytes(9 << 20)


async def test_an_upload_that_fails_gives_back_every_slot(server: AbfsServer, container: str) -> None:
    """Also that of a block whose task was made in the moment in which another block had failed."""
    slots, refused = asyncio.Semaphore(2), list[str]()

    async def one_fails_while_others_are_slow(request: Exchange, forward: Forward) -> Answer:
        refused.append(block := request.url.query["blockid"])
        if block == refused[0]:
            return azure_error(503, "ServerBusy")
        await asyncio.sleep(0.5)
        return await forward(request)

    async def landed() -> None: ...

    with FaultProxy(server.url, one_fails_while_others_are_slow) as proxy:
        async with BlobClient(f"{proxy.url}/{ACCOUNT}", container, "large", credential=KEY, retry_total=0) as blob:
            content = Content.of_bytes(random_bytes(8 << 10))
            with pytest.raises(TargetUnavailable):
                await BlockWriter(QUICK, slots, 1 << 10).write(blob, "large", content, True, landed)
    for _ in range(2):
        await asyncio.wait_for(slots.acquire(), 1)


async def test_a_download_goes_on_where_it_broke(proxy: FaultProxy, container: str, tmp_path: Path) -> None:
    async with store_at(proxy.url, container) as store:
        await store.create(DATA_KEY, the_content(tmp_path, 9 << 20))
        proxy.cut_answer(1000, method="GET", skip=1)
        assert await read_all(store, DATA_KEY) == random_bytes(9 << 20)
        assert len(proxy.requests("GET")) == 4


async def test_a_download_of_what_is_replaced_meanwhile_is_tried_again_from_its_beginning(
    proxy: FaultProxy, container: str, tmp_path: Path
) -> None:
    async with store_at(proxy.url, container) as store:
        await store.create(DATA_KEY, the_content(tmp_path, 9 << 20))
        pieces = store.read(DATA_KEY)
        await anext(pieces)
        await store.replace(DATA_KEY, Content.of_bytes(b"shorter"))
        with pytest.raises(TargetUnavailable, match="replaced while it was read"):
            await anext(pieces)


async def test_blocks_that_another_writer_dropped_are_sent_again(
    server: AbfsServer, container: str, tmp_path: Path
) -> None:
    rule = Refuses(400, "InvalidBlockList", path=COMMIT, times=1)
    with FaultProxy(server.url, rule) as proxy:
        async with store_at(proxy.url, container) as store:
            await store.create(DATA_KEY, the_content(tmp_path, 9 << 20))
            assert await read_all(store, DATA_KEY) == random_bytes(9 << 20)


async def test_blocks_that_the_winner_dropped_lose(server: AbfsServer, container: str, tmp_path: Path) -> None:
    async def first() -> None:
        with BlobServiceClient(f"{server.url}/{ACCOUNT}", KEY) as service:
            service.get_blob_client(container, f"exports/{DATA_KEY}").upload_blob(b"first", overwrite=True)

    with FaultProxy(server.url, Refuses(400, "InvalidBlockList", path=COMMIT, times=1, before=first)) as proxy:
        async with store_at(proxy.url, container) as store:
            with pytest.raises(ObjectExists):
                await store.create(DATA_KEY, the_content(tmp_path, 9 << 20))
    async with store_at(server.url, container) as store:
        assert await read_all(store, DATA_KEY) == b"first"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (503, "ServerBusy"),
        (429, "TooManyRequests"),
        (500, "OperationTimedOut"),
        (500, "InternalError"),
        (503, "EgressIsOverAccountLimit"),
        (503, "IngressIsOverAccountLimit"),
        (503, "OperationsPerSecondIsOverAccountLimit"),
        (409, "ContainerBeingDeleted"),
        (409, "AccountBeingCreated"),
        (304, ""),
        (408, ""),
        (502, ""),
        (504, ""),
    ],
)
async def test_what_passes_is_tried_again(server: AbfsServer, container: str, status: int, code: str) -> None:
    with FaultProxy(server.url, Refuses(status, code, times=2)) as proxy:
        async with store_at(proxy.url, container) as store:
            assert await store.stat(DATA_KEY) is None
    with FaultProxy(server.url, Refuses(status, code)) as proxy:
        async with store_at(proxy.url, container) as store:
            for operation in (store.stat(DATA_KEY), store.create(DATA_KEY, Content.of_bytes(b"x"))):
                with pytest.raises(TargetUnavailable, match="timeline"):
                    await operation


async def test_bytes_damaged_on_the_way_are_sent_again_and_never_appear(server: AbfsServer, container: str) -> None:
    rule = Refuses(400, "Md5Mismatch", times=1)
    with FaultProxy(server.url, rule) as proxy:
        async with store_at(proxy.url, container) as store:
            await store.create(DATA_KEY, Content.of_bytes(b"x"))
    with FaultProxy(server.url, Refuses(400, "Md5Mismatch", method="PUT")) as proxy:
        async with store_at(proxy.url, container) as store:
            with pytest.raises(VerificationFailed):
                await store.replace(DATA_KEY, Content.of_bytes(b"y"))


async def test_a_server_that_is_not_there(container: str) -> None:
    async with store_at("http://127.0.0.1:9", container) as store:
        with pytest.raises(TargetUnavailable, match="no proper answer from Azure: nothing listens"):
            await store.stat(DATA_KEY)


MALFORMED: dict[str, Callable[[Answer], None]] = {
    **{
        f"{header} {value}": lambda answer, header=header, value=value: answer.headers.__setitem__(header, value)
        for header in ("Last-Modified", "Content-MD5", "x-ms-blob-type", "Content-Length", "Content-Range")
        for value in ("garbage", "-1")
    },
    **{f"no {header}": lambda answer, header=header: answer.headers.pop(header, None) for header in ("ETag", "Date")},
    **{
        f"body {body!r}": lambda answer, body=body: setattr(answer, "body", body)
        for body in (b"", b"<html>sign in</html>", b"\xff\xfe", b"<EnumerationResults><Blobs><Blob/></Blobs>")
    },
}  # fmt: skip


@pytest.mark.parametrize("how", MALFORMED)
async def test_no_bare_error_reaches_anybody(server: AbfsServer, container: str, how: str) -> None:
    spoilt = False

    async def rules(request: Exchange, forward: Forward) -> Answer:
        answer = await forward(request)
        if spoilt:
            MALFORMED[how](answer)
        return answer

    with FaultProxy(server.url, rules) as proxy:
        async with store_at(proxy.url, container) as store:
            await store.create("there", Content.of_bytes(b"x"))
            spoilt = True
            for operation in (
                store.stat("there"),
                anext(store.list(""), None),
                read_all(store, "there"),
                store.create("a", Content.of_bytes(b"x")),
                store.replace("there", Content.of_bytes(b"y")),
                store.copy_from(store, "there", "b"),
            ):
                with suppress(DataExportError):
                    await operation
