"""What an SFTP server can do wrong, done to the connector."""

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncssh
import pytest

from data_export.content import Content
from data_export.delivery.sftp import SftpDestination, SftpLogin
from data_export.delivery.sftp_connection import fetch_host_key
from data_export.delivery.sftp_folders import TEMPORARY_PREFIX, temporary_path
from data_export.errors import (
    AccessDenied,
    ConfigError,
    HostKeyMismatch,
    ObjectExists,
    OverwriteRefused,
    PermanentError,
    TargetFull,
    TargetRefused,
    TargetUnavailable,
    VerificationFailed,
)
from demo.servers.sftp import SftpKeys, SftpServer
from tests.connectors.contract import DATA_KEY, random_bytes, read_all
from tests.connectors.tcp_proxy import TcpProxy
from tests.connectors.test_sftp import login_of

Sftp = asyncssh.SFTPServer
SMALL = Content.of_bytes(b"content")
BIG = Content.of_bytes(random_bytes(4 << 20))
OLD = b"old"


class Unruly(Sftp):
    """An SFTP server whose class attributes say what it does wrong; a test gets a sub-class of its own."""

    refused: dict[str, Exception] = {}  # noqa: RUF012 - by the operation's name; replaced, never changed
    write_seconds = 0.0
    lost_after: int | None = None
    flips_bits = False
    full = False

    def _refuse(self, operation: str) -> None:
        if operation in self.refused:
            raise self.refused[operation]

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if pflags & asyncssh.FXF_WRITE:
            self._refuse("write")
        return super().open(path, pflags, attrs)

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        self._refuse("block")
        if self.write_seconds:
            await asyncio.sleep(self.write_seconds)
        if self.lost_after is not None and offset >= self.lost_after:
            return len(data)
        flipped = bytes([data[0] ^ 1]) + data[1:] if self.flips_bits else data
        return super().write(file_obj, offset, flipped)  # type: ignore[return-value] # a plain method in asyncssh

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        self._refuse("mkdir")
        super().mkdir(path, attrs)

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        self._refuse("rename")
        if b":" in newpath:
            self._refuse("colon")
        super().rename(oldpath, newpath)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        self._refuse("posix_rename")
        super().posix_rename(oldpath, newpath)

    def scandir(self, path: bytes) -> object:
        self._refuse("scandir")
        return super().scandir(path)

    def statvfs(self, path: bytes) -> object:
        room = 0 if self.full else 1 << 20
        return asyncssh.SFTPVFSAttrs(bsize=4096, frsize=4096, bavail=room, files=1 << 20, favail=1 << 20)


@pytest.fixture
def unruly() -> type[Unruly]:
    return type("UnrulyHere", (Unruly,), {})


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    SftpKeys(folder / "keys")
    return folder


@pytest.fixture
def server(keys: Path, tmp_path: Path, unruly: type[Unruly]) -> Iterator[SftpServer]:
    (tmp_path / "keys").symlink_to(keys / "keys")
    with SftpServer(tmp_path, sftp=unruly) as server:
        yield server


@pytest.fixture
def place(server: SftpServer) -> Path:
    """Where the file of DATA_KEY lies on the server."""
    return server.root / "target" / DATA_KEY


def target(server: SftpServer, **options: object) -> SftpDestination:
    return SftpDestination(login_of(server), "/target", **options)  # type: ignore[arg-type] # each test's own


def put_old(place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.write_bytes(OLD)


def left_over(server: SftpServer) -> list[Path]:
    return list(server.root.rglob(f"{TEMPORARY_PREFIX}*"))


class TestLogin:
    async def refusal(self, server: SftpServer, **changes: object) -> PermanentError:
        with pytest.raises(PermanentError) as refused:
            async with SftpDestination(login_of(server, **changes), "/"):
                pass
        assert "wr0ng-phrase" not in str(refused.value)
        assert server.passphrase not in str(refused.value)
        return refused.value

    async def test_another_key(self, server: SftpServer) -> None:
        other = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
        error = await self.refusal(server, private_key=other)
        assert isinstance(error, AccessDenied)
        assert "refuses the key of user 'data-export': ask its administrator" in str(error)

    async def test_another_user(self, server: SftpServer) -> None:
        error = await self.refusal(server, username="root")
        assert isinstance(error, AccessDenied)
        assert "'root'" in str(error)

    @pytest.mark.parametrize("passphrase", ["wr0ng-phrase", None])
    async def test_another_passphrase(self, server: SftpServer, passphrase: str | None) -> None:
        error = await self.refusal(server, passphrase=passphrase)
        assert isinstance(error, AccessDenied)
        assert str(server.private_key_path) in str(error)
        assert "sftp_private_key_passphrase" in str(error)

    async def test_no_key_file(self, server: SftpServer) -> None:
        error = await self.refusal(server, private_key_path="/nowhere/key")
        assert isinstance(error, ConfigError)
        assert "/nowhere/key: no such file on this worker" in str(error)

    async def test_no_key(self, server: SftpServer, tmp_path: Path) -> None:
        (tmp_path / "no-key").write_text("wr0ng-phrase, and not a key")
        error = await self.refusal(server, private_key_path=str(tmp_path / "no-key"))
        assert isinstance(error, ConfigError)
        assert "no-key is not a private key" in str(error)

    async def test_neither_key_nor_password(self, server: SftpServer) -> None:
        assert "neither private key nor password" in str(await self.refusal(server, private_key_path=None))

    async def test_host_key_that_is_none(self, server: SftpServer) -> None:
        assert isinstance(await self.refusal(server, host_key="127.0.0.1 ssh-ed25519 AAAA"), ConfigError)

    @pytest.mark.parametrize("algorithm", ["ssh-ed25519", "ecdsa-sha2-nistp256"])
    async def test_another_host_key(self, server: SftpServer, algorithm: str) -> None:
        pinned = asyncssh.generate_private_key(algorithm)
        async with TcpProxy(server.port) as proxy:
            line = pinned.export_public_key().decode()
            error = await self.refusal(server, port=proxy.port, host_key=line)
            assert proxy.accepted <= 2  # not tried again; once more only to see a key of another type
        assert isinstance(error, HostKeyMismatch)
        assert pinned.get_fingerprint() in str(error)
        assert asyncssh.import_public_key(server.host_key).get_fingerprint() in str(error)
        assert server.host_key in str(error)

    async def test_the_key_is_shown_for_pinning(self, server: SftpServer) -> None:
        line, fingerprint = await fetch_host_key(server.host, server.port)
        assert line == server.host_key
        assert fingerprint == asyncssh.import_public_key(line).get_fingerprint()

    def test_secrets_are_not_in_the_repr(self) -> None:
        login = SftpLogin("h", "u", "k", private_key="s3cret", passphrase="s3cret", password="s3cret")
        assert "s3cret" not in repr(login)


class TestNetwork:
    async def unavailable(self, login: SftpLogin, **options: float) -> str:
        with pytest.raises(TargetUnavailable) as failed:
            async with SftpDestination(login, "/", **options):  # type: ignore[arg-type] # seconds only
                pass
        return str(failed.value)

    async def test_dead_port(self, server: SftpServer) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            told = await self.unavailable(login_of(server, port=unused.getsockname()[1]))
        assert "refused" in told or "Connect call failed" in told

    async def test_unknown_name(self, server: SftpServer) -> None:
        assert "nowhere.invalid:22" in await self.unavailable(login_of(server, host="nowhere.invalid", port=22))

    async def test_server_that_says_nothing(self, server: SftpServer) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            began = time.monotonic()
            login = login_of(server, port=silent.getsockname()[1])
            await self.unavailable(login, connect_timeout=0.3)
            assert time.monotonic() - began < 3

    async def test_dropped_before_login_is_tried_again(self, server: SftpServer) -> None:
        async with TcpProxy(server.port) as proxy:
            proxy.drop = 2
            async with SftpDestination(login_of(server, port=proxy.port), "/") as destination:
                assert await destination.stat("nothing") is None
            proxy.drop = 99
            await self.unavailable(login_of(server, port=proxy.port))
            assert proxy.accepted < 10

    async def test_reset_in_the_middle_of_a_file(self, server: SftpServer, place: Path) -> None:
        async with TcpProxy(server.port) as proxy:
            proxy.cut_after = 2 << 20
            async with SftpDestination(login_of(server, port=proxy.port), "/target") as destination:
                with pytest.raises(TargetUnavailable, match=DATA_KEY):
                    await destination.create(DATA_KEY, BIG)
                assert not place.exists()
                assert left_over(server)
                await destination.create(DATA_KEY, BIG)  # on a new connection
                assert proxy.accepted == 2
        assert place.read_bytes() == BIG.source
        assert not left_over(server)

    async def test_stalled_in_the_middle_of_a_file(self, server: SftpServer, place: Path, unruly: type[Unruly]) -> None:
        unruly.write_seconds = 0.02
        async with (
            TcpProxy(server.port) as proxy,
            SftpDestination(login_of(server, port=proxy.port), "/target", stall_timeout=0.4) as destination,
        ):
            writing = asyncio.create_task(destination.create(DATA_KEY, BIG))
            await asyncio.sleep(0.2)
            looks = [asyncio.create_task(destination.stat(f"{number}")) for number in range(20)]
            proxy.holding = True
            began = time.monotonic()
            results = await asyncio.gather(writing, *looks, return_exceptions=True)
            assert time.monotonic() - began < 3
            assert isinstance(results[0], TargetUnavailable)
            assert "does not answer in time" in str(results[0])
            proxy.holding = False
            assert await destination.stat(DATA_KEY) is None
        assert not place.exists()

    async def test_a_slow_server_is_not_taken_for_a_dead_one(self, server: SftpServer, place: Path) -> None:
        async with TcpProxy(server.port) as proxy:
            login = login_of(server, port=proxy.port)
            async with SftpDestination(login, "/target", stall_timeout=0.4) as destination:
                proxy.pause = 0.03
                began = time.monotonic()
                await destination.create(DATA_KEY, BIG)
                assert time.monotonic() - began > 4 * 0.4
        assert place.read_bytes() == BIG.source

    async def test_all_fail_at_once_and_one_connection_serves_the_next(self, server: SftpServer) -> None:
        async with (
            TcpProxy(server.port) as proxy,
            SftpDestination(login_of(server, port=proxy.port), "/target") as destination,
        ):
            proxy.holding = True
            looks = [asyncio.create_task(destination.stat(f"{number}")) for number in range(50)]
            await asyncio.sleep(0.05)
            proxy.holding = False
            proxy.cut()
            assert all(
                isinstance(one, TargetUnavailable) for one in await asyncio.gather(*looks, return_exceptions=True)
            )
            assert await asyncio.gather(*(destination.stat(f"{number}") for number in range(50))) == [None] * 50
            assert proxy.accepted == 2
            await server_gone(proxy, destination)

    @pytest.mark.parametrize("allowed", [1, 3, None])
    async def test_many_operations_share_the_connections_that_the_server_allows(
        self, server: SftpServer, allowed: int | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with TcpProxy(server.port) as proxy:
            proxy.allowed = allowed
            login = login_of(server, port=proxy.port)
            async with SftpDestination(login, "/target", connections=4, concurrency=8) as destination:
                assert await asyncio.gather(*(destination.stat(f"{number}") for number in range(2))) == [None] * 2
                assert proxy.most == 1  # few operations need no more
                await asyncio.gather(*(destination.create(f"{number}.png", BIG) for number in range(24)))
            assert proxy.most == (allowed or 4)
        assert len(list((server.root / "target").glob("*.png"))) == 24
        assert ("takes no further connection" in caplog.text) == (allowed is not None)

    async def test_a_further_connection_that_shows_another_host_key_is_not_done_without(
        self, server: SftpServer, tmp_path: Path
    ) -> None:
        with SftpServer(tmp_path / "impostor") as impostor:
            async with TcpProxy(server.port) as proxy:
                login = login_of(server, port=proxy.port)
                async with SftpDestination(login, "/target", connections=2, concurrency=2) as destination:
                    proxy.target = impostor.port
                    with pytest.raises(HostKeyMismatch):
                        await asyncio.gather(*(destination.stat(f"{number}") for number in range(2)))


async def server_gone(proxy: TcpProxy, destination: SftpDestination) -> None:
    """While nobody answers, all share the few connection attempts of one."""
    proxy.drop = 99
    proxy.cut()
    before = proxy.accepted
    failed = await asyncio.gather(*(destination.stat(f"{number}") for number in range(50)), return_exceptions=True)
    assert all(isinstance(one, TargetUnavailable) for one in failed)
    assert proxy.accepted - before < 10


class TestRefusals:
    async def refusal(self, server: SftpServer, **options: object) -> Exception:
        async with target(server, **options) as destination:
            with pytest.raises(Exception, match=DATA_KEY.partition("/")[0]) as refused:
                await destination.create(DATA_KEY, SMALL)
        assert not (server.root / "target" / DATA_KEY).exists()
        assert not left_over(server)
        return refused.value

    async def test_read_only_folder(self, server: SftpServer, unruly: type[Unruly]) -> None:
        unruly.refused = {"write": asyncssh.SFTPPermissionDenied("no")}
        error = await self.refusal(server)
        assert isinstance(error, AccessDenied)
        assert "denies user 'data-export' access" in str(error)

    @pytest.mark.parametrize("refusal", [asyncssh.SFTPPermissionDenied("no"), asyncssh.SFTPFailure("no")])
    async def test_missing_folder_that_may_not_be_made(
        self, server: SftpServer, unruly: type[Unruly], refusal: Exception
    ) -> None:
        (server.root / "target").mkdir()
        unruly.refused = {"mkdir": refusal}
        error = await self.refusal(server)
        assert isinstance(error, AccessDenied)
        assert f"folder '/target/{DATA_KEY.partition('/')[0]}' of sftp://" in str(error)

    async def test_a_full_disk_is_not_taken_for_a_missing_right(self, server: SftpServer, unruly: type[Unruly]) -> None:
        unruly.refused = {"mkdir": asyncssh.SFTPFailure("Failure")}
        unruly.full = True
        async with target(server) as destination:
            with pytest.raises(TargetFull, match="folder '/target'"):
                await destination.create(DATA_KEY, SMALL)

    async def test_file_in_the_place_of_a_folder(self, server: SftpServer) -> None:
        (server.root / "target").mkdir()
        (server.root / "target" / DATA_KEY.partition("/")[0]).touch()
        assert isinstance(await self.refusal(server), TargetRefused)

    async def test_name_refused(self, server: SftpServer, unruly: type[Unruly]) -> None:
        for refusal in (asyncssh.SFTPFailure("no"), asyncssh.SFTPBadMessage("no"), asyncssh.SFTPNoSuchFile("no")):
            unruly.refused = {"colon": refusal}
            error = await self.refusal(server)
            assert isinstance(error, TargetRefused), refusal
            assert "Windows servers refuse ':'" in str(error)

    async def test_rename_refused_and_direct_instead(
        self, server: SftpServer, unruly: type[Unruly], place: Path
    ) -> None:
        denied = asyncssh.SFTPPermissionDenied("no")
        unruly.refused = {"rename": denied, "posix_rename": denied}
        error = await self.refusal(server)
        assert isinstance(error, TargetRefused)
        assert "`sftp_upload: direct`" in str(error)
        async with target(server, upload="direct") as destination:
            await destination.create(DATA_KEY, SMALL)
            assert place.read_bytes() == SMALL.source
            with pytest.raises(ObjectExists):
                await destination.create(DATA_KEY, BIG)
            assert place.read_bytes() == SMALL.source
            await destination.replace(DATA_KEY, BIG)
            assert place.read_bytes() == BIG.source
            unruly.refused = {"write": denied}
            with pytest.raises(OverwriteRefused):
                await destination.replace(DATA_KEY, SMALL)
        assert place.read_bytes() == BIG.source

    async def test_a_broken_direct_upload_leaves_no_part(self, server: SftpServer, unruly: type[Unruly]) -> None:
        unruly.refused = {"block": OSError(errno.ENOSPC, "No space left on device")}
        assert isinstance(await self.refusal(server, upload="direct"), TargetFull)

    async def test_rename_that_replaces_against_the_protocol(
        self, server: SftpServer, unruly: type[Unruly], place: Path
    ) -> None:
        put_old(place)
        unruly.rename = Unruly.posix_rename  # type: ignore[method-assign] # the fault
        async with target(server) as destination:
            with pytest.raises(ObjectExists):
                await destination.create(DATA_KEY, SMALL)
        assert place.read_bytes() == OLD
        assert not left_over(server)

    async def test_listing_refused_by_a_drop_box(self, server: SftpServer, unruly: type[Unruly], place: Path) -> None:
        put_old(place.with_name("other"))
        unruly.refused = {"scandir": asyncssh.SFTPPermissionDenied("no")}
        async with target(server) as destination:
            await destination.create(DATA_KEY, SMALL)
        assert place.read_bytes() == SMALL.source

    async def test_replacing_refused(self, server: SftpServer, unruly: type[Unruly], place: Path) -> None:
        put_old(place)
        unruly.refused = {"posix_rename": asyncssh.SFTPPermissionDenied("no")}
        async with target(server) as destination:
            with pytest.raises(OverwriteRefused, match="set if_exists to keep or revision"):
                await destination.replace(DATA_KEY, SMALL)
        assert place.read_bytes() == OLD
        assert not left_over(server)

    async def test_names_of_unfinished_files_are_refused(self, server: SftpServer) -> None:
        async with target(server) as destination:
            with pytest.raises(TargetRefused, match="kept for unfinished files"):
                await destination.create(f"a/{TEMPORARY_PREFIX}x", SMALL)


class TestDisk:
    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT], ids=["full disk", "quota"])
    async def test_full(self, server: SftpServer, unruly: type[Unruly], place: Path, code: int) -> None:
        unruly.refused = {"block": OSError(code, os.strerror(code))}
        async with target(server) as destination:
            with pytest.raises(TargetFull):
                await destination.create(DATA_KEY, BIG)
            assert not place.exists()
            assert not left_over(server)
            unruly.refused = {}
            await destination.create(DATA_KEY, BIG)

    async def test_a_server_that_says_only_failure_is_asked_for_its_room(
        self, server: SftpServer, unruly: type[Unruly]
    ) -> None:
        unruly.refused = {"block": asyncssh.SFTPFailure("Failure")}
        async with target(server) as destination:
            with pytest.raises(TargetUnavailable, match="answers 'Failure'"):
                await destination.create(DATA_KEY, BIG)
            unruly.full = True
            with pytest.raises(TargetFull, match="make room"):
                await destination.create(DATA_KEY, BIG)

    async def test_a_file_cut_silently(self, server: SftpServer, unruly: type[Unruly], place: Path) -> None:
        unruly.lost_after = 1 << 20
        async with target(server) as destination:
            with pytest.raises(VerificationFailed, match=f"of {BIG.size} sent"):
                await destination.create(DATA_KEY, BIG)
            unruly.full = True
            with pytest.raises(TargetFull):
                await destination.replace(DATA_KEY, BIG)
        assert not place.exists()
        assert not left_over(server)

    async def test_damage_is_found_by_reading_back(self, server: SftpServer, unruly: type[Unruly], place: Path) -> None:
        unruly.flips_bits = True
        async with target(server, verify="read-back") as destination:
            with pytest.raises(VerificationFailed, match="not what was sent"):
                await destination.create(DATA_KEY, BIG)
            assert not place.exists()
            unruly.flips_bits = False
            await destination.create(DATA_KEY, BIG)


class TestWithoutPosixRename:
    @pytest.fixture(autouse=True)
    def _old_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from asyncssh.sftp import SFTPServerHandler

        monkeypatch.setattr(SFTPServerHandler, "_extensions", [])

    async def test_create_and_replace(self, server: SftpServer, place: Path) -> None:
        async with target(server) as destination:
            await destination.create(DATA_KEY, SMALL)
            with pytest.raises(ObjectExists):
                await destination.create(DATA_KEY, BIG)
            await destination.replace(DATA_KEY, BIG)
            await destination.replace("new", SMALL)
        assert place.read_bytes() == BIG.source
        assert not left_over(server)

    async def test_the_old_file_is_put_back(self, server: SftpServer, unruly: type[Unruly], place: Path) -> None:
        put_old(place)
        rename = Unruly.rename

        def once_aside(self: Unruly, oldpath: bytes, newpath: bytes) -> None:
            if (
                newpath.endswith(b".json")
                and b"-asked-" not in oldpath
                and not place.exists()
                and not given_back(oldpath)
            ):
                raise asyncssh.SFTPFailure("no")
            rename(self, oldpath, newpath)

        def given_back(oldpath: bytes) -> bool:
            return (server.root / oldpath.decode().lstrip("/")).read_bytes() == OLD

        unruly.rename = once_aside  # type: ignore[method-assign] # the fault
        async with target(server) as destination:
            with pytest.raises(TargetRefused):
                await destination.replace(DATA_KEY, SMALL)
        assert place.read_bytes() == OLD
        assert not left_over(server)


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
            "import asyncio; from data_export.content import Content; from data_export.delivery.sftp import *\n"
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


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
