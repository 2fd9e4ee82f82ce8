"""An embedded SFTP server that misbehaves as a test asks, and what tests of it share."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncssh

from data_export.content import Content
from data_export.delivery.sftp.destination import SftpDestination
from data_export.delivery.sftp.leftovers import TEMPORARY_PREFIX
from demo.servers.foreign import ProftpdServer
from demo.servers.sftp import SftpServer
from tests.connectors.contract import random_bytes
from tests.connectors.sftp.logins import login_of

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
    tells_room = True
    behind_seconds = 0
    statvfs_seconds = 0.0

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

    def remove(self, path: bytes) -> None:
        self._refuse("remove")
        super().remove(path)

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

    def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        found = asyncssh.SFTPAttrs.from_local(super().stat(path))  # type: ignore[arg-type] # what asyncssh's own gives
        found.mtime = (found.mtime or 0) - self.behind_seconds
        return found

    async def statvfs(self, path: bytes) -> object:
        await asyncio.sleep(self.statvfs_seconds)
        if not self.tells_room:
            return asyncssh.SFTPVFSAttrs()
        room = 0 if self.full else 1 << 20
        return asyncssh.SFTPVFSAttrs(
            bsize=4096, frsize=4096, blocks=1 << 20, bavail=room, files=1 << 20, favail=1 << 20
        )


def target(server: SftpServer, **options: object) -> SftpDestination:
    return SftpDestination(login_of(server), "/target", **options)  # type: ignore[arg-type] # each test's own


def put_old(place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.write_bytes(OLD)


def left_over(server: SftpServer | ProftpdServer) -> list[Path]:
    return list(server.root.rglob(f"{TEMPORARY_PREFIX}*"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
