"""Files that go, sessions that are refused and tasks that are cancelled in the moment that nobody expects."""

import asyncio
import stat
from pathlib import Path

import asyncssh
import pytest

from data_export.content import Content
from data_export.delivery.sftp.destination import SftpDestination
from data_export.delivery.sftp.sessions.session import SftpSession
from data_export.delivery.sftp.wire.packets import Reader
from data_export.errors import TargetRefused, TargetUnavailable, TransientError
from demo.servers.sftp import SftpServer
from tests.connectors.sftp.logins import login_of
from tests.connectors.sftp.spoken import NO_SUCH_FILE, Spoken, SpokenServer, attributes, status, target


async def test_an_empty_file_that_goes_between_look_and_read_is_not_there(tmp_path: Path) -> None:
    """As one that another run replaces where no rename takes the place of a file, or that a loader takes away."""

    class Going(Spoken):
        def open(self, reader: Reader) -> bytes:
            self.files.clear()
            return status(NO_SUCH_FILE)

    with SpokenServer(tmp_path, Going) as server:
        Going.files[b"/target/empty.json"] = bytearray()
        async with target(server) as destination:
            assert await destination.stat("empty.json") is None
        assert "open" in Going.asked


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
async def test_a_pipe_or_a_device_is_never_read(tmp_path: Path, kind: int) -> None:
    class Piped(Spoken):
        def stat(self, reader: Reader) -> bytes:
            path = reader.text()
            return attributes(0, kind | 0o644) if path.endswith(b".json") else attributes(0, 0o040755)

    with SpokenServer(tmp_path, Piped) as server:
        async with target(server) as destination:
            with pytest.raises(TargetRefused, match="is a pipe or a device where a file must be"):
                await destination.stat("x.json")
        assert "open" not in Piped.asked


async def test_a_server_whose_sessions_others_have_is_tried_again(tmp_path: Path) -> None:
    class Full(Spoken):
        def __init__(self) -> None:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "no more sessions")

    with SpokenServer(tmp_path, Full) as server, pytest.raises(TransientError, match="no more sessions"):
        await SftpSession.open(login_of(server), 5, 5, asyncio.Semaphore(8))


async def test_the_check_of_renames_needs_one_connection_only_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SftpServer(tmp_path) as server:
        async with SftpDestination(login_of(server), "new/folder") as destination:
            assert await destination.stat("x") is None

            async def refused() -> SftpSession:
                raise TargetUnavailable("the server takes no further connection")

            monkeypatch.setattr(destination, "_open_session", refused)
            said = await destination.ways_to_rename()
        assert said.endswith("; it lets us open one connection only")
        assert not [path for path in tmp_path.rglob("*") if path.name == "new"]


class Slow(Spoken):
    """Opens a file after a moment, in which whoever asked may be gone."""

    def open(self, reader: Reader) -> bytes | None:
        answer, number = super().open(reader), self.number
        if not self.asked.count("write"):
            asyncio.get_running_loop().call_later(0.3, self.say, number, answer)
            return None
        return answer


@pytest.mark.parametrize("way", ["create", "replace"])
async def test_a_file_under_its_final_name_whose_opening_is_cancelled_is_not_left_empty(
    tmp_path: Path, way: str
) -> None:
    with SpokenServer(tmp_path, Slow) as server:
        async with target(server, upload="direct") as destination:
            running = asyncio.create_task(getattr(destination, way)("a.json", Content.of_bytes(b"x" * 99)))
            while not Slow.files:
                await asyncio.sleep(0.01)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert (Slow.files, Slow.open_handles) == ({}, set())


async def test_a_cancellation_stays_one_where_the_connection_is_lost_meanwhile(tmp_path: Path) -> None:
    class Lost(Spoken):
        def open(self, reader: Reader) -> bytes | None:
            super().open(reader)
            asyncio.get_running_loop().call_later(0.2, self.channel.get_connection().abort)
            return None

    with SpokenServer(tmp_path, Lost) as server:
        async with target(server, upload="direct") as destination:
            running = asyncio.create_task(destination.create("a.json", Content.of_bytes(b"x")))
            while not Lost.files:
                await asyncio.sleep(0.01)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running


async def test_connections_are_closed_also_when_the_cleaning_up_is_cancelled(tmp_path: Path) -> None:
    with SftpServer(tmp_path) as server:
        destination = await SftpDestination(login_of(server), "target").__aenter__()
        await destination.create("a", Content.of_bytes(b"x"))
        entered = asyncio.Event()

        async def stuck(_session: SftpSession) -> None:
            entered.set()
            await asyncio.Event().wait()

        destination._left_over.ours.add("left")
        destination._left_over.remove_ours = stuck  # type: ignore[method-assign]
        sessions = [line.session for line in destination._connections._lines if line.session]
        leaving = asyncio.create_task(destination.__aexit__())
        await entered.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert [session.alive for session in sessions] == [False]
