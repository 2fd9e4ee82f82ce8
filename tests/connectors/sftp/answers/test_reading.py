"""What a server may answer to a read, and what it must never lead to: other bytes than the file has."""

import asyncio
from contextlib import aclosing

import pytest

from data_export.content import Content
from data_export.delivery.sftp.sessions import gate
from data_export.delivery.sftp.wire import packets
from data_export.delivery.sftp.wire.packets import Reader, u32
from data_export.errors import TargetUnavailable, VerificationFailed
from tests.connectors.contract import read_all
from tests.connectors.sftp.spoken import (
    BREACH,
    EOF,
    FAILURE,
    LONG,
    OK,
    Spoken,
    SpokenServer,
    attributes,
    data,
    status,
    target,
)
from tests.connectors.sftp.unruly import SMALL, until


@pytest.mark.parametrize(("most", "content"), [(16_383, LONG), (999, LONG), (1, SMALL)])
async def test_fewer_bytes_than_asked(server: SpokenServer, spoken: type[Spoken], most: int, content: Content) -> None:
    def read(self: Spoken, reader: Reader) -> bytes:
        file, offset, length = self.of_handle(reader), reader.u64s(1)[0], reader.u32()
        found = bytes(file[offset : offset + min(length, most)])
        return data(found) if found else status(EOF)

    spoken.read = read  # type: ignore[method-assign] # the fault
    async with target(server, verify="read-back") as destination:
        await destination.create("a", content)
        assert await read_all(destination, "a") == content.source
    assert not spoken.open_handles


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(data(bytes(16_385)), id="more bytes than asked"),
        pytest.param(attributes(7), id="another kind"),
        pytest.param(bytes((packets.DATA,)) + u32(2**32 - 1) + b"x", id="a length beyond its end"),
        pytest.param(bytes((packets.DATA,)), id="nothing"),
        pytest.param(bytes((packets.STATUS,)) + u32(OK), id="OK"),
    ],
)
async def test_what_is_no_answer(server: SpokenServer, spoken: type[Spoken], answer: bytes) -> None:
    async with target(server) as destination:
        await destination.create("a", LONG)
        spoken.read = lambda _self, _reader: answer  # type: ignore[method-assign,assignment] # the fault
        async with asyncio.timeout(20):
            with pytest.raises(TargetUnavailable, match=BREACH) as refused:
                await read_all(destination, "a")
        assert "unpack" not in str(refused.value)
    assert not spoken.open_handles


@pytest.mark.parametrize("fault", ["unknown", "twice", "long", "short"])
async def test_what_is_out_of_step(server: SpokenServer, spoken: type[Spoken], fault: str) -> None:
    def read(self: Spoken, reader: Reader) -> bytes | None:
        answer = Spoken.read(self, reader)
        if fault == "unknown":
            self.number += 1000
        elif fault == "twice" and answer:
            self.say(self.number, answer)
        else:
            self.channel.write(u32(2**31 if fault == "long" else 0))
        return answer

    async with target(server) as destination:
        await destination.create("a", LONG)
        spoken.read = read  # type: ignore[method-assign] # the fault
        with pytest.raises(TargetUnavailable, match=BREACH):
            await read_all(destination, "a")
        spoken.read = Spoken.read  # type: ignore[method-assign] # over another connection
        assert await read_all(destination, "a") == LONG.source


@pytest.mark.parametrize("end", [data(b""), status(EOF)], ids=["no bytes", "an end"])
async def test_an_end_in_the_middle_is_not_the_end(server: SpokenServer, spoken: type[Spoken], end: bytes) -> None:
    def read(self: Spoken, reader: Reader) -> bytes | None:
        is_second = int.from_bytes(reader.packet[-12:-4], "big") == 16_384
        return end if is_second else Spoken.read(self, reader)

    async with target(server) as destination:
        await destination.create("a", LONG)
        spoken.read = read  # type: ignore[method-assign] # the fault
        with pytest.raises(TargetUnavailable, match="while it was read"):
            await read_all(destination, "a")


async def test_a_file_without_an_end_is_not_read_back_for_ever(server: SpokenServer, spoken: type[Spoken]) -> None:
    spoken.read = lambda _self, reader: data(bytes(int.from_bytes(reader.packet[-4:], "big")))  # type: ignore[method-assign]
    async with target(server, verify="read-back") as destination, asyncio.timeout(10):
        with pytest.raises(VerificationFailed):
            await destination.create("a", SMALL)
    assert not spoken.files


@pytest.mark.parametrize("request_", ["open", "read"])
@pytest.mark.parametrize("connections", [1, 4])
async def test_a_file_that_cannot_be_read_makes_the_others_no_slower(
    server: SpokenServer, spoken: type[Spoken], request_: str, connections: int
) -> None:
    """Its bare "Failure" might be a limit of open files, which shows when it is the only one."""
    fault = getattr(spoken, request_)

    def failing(self: Spoken, reader: Reader) -> bytes | None:
        return status(FAILURE) if b"/target/a" in reader.packet else fault(self, reader)

    async with target(server, connections=connections, concurrency=16) as destination:
        for key in ("a", *(f"b{number}" for number in range(40))):
            await destination.create(key, SMALL)
        setattr(spoken, request_, failing)
        keys = [f"b{number}" for number in range(20)], ["a"], [f"b{number}" for number in range(20, 40)]
        reads = (read_all(destination, key) for some in keys for key in some)
        found = await asyncio.gather(*reads, return_exceptions=True)
        assert type(found.pop(20)) is TargetUnavailable
        assert found == [SMALL.source] * 40
        assert destination._gate.allowed == 16
    assert not spoken.open_handles


async def test_a_file_that_cannot_be_read_does_not_wait_for_long_ones(
    server: SpokenServer, spoken: type[Spoken], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(self: Spoken, reader: Reader) -> bytes | None:
        return status(FAILURE) if b"/target/a" in reader.packet else Spoken.read(self, reader)

    monkeypatch.setattr(gate, "_EMPTIES_SECONDS", 0.05)
    async with target(server, concurrency=4) as destination:
        for key in "ab":
            await destination.create(key, LONG)
        spoken.read = read  # type: ignore[method-assign] # the fault
        async with aclosing(destination.read("b")) as long:
            await anext(long)
            failing = asyncio.create_task(read_all(destination, "a"))
            async with asyncio.timeout(5):
                with pytest.raises(TargetUnavailable, match="Failure"):
                    await failing
        assert destination._gate.allowed == 4
        assert await read_all(destination, "b") == LONG.source


async def test_a_limit_that_shows_when_a_file_is_read(server: SpokenServer, spoken: type[Spoken]) -> None:
    """A server may open a file when the first block is asked for."""

    def read(self: Spoken, reader: Reader) -> bytes | None:
        return status(FAILURE) if len(self.open_handles) > 4 else Spoken.read(self, reader)

    async with target(server, concurrency=16) as destination:
        for number in range(20):
            await destination.create(f"{number}", SMALL)
        spoken.read = read  # type: ignore[method-assign] # the fault
        found = await asyncio.gather(*(read_all(destination, f"{number}") for number in range(20)))
        assert found == [SMALL.source] * 20
        assert destination._gate.allowed in (2, 4)


async def test_one_that_is_cancelled_does_not_harm_another(server: SpokenServer, spoken: type[Spoken]) -> None:
    """The answers to what it has asked for ahead still come, and are nobody's."""

    async def begin() -> None:
        async for _ in destination.read("a"):
            await asyncio.sleep(60)

    async with target(server) as destination:
        await destination.create("a", LONG)
        for _ in range(20):
            cancelled = asyncio.create_task(begin())
            await asyncio.sleep(0.003)
            others = asyncio.gather(*(read_all(destination, "a") for _ in range(3)))
            cancelled.cancel()
            assert await others == [LONG.source] * 3
        await until(lambda: not spoken.open_handles)
    assert spoken.asked.count("read") > 20
