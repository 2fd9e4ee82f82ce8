"""Folders of an SFTP server, made where they are missing."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress

from data_export.delivery.sftp.errors import is_lost
from data_export.delivery.sftp.leftovers import TEMPORARY_PREFIX, LeftOver
from data_export.delivery.sftp.sessions.session import SftpSession, diagnose
from data_export.delivery.sftp.wire.packets import Attributes
from data_export.errors import AccessDenied, TargetFull, TargetRefused, TransientError
from data_export.wording import harmless

# Folders within folders: some servers show a link to a folder above as a folder, which has no end.
_DEEPEST = 16
_log = logging.getLogger(__name__)


class Folders:
    """The folders that a destination writes to, each seen to once for all its sessions."""

    def __init__(self, uri: str, left_over: LeftOver) -> None:
        self._uri = uri
        self._left_over = left_over
        self._ready: set[str] = set()
        self._making = asyncio.Lock()  # two sessions would make the same folder

    async def ready(self, session: SftpSession, folder: str) -> None:
        """Makes the folder and those above it where they are missing; finds left-over files in one that was there.

        Raises:
            AccessDenied: it is missing and the server does not let us make it.
            TargetRefused: a file is in its place.
        """
        if folder in self._ready:
            return
        async with self._making:
            if folder in self._ready:
                return
            if not await self._make(session, folder):
                await self._left_over.look(session, folder)
            self._ready.add(folder)

    def forget(self, folder: str) -> None:
        """The folder is missing although it was there: somebody removed it, and the next write makes it again."""
        self._ready.discard(folder)

    async def _make(self, session: SftpSession, folder: str) -> bool:
        """Whether the folder was missing and is made; tolerates others who make it at the same time."""
        import asyncssh

        if folder in ("", "/") or await self._is_there(session, folder):
            return False
        above = folder.rpartition("/")[0] or folder[: folder.startswith("/")]
        await self._make(session, above)
        try:
            await session.client.mkdir(folder)
        except asyncssh.SFTPError as error:
            if is_lost(error):
                raise
            if await self._is_there(session, folder):
                return False
            reason = await diagnose(session, error, f"folder {folder!r} of {self._uri}", above or ".", 1)
            if isinstance(reason, TargetFull):
                raise reason from error
            raise AccessDenied(
                f"folder {folder!r} of {self._uri} is missing and the server does not let us make it: create it there, "
                "or give the user the right to, or correct sftp_remote_path"
            ) from error
        return True

    async def _is_there(self, session: SftpSession, folder: str) -> bool:
        import asyncssh

        try:
            found = await session.stat(folder)
        except asyncssh.SFTPPermissionDenied as error:
            raise AccessDenied(
                f"folder {folder!r} of {self._uri} is closed to us: give the user read and write rights there"
            ) from error
        if found is None:
            return False
        if found.has_kind and not found.is_folder:
            raise TargetRefused(f"{folder!r} of {self._uri} is a file where a folder must be: remove or rename it")
        return True


async def one_view(session: SftpSession, another: Callable[[], Awaitable[SftpSession]], path: str) -> str:
    """What to add to the promises of a server whose connections do not see each other's new files; else nothing.

    So is `rclone serve sftp --stdio` behind sshd: each connection has a server, and a cache, of its own.
    """
    try:
        other = await another()
    except (TransientError, AccessDenied, TargetRefused):
        return "; it lets us open one connection only"
    try:
        await other.exists(path)
        if await session.create(path) and await other.create(path):
            return (
                "; its connections do not see each other's new files, so of two runs at once, or within minutes, both "
                "may be told that their file is there, and one is lost: run one server for all connections"
            )
    finally:
        try:
            await session.remove_quietly(path)
        finally:
            await other.close()
    return ""


async def missing_folders(session: SftpSession, folder: str) -> list[str]:
    """The folder and those above it that are not there, the deepest first."""
    missing: list[str] = []
    while folder not in ("", "/") and not await session.exists(folder):
        missing.append(folder)
        folder = folder.rpartition("/")[0] or folder[: folder.startswith("/")]
    return missing


async def remove_empty_folders(session: SftpSession, folders: Sequence[str]) -> None:
    """Removes them in that order, up to the first that the server does not let us remove."""
    import asyncssh

    with suppress(asyncssh.SFTPError):
        for folder in folders:
            await session.client.rmdir(folder)


async def files_below(
    session: SftpSession, folder: str, deepest: int = _DEEPEST
) -> AsyncGenerator[tuple[str, Attributes], None]:
    """Name below `folder` and attributes of each file, as the server lists them; nothing where there is no folder.

    Unfinished files are left out, and names that are not UTF-8, which none of ours is.
    """
    import asyncssh

    pages = session.pages(folder)
    async with aclosing(pages):
        while True:
            try:
                page = await anext(pages)
            except (StopAsyncIteration, asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
                return
            for listed, attributes in page:
                try:
                    name = listed.decode()
                except UnicodeDecodeError:
                    continue
                if name in ("", ".", "..") or "/" in name or name.startswith(TEMPORARY_PREFIX):
                    continue
                if attributes.is_folder and not deepest:
                    _log.warning("%s is deeper than any folder of ours: it is not looked into", harmless(folder))
                elif attributes.is_folder:
                    async for inner, of_inner in files_below(session, f"{folder.rstrip('/')}/{name}", deepest - 1):
                        yield f"{name}/{inner}", of_inner
                else:
                    yield name, attributes
