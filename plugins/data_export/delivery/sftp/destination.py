"""A folder of an SFTP server as a destination."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Literal, Self

from data_export.content import Content, Digests
from data_export.delivery.base import StoredObject
from data_export.delivery.keys import checked_key
from data_export.delivery.sftp import sftp_account, sftp_uri
from data_export.delivery.sftp.errors import is_lost, perhaps_too_many, translate, unavailable
from data_export.delivery.sftp.folders import Folders, files_below, missing_folders, one_view, remove_empty_folders
from data_export.delivery.sftp.leftovers import ABANDONED_SECONDS, TEMPORARY_PREFIX, LeftOver, temporary_path
from data_export.delivery.sftp.login import SftpLogin
from data_export.delivery.sftp.rename import ways_to_rename
from data_export.delivery.sftp.sessions.gate import Gate
from data_export.delivery.sftp.sessions.pool import SftpConnections
from data_export.delivery.sftp.sessions.session import SftpSession
from data_export.delivery.sftp.transfer import Verify, read, server_digest
from data_export.delivery.sftp.upload import Writer, counted
from data_export.delivery.sftp.wire.packets import Attributes
from data_export.errors import DataExportError, TargetFull, TargetNotFound, TargetRefused, TargetUnavailable

__all__ = ["SftpDestination", "SftpLogin"]

# Blocks under way at once over all files and connections: of at most 255 KiB (OpenSSH's limit), so about 32 MiB.
_WRITES = 128
_CLEAN_UP_SECONDS = 10


class SftpDestination:
    """Files below `remote_path`, which is absolute if it begins with `/` and else below the user's own folder.

    A file is written next to its final name under one that begins with `.data-export-`, synced to disk where the server
    offers that, checked, and only then renamed. What is under way on a connection that breaks fails with
    TargetUnavailable, and the next operation connects anew. Memory is bounded by about 100 MiB.

    Args:
        upload: `direct` writes under the final name, for servers that refuse to rename: readers may then see a part.
        verify: `read-back` reads every file again and compares checksums; `size` trusts what the server says of it, and
            `none` that it confirmed every block.
        connections: to the server at once, opened as operations need them.
        concurrency: operations at once, over all connections; more wait.
        connect_timeout: seconds for the network, and twice that for the login.
        stall_timeout: seconds without any answer after which the connection is cut.
    """

    def __init__(
        self,
        login: SftpLogin,
        remote_path: str,
        *,
        upload: Literal["rename", "direct"] = "rename",
        verify: Verify = "size",
        connections: int = 1,
        concurrency: int = 64,
        connect_timeout: float = 15,
        stall_timeout: float = 120,
    ) -> None:
        self.concurrency = concurrency
        self._login = login
        path = remote_path.strip("/")
        self._root = ("/" if remote_path.startswith("/") else "") + (f"{path}/" if path else "")
        self._upload = upload
        self._verify: Verify = verify
        self._connect_timeout = connect_timeout
        self._stall_timeout = stall_timeout
        self._limit = connections

    @property
    def uri(self) -> str:
        login = self._login
        return sftp_uri(sftp_account(login.username, login.host, login.port), self._root)

    async def __aenter__(self) -> Self:
        timeouts = self._connect_timeout, self._stall_timeout
        self._open_session = partial(SftpSession.open, self._login, *timeouts, asyncio.Semaphore(_WRITES))
        self._left_over = LeftOver()
        self._writer = Writer(self.uri, self._left_over, direct=self._upload == "direct", verify=self._verify)
        self._folders = Folders(self.uri, self._left_over)
        self._connections = SftpConnections(self._open_session, self._limit, -(-self.concurrency // self._limit))
        self._gate = Gate(self.concurrency, self._connections)
        try:
            if (files := await self._connections.open()) is not None:
                await self._gate.narrow(min(files, self.concurrency))
        except BaseException:
            await self.__aexit__()  # nobody else will, and a connection may be on its way
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            with suppress(DataExportError, TimeoutError):  # it is found a day later
                if self._left_over.ours:
                    async with asyncio.timeout(_CLEAN_UP_SECONDS), self._connections.session() as session:
                        await self._left_over.remove_ours(session)
        finally:
            await self._connections.close()

    async def stat(self, key: str) -> StoredObject | None:
        """The object by its size; the protocol knows no checksum."""
        async with self._talk(key) as session:
            found = await session.stat(self._path(key))
        if found is None:
            return None
        if found.has_kind and not (found.is_file or found.is_link):
            kind = "folder" if found.is_folder else "pipe or a device"
            raise TargetRefused(f"{self.uri}{key} is a {kind} where a file must be: remove or rename it")
        size = found.size or await counted(self.read(key), said_empty=found.size is not None)
        return None if size is None else _stored(key, found.mtime, size)

    async def digest(self, key: str, size: int) -> Digests | None:
        async with self._talk(key) as session:
            return await server_digest(session, self._path(key), size)

    async def create(self, key: str, content: Content) -> StoredObject:
        return await self._gate.within_limits(lambda: self._store(key, content, replace=False))

    async def replace(self, key: str, content: Content) -> StoredObject:
        """Atomic where the server offers `posix-rename@openssh.com`; else absent for a moment, see `place_over`."""
        return await self._gate.within_limits(lambda: self._store(key, content, replace=True))

    async def read(self, key: str) -> AsyncIterator[bytes]:
        attempt, begun = self._gate.attempt(), False
        while True:
            try:
                async with self._gate, self._talk(key) as session, aclosing(read(session, self._path(key))) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                self._gate.finish()
                return
            except TargetUnavailable as error:
                if begun or not await self._gate.again(attempt, perhaps_too_many(error), partial(self._begin, key)):
                    raise

    async def _begin(self, key: str) -> None:
        async with self._talk(key) as session, aclosing(read(session, self._path(key))) as chunks:
            await anext(chunks, None)

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        """What is in a folder and below it, by size; `prefix` ends in `/`."""
        async with self._talk(prefix) as session, aclosing(files_below(session, self._path(prefix[:-1]))) as found:
            async for name, attributes in found:
                if attributes.size is not None:
                    yield _stored(prefix + name, attributes.mtime, attributes.size)

    async def delete(self, key: str) -> None:
        async with self._talk(key) as session:
            await session.remove(self._path(key))

    @asynccontextmanager
    async def folder_for_a_while(self, folder: str) -> AsyncIterator[None]:
        path = self._path(folder)
        async with self._talk(folder) as session:
            missing = await missing_folders(session, path)
        if not missing:
            async with self._talk(folder) as session:
                await self._folders.ready(session, path)  # what a killed run moved aside there gets its name back
            yield
            return
        try:
            async with self._talk(folder) as session:
                await self._folders.ready(session, path)
            yield
        finally:
            async with self._talk(folder) as session:
                await remove_empty_folders(session, missing)

    async def files_in(self, folder: str) -> AsyncIterator[Sequence[StoredObject]]:
        """Without what cannot be read as a plain name; links are left out, as their own size says nothing."""
        path = self._path(folder)
        with suppress(TargetNotFound):
            async with self._talk(folder) as session, aclosing(self._left_over.pages(session, path)) as pages:
                async for page in pages:
                    yield [
                        _stored(f"{folder}/{name.decode()}", found.mtime, found.size)
                        for name, found in page
                        if found.is_file and found.size and name.isascii() and name and b"/" not in name
                    ]

    async def tidy(self, folders: Sequence[str]) -> int:
        """Looks at no folder below these: images are in one, and data files in one for each type."""
        removed = 0
        for folder in folders:
            path = self._path(folder)
            async with self._talk(folder) as session:
                if await session.exists(path):
                    removed += await LeftOver().tidy(session, path)
        return removed

    async def ways_to_rename(self) -> str:
        """What this server's renames do to a name that is taken, for a check to say."""
        root = self._root.rstrip("/")
        async with self._talk("") as session:
            missing = await missing_folders(session, root)
            for folder in missing:
                self._folders.forget(folder)
            await self._folders.ready(session, root)
            path = self._path("data-export-check")
            try:
                said = await ways_to_rename(session, path)
                return said + await one_view(session, self._open_session, temporary_path(path))
            finally:
                await remove_empty_folders(session, missing)

    def _path(self, key: str) -> str:
        if checked_key(key).rpartition("/")[2].startswith(TEMPORARY_PREFIX):
            raise TargetRefused(f"{key!r}: names that begin with {TEMPORARY_PREFIX!r} are kept for unfinished files")
        return self._root + key

    async def _store(self, key: str, content: Content, *, replace: bool) -> StoredObject:
        path = self._path(key)
        folder = path.rpartition("/")[0] or path[: path.startswith("/")]
        async with self._talk(key) as session:

            async def write() -> Attributes:
                alone = self._gate.is_alone
                return await self._writer.write(session, key, path, content, replace=replace, alone=alone)

            await self._folders.ready(session, folder)
            try:
                try:
                    found = await write()
                except TargetNotFound:  # somebody removed the folder
                    self._folders.forget(folder)
                    await self._folders.ready(session, folder)
                    found = await write()
            except TargetFull:
                # What killed runs left may be what fills the disk. No file was written to tell the server's time by,
                # so ours must do, and a day more.
                await self._left_over.after_write(session, path, int(time.time()) - ABANDONED_SECONDS)
                raise
            await self._left_over.after_write(session, path, found.mtime)
            return _stored(key, found.mtime, content.size)

    @asynccontextmanager
    async def _talk(self, key: str) -> AsyncIterator[SftpSession]:
        """A session, and the service's errors for whatever the server or the network does meanwhile."""
        import asyncssh

        async with self._connections.session() as session:
            try:
                yield session
            except (asyncssh.Error, ConnectionError, TimeoutError, EOFError) as error:
                if isinstance(error, DataExportError):
                    raise
                if session.stalled:
                    raise unavailable(self.uri + key, TimeoutError()) from error
                if is_lost(error):
                    session.abort()
                raise translate(error, self.uri + key, self._login.username) from error


def _stored(key: str, mtime: int | None, size: int) -> StoredObject:
    return StoredObject(key, Digests(size), None if mtime is None else datetime.fromtimestamp(mtime, UTC))
