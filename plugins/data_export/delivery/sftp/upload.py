"""Writes one file on an SFTP server and proves that it arrived."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from data_export.content import CHUNK_BYTES, Content, Hasher
from data_export.delivery.sftp.session import SftpSession, diagnose, room_error
from data_export.errors import TargetUnavailable, VerificationFailed

if TYPE_CHECKING:
    import asyncssh

# What OpenSSH takes in one request (255 KiB); servers that allow more would have us hold more.
_BLOCK_BYTES = 261_120


async def open_file(
    session: SftpSession, path: str, mode: str, content: Content, where: str
) -> "asyncssh.SFTPClientFile":
    """Opens the file for `store`, `xb` one that must not exist and `wb` one that may.

    Raises:
        TargetNotFound: its folder is missing.
        DataExportError: see `diagnose`.
    """
    import asyncssh

    try:
        return await session.ask(session.client.open(path, mode, block_size=0))
    except asyncssh.SFTPError as error:
        raise await diagnose(session, error, where, path.rpartition("/")[0] or ".", content.size) from error


async def store(
    session: SftpSession, file: "asyncssh.SFTPClientFile", path: str, content: Content, *, read_back: bool, where: str
) -> "asyncssh.SFTPAttrs":
    """Writes the file, synced to disk where the server offers that, and proves that all of it is there.

    Returns:
        The server's account of the file.

    Raises:
        TargetFull, VerificationFailed: the server holds something else than what was sent.
        DataExportError: see `diagnose`.
    """
    import asyncssh

    try:
        try:
            await _send(session, file, content, where)
            with suppress(asyncssh.SFTPOpUnsupported):
                await session.ask(file.fsync())
        finally:
            await session.ask(file.close())
        return await _verify(session, path, content, read_back=read_back, where=where)
    except asyncssh.SFTPNoSuchFile as error:
        raise TargetUnavailable(f"{where}: another run, or the server, removed our unfinished file") from error
    except asyncssh.SFTPError as error:
        raise await diagnose(session, error, where, path.rpartition("/")[0] or ".", content.size) from error


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


async def _verify(
    session: SftpSession, path: str, content: Content, *, read_back: bool, where: str
) -> "asyncssh.SFTPAttrs":
    """Looks at the size, since a full disk may cut a file silently, and with `read_back` at every byte."""
    found = await session.ask(session.client.stat(path))
    if found.size != content.size:
        room = await room_error(session, where, path.rpartition("/")[0] or ".", content.size)
        raise room or VerificationFailed(f"{where}: the server holds {found.size} bytes of {content.size} sent")
    if read_back:
        hasher = Hasher(md5=content.digests.sha256 is None and content.digests.crc32c is None)
        async with aclosing(read(session, path)) as chunks:
            async for chunk in chunks:
                hasher.update(chunk)
        if content.digests.matches(hasher.digests()) is False:
            raise VerificationFailed(
                f"{where}: what the server holds is not what was sent: its disk or the network is faulty"
            )
    return found


async def read(session: SftpSession, path: str) -> AsyncGenerator[bytes, None]:
    """The file's bytes from the beginning, 1 MiB at a time, its blocks asked for side by side."""
    file = await session.ask(session.client.open(path, "rb"))
    try:
        while True:
            chunk: bytes = await session.ask(file.read(CHUNK_BYTES))
            if not chunk:
                return
            yield chunk
    finally:
        await session.ask(file.close())
