"""What a server may answer, and what it must never lead to: other bytes than the file has, or words that mislead."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from data_export.content import Content
from data_export.delivery.sftp import transfer
from data_export.delivery.sftp.destination import SftpDestination
from data_export.delivery.sftp.sessions import gate
from data_export.delivery.sftp.wire import blocks, packets
from data_export.delivery.sftp.wire.packets import Reader, text, u32
from data_export.errors import AccessDenied, TargetFull, TargetRefused, TargetUnavailable, VerificationFailed
from tests.connectors.contract import random_bytes, read_all
from tests.connectors.sftp.logins import login_of
from tests.connectors.sftp.spoken import (
    DENIED,
    EOF,
    FAILURE,
    FOLDER,
    OK,
    Spoken,
    SpokenServer,
    attributes,
    data,
    names,
    status,
)
from tests.connectors.sftp.unruly import SMALL, until

LONG = Content.of_bytes(random_bytes(200_000))
BREACH = "does not speak SFTP as it should"


@pytest.fixture
def spoken() -> type[Spoken]:
    return type("SpokenHere", (Spoken,), {})


@pytest.fixture
def server(keys: Path, tmp_path: Path, spoken: type[Spoken]) -> Iterator[SpokenServer]:
    (tmp_path / "keys").symlink_to(keys / "keys")
    with SpokenServer(tmp_path, spoken) as server:
        yield server


def target(server: SpokenServer, **options: Any) -> SftpDestination:
    return SftpDestination(login_of(server), "/target", connect_timeout=5, stall_timeout=5, **options)


class TestReading:
    @pytest.mark.parametrize(("most", "content"), [(16_383, LONG), (999, LONG), (1, SMALL)])
    async def test_fewer_bytes_than_asked(
        self, server: SpokenServer, spoken: type[Spoken], most: int, content: Content
    ) -> None:
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
    async def test_what_is_no_answer(self, server: SpokenServer, spoken: type[Spoken], answer: bytes) -> None:
        async with target(server) as destination:
            await destination.create("a", LONG)
            spoken.read = lambda _self, _reader: answer  # type: ignore[method-assign,assignment] # the fault
            async with asyncio.timeout(20):
                with pytest.raises(TargetUnavailable, match=BREACH) as refused:
                    await read_all(destination, "a")
            assert "unpack" not in str(refused.value)
        assert not spoken.open_handles

    @pytest.mark.parametrize("fault", ["unknown", "twice", "long", "short"])
    async def test_what_is_out_of_step(self, server: SpokenServer, spoken: type[Spoken], fault: str) -> None:
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
    async def test_an_end_in_the_middle_is_not_the_end(
        self, server: SpokenServer, spoken: type[Spoken], end: bytes
    ) -> None:
        def read(self: Spoken, reader: Reader) -> bytes | None:
            is_second = int.from_bytes(reader.packet[-12:-4], "big") == 16_384
            return end if is_second else Spoken.read(self, reader)

        async with target(server) as destination:
            await destination.create("a", LONG)
            spoken.read = read  # type: ignore[method-assign] # the fault
            with pytest.raises(TargetUnavailable, match="while it was read"):
                await read_all(destination, "a")

    async def test_a_file_without_an_end_is_not_read_back_for_ever(
        self, server: SpokenServer, spoken: type[Spoken]
    ) -> None:
        spoken.read = lambda _self, reader: data(bytes(int.from_bytes(reader.packet[-4:], "big")))  # type: ignore[method-assign]
        async with target(server, verify="read-back") as destination, asyncio.timeout(10):
            with pytest.raises(VerificationFailed):
                await destination.create("a", SMALL)
        assert not spoken.files

    @pytest.mark.parametrize("request_", ["open", "read"])
    @pytest.mark.parametrize("connections", [1, 4])
    async def test_a_file_that_cannot_be_read_makes_the_others_no_slower(
        self, server: SpokenServer, spoken: type[Spoken], request_: str, connections: int
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
        self, server: SpokenServer, spoken: type[Spoken], monkeypatch: pytest.MonkeyPatch
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
                    await until(lambda: destination._gate.allowed < 4)
            with pytest.raises(TargetUnavailable, match="Failure"):
                await failing
            assert await read_all(destination, "b") == LONG.source

    async def test_a_limit_that_shows_when_a_file_is_read(self, server: SpokenServer, spoken: type[Spoken]) -> None:
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

    async def test_one_that_is_cancelled_does_not_harm_another(
        self, server: SpokenServer, spoken: type[Spoken]
    ) -> None:
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


class TestStatus:
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
    async def test_of_all_sorts(self, server: SpokenServer, spoken: type[Spoken], packet: bytes, said: str) -> None:
        async with target(server) as destination:
            await destination.create("a", SMALL)
            spoken.write = lambda _self, _reader: bytes((packets.STATUS,)) + packet  # type: ignore[method-assign,assignment]
            with pytest.raises(TargetUnavailable) as refused:
                await destination.create("b", SMALL)
        assert said in str(refused.value)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 300
        assert list(spoken.files) == [b"/target/a"]

    async def test_the_first_error_says_why(self, server: SpokenServer, spoken: type[Spoken]) -> None:
        def close(self: Spoken, reader: Reader) -> bytes:
            Spoken.close(self, reader)
            return status(FAILURE, "Failure")

        spoken.write = lambda _self, _reader: status(FAILURE, "quota exceeded")  # type: ignore[method-assign,assignment]
        spoken.close = close  # type: ignore[method-assign] # what follows of it
        async with target(server) as destination:
            with pytest.raises(TargetFull):
                await destination.create("a", SMALL)
        assert not spoken.files

    async def test_a_disk_that_is_full_when_the_file_is_closed(
        self, server: SpokenServer, spoken: type[Spoken]
    ) -> None:
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
        self, server: SpokenServer, spoken: type[Spoken], flags: int
    ) -> None:
        def stat(self: Spoken, reader: Reader) -> bytes:
            odd = reader.packet[9:].startswith(b"/target/")
            return (
                bytes((packets.ATTRS,)) + u32(flags) + bytes(8) + u32(2**32 - 1) if odd else Spoken.stat(self, reader)
            )

        spoken.stat = stat  # type: ignore[method-assign] # the fault
        async with target(server) as destination:
            with pytest.raises(TargetUnavailable, match=BREACH):
                await destination.create("a", SMALL)
        assert not spoken.files


class TestListing:
    async def test_folders_that_have_no_end(
        self, server: SpokenServer, spoken: type[Spoken], caplog: pytest.LogCaptureFixture
    ) -> None:
        def readdir(self: Spoken, reader: Reader) -> bytes:
            handle = reader.text()
            answer = status(EOF) if handle in self.listed else names(b"up", mode=FOLDER)
            self.listed.add(handle)
            return answer

        spoken.readdir = readdir  # type: ignore[method-assign] # a link to a folder above, shown as a folder
        async with target(server) as destination:
            assert [found async for found in destination.list("folder/")] == []
        assert "deeper than any folder of ours" in caplog.text
        assert not spoken.open_handles

    async def test_names_that_lead_elsewhere_are_nobody_s(self, server: SpokenServer, spoken: type[Spoken]) -> None:
        def readdir(self: Spoken, reader: Reader) -> bytes:
            answer = Spoken.readdir(self, reader)
            listed = (b"../a.png", b"/a.png", b"", b"\xff.png", b"ok.png")
            return answer if answer[0] == packets.STATUS else names(*listed)

        spoken.readdir = readdir  # type: ignore[method-assign] # the fault
        async with target(server) as destination:
            assert [found.key async for found in destination.list("folder/")] == ["folder/ok.png"]
            pages = [page async for page in destination.files_in("folder")]
        assert [found.key for page in pages for found in page] == ["folder/ok.png"]

    async def test_more_names_than_there_are(self, server: SpokenServer, spoken: type[Spoken]) -> None:
        spoken.readdir = lambda _self, _reader: bytes((packets.NAME,)) + u32(2**32 - 1) + text(b"a")  # type: ignore[method-assign,assignment]
        async with target(server) as destination:
            with pytest.raises(TargetUnavailable, match=BREACH):
                [found async for found in destination.list("folder/")]
            await destination.create("a", SMALL)
        assert not spoken.open_handles


class TestBeginning:
    @pytest.mark.parametrize("answer", [status(8), status(OK), bytes((packets.EXTENDED_REPLY,)) + bytes(12)])
    async def test_limits_that_are_offered_and_not_told(
        self, server: SpokenServer, spoken: type[Spoken], answer: bytes
    ) -> None:
        def extended(self: Spoken, reader: Reader) -> bytes | None:
            return answer if b"limits@" in reader.packet else Spoken.extended(self, reader)

        spoken.offers = Spoken.offers | {b"limits@openssh.com": b"1"}
        spoken.extended = extended  # type: ignore[method-assign] # the fault
        async with target(server) as destination:
            await destination.create("a", LONG)
            assert await read_all(destination, "a") == LONG.source

    async def test_a_number_of_files_that_is_told_makes_no_missing_right_a_limit(
        self, server: SpokenServer, spoken: type[Spoken], caplog: pytest.LogCaptureFixture
    ) -> None:
        def extended(self: Spoken, reader: Reader) -> bytes | None:
            told = bytes((packets.EXTENDED_REPLY,)) + bytes(24) + (8).to_bytes(8, "big")
            return told if b"limits@" in reader.packet else Spoken.extended(self, reader)

        spoken.offers = Spoken.offers | {b"limits@openssh.com": b"1"}
        spoken.extended = extended  # type: ignore[method-assign] # as OpenSSH does
        spoken.open = lambda _self, _reader: status(DENIED)  # type: ignore[method-assign,assignment] # the fault
        async with target(server) as destination:
            with pytest.raises(AccessDenied):
                await destination.create("a", SMALL)
        assert "files at once" not in caplog.text

    @pytest.mark.parametrize("said", [bytes((packets.VERSION,)) + u32(2), status(FAILURE), b"SSH-"])
    async def test_what_is_said_before_the_first_request(
        self, server: SpokenServer, spoken: type[Spoken], said: bytes
    ) -> None:
        spoken.session_started = lambda self: self.write_packet(said)  # type: ignore[method-assign]
        async with asyncio.timeout(3):
            with pytest.raises(TargetRefused, match="not use SFTP"):
                async with target(server):
                    pass


@pytest.mark.parametrize("moment", ["subsystem_requested", "session_started"])
async def test_a_connection_that_is_lost_at_its_beginning_is_no_refusal(
    server: SpokenServer, spoken: type[Spoken], moment: str
) -> None:
    setattr(spoken, moment, lambda self, *_: self.channel.get_connection().abort())
    with pytest.raises(TargetUnavailable, match="is it up"):
        async with target(server):
            pass


async def test_a_channel_that_ends_between_two_files_is_not_used_again(
    server: SpokenServer, spoken: type[Spoken]
) -> None:
    sessions: list[Spoken] = []
    spoken.session_started = lambda self: sessions.append(self)  # type: ignore[method-assign]
    async with target(server) as destination:
        await destination.create("a", SMALL)
        server._thread.run(_exit(sessions[0]))
        await asyncio.sleep(0.1)
        await destination.create("b", SMALL)
    assert len(sessions) == 2


async def _exit(session: Spoken) -> None:
    session.channel.exit(0)


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


class TestSync:
    """A system tells each handle once of a failed sync: the next one that succeeds proves nothing."""

    @pytest.fixture
    def openssh(self, spoken: type[Spoken], tmp_path: Path, keys: Path) -> Iterator[SpokenServer]:
        def extended(self: Spoken, reader: Reader) -> bytes | None:
            if b"limits@" in reader.packet:
                return bytes((packets.EXTENDED_REPLY,)) + b"".join(n.to_bytes(8, "big") for n in (0, 0, 0, 100))
            return Spoken.extended(self, reader)

        spoken.offers = Spoken.offers | {b"limits@openssh.com": b"1"}
        spoken.extended = extended  # type: ignore[method-assign] # as OpenSSH does
        (tmp_path / "keys").symlink_to(keys / "keys")
        with SpokenServer(tmp_path, spoken, server_version="OpenSSH_9.9") as server:
            yield server

    @pytest.mark.parametrize("failing", [1, 2, 3])
    async def test_of_any_part_is_the_file_s(
        self, openssh: SpokenServer, spoken: type[Spoken], failing: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transfer, "_BIG_BYTES", 1 << 10)
        monkeypatch.setattr(blocks, "_SYNC_BYTES", 64 << 10)
        synced = self.failing(spoken, {failing})
        async with target(openssh) as destination:
            with pytest.raises(TargetUnavailable, match="input/output error"):
                await destination.create("a", LONG)
            assert not spoken.files
            before = len(synced)
            await destination.create("a", LONG)
        assert before >= 3
        assert bytes(spoken.files[b"/target/a"]) == LONG.source

    async def test_of_one_file_does_not_end_it_for_all(self, server: SpokenServer, spoken: type[Spoken]) -> None:
        synced = self.failing(spoken, {2})
        async with target(server) as destination:
            await destination.create("a", SMALL)
            with pytest.raises(TargetUnavailable, match="input/output error"):
                await destination.create("b", SMALL)
            await destination.create("c", SMALL)
        assert len(synced) == 4
        assert list(spoken.files) == [b"/target/a", b"/target/c"]

    @staticmethod
    def failing(spoken: type[Spoken], which: set[int]) -> list[int]:
        synced, before = list[int](), spoken.extended

        def extended(self: Spoken, reader: Reader) -> bytes | None:
            if b"fsync@" not in reader.packet:
                return before(self, reader)
            synced.append(1)
            return status(FAILURE, "input/output error") if len(synced) in which else status(OK)

        spoken.extended = extended  # type: ignore[method-assign] # the fault
        return synced
