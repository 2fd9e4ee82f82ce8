"""Sends the bytes of one file to an SFTP server, proves that they arrived, and reads them again."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Literal

from data_export.content import Content, Digests, Hasher
from data_export.delivery.sftp.errors import is_lost, named, taken_away
from data_export.delivery.sftp.leftovers import TEMPORARY_PREFIX, why_gone
from data_export.delivery.sftp.sessions.session import SftpSession, diagnose, room_error
from data_export.delivery.sftp.wire.blocks import Blocks, can_sync, closing, whole_block
from data_export.delivery.sftp.wire.packets import ADDING, READING, Attributes
from data_export.delivery.threads import read_digests
from data_export.errors import TargetFull, TargetNotFound, TargetUnavailable, VerificationFailed

# What OpenSSH takes in one request (255 KiB); servers that allow more would have us hold more.
_BLOCK_BYTES = 261_120
# From this size on a second channel is worth its few round trips.
_BIG_BYTES = 64 << 20
# Blocks that a connection is asked for ahead, over all files read from it; two of each file at first, more with each
# that was full, so that small files take no further requests and big ones fill a long line.
_READS = 12
# A server answers nothing else while it computes a digest, and a slow disk gives 40 MB a second.
_DIGEST_BYTES = 4 << 30
# Pauses before further looks at a file that is not there yet, or not whole.
_LATE_SECONDS = (0.3, 1.0, 3.0)
Verify = Literal["size", "read-back", "none"]
_log = logging.getLogger(__name__)


async def open_file(session: SftpSession, path: str, flags: int, content: Content, where: str) -> bytes:
    """The handle of the file for `store`; see `SftpClient.open` for the flags.

    Raises:
        TargetNotFound: its folder is missing.
        DataExportError: see `diagnose`.
    """
    import asyncssh

    folder = path.rpartition("/")[0] or "."
    try:
        return await session.client.open(path, flags)
    except asyncssh.SFTPError as error:
        if type(error) is asyncssh.SFTPFailure and not await session.exists(folder):
            raise TargetNotFound(f"{where}: its folder is missing on the server") from error
        raise await diagnose(session, error, where, folder, content.size) from error


async def store(
    session: SftpSession, handle: bytes, path: str, content: Content, *, verify: Verify, where: str, final: str
) -> Attributes:
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
        found = await (_fill_at_once if session.is_openssh else _fill)(session, handle, path, content, where)
        if verify == "none":
            return Attributes(size=content.size)
        if found is None or found.size != content.size:
            found = await _look_again(session, path, content, where, final)
        if verify == "read-back" or found.size is None:
            await _read_back(session, path, content, where)
            found.size = content.size
        return found
    except asyncssh.SFTPNoSuchFile as error:
        raise await why_gone(session, final, where) from error
    except asyncssh.SFTPError as error:
        raise await diagnose(session, error, where, path.rpartition("/")[0] or ".", content.size) from error


async def _fill(session: SftpSession, handle: bytes, path: str, content: Content, where: str) -> None:
    """Writes, syncs and closes the file, one after the other: a server may work on requests side by side."""
    async with closing(session.client, handle):
        await (await _send(session, handle, path, content, where)).arrived()
        if not session.fsync_fails:
            await _sync(session, session.client.fsync(handle), path, content, where)


async def _fill_at_once(
    session: SftpSession, handle: bytes, path: str, content: Content, where: str
) -> Attributes | None:
    """As `_fill`, and says what the server then holds: OpenSSH works on requests in their order, so none waits."""
    import asyncssh

    client = session.client
    try:
        blocks = await _send(session, handle, path, content, where)
    except BaseException:
        async with closing(client, handle):
            raise
    synced = None if session.fsync_fails else client.fsync(handle)
    closed, found = client.close(handle), client.stat(path)
    answers: tuple[asyncio.Future[Any], ...] = (closed, found) if synced is None else (synced, closed, found)
    await asyncio.gather(*answers, return_exceptions=True)
    await blocks.arrived()
    if synced is not None:
        await _sync(session, blocks.unsynced or synced, path, content, where)
    await closed
    with suppress(asyncssh.SFTPNoSuchFile):
        return await found
    return None


async def _sync(session: SftpSession, synced: Awaitable[None], path: str, content: Content, where: str) -> None:
    """Waits until the server has synced the file to disk; one that offers it and cannot is not asked again."""
    import asyncssh

    try:
        await synced
    except asyncssh.SFTPOpUnsupported:
        session.fsync_fails = True
    except asyncssh.SFTPError as error:
        reason = await diagnose(session, error, where, path.rpartition("/")[0] or ".", content.size)
        # Not where it has its final name, at which a drop box would be handed it twice.
        asks_again = path.rpartition("/")[2].startswith(TEMPORARY_PREFIX)
        if is_lost(error) or isinstance(reason, TargetFull) or (asks_again and await can_sync(session.client, path)):
            raise reason from error
        session.fsync_fails = True
        _log.warning("%s: the server cannot sync files to disk (%s): going on without", where, named(error))


async def _send(session: SftpSession, handle: bytes, path: str, content: Content, where: str) -> Blocks:
    """Sends the file's blocks, without waiting for the last of them over the first channel."""
    blocks = Blocks(session.writes, session.client, handle, syncs=not session.fsync_fails)
    try:
        if content.size >= _BIG_BYTES and session.is_openssh:
            await _widen(session, blocks, path)
        await _send_all(session, blocks, content, where)
        await blocks.join()
    except BaseException:
        blocks.leave()
        raise
    return blocks


async def _widen(session: SftpSession, blocks: Blocks, path: str) -> None:
    import asyncssh

    if (second := await session.second()) is not None:
        with suppress(asyncssh.SFTPError):  # a server may want to hear no more of a file that is open
            blocks.widen(second, await second.open(path, ADDING))


async def _send_all(session: SftpSession, blocks: Blocks, content: Content, where: str) -> None:
    hasher, offset = Hasher(sha256=content.digests.crc32c is None), 0
    for block in content.chunks(min(session.client.limits.write, _BLOCK_BYTES)):
        if blocks.error is not None:
            return
        await blocks.send(block, offset)
        offset += len(block)
        if isinstance(content.source, Path):  # bytes in memory are what their digests say
            hasher.update(block)
    if isinstance(content.source, Path) and content.digests.matches(hasher.digests()) is False:
        await blocks.arrived()
        raise VerificationFailed(f"{where}: the file to send is not the one that was announced: it changed meanwhile")


async def _look_again(session: SftpSession, path: str, content: Content, where: str, final: str) -> Attributes:
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
    if found is not None and not found.size:  # some say so of a size that they do not know: reading decides
        found.size = None
        return found
    if found is not None:
        raise VerificationFailed(
            f"{where}: the server holds {found.size} bytes of {content.size} sent: its disk or quota is full, or it "
            "changes files as it takes them, for which there are `sftp_upload: direct` and `verify: none`"
        )
    if not await session.exists(folder):
        raise TargetUnavailable(f"{where}: its folder was removed while it was written")
    raise taken_away(where)


async def _read_back(session: SftpSession, path: str, content: Content, where: str) -> None:
    known = content.digests
    async with aclosing(read(session, path)) as chunks:
        found = await read_digests(chunks, md5=known.sha256 is None and known.crc32c is None, most=content.size)
    if known.matches(found) is False:
        raise VerificationFailed(
            f"{where}: what the server holds is not what was sent: its disk or the network is faulty"
        )


async def server_digest(session: SftpSession, path: str, size: int) -> Digests | None:
    """What the server computes of its file; None where it does not, or is silent for too long over so much."""
    import asyncssh

    if size > _DIGEST_BYTES:
        return None
    try:
        return Digests(size, sha256=await session.client.sha256(path))
    except asyncssh.SFTPError as error:
        if is_lost(error):
            raise
        return None


async def read(session: SftpSession, path: str) -> AsyncGenerator[bytes, None]:
    """The file's bytes from the beginning, at most 255 KiB at a time, several blocks asked for at once."""
    import asyncssh

    client = session.client
    try:
        handle = await client.open(path, READING)
    except asyncssh.SFTPFailure as error:
        if await session.stat(path) is None:
            raise asyncssh.SFTPNoSuchFile(named(error)) from error
        raise
    block, asked, ahead, chunk = min(client.limits.read, _BLOCK_BYTES), 0, deque[asyncio.Future[bytes]](), b""
    most, session.reading = 2, session.reading + 1
    try:
        async with closing(client, handle):
            while not asked or len(chunk) == block:
                while len(ahead) < most:
                    ahead.append(client.read(handle, asked, block))
                    asked += block
                at = asked - len(ahead) * block
                if chunk := await whole_block(client, handle, at, block, ahead.popleft()):
                    yield chunk
                most = max(2, min(2 * most, _READS // session.reading))
            if any(isinstance(one, bytes) and one for one in await asyncio.gather(*ahead, return_exceptions=True)):
                raise TargetUnavailable(f"{path!r} changed on the server while it was read: try again")
    finally:
        session.reading -= 1
        for answer in ahead:
            answer.cancel()
