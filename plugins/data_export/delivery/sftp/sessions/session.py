"""One SFTP session: a connection that ends when its server falls silent."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from data_export.delivery.sftp.errors import is_lost, translate, unavailable
from data_export.delivery.sftp.login import SftpLogin, connect
from data_export.delivery.sftp.wire.blocks import closing
from data_export.delivery.sftp.wire.client import SftpClient
from data_export.delivery.sftp.wire.packets import CREATING, Attributes
from data_export.errors import DataExportError, TargetRefused

if TYPE_CHECKING:
    import asyncssh

_CLEAN_UP_SECONDS = 5
_SECOND_SECONDS = 5
_PAGES_AHEAD = 8


class SftpSession:
    """When no request of `client` is answered for `stall_timeout` seconds, the connection is cut.

    Any answer counts, so that a slow line with many requests waiting is not taken for a dead server.
    """

    def __init__(
        self,
        connection: "asyncssh.SSHClientConnection",
        client: SftpClient,
        user: str,
        stall_timeout: float,
        writes: asyncio.Semaphore,
    ) -> None:
        self.client = client
        self.user = user
        self.writes = writes
        self.stalled = False
        #: How many files are being read.
        self.reading = 0
        #: The server offers to sync files to disk, and cannot.
        self.fsync_fails = False
        self._failure_is_missing: bool | None = None
        #: Its own sftp-server since 8.5: sshd may hand over to another's, such as `rclone serve sftp --stdio`.
        self.is_openssh = (
            "OpenSSH" in str(connection.get_extra_info("server_version", "")) and client.limits.handles > 0
        )
        self._connection = connection
        self._stall_timeout = stall_timeout
        self._second: asyncio.Future[SftpClient | None] | None = None
        self._watch = asyncio.create_task(self._watch_for_silence())

    @classmethod
    async def open(
        cls, login: SftpLogin, connect_timeout: float, stall_timeout: float, writes: asyncio.Semaphore
    ) -> Self:
        """
        Args:
            writes: bounds the blocks under way, over all sessions that share it.

        Raises:
            TargetRefused: the user may log in but not use SFTP.
            DataExportError: see `connect`.
        """
        import asyncssh

        connection = await connect(login, connect_timeout)
        try:
            async with asyncio.timeout(connect_timeout):
                client = await SftpClient.start(connection)
        except BaseException as error:
            refused = isinstance(error, asyncssh.ChannelOpenError | asyncssh.SFTPError) and not connection.is_closed()
            if isinstance(error, asyncssh.ChannelOpenError) and error.code == asyncssh.OPEN_RESOURCE_SHORTAGE:
                refused = False  # others have all its sessions
            connection.abort()
            if refused:
                raise TargetRefused(
                    f"{login.server} lets user {login.username!r} in but not use SFTP: ask its administrator for that"
                ) from error
            if isinstance(error, asyncssh.Error | OSError):
                raise unavailable(login.server, error) from error
            raise
        return cls(connection, client, login.username, stall_timeout, writes)

    @property
    def alive(self) -> bool:
        return not (self._watch.done() or self._connection.is_closed() or self.client.channel is None)

    async def second(self) -> SftpClient | None:
        """Another channel of the connection, opened once; None where the server does not allow it."""
        if self._second is None:
            self._second = asyncio.ensure_future(self._open_second())
        return await asyncio.shield(self._second)

    async def _open_second(self) -> SftpClient | None:
        import asyncssh

        with suppress(asyncssh.Error, OSError, TimeoutError):
            async with asyncio.timeout(_SECOND_SECONDS):
                return await SftpClient.start(self._connection)
        return None

    @property
    def _silent_seconds(self) -> float:
        second = self._second.result() if self._second and self._second.done() else None
        silent = [client.silent_seconds for client in (self.client, second) if client and client.silent_seconds]
        return min(silent, default=0)

    async def stat(self, path: str) -> Attributes | None:
        """What the server says of a file or folder; None where there is none."""
        import asyncssh

        try:
            return await self.client.stat(path)
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            return None
        except asyncssh.SFTPFailure:
            if await self._says_failure_for_missing():
                return None
            raise

    async def _says_failure_for_missing(self) -> bool:
        """Whether the server, which knows its own folder, answers "Failure" for a name that cannot be there."""
        import asyncssh

        if self._failure_is_missing is None:
            await self.client.stat(".")
            try:
                await self.client.stat(f"data-export-{secrets.token_hex(8)}")
            except asyncssh.SFTPFailure:
                self._failure_is_missing = True
            except asyncssh.SFTPError as error:
                if is_lost(error):
                    raise
                self._failure_is_missing = False
        return self._failure_is_missing is True

    def pages(self, folder: str) -> AsyncGenerator[list[tuple[bytes, Attributes]], None]:
        """What is in the folder; see `SftpClient.scandir`."""
        return self.client.scandir(folder or ".", ahead=_PAGES_AHEAD if self.is_openssh else 1)

    async def exists(self, path: str) -> bool:
        return await self.stat(path) is not None

    async def create(self, path: str, data: bytes = b"") -> bool:
        """Makes a small file; whether it was not there and now is."""
        import asyncssh

        try:
            handle = await self.client.open(path, CREATING)
            async with closing(self.client, handle):
                if data:
                    await self.client.write(handle, 0, data)
        except asyncssh.SFTPError as error:
            if is_lost(error):
                raise
            return False
        return True

    async def is_link(self, path: str) -> bool:
        import asyncssh

        try:
            return (await self.client.lstat(path)).is_link
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            return False

    async def remove_quietly(self, path: str) -> bool:
        """Removes a file of our own where that is possible; whether the server said that it is gone."""
        import asyncssh

        try:
            async with asyncio.timeout(_CLEAN_UP_SECONDS):
                await self.remove(path)
        except (asyncssh.Error, OSError):
            return False
        return True

    async def remove(self, path: str) -> None:
        """Removes the file; no error where there is none."""
        import asyncssh

        try:
            await self.client.remove(path)
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            return
        except asyncssh.SFTPFailure:
            if await self.stat(path) is not None:
                raise

    def abort(self) -> None:
        """Cuts the connection: every request that waits fails at once."""
        self._watch.cancel()
        if self._second is not None:
            self._second.cancel()
        self._connection.abort()

    async def close(self) -> None:
        """Says goodbye, and hangs up on a server that does not answer."""
        self._watch.cancel()
        if self._second is not None:
            self._second.cancel()
        self.client.exit()
        self._connection.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLEAN_UP_SECONDS):
                    await self._connection.wait_closed()
        finally:
            self._connection.abort()

    async def _watch_for_silence(self) -> None:
        while True:
            await asyncio.sleep(self._stall_timeout / 4)
            if self._silent_seconds > self._stall_timeout:
                self.stalled = True
                self._connection.abort()
                return


_READ_ONLY = 1  # SSH_FXE_STATVFS_ST_RDONLY


async def diagnose(session: SftpSession, error: Exception, where: str, folder: str, needed: int) -> Exception:
    """As `translate`, for a write that failed: asks the file system about room and rights where the code says nothing.

    A lost connection comes back as it is: whoever holds the connection must see it.

    Args:
        needed: bytes that were to be written.
    """
    import asyncssh

    if is_lost(error):
        return error
    full = None
    if type(error) in (asyncssh.SFTPFailure, asyncssh.SFTPError):
        full = await room_error(session, where, folder, needed)
    return full or translate(error, where, session.user)


async def room_error(session: SftpSession, where: str, folder: str, needed: int) -> DataExportError | None:
    """Why nothing more can be written to the folder's file system, or None where it has room or does not tell."""
    import asyncssh

    try:
        system = await session.client.statvfs(folder)
    except (asyncssh.Error, OSError):
        return None
    if system.flags & _READ_ONLY:
        return translate(asyncssh.SFTPWriteProtect("read-only file system"), where, session.user)
    # A file system that does not tell says 0 of all of it.
    if (system.all_bytes and system.free_bytes < needed) or (system.files and not system.free_files):
        return translate(asyncssh.SFTPNoSpaceOnFilesystem("no space"), where, session.user)
    return None
