"""Sends the bytes of one file to an SFTP server, proves that they arrived, and reads them again."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data_export.content import CHUNK_BYTES, Content, Hasher
from data_export.delivery.sftp.errors import is_lost, named
from data_export.delivery.sftp.session import SftpSession, diagnose, room_error
from data_export.errors import ObjectRefused, TargetFull, TargetNotFound, TargetUnavailable, VerificationFailed

if TYPE_CHECKING:
    import asyncssh

# What OpenSSH takes in one request (255 KiB); servers that allow more would have us hold more.
_BLOCK_BYTES = 261_120
# Pauses before further looks at a file that is not there yet, or not whole.
_LATE_SECONDS = (0.3, 1.0, 3.0)
Verify = Literal["size", "read-back", "none"]
_log = logging.getLogger(__name__)


async def open_file(
    session: SftpSession, path: str, mode: str, content: Content, where: str
) -> "asyncssh.SFTPClientFile":
    """Opens the file for `store`, `xb` one that must not exist and `wb` one that may.

    Raises:
        TargetNotFound: its folder is missing.
        DataExportError: see `diagnose`.
    """
    import asyncssh

    folder = path.rpartition("/")[0] or "."
    try:
        return await session.ask(session.client.open(path, mode, block_size=0))
    except asyncssh.SFTPError as error:
        if type(error) is asyncssh.SFTPFailure and not await session.exists(folder):
            raise TargetNotFound(f"{where}: its folder is missing on the server") from error
        raise await diagnose(session, error, where, folder, content.size) from error


async def store(
    session: SftpSession,
    file: "asyncssh.SFTPClientFile",
    path: str,
    content: Content,
    *,
    verify: Verify,
    where: str,
    final: str,
) -> "asyncssh.SFTPAttrs":
    """Writes the file, synced to disk where the server offers that, and proves that all of it is there.

    Args:
        final: the name that it is to have in the end.

    Returns:
        The server's account of the file, with its size.

    Raises:
        TargetFull, VerificationFailed: the server holds something else than what was sent.
        ObjectRefused: the server took the file away.
        DataExportError: see `diagnose`.
    """
    import asyncssh

    try:
        try:
            await _send(session, file, content, where)
            await _sync(session, file, path, content, where)
        finally:
            await session.ask(file.close())
        if verify == "none":
            return asyncssh.SFTPAttrs(size=content.size)
        found = await _look_again(session, path, content, where, final)
        if verify == "read-back" or found.size is None:
            await _read_back(session, path, content, where)
            found.size = content.size
        return found
    except asyncssh.SFTPNoSuchFile as error:
        raise TargetUnavailable(f"{where}: another run, or the server, removed our unfinished file") from error
    except asyncssh.SFTPError as error:
        raise await diagnose(session, error, where, path.rpartition("/")[0] or ".", content.size) from error


async def _sync(session: SftpSession, file: "asyncssh.SFTPClientFile", path: str, content: Content, where: str) -> None:
    """Has the server sync the file to disk; one that offers it and cannot is asked once only."""
    import asyncssh

    if session.fsync_fails:
        return
    try:
        await session.ask(file.fsync())
    except asyncssh.SFTPOpUnsupported:
        session.fsync_fails = True
    except asyncssh.SFTPError as error:
        reason = await diagnose(session, error, where, path.rpartition("/")[0] or ".", content.size)
        if is_lost(error) or isinstance(reason, TargetFull):
            raise reason from error
        session.fsync_fails = True
        _log.warning("%s: the server cannot sync files to disk (%s): going on without", where, named(error))


async def _send(session: SftpSession, file: "asyncssh.SFTPClientFile", content: Content, where: str) -> None:
    hasher = Hasher()
    offset = 0
    try:
        async with asyncio.TaskGroup() as group:
            for block in content.chunks(min(session.client.limits.max_write_len, _BLOCK_BYTES)):
                await session.writes.acquire()
                group.create_task(_write(session, file, block, offset))
                offset += len(block)
                if isinstance(content.source, Path):  # bytes in memory are what their digests say
                    hasher.update(block)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    if isinstance(content.source, Path) and content.digests.matches(hasher.digests()) is False:
        raise VerificationFailed(f"{where}: the file to send is not the one that was announced: it changed meanwhile")


async def _write(session: SftpSession, file: "asyncssh.SFTPClientFile", block: bytes, offset: int) -> None:
    try:
        await session.ask(file.write(block, offset))
    finally:
        session.writes.release()


async def _look_again(
    session: SftpSession, path: str, content: Content, where: str, final: str
) -> "asyncssh.SFTPAttrs":
    """The server's account of the whole file, which it may give a little late; its size may be unknown.

    A full disk may cut a file silently, so that the size is looked at even where a checksum is compared.
    """
    folder = path.rpartition("/")[0] or "."
    for pause in (*_LATE_SECONDS, None):
        found = await session.stat(path)
        if found is not None and found.size in (content.size, None):
            return found
        if found is not None and (full := await room_error(session, where, folder, content.size)):
            raise full
        if found is None and path != final and await session.exists(final):
            raise TargetUnavailable(f"{where}: another run removed our unfinished file")
        if pause is not None:
            await asyncio.sleep(pause)
    if found is not None:
        raise VerificationFailed(f"{where}: the server holds {found.size} bytes of {content.size} sent")
    if not await session.exists(folder):
        raise TargetUnavailable(f"{where}: its folder was removed while it was written")
    raise ObjectRefused(
        f"{where}: the server took the file away as soon as it was written, as drop boxes and virus scanners do: for a "
        "drop box set `sftp_upload: direct` and `verify: none`"
    )


async def _read_back(session: SftpSession, path: str, content: Content, where: str) -> None:
    hasher = Hasher(md5=content.digests.sha256 is None and content.digests.crc32c is None)
    async with aclosing(read(session, path)) as chunks:
        async for chunk in chunks:
            hasher.update(chunk)
    if content.digests.matches(hasher.digests()) is False:
        raise VerificationFailed(
            f"{where}: what the server holds is not what was sent: its disk or the network is faulty"
        )


async def read(session: SftpSession, path: str) -> AsyncGenerator[bytes, None]:
    """The file's bytes from the beginning, 1 MiB at a time, its blocks asked for side by side."""
    import asyncssh

    try:
        file = await session.ask(session.client.open(path, "rb"))
    except asyncssh.SFTPFailure as error:
        if await session.stat(path) is None:
            raise asyncssh.SFTPNoSuchFile(named(error)) from error
        raise
    try:
        while True:
            chunk: bytes = await session.ask(file.read(CHUNK_BYTES))
            if not chunk:
                return
            yield chunk
    finally:
        await session.ask(file.close())
