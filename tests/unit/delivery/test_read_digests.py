"""Digests of what is read, however it comes in parts."""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import pytest

from data_export.content import Digests, Hasher
from data_export.delivery.threads import at_most, read_digests, run_blocking
from data_export.errors import TargetUnavailable, VerificationFailed

DATA = random.Random(1).randbytes(3 << 20)


async def cut(data: bytes, sizes: Sequence[int], error: Exception | None = None) -> AsyncIterator[bytes]:
    at, turn = 0, 0
    while at < len(data):
        yield data[at : at + sizes[turn % len(sizes)]]
        at, turn = at + sizes[turn % len(sizes)], turn + 1
    if error:
        raise error


def known(data: bytes) -> Digests:
    hasher = Hasher(md5=True)
    hasher.update(data)
    return hasher.digests()


@pytest.mark.parametrize("length", [0, 1, 1000, 256 << 10, (256 << 10) + 1, len(DATA)])
@pytest.mark.parametrize("sizes", [[999], [1 << 15], [(256 << 10) + 1, 7], [255 << 10], [1 << 30]], ids=str)
async def test_they_are_those_of_the_whole(length: int, sizes: list[int]) -> None:
    data = DATA[:length]
    assert await read_digests(cut(data, sizes), md5=True, most=len(data)) == known(data)


async def test_only_what_is_asked_for_is_computed() -> None:
    found = await read_digests(cut(DATA, [1 << 20]), sha256=False, most=len(DATA))
    assert found == Digests(len(DATA), crc32c=known(DATA).crc32c)


async def test_no_more_is_read_than_is_wanted() -> None:
    parts = cut(DATA, [1 << 19])
    assert (await read_digests(parts, most=1 << 20)).size == 3 << 19
    assert (await read_digests(cut(DATA, [1 << 19]), most=len(DATA))).size == len(DATA)


async def test_what_is_longer_than_announced_is_no_more_read() -> None:
    parts = [part async for part in at_most(cut(DATA, [1 << 20]), len(DATA), "s3://b/key")]
    assert b"".join(parts) == DATA
    parts_of_less = at_most(cut(DATA, [1 << 20]), (1 << 20) + 1, "s3://b/key")
    assert len(await anext(parts_of_less)) == 1 << 20
    with pytest.raises(VerificationFailed, match=r"s3://b/key is longer than the 1048577 bytes"):
        await anext(parts_of_less)


async def test_a_thread_has_ended_however_often_its_caller_was_cancelled() -> None:
    ended = threading.Event()

    def work(stop: threading.Event) -> None:
        stop.wait(5)
        time.sleep(0.2)
        ended.set()

    running = asyncio.create_task(run_blocking(work))
    await asyncio.sleep(0.05)
    for _ in range(2):
        running.cancel()
        await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()


async def test_an_error_of_the_reader_is_raised_whatever_is_being_hashed() -> None:
    with pytest.raises(TargetUnavailable, match="gone"):
        await read_digests(cut(DATA, [1 << 20], TargetUnavailable("gone")), most=len(DATA))


async def test_a_reader_is_at_its_end_when_the_reading_is_cancelled() -> None:
    """Else it would go on holding a connection to the server."""
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1 << 20)
        finally:
            closed.set()

    with suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await read_digests(endless(), most=1 << 40)
    assert closed.is_set()
