"""What an interrupted write leaves on an SFTP server, and how it goes."""

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncssh
import pytest

from data_export.content import Content
from data_export.delivery.sftp import leftovers as sftp_left_over
from data_export.delivery.sftp.destination import SftpDestination
from data_export.delivery.sftp.leftovers import TEMPORARY_PREFIX, temporary_path
from data_export.errors import TargetFull, TargetNotFound, TargetUnavailable
from demo.servers.sftp import SftpServer
from tests.connectors.contract import DATA_KEY, random_bytes, read_all
from tests.connectors.sftp.logins import login_of
from tests.connectors.sftp.unruly import BIG, OLD, SMALL, Unruly, left_over, put_old, target, until
from tests.connectors.tcp_proxy import TcpProxy

DAY = 24 * 3600


class TestUnfinishedFiles:
    async def test_a_reader_never_sees_a_part(self, server: SftpServer, unruly: type[Unruly], place: Path) -> None:
        unruly.write_seconds = 0.01
        async with target(server) as writer, target(server) as reader:
            for data, write in ((BIG, writer.create), (Content.of_bytes(random_bytes(2 << 20, 1)), writer.replace)):
                before = place.stat().st_size if place.exists() else None
                writing = asyncio.create_task(write(DATA_KEY, data))
                looks = 0
                while not writing.done():
                    found = await reader.stat(DATA_KEY)
                    assert (found and found.digests.size) in (before, data.size)
                    looks += 1
                await writing
                assert looks > 10
                assert await read_all(reader, DATA_KEY) == data.source

    async def test_what_a_killed_process_left_goes_at_the_next_write(self, server: SftpServer, place: Path) -> None:
        login = login_of(server)
        script = (
            "import asyncio; from data_export.content import Content\n"
            "from data_export.delivery.sftp.destination import *\n"
            "async def run():\n"
            f"    login = SftpLogin({login.host!r}, {login.username!r}, {login.host_key!r}, {login.port},\n"
            f"        private_key_path={login.private_key_path!r}, passphrase={login.passphrase!r})\n"
            "    async with SftpDestination(login, '/target') as destination:\n"
            f"        await destination.create({DATA_KEY!r}, Content.of_bytes(bytes(128 << 20)))\n"
            "asyncio.run(run())"
        )
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen([sys.executable, "-c", script], env=environment) as process:
            await until(lambda: any(path.stat().st_size for path in left_over(server)))
            process.send_signal(signal.SIGKILL)
        assert not place.exists()
        other = server.root / temporary_path(f"target/{DATA_KEY}x")
        other.touch()
        async with target(server) as destination:
            assert await destination.stat(DATA_KEY) is None
            await destination.create(DATA_KEY, SMALL)
        assert left_over(server) == [other]  # another object's may belong to a run that is alive
        assert place.read_bytes() == SMALL.source

    async def test_a_cancelled_write_cleans_up(self, server: SftpServer, unruly: type[Unruly], place: Path) -> None:
        unruly.write_seconds = 0.02
        async with target(server) as destination:
            writing = asyncio.create_task(destination.create(DATA_KEY, BIG))
            await until(lambda: bool(left_over(server)))
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await destination.create("next", SMALL)
        assert not left_over(server)
        assert not place.exists()

    @pytest.mark.parametrize("again", [True, False])
    async def test_what_broken_connections_left_goes_at_the_next_try_or_at_the_end(
        self, server: SftpServer, again: bool
    ) -> None:
        async with TcpProxy(server.port) as proxy:
            async with SftpDestination(login_of(server, port=proxy.port), "/target") as destination:
                await destination.create("first", SMALL)  # whoever comes now finds the folder looked at
                for _ in range(3):
                    proxy.cut_after = 2 << 20
                    with pytest.raises(TargetUnavailable):
                        await destination.create("cut", BIG)
                assert len(left_over(server)) == 3
                if again:
                    await destination.create("cut", BIG)
                    assert not left_over(server)
            assert not left_over(server)

    async def test_the_end_does_not_wait_for_a_server_that_is_gone(self, server: SftpServer) -> None:
        async with TcpProxy(server.port) as proxy:
            async with SftpDestination(login_of(server, port=proxy.port), "/target") as destination:
                proxy.cut_after = 2 << 20
                with pytest.raises(TargetUnavailable):
                    await destination.create("cut", BIG)
                proxy.drop = 99
                began = time.monotonic()
            assert time.monotonic() - began < 12

    async def test_abandoned_files_go_by_the_clock_of_the_server(
        self, server: SftpServer, unruly: type[Unruly], place: Path
    ) -> None:
        unruly.behind_seconds = 3 * DAY
        now = time.time() - unruly.behind_seconds
        put_old(place)
        abandoned, alive = (place.with_name(temporary_path(name)) for name in ("abandoned", "alive"))
        for path, age in ((abandoned, DAY + 60), (alive, DAY - 60)):
            path.touch()
            os.utime(path, (now - age, now - age))
        async with target(server) as destination:
            await destination.create(f"{DATA_KEY}-2", SMALL)
        assert left_over(server) == [alive]

    async def test_a_full_disk_is_rid_of_abandoned_files(
        self, server: SftpServer, unruly: type[Unruly], place: Path
    ) -> None:
        put_old(place)
        abandoned = place.with_name(temporary_path("abandoned"))
        abandoned.touch()
        os.utime(abandoned, (time.time() - 2 * DAY - 60,) * 2)
        unruly.refused = {"block": OSError(errno.ENOSPC, "No space left on device")}
        async with target(server) as destination:
            with pytest.raises(TargetFull):
                await destination.create(f"{DATA_KEY}-2", SMALL)
        assert not left_over(server)

    async def test_a_large_folder_is_listed_once_and_to_its_end(
        self, server: SftpServer, unruly: type[Unruly], place: Path
    ) -> None:
        put_old(place)
        last = temporary_path("target/x").rpartition("/")[2]
        listed = []

        async def scandir(_self: Unruly, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            listed.append(path)
            for number in range(20_500):
                yield asyncssh.SFTPName(b"%d.png" % number)
            yield asyncssh.SFTPName(last.encode(), attrs=asyncssh.SFTPAttrs(atime=0, mtime=0))

        unruly.scandir = scandir  # type: ignore[assignment,method-assign] # a folder that takes long to fill
        place.with_name(last).touch()
        async with target(server, connections=4, concurrency=4) as destination:
            await asyncio.gather(*(destination.create(f"{DATA_KEY}-{number}", SMALL) for number in range(4)))
        assert not left_over(server)
        assert len(listed) == 1

    async def test_a_listing_without_end_delays_a_write_only_so_long(
        self, server: SftpServer, unruly: type[Unruly], place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scandir(_self: Unruly, _path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            while True:
                await asyncio.sleep(0.01)
                yield asyncssh.SFTPName(b"x")

        put_old(place)
        unruly.scandir = scandir  # type: ignore[assignment,method-assign] # the fault
        monkeypatch.setattr(sftp_left_over, "_LOOK_SECONDS", 0.2)
        async with asyncio.timeout(5), target(server) as destination:
            await destination.create(f"{DATA_KEY}-2", SMALL)

    @pytest.mark.parametrize("replaces", [False, True])
    async def test_a_listed_name_never_leads_out_of_the_folder(
        self, server: SftpServer, unruly: type[Unruly], place: Path, replaces: bool
    ) -> None:
        """A server may list anything; only what this service names so itself is removed or renamed."""
        put_old(place)
        victim = server.root / "victim.json"
        victim.write_bytes(OLD)
        stem = temporary_path("victim.json").rpartition("-")[0]
        (server.root / "target" / stem).mkdir()
        tricks = [
            f"{stem}/../../victim.json",
            f"{stem}/../../victim.json.tmp",
            f"{stem}-0123456789ab-/../../../victim.json.old",
            f"{stem}-0123456789ab-..old",
            f"{stem}-0123456789ab-...old",
            f"{stem}-0123456789ab-other.json.old",  # not the name that its digest is of
            f"{stem}-0123456789ab.tmp/../../victim.json",
            f"{stem}-0123456789ab-a\\..\\victim.json.old",
            f"{stem}-nul\0.tmp",
            f"{stem}-{'x' * 5_000}.tmp",
            f"{TEMPORARY_PREFIX}../../victim.json",
        ]
        asked: list[bytes] = []

        async def scandir(_self: Unruly, _path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            for name in tricks:
                yield asyncssh.SFTPName(name.encode(), attrs=asyncssh.SFTPAttrs(atime=0, mtime=0))

        def remember(name: str) -> None:
            call = getattr(unruly, name)

            def remembering(self: Unruly, *paths: bytes) -> object:
                asked.extend(paths)
                return call(self, *paths)

            setattr(unruly, name, remembering)

        unruly.scandir = scandir  # type: ignore[assignment,method-assign] # the fault
        for name in ("remove", "rename", "posix_rename", "lstat"):
            remember(name)
        async with target(server) as destination:
            key = f"{DATA_KEY}-2"
            await (destination.replace if replaces else destination.create)(key, SMALL)
        assert victim.read_bytes() == OLD
        assert not [path for path in asked if b".." in path or b"victim" in path or b"other.json" in path]

    async def test_cleaning_ends_however_much_a_server_lists(
        self, server: SftpServer, unruly: type[Unruly], place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scandir(_self: Unruly, _path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            for _ in range(100_000):
                yield asyncssh.SFTPName(temporary_path("x").encode(), attrs=asyncssh.SFTPAttrs(atime=0, mtime=0))

        async def remove(_self: Unruly, _path: bytes) -> None:
            await asyncio.sleep(0.05)

        put_old(place)
        unruly.scandir, unruly.remove = scandir, remove  # type: ignore[assignment,method-assign] # the fault
        monkeypatch.setattr(sftp_left_over, "_LOOK_SECONDS", 0.5)
        async with asyncio.timeout(8), target(server) as destination:
            await destination.create(f"{DATA_KEY}-2", SMALL)
        assert place.with_name(f"{place.name}-2").read_bytes() == SMALL.source

    async def test_a_file_is_on_disk_before_it_has_its_name(
        self, server: SftpServer, unruly: type[Unruly], place: Path
    ) -> None:
        done: list[str] = []
        for name in ("write", "fsync", "rename"):
            setattr(unruly, name, noting(name, getattr(unruly, name), done))
        async with target(server) as destination:
            await destination.create(DATA_KEY, SMALL)
        assert done[:2] == ["write", "fsync"]
        assert set(done[2:]) == {"rename"}  # the first tries how the server renames
        assert place.exists()

    async def test_a_folder_that_was_removed_meanwhile_is_made_again(self, server: SftpServer, place: Path) -> None:
        async with target(server) as destination:
            await destination.create(f"{DATA_KEY}-2", SMALL)
            shutil.rmtree(place.parent)
            await destination.create(DATA_KEY, SMALL)
        assert place.read_bytes() == SMALL.source

    async def test_a_folder_that_goes_again_and_again_is_named(self, server: SftpServer, unruly: type[Unruly]) -> None:
        unruly.refused = {"write": asyncssh.SFTPNoSuchFile("no")}
        async with target(server) as destination:
            with pytest.raises(TargetNotFound, match="no such file or folder"):
                await destination.create(DATA_KEY, SMALL)


def noting(name: str, call: Callable[..., object], done: list[str]) -> Callable[..., object]:
    def noted(*args: object) -> object:
        done.append(name)
        return call(*args)

    return noted


class TestTidying:
    async def test_old_files_go_and_what_was_moved_aside_has_its_name_back(
        self, server: SftpServer, place: Path
    ) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        folder = DATA_KEY.rpartition("/")[0]
        old, young = (server.root / temporary_path(f"target/{DATA_KEY}{number}") for number in (1, 2))
        aside = server.root / sftp_left_over.aside_path(f"target/{DATA_KEY}")
        theirs = place.with_name(".data-export-of-somebody-else")
        for path in (old, young, aside, theirs):
            path.write_bytes(b"old")
        for path in (old, theirs):
            os.utime(path, (time.time() - 2 * DAY,) * 2)
        async with target(server) as destination:
            assert await destination.tidy([folder, "no/such/folder"]) == 2
            assert await destination.tidy([folder]) == 0
        assert place.read_bytes() == b"old"
        assert {*place.parent.iterdir()} == {place, young, theirs}

    async def test_a_folder_that_takes_no_file_is_left_as_it_is(
        self, server: SftpServer, unruly: type[Unruly], place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server's clock cannot be asked there, and ours may be wrong."""

        def refuse(*_: object) -> None:
            raise asyncssh.SFTPPermissionDenied("no")

        place.parent.mkdir(parents=True, exist_ok=True)
        old = server.root / temporary_path(f"target/{DATA_KEY}")
        old.touch()
        os.utime(old, (time.time() - 2 * DAY,) * 2)
        monkeypatch.setattr(unruly, "open", refuse)
        async with target(server) as destination:
            assert await destination.tidy([DATA_KEY.rpartition("/")[0]]) == 0
        assert old.exists()
