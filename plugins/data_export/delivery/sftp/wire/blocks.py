"""A file that is open on its server: its blocks that are under way, over one channel of a connection or over two."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from data_export.delivery.sftp.wire.client import Answer, SftpClient, heard
from data_export.delivery.sftp.wire.packets import ADDING

# So often a big file is synced while more of it is sent, so that the sync in the end is a short one.
_SYNC_BYTES = 64 << 20


@dataclass(eq=False)
class _Way:
    """One channel with a handle of the file on it."""

    client: SftpClient
    handle: bytes
    under_way: set[asyncio.Future[None]] = field(default_factory=set)


class Blocks:
    """Each block holds a place of `places` until it is answered.

    Args:
        syncs: whether the server can sync a file to disk.
    """

    def __init__(self, places: asyncio.Semaphore, client: SftpClient, handle: bytes, *, syncs: bool) -> None:
        self._places = places
        self._syncs = syncs
        self._ways = [_Way(client, handle)]
        self._synced = 0
        #: The first error that one met.
        self.error: BaseException | None = None
        #: The first sync on the way that failed: a system tells each handle only once that bytes were lost.
        self.unsynced: Answer[None] | None = None

    def widen(self, client: SftpClient, handle: bytes) -> None:
        """Uses another channel too: a server takes 2 MiB over each until it must answer, and syncs over one meanwhile.

        Args:
            handle: of the same file, on that channel.
        """
        self._ways.append(_Way(client, handle))

    async def send(self, block: bytes, offset: int) -> None:
        await self._places.acquire()
        way = min(self._ways, key=lambda way: len(way.under_way))
        answer = way.client.write(way.handle, offset, block)
        way.under_way.add(answer)
        answer.add_done_callback(partial(self._answered, way))
        if self._syncs and len(self._ways) > 1 and offset - self._synced >= _SYNC_BYTES:
            self._synced = offset
            way.client.fsync(way.handle).add_done_callback(self._has_synced)

    def _has_synced(self, answer: Answer[None]) -> None:
        if not answer.cancelled() and answer.exception() is not None:
            self.unsynced = self.unsynced or answer

    def _answered(self, way: _Way, answer: asyncio.Future[None]) -> None:
        self._places.release()
        way.under_way.discard(answer)
        if not answer.cancelled():
            error = answer.exception()  # of each, or asyncio logs those that nobody asked for
            self.error = self.error or error

    async def join(self) -> None:
        """Waits for what is under way over the other channel, and uses it no more: what follows is about all blocks."""
        for way in self._ways[1:]:
            if way.under_way:
                await asyncio.wait(way.under_way)
            self._ways.remove(way)
            await way.client.close(way.handle)

    def leave(self) -> None:
        """Uses the other channel no more, without waiting."""
        for way in self._ways[1:]:
            way.client.close(way.handle).add_done_callback(heard)

    async def arrived(self) -> None:
        """Waits for all of them; raises the first error that one met."""
        if under_way := [answer for way in self._ways for answer in way.under_way]:
            await asyncio.wait(under_way)
        if self.error is not None:
            raise self.error


@asynccontextmanager
async def closing(client: SftpClient, handle: bytes) -> AsyncIterator[None]:
    """Closes the handle in the end; of several errors the first is raised, which says why."""
    import asyncssh

    try:
        yield
    except BaseException:
        with suppress(asyncssh.SFTPError):
            await client.close(handle)
        raise
    await client.close(handle)


async def can_sync(client: SftpClient, path: str) -> bool:
    """Whether the server can, of this same file: then bytes of it were lost, which a system tells each handle once."""
    import asyncssh

    with suppress(asyncssh.SFTPError):
        handle = await client.open(path, ADDING)
        async with closing(client, handle):
            await client.fsync(handle)
        return True
    return False


async def whole_block(client: SftpClient, handle: bytes, offset: int, size: int, answer: Answer[bytes]) -> bytes:
    """The block that was asked for there, up to the end of the file: a server may give less at a time.

    Args:
        answer: to the request for all of it.
    """
    import asyncssh

    chunk = b""
    with suppress(asyncssh.SFTPEOFError):
        chunk = more = await answer
        while more and len(chunk) < size:
            more = await client.read(handle, offset + len(chunk), size - len(chunk))
            chunk += more
    return chunk
