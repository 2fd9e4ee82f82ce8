"""How a connection may begin, and end before its time."""

import asyncio

import pytest

from data_export.delivery.sftp.wire import packets
from data_export.delivery.sftp.wire.packets import Reader, u32
from data_export.errors import AccessDenied, TargetRefused, TargetUnavailable
from tests.connectors.contract import read_all
from tests.connectors.sftp.spoken import DENIED, FAILURE, LONG, OK, Spoken, SpokenServer, status, target
from tests.connectors.sftp.unruly import SMALL


@pytest.mark.parametrize("answer", [status(8), status(OK), bytes((packets.EXTENDED_REPLY,)) + bytes(12)])
async def test_limits_that_are_offered_and_not_told(server: SpokenServer, spoken: type[Spoken], answer: bytes) -> None:
    def extended(self: Spoken, reader: Reader) -> bytes | None:
        return answer if b"limits@" in reader.packet else Spoken.extended(self, reader)

    spoken.offers = Spoken.offers | {b"limits@openssh.com": b"1"}
    spoken.extended = extended  # type: ignore[method-assign] # the fault
    async with target(server) as destination:
        await destination.create("a", LONG)
        assert await read_all(destination, "a") == LONG.source


async def test_a_number_of_files_that_is_told_makes_no_missing_right_a_limit(
    server: SpokenServer, spoken: type[Spoken], caplog: pytest.LogCaptureFixture
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
async def test_what_is_said_before_the_first_request(server: SpokenServer, spoken: type[Spoken], said: bytes) -> None:
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
