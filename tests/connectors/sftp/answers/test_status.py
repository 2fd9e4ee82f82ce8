"""What a server may say of a request, and what it must never lead to: words that mislead, or files of nobody."""

import asyncio
from typing import Any

import pytest

from data_export.delivery.sftp.wire import packets
from data_export.delivery.sftp.wire.packets import Reader, text, u32
from data_export.errors import TargetFull, TargetUnavailable
from tests.connectors.contract import read_all
from tests.connectors.sftp.spoken import BREACH, FAILURE, Spoken, SpokenServer, status, target
from tests.connectors.sftp.unruly import SMALL, until


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (u32(FAILURE), "SFTPFailure"),
        (u32(FAILURE) + text(b"no"), "no"),
        (u32(99) + text(b"no") + text(b"en"), "no (error 99)"),
        (u32(FAILURE) + text(b"\xff\0\x1b[31m\n" + bytes(100_000)) + text(b""), r"\xff"),
    ],
    ids=["no message", "no language", "an unknown code", "hostile"],
)
async def test_of_all_sorts(server: SpokenServer, spoken: type[Spoken], packet: bytes, said: str) -> None:
    async with target(server) as destination:
        await destination.create("a", SMALL)
        spoken.write = lambda _self, _reader: bytes((packets.STATUS,)) + packet  # type: ignore[method-assign,assignment]
        with pytest.raises(TargetUnavailable) as refused:
            await destination.create("b", SMALL)
    assert said in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300
    assert list(spoken.files) == [b"/target/a"]


async def test_the_first_error_says_why(server: SpokenServer, spoken: type[Spoken]) -> None:
    def close(self: Spoken, reader: Reader) -> bytes:
        Spoken.close(self, reader)
        return status(FAILURE, "Failure")

    spoken.write = lambda _self, _reader: status(FAILURE, "quota exceeded")  # type: ignore[method-assign,assignment]
    spoken.close = close  # type: ignore[method-assign] # what follows of it
    async with target(server) as destination:
        with pytest.raises(TargetFull):
            await destination.create("a", SMALL)
    assert not spoken.files


async def test_a_disk_that_is_full_when_the_file_is_closed(server: SpokenServer, spoken: type[Spoken]) -> None:
    def close(self: Spoken, reader: Reader) -> bytes:
        Spoken.close(self, reader)
        return status(FAILURE, "No space left on device")

    spoken.close = close  # type: ignore[method-assign] # the fault
    async with target(server) as destination:
        with pytest.raises(TargetFull):
            await destination.create("a", SMALL)
    assert not spoken.files


@pytest.mark.parametrize("flags", [0x10, 0x80000001])
async def test_attributes_that_cannot_be_read_are_not_a_refused_name(
    server: SpokenServer, spoken: type[Spoken], flags: int
) -> None:
    def stat(self: Spoken, reader: Reader) -> bytes:
        odd = reader.packet[9:].startswith(b"/target/")
        return bytes((packets.ATTRS,)) + u32(flags) + bytes(8) + u32(2**32 - 1) if odd else Spoken.stat(self, reader)

    spoken.stat = stat  # type: ignore[method-assign] # the fault
    async with target(server) as destination:
        with pytest.raises(TargetUnavailable, match=BREACH):
            await destination.create("a", SMALL)
    assert not spoken.files


async def test_what_was_opened_for_one_that_is_cancelled_is_closed(server: SpokenServer, spoken: type[Spoken]) -> None:
    waiting: list[Any] = []

    def opened(self: Spoken, reader: Reader) -> None:
        number, answer = self.number, Spoken.open(self, reader)
        waiting.append(lambda: self.say(number, answer))

    async with target(server) as destination:
        await destination.create("a", SMALL)
        spoken.open = opened  # type: ignore[method-assign,assignment] # slow
        for write in (read_all(destination, "a"), destination.create("b", SMALL)):
            task = asyncio.create_task(write)
            await until(lambda: bool(waiting))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            server._thread.run(_say(waiting.pop()))
            await until(lambda: not spoken.open_handles)
    assert list(spoken.files) == [b"/target/a"]


async def _say(answer: Any) -> None:
    answer()
