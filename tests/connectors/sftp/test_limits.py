"""Limits of SFTP servers, of open files and of files a connection, which they say in their own words or not at all."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import asyncssh
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_export.content import Content
from data_export.delivery.local.store import LocalStore
from data_export.delivery.sftp.destination import SftpDestination
from data_export.delivery.sftp.errors import ConnectionEnded, TooManyAtOnce
from data_export.delivery.sftp.sessions.gate import Gate
from data_export.delivery.sftp.sessions.pool import SftpConnections
from data_export.delivery.sftp.sessions.session import SftpSession
from data_export.delivery.sftp.wire.client import SftpClient
from data_export.errors import AccessDenied, ObjectExists, TargetUnavailable
from data_export.images import copy_images
from demo.servers.foreign import ProftpdServer
from demo.servers.openssh import OpensshServer
from demo.servers.sftp import SftpServer
from tests.connectors.contract import DATA_KEY, SITE, read_all
from tests.connectors.kill_kit import SOURCE_KEY
from tests.connectors.sftp.logins import login_of
from tests.connectors.sftp.unruly import BIG, SMALL, Unruly, left_over, target, until


class TestLimits:
    """Of files that are open at once."""

    @pytest.mark.parametrize(
        "refusal",
        [
            asyncssh.SFTPFailure("Failure"),
            asyncssh.SFTPFailure("Too many open files"),
            asyncssh.SFTPFailure("Too many open files in system"),
            asyncssh.SFTPPermissionDenied("maximum concurrent transfers exceeded"),
            asyncssh.SFTPPermissionDenied("Permission denied"),
            asyncssh.SFTPFailure("Transfer limit reached"),
            asyncssh.SFTPFailure("Quota of open handles exceeded"),
            asyncssh.SFTPPermissionDenied("The number of simultaneous uploads is limited to 3"),
        ],
        ids=str,
    )
    async def test_fewer_go_on(self, server: SftpServer, unruly: type[Unruly], refusal: asyncssh.SFTPError) -> None:
        refused = self.limit(unruly, 4, refusal)
        async with target(server, connections=2, concurrency=32) as destination:
            await destination.create("first", SMALL)
            await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(40)))
            seen = len(refused)
            await asyncio.gather(*(destination.create(f"{number}-2.png", SMALL) for number in range(10)))
        assert len(refused) == seen, "not remembered"
        assert len(list((server.root / "target").iterdir())) == 51
        assert not left_over(server)

    async def test_a_server_that_takes_not_even_one_says_so_in_its_words(
        self, server: SftpServer, unruly: type[Unruly]
    ) -> None:
        self.limit(unruly, 0, asyncssh.SFTPPermissionDenied("maximum concurrent transfers exceeded"))
        async with target(server) as destination:
            with pytest.raises(TooManyAtOnce, match="maximum concurrent transfers exceeded"):
                await destination.create(DATA_KEY, SMALL)

    async def test_a_missing_right_is_not_taken_for_a_limit(self, server: SftpServer, unruly: type[Unruly]) -> None:
        unruly.refused = {"write": asyncssh.SFTPPermissionDenied("Permission denied")}
        async with target(server) as destination:
            found = await asyncio.gather(
                *(destination.create(f"{number}.png", SMALL) for number in range(20)), return_exceptions=True
            )
        assert {type(error) for error in found} == {AccessDenied}

    async def test_no_more_than_max_open_files(self, server: SftpServer, unruly: type[Unruly]) -> None:
        refused = self.limit(unruly, 3, asyncssh.SFTPFailure("Failure"))
        async with target(server, connections=4, concurrency=3) as destination:
            await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(50)))
        assert not refused

    async def test_of_reading(self, server: SftpServer, unruly: type[Unruly]) -> None:
        async with target(server) as destination:
            await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(30)))
        unruly.write_seconds = 0
        for refusal in (asyncssh.SFTPFailure("Failure"), asyncssh.SFTPPermissionDenied("too many open files")):
            refused = self.limit(unruly, 4, refusal)
            async with target(server, concurrency=16) as destination:
                found = await asyncio.gather(*(read_all(destination, f"{number}.png") for number in range(30)))
            assert set(found) == {SMALL.source}
            assert refused

    async def test_a_server_may_count_for_a_moment_what_is_closed(
        self, server: SftpServer, unruly: type[Unruly]
    ) -> None:
        self.limit(unruly, 2, asyncssh.SFTPPermissionDenied("Permission denied"), late=0.4)
        async with target(server, connections=4, concurrency=4) as destination:
            await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(4)))
        assert len(list((server.root / "target").iterdir())) == 4

    @staticmethod
    def limit(unruly: type[Unruly], most: int, refusal: asyncssh.SFTPError, late: float = 0) -> list[bytes]:
        opened, refused = [0], []

        def open_few(self: Unruly, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
            if opened[0] >= most:
                refused.append(path)
                raise refusal
            file = Unruly.open(self, path, pflags, attrs)
            opened[0] += 1
            return file

        def close(self: Unruly, file_obj: object) -> None:
            asyncio.get_running_loop().call_later(late if len(refused) < 3 else 0, forget)
            asyncssh.SFTPServer.close(self, file_obj)

        def forget() -> None:
            opened[0] -= 1

        unruly.write_seconds = 0.002
        unruly.open, unruly.close = open_few, close  # type: ignore[method-assign,assignment] # the limit
        return refused

    @pytest.mark.parametrize("options", ["", "-P limits"])
    async def test_of_openssh(self, tmp_path: Path, options: str) -> None:
        """Told by `limits@openssh.com`, or found out by a bare "Failure"."""
        if not OpensshServer.installed():
            pytest.skip("no /usr/sbin/sshd on this machine: install openssh-server to run these")
        with OpensshServer(tmp_path, open_files=16, sftp_options=options) as server:
            async with SftpDestination(login_of(server), f"{server.base}target", connections=2) as destination:
                await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(200)))
                assert await read_all(destination, "7.png") == SMALL.source
            assert len(list((server.root / "target").iterdir())) == 200

    async def test_of_proftpd(self, tmp_path: Path) -> None:
        if not ProftpdServer.installed():
            pytest.skip(f"no proftpd on this machine: install {ProftpdServer.packages} to run these")
        with ProftpdServer(tmp_path, "MaxTransfersPerUser STOR 2") as server:
            async with SftpDestination(
                login_of(server), f"{server.base}target", connections=4, concurrency=4
            ) as destination:
                big = Content.of_bytes(bytes(1 << 20))
                await asyncio.gather(*(destination.create(f"{number}.png", big) for number in range(12)))
            assert len(list((server.root / "target").iterdir())) == 12


async def unused() -> SftpSession:
    raise AssertionError


async def test_a_gate_that_is_narrowed_lets_nobody_in_until_enough_have_left() -> None:
    async def pass_through(leave: asyncio.Event) -> None:
        async with gate:
            most.append(gate.busy)
            await leave.wait()
            await asyncio.sleep(0.001)

    gate, most = Gate(8, SftpConnections(unused, 1, 8)), list[int]()
    leave = [asyncio.Event() for _ in range(6)]
    inside = [asyncio.create_task(pass_through(event)) for event in leave]
    await asyncio.sleep(0)
    last = asyncio.Event()
    waiting = [asyncio.create_task(pass_through(last)) for _ in range(20)]
    await asyncio.sleep(0)
    assert gate.busy == 8
    await gate.narrow(4)
    for event in leave:
        event.set()
        await asyncio.sleep(0.01)
        assert gate.busy <= 8
    await until(lambda: gate.busy == 4)
    assert gate.allowed == 4
    most.clear()
    last.set()
    await asyncio.gather(*inside, *waiting)
    assert max(most) == 4
    assert not gate.busy


def listed_images(folder: Path, count: int) -> Path:
    """A list of images, which are below `images`, each with its own id as content."""
    ids, listed = [str(UUID(int=number)) for number in range(count)], folder / "images.parquet"
    pq.write_table(pa.table({"input_id": ids, "file_extension": [".png"] * len(ids)}), listed)
    for input_id in ids:
        path = folder / "images" / SOURCE_KEY(input_id, ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(input_id.encode())
    return listed


def end_connections_after(unruly: type[Unruly], files: int) -> None:
    def opened(self: Unruly, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        self.opened = getattr(self, "opened", 0) + 1  # type: ignore[attr-defined] # for each connection there is one
        if self.opened > files:  # type: ignore[attr-defined]
            self.channel.get_connection().abort()
            raise asyncssh.SFTPConnectionLost("enough")
        return Unruly.open(self, path, pflags, attrs)

    unruly.open = opened  # type: ignore[method-assign] # the fault


async def test_a_connection_that_ends_every_25_files_is_resumed(
    server: SftpServer, unruly: type[Unruly], tmp_path: Path
) -> None:
    end_connections_after(unruly, 25)
    listed = listed_images(tmp_path, 120)
    async with LocalStore(tmp_path / "images") as source, target(server) as destination:
        copied = await copy_images(
            listed, site_id=SITE, source=source, source_key=SOURCE_KEY, destination=destination, last_try=False
        )
    assert copied.copied + copied.already_there == 120
    for path in left_over(server):  # what the server made of a request after its connection had ended
        os.utime(path, (0, 0))
    async with target(server) as destination:
        await destination.create(f"{SITE}/inputs/later.png", SMALL)
    assert not left_over(server)


@pytest.mark.parametrize(("files", "connections"), [(25, 1), (12, 1), (12, 4)])
async def test_where_connections_end_after_some_files_fewer_are_begun_at_once(
    server: SftpServer, unruly: type[Unruly], files: int, connections: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Else those under way take each other down for ever."""
    end_connections_after(unruly, files)

    async def put(destination: SftpDestination, key: str) -> None:
        for _ in range(12):
            with suppress(TargetUnavailable, ObjectExists):
                await destination.create(key, SMALL)
                break

    async def get(destination: SftpDestination, key: str) -> bytes | None:
        for _ in range(12):
            with suppress(TargetUnavailable):
                return await read_all(destination, key)
        return None

    async with target(server, connections=connections) as destination:
        await asyncio.gather(*(put(destination, f"{number}.png") for number in range(160)))
        assert 4 <= destination._gate.allowed < 64
    async with target(server, connections=connections) as destination:
        found = await asyncio.gather(*(get(destination, f"{number}.png") for number in range(160)))
        assert 4 <= destination._gate.allowed < 64
    assert set(found) == {SMALL.source}
    assert {path.read_bytes() for path in (server.root / "target").glob("*.png")} == {SMALL.source}
    assert len(list((server.root / "target").glob("*.png"))) == 160
    assert "files at once" in caplog.text


async def test_connections_that_end_now_and_then_slow_nothing_down(server: SftpServer, unruly: type[Unruly]) -> None:
    async with target(server, concurrency=16) as destination:
        await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(40)))
        end_connections_after(unruly, 0)
        lost = await asyncio.gather(
            *(destination.create(f"{number}.jpg", SMALL) for number in range(16)), return_exceptions=True
        )
        assert {type(error) for error in lost} == {ConnectionEnded}
        assert destination._gate.allowed == 16


@pytest.mark.parametrize(("files", "content", "most"), [(1, SMALL, 2), (1, BIG, 12), (3, BIG, 12), (16, BIG, 32)])
async def test_blocks_are_asked_for_ahead_within_a_share_of_the_connection(
    server: SftpServer, monkeypatch: pytest.MonkeyPatch, files: int, content: Content, most: int
) -> None:
    ahead, seen, ask = set[object](), [0], SftpClient.read

    def read(client: SftpClient, handle: bytes, offset: int, size: int) -> asyncio.Future[bytes]:
        answer = ask(client, handle, offset, size)
        ahead.add(answer)
        answer.add_done_callback(ahead.discard)
        seen.append(len(ahead))
        return answer

    monkeypatch.setattr(SftpClient, "read", read)
    async with SftpDestination(login_of(server), "/target", connections=1) as destination:
        for number in range(files):
            await destination.create(f"{number}", content)
        found = await asyncio.gather(*(read_all(destination, f"{number}") for number in range(files)))
    assert found == [content.source] * files
    assert most <= max(seen) <= most + 2  # the last blocks of a file that has just ended may still be counted
