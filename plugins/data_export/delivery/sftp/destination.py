"""A folder of an SFTP server as a destination."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

from data_export.content import Content, Digests
from data_export.delivery.base import StoredObject
from data_export.delivery.keys import checked_key
from data_export.delivery.sftp import sftp_account, sftp_uri
from data_export.delivery.sftp.errors import is_lost, translate, unavailable
from data_export.delivery.sftp.folders import Folders, missing_folders, remove_empty_folders
from data_export.delivery.sftp.leftovers import ABANDONED_SECONDS, TEMPORARY_PREFIX, LeftOver, temporary_path
from data_export.delivery.sftp.login import SftpLogin
from data_export.delivery.sftp.pool import Gate, SftpConnections
from data_export.delivery.sftp.rename import Claims, overwrite_refused, place_new, place_over
from data_export.delivery.sftp.session import SftpSession
from data_export.delivery.sftp.upload import open_file, read, store
from data_export.errors import (
    AccessDenied,
    DataExportError,
    ObjectExists,
    TargetFull,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
)

if TYPE_CHECKING:
    import asyncssh

__all__ = ["SftpDestination", "SftpLogin"]

# Blocks under way at once over all files and connections: of at most 255 KiB (OpenSSH's limit), so about 32 MiB.
_WRITES = 128
_CLEAN_UP_SECONDS = 10


class SftpDestination:
    """Files below `remote_path`, which is absolute if it begins with `/` and else below the user's own folder.

    A file is written next to its final name under one that begins with `.data-export-`, synced to disk where the server
    offers that, checked, and only then renamed. When a connection breaks, every operation under way on it fails with
    TargetUnavailable and the next one connects anew. Memory is bounded by about 100 MiB whatever is asked at once.

    Args:
        upload: `direct` writes under the final name, for servers that refuse to rename: readers may then see a part.
        verify: `read-back` reads every file again and compares checksums; `size` trusts what the server says of it.
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
        verify: Literal["size", "read-back"] = "size",
        connections: int = 1,
        concurrency: int = 64,
        connect_timeout: float = 15,
        stall_timeout: float = 120,
    ) -> None:
        self.concurrency = concurrency
        self._login = login
        path = remote_path.strip("/")
        self._root = ("/" if remote_path.startswith("/") else "") + (f"{path}/" if path else "")
        self._direct = upload == "direct"
        self._read_back = verify == "read-back"
        self._connect_timeout = connect_timeout
        self._stall_timeout = stall_timeout
        self._limit = connections

    @property
    def uri(self) -> str:
        login = self._login
        return sftp_uri(sftp_account(login.username, login.host, login.port), self._root)

    async def __aenter__(self) -> Self:
        self._gate = Gate(self.concurrency)
        open_session = partial(
            SftpSession.open,
            *(self._login, self._connect_timeout, self._stall_timeout, asyncio.Semaphore(_WRITES)),
        )
        self._left_over, self._claims = LeftOver(), Claims()
        self._folders = Folders(self.uri, self._left_over)
        self._connections = SftpConnections(open_session, self._limit, -(-self.concurrency // self._limit))
        try:
            await self._connections.open()
        except BaseException:
            await self.__aexit__()  # nobody else will, and a connection may be on its way
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._left_over.ours:
            with suppress(DataExportError, TimeoutError):  # it is found a day later
                async with asyncio.timeout(_CLEAN_UP_SECONDS), self._connections.session() as session:
                    await self._left_over.remove_ours(session)
        await self._connections.close()

    async def stat(self, key: str) -> StoredObject | None:
        """The object by its size; the protocol knows no checksum."""
        import asyncssh

        path = self._path(key)
        async with self._talk(key) as session:
            try:
                found = await session.ask(session.client.stat(path))
            except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
                return None
            if found.type == asyncssh.FILEXFER_TYPE_DIRECTORY:
                raise TargetRefused(f"{self.uri}{key} is a folder where a file must be: remove or rename it")
            return _stored(key, found)

    async def create(self, key: str, content: Content) -> StoredObject:
        return await self._gate.within_limits(lambda: self._store(key, content, replace=False))

    async def replace(self, key: str, content: Content) -> StoredObject:
        """Atomic where the server offers `posix-rename@openssh.com`; else absent for a moment, see `place_over`."""
        return await self._gate.within_limits(lambda: self._store(key, content, replace=True))

    async def read(self, key: str) -> AsyncIterator[bytes]:
        path = self._path(key)
        async with self._gate, self._talk(key) as session, aclosing(read(session, path)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def delete(self, key: str) -> None:
        import asyncssh

        path = self._path(key)
        async with self._talk(key) as session:
            try:
                await session.ask(session.client.remove(path))
            except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
                return

    @asynccontextmanager
    async def folder_for_a_while(self, folder: str) -> AsyncIterator[None]:
        path = self._path(folder)
        async with self._talk(folder) as session:
            missing = await missing_folders(session, path)
        if not missing:
            yield
            return
        try:
            async with self._talk(folder) as session:
                await self._folders.ready(session, path)
            yield
        finally:
            async with self._talk(folder) as session:
                await remove_empty_folders(session, missing)

    def _path(self, key: str) -> str:
        if checked_key(key).rpartition("/")[2].startswith(TEMPORARY_PREFIX):
            raise TargetRefused(f"{key!r}: names that begin with {TEMPORARY_PREFIX!r} are kept for unfinished files")
        return self._root + key

    async def _store(self, key: str, content: Content, *, replace: bool) -> StoredObject:
        path = self._path(key)
        folder = path.rpartition("/")[0] or path[: path.startswith("/")]
        write = self._write_directly if self._direct else self._write_aside
        async with self._gate, self._talk(key) as session:
            await self._folders.ready(session, folder)
            try:
                try:
                    found = await write(session, key, path, content, replace=replace)
                except TargetNotFound:  # somebody removed the folder
                    self._folders.forget(folder)
                    await self._folders.ready(session, folder)
                    found = await write(session, key, path, content, replace=replace)
            except TargetFull:
                # What killed runs left may be what fills the disk. No file was written to tell the server's time by,
                # so ours must do, and a day more.
                await self._left_over.after_write(session, path, int(time.time()) - ABANDONED_SECONDS)
                raise
            await self._left_over.after_write(session, path, found.mtime)
            return _stored(key, found)

    async def _write_aside(
        self, session: SftpSession, key: str, path: str, content: Content, *, replace: bool
    ) -> "asyncssh.SFTPAttrs":
        temporary = temporary_path(path)
        where = self.uri + key
        try:
            file = await open_file(session, temporary, "xb", content, where)
            found = await store(session, file, temporary, content, read_back=self._read_back, where=where)
            if replace:
                await place_over(session, temporary, path, where, self._left_over, self._claims)
            else:
                await place_new(session, temporary, path, where, self._claims)
        except BaseException as error:
            # Also when we are cancelled while the file is opened: the answer is never seen, but the name is ours alone.
            await self._left_over.drop(session, temporary)
            # A quicker writer of the same object takes the unfinished files of others for left over.
            if isinstance(error, TargetUnavailable) and not replace and session.alive and await session.exists(path):
                raise ObjectExists(f"{where} is there already") from error
            raise
        return found

    async def _write_directly(
        self, session: SftpSession, key: str, path: str, content: Content, *, replace: bool
    ) -> "asyncssh.SFTPAttrs":
        where = self.uri + key
        try:
            file = await open_file(session, path, "wb" if replace else "xb", content, where)
        except DataExportError as error:
            if not replace and await session.exists(path):
                raise ObjectExists(f"{where} is there already") from error
            if replace and isinstance(error, AccessDenied) and await session.exists(path):
                raise overwrite_refused(where) from error
            raise
        try:
            return await store(session, file, path, content, read_back=self._read_back, where=where)
        except BaseException:
            await session.remove_quietly(path)  # rather none than a part of one
            raise

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


def _stored(key: str, found: "asyncssh.SFTPAttrs") -> StoredObject:
    modified = None if found.mtime is None else datetime.fromtimestamp(found.mtime, UTC)
    return StoredObject(key, Digests(found.size or 0), modified)
