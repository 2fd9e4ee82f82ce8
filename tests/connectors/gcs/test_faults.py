"""What passes is tried again, what was sent is not sent again, and what is damaged is noticed."""

import os
from pathlib import Path

import pytest

from data_export.content import Content
from data_export.delivery.gcs import write
from data_export.delivery.gcs.store import GcsStore
from data_export.errors import (
    ObjectExists,
    TargetUnavailable,
    VerificationFailed,
)
from demo.servers.faults import FaultProxy
from demo.servers.gcs import GcsServer
from demo.servers.strict import gcs_error
from tests.connectors.contract import DATA_KEY, Stored, random_bytes, read_all
from tests.connectors.gcs.stores import HASTY, QUICK, UPLOAD, gcs_store


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_passing_refusal_is_tried_again(
    store: GcsStore, proxy: FaultProxy, stored: Stored, status: int
) -> None:
    proxy.answer(status, path=UPLOAD, times=2)
    await store.create(DATA_KEY, Content.of_bytes(b"x"))
    assert stored(DATA_KEY) == b"x"
    proxy.answer(status, method="GET", path="alt=json", times=2)
    assert await store.stat(DATA_KEY)
    proxy.answer(status, method="GET", path="alt=media", times=2)
    assert await read_all(store, DATA_KEY) == b"x"
    proxy.answer(status, method="GET", path=r"/o\?", times=2)
    assert [one.key async for one in store.list("")] == [DATA_KEY]
    proxy.answer(status, method="DELETE", times=2)
    await store.delete(DATA_KEY)
    assert stored(DATA_KEY) is None


async def test_a_lasting_refusal_ends_after_the_tries(store: GcsStore, proxy: FaultProxy) -> None:
    proxy.answer(503, b"busy", path=UPLOAD, times=99)
    with pytest.raises(TargetUnavailable, match=r"answers 503 .*busy"):
        await store.create(DATA_KEY, Content.of_bytes(b"x"))
    assert len(proxy.requests("POST", UPLOAD)) == QUICK.tries


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_stalled_server_ends_as_unavailable(proxy: FaultProxy, bucket: str, method: str) -> None:
    proxy.stall(method=method, times=99)
    async with gcs_store(proxy.url, f"gs://{bucket}/", patience=HASTY) as store:
        with pytest.raises(TargetUnavailable, match="no proper answer"):
            await (store.stat("a") if method == "GET" else store.create("a", Content.of_bytes(b"x")))


async def test_a_stalled_upload_of_a_big_file_ends_as_unavailable(
    proxy: FaultProxy, bucket: str, big: Content, stored: Stored
) -> None:
    proxy.stall(method="PUT", times=99)
    async with gcs_store(proxy.url, f"gs://{bucket}/exports/ü/", patience=HASTY) as store:
        with pytest.raises(TargetUnavailable, match="no proper answer"):
            await store.create(DATA_KEY, big)
    assert stored(DATA_KEY) is None


async def test_nobody_listens(bucket: str) -> None:
    async with gcs_store("http://127.0.0.1:1", f"gs://{bucket}/") as store:
        with pytest.raises(TargetUnavailable):
            await store.stat("a")


@pytest.fixture
def many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few MiB go in several requests too."""
    monkeypatch.setattr(write, "_REQUEST_BYTES", 8 << 20)


@pytest.mark.usefixtures("many_requests")
async def test_connection_broken_while_sending(
    store: GcsStore, proxy: FaultProxy, stored: Stored, big: Content
) -> None:
    proxy.reset_request(1000, path=UPLOAD)
    await store.create("small", Content.of_bytes(b"x" * 100_000))
    assert stored("small") == b"x" * 100_000
    proxy.reset_request(3 << 20, method="PUT", skip=1)
    await store.create(DATA_KEY, big)
    assert isinstance(big.source, Path)
    assert stored(DATA_KEY) == big.source.read_bytes()
    assert proxy.body_bytes("PUT") < big.size + (8 << 20), "only the broken piece is sent again"


@pytest.mark.usefixtures("many_requests")
async def test_each_request_of_a_big_file_has_all_tries(
    store: GcsStore, proxy: FaultProxy, stored: Stored, big: Content
) -> None:
    for skip in (0, 2):
        proxy.answer(503, method="PUT", times=QUICK.tries - 1, skip=skip)
    await store.create(DATA_KEY, big)
    assert isinstance(big.source, Path)
    assert stored(DATA_KEY) == big.source.read_bytes()
    assert len(proxy.requests("POST", UPLOAD)) == 1, "nothing begins anew"


@pytest.mark.usefixtures("many_requests")
async def test_an_upload_of_which_nothing_has_arrived_begins_anew(
    store: GcsStore, proxy: FaultProxy, stored: Stored, big: Content
) -> None:
    proxy.answer(308, method="PUT", skip=1)
    await store.create(DATA_KEY, big)
    assert isinstance(big.source, Path)
    assert stored(DATA_KEY) == big.source.read_bytes()


async def test_a_file_that_becomes_shorter_while_it_is_sent(store: GcsStore, tmp_path: Path, stored: Stored) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(12 << 20))
    digests = Content.of_file(path).digests
    content = Content(path, digests, sent=lambda taken: os.truncate(path, 9 << 20) if taken else None)
    with pytest.raises(VerificationFailed, match="9437184 bytes where"):
        await store.create(DATA_KEY, content)
    assert stored(DATA_KEY) is None


async def test_connection_broken_while_reading_goes_on_where_it_broke(
    store: GcsStore, proxy: FaultProxy, big: Content
) -> None:
    await store.create(DATA_KEY, big)
    proxy.cut_answer(3_000_000, method="GET", path="alt=media")
    proxy.cut_answer(2_000_000, method="GET", path="alt=media")
    assert isinstance(big.source, Path)
    assert await read_all(store, DATA_KEY) == big.source.read_bytes()
    first, *ranges = [one.headers.get("Range", "") for one in proxy.requests("GET", "alt=media")]
    offsets = [int(one.removeprefix("bytes=").removesuffix("-")) for one in ranges]
    assert first == ""
    assert 2_000_000 < offsets[0] <= 3_000_000
    assert offsets[0] + 1_000_000 < offsets[1] <= 5_000_000


async def test_damaged_answer_is_noticed(store: GcsStore, proxy: FaultProxy, server: GcsServer) -> None:
    await store.create(DATA_KEY, Content.of_bytes(b"right"))
    path = next(path for path in server.folder.rglob("*.json") if path.read_bytes() == b"right")
    path.write_bytes(b"wrong")
    with pytest.raises(VerificationFailed, match="reads as"):
        await read_all(store, DATA_KEY)


@pytest.mark.usefixtures("many_requests")
@pytest.mark.parametrize("size", [1_000, 17 << 20])
async def test_a_lost_answer_is_recognised_and_nothing_sent_again(
    store: GcsStore, proxy: FaultProxy, stored: Stored, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(random_bytes(size))
    content = Content.of_file(path)
    if size > 8 << 20:
        proxy.lose_answer(method="PUT", skip=2)
    else:
        proxy.lose_answer(path=UPLOAD)
    made = await store.create(DATA_KEY, content)
    assert made.digests.crc32c == content.digests.crc32c
    assert stored(DATA_KEY) == path.read_bytes()
    assert proxy.body_bytes(path=UPLOAD) < size + (2 << 20)


async def test_a_lost_answer_to_a_replacement(store: GcsStore, proxy: FaultProxy, stored: Stored) -> None:
    await store.create(DATA_KEY, Content.of_bytes(b"old"))
    proxy.lose_answer(path=UPLOAD)
    await store.replace(DATA_KEY, Content.of_bytes(b"new"))
    assert stored(DATA_KEY) == b"new"
    assert [one.url.query["ifGenerationMatch"] != "0" for one in proxy.requests("POST", UPLOAD)] == [False, True]


async def test_an_object_of_somebody_else_is_not_taken_for_ours_after_a_fault(
    store: GcsStore, proxy: FaultProxy, stored: Stored
) -> None:
    await store.create(DATA_KEY, Content.of_bytes(b"theirs"))
    proxy.answer(503, path=UPLOAD)
    with pytest.raises(ObjectExists):
        await store.create(DATA_KEY, Content.of_bytes(b"ours"))
    assert stored(DATA_KEY) == b"theirs"


async def test_throttling_by_403_is_tried_again(store: GcsStore, proxy: FaultProxy) -> None:
    proxy.answer(403, gcs_error(403, "slow down", "rateLimitExceeded").body, path=UPLOAD)
    await store.create("a", Content.of_bytes(b"x"))
    assert [one.status for one in proxy.requests("POST", UPLOAD)] == [403, 200]
