"""Several connections to one SFTP server, as few as the work needs."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from data_export.delivery.sftp.sessions.session import SftpSession
from data_export.errors import DataExportError, HostKeyMismatch, TransientError

# After a refusal a line rests so long, then twice as long, and so on.
_REST_SECONDS = 30.0
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Line:
    """A place for one connection, and how many operations go over it.

    opening: the attempt under way, shared by all who need it: a server that is down costs one timeout, not sixty-four.
    rests_until: of the event loop's clock; no connection is tried before.
    """

    session: SftpSession | None = None
    opening: asyncio.Task[SftpSession] | None = None
    busy: int = 0
    refusals: int = 0
    rests_until: float = 0

    @property
    def alive(self) -> bool:
        return self.session is not None and self.session.alive


class SftpConnections:
    """At most `limit` connections; another is opened when `share` operations go over each of those that there are.

    One connection carries many operations, but a server works on the requests of each one after the other, and many
    servers and networks give each connection so much bandwidth and no more. Where the server allows fewer than `limit`,
    the work goes on over those; a line that was refused is tried again later, since the reason may have been a fault of
    the network.

    Args:
        open_session: makes a connection that is logged in.
    """

    def __init__(self, open_session: Callable[[], Coroutine[Any, Any, SftpSession]], limit: int, share: int) -> None:
        self._open_session = open_session
        self._share = share
        self._lines = [_Line() for _ in range(limit)]
        self._retired: list[_Line] = []

    async def open(self) -> int | None:
        """Opens the first connection; see `SftpSession.open` for what it raises.

        Returns:
            How many files the server lets us open over all connections, where it says so; one of each is kept for
            looking around.
        """
        session = await self._connected(self._lines[0])
        if not (handles := session.client.limits.handles):
            return None
        self._share = min(self._share, max(1, handles - 1))
        return self._share * len(self._lines)

    async def narrow(self, limit: int) -> None:
        """Does with `limit` operations and connections from now on, the operations spread evenly.

        A server may count also connections over which nothing is sent.
        """
        kept = sorted(self._lines, key=lambda line: (line.alive, line.busy), reverse=True)[:limit]
        self._retired += [line for line in self._lines if line not in kept]
        self._lines = kept
        self._share = min(self._share, -(-limit // len(kept)))
        await self._close([line for line in self._retired if not line.busy])

    def widen(self, limit: int) -> None:
        """Takes back connections that were too many for fewer than `limit` operations."""
        while self._retired and len(self._lines) < limit:
            self._lines.append(self._retired.pop())

    async def close_idle(self) -> None:
        """Closes all but one of the connections over which nothing is sent; they are opened again when needed."""
        idle = []
        for line in self._lines[1:]:
            if line.session is not None and not line.busy:
                idle.append(line.session)
                line.session = None  # before anything is waited for: nobody is to be given one that closes
        for session in idle:
            await session.close()

    @property
    def alive(self) -> int:
        return sum(line.alive for line in (*self._lines, *self._retired))

    async def close(self) -> None:
        await self._close([*self._lines, *self._retired])

    async def _close(self, lines: list[_Line]) -> None:
        for line in lines:
            if line.opening is not None:
                line.opening.cancel()
                await asyncio.gather(line.opening, return_exceptions=True)
            session, line.session = line.session, None  # before anything is waited for, as in `close_idle`
            if session is not None:
                await session.close()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[SftpSession]:
        """A session that is alive; a connection that has broken is opened anew."""
        line = self._seat()
        try:
            while True:
                try:
                    session = await self._connected(line)
                    break
                except DataExportError as error:
                    if not self._can_do_without(error):
                        raise
                # A loop, because the next seat may be on a line that is being opened and is refused as well. It ends
                # because each refused line rests.
                line.busy -= 1
                line = self._seat()
            yield session
        finally:
            line.busy -= 1
            if line in self._retired and not line.busy:
                await self._close([line])

    def _seat(self) -> _Line:
        """The line for one more operation, which is counted at once: others come while it connects."""
        now = asyncio.get_running_loop().time()
        lines = [line for line in self._lines if line.alive or line.rests_until <= now] or self._lines
        line = next((line for line in lines if line.busy < self._share), None)
        line = line or min(lines, key=lambda line: line.busy)
        line.busy += 1
        return line

    def _can_do_without(self, error: DataExportError) -> bool:
        """Whether another line works: the server allows no more of them, or not now."""
        return not isinstance(error, HostKeyMismatch) and any(line.alive for line in self._lines)

    async def _connected(self, line: _Line) -> SftpSession:
        if line.session is not None:
            if line.session.alive:
                return line.session
            line.session.abort()
            line.session = None
        if line.opening is None:
            line.opening = asyncio.create_task(self._open(line))
        return await asyncio.shield(line.opening)  # one impatient caller does not cancel the others'

    async def _open(self, line: _Line) -> SftpSession:
        try:
            line.session = await self._open_session()
        except DataExportError as error:
            # Before anybody hears of it: whoever was refused on another line at that moment would try this one again.
            if self._can_do_without(error):
                self._rest(line, error)
            raise
        finally:
            line.opening = None
        line.refusals = 0
        return line.session

    def _rest(self, line: _Line, error: DataExportError) -> None:
        again = isinstance(error, TransientError)  # to ask again after a refused login may lock us out
        now = asyncio.get_running_loop().time()
        line.rests_until = now + _REST_SECONDS * 2**line.refusals if again else math.inf
        line.refusals += 1
        working = sum(other.alive for other in self._lines)
        _log.warning("the server takes no further connection (%s): going on over %d", error, working)
