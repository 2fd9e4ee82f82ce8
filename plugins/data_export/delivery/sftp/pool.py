"""Several connections to one SFTP server, as few as the work needs."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from data_export.delivery.sftp.errors import TooManyAtOnce
from data_export.delivery.sftp.session import SftpSession
from data_export.errors import DataExportError, HostKeyMismatch, TransientError

# After a refusal a line rests so long, then twice as long, and so on.
_REST_SECONDS = 30.0
# So long a server may count files and connections that were closed.
_FORGETS_SECONDS = 1.0
_log = logging.getLogger(__name__)
T = TypeVar("T")


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


class Gate:
    """Bounds the operations at once, and learns for the rest of its life where the server allows fewer."""

    def __init__(self, size: int, narrowed: Callable[[int], Awaitable[None]]) -> None:
        """
        Args:
            narrowed: called when fewer are let through, with their number.
        """
        self._narrowed = narrowed
        self._free = asyncio.Semaphore(size)
        #: How many are let through at once.
        self.allowed = size
        self._narrowing = asyncio.Lock()
        self._settles = 0.0
        #: Operations under way.
        self.busy = 0

    async def __aenter__(self) -> None:
        await self._free.acquire()
        self.busy += 1

    async def __aexit__(self, *exc_info: object) -> None:
        self.busy -= 1
        self._free.release()

    async def narrow(self, size: int) -> None:
        """Lets no more than `size` through from now on, once those who are too many have left."""
        while self.allowed > size:  # one by one: whoever waits here may be cancelled
            await self._free.acquire()
            self.allowed -= 1
        await self._narrowed(self.allowed)

    @property
    def settles_in(self) -> float:
        """Seconds until the server has forgotten those who were too many."""
        return max(self._settles - asyncio.get_running_loop().time(), 0)

    async def within_limits(self, action: Callable[[], Awaitable[T]]) -> T:
        """The result of `action`, which passes this gate; where it meets a limit, half as many are let through.

        Raises:
            TooManyAtOnce: the server takes not even one.
        """
        while True:
            allowed = self.allowed
            try:
                return await action()
            except TooManyAtOnce as error:
                await self.learn(allowed, error)

    async def learn(self, allowed: int, error: TooManyAtOnce) -> None:
        """Lets half of `allowed` through from now on, which the server found too many.

        Raises:
            TooManyAtOnce: that was one only, and is still too many when the server has forgotten the others.
        """
        if allowed == 1:
            if not self.settles_in:
                raise error
            await asyncio.sleep(self.settles_in)
            return
        async with self._narrowing:
            if self.allowed == allowed:  # the first of those who met it together
                _log.warning("going on with %d files at once: %s", allowed // 2, error)
                await self.narrow(allowed // 2)
                self._settles = asyncio.get_running_loop().time() + _FORGETS_SECONDS


class SftpConnections:
    """At most `limit` connections; another is opened when `share` operations go over each of those that there are.

    One connection carries many operations, but a server works on the requests of each one after the other, and many
    servers and networks give each connection so much bandwidth and no more. Where the server allows fewer than
    `limit`, the work goes on over those; a line that was
    refused is tried again later, since the reason may have been a fault of the network.

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
        """Does with `limit` connections from now on: a server may count also those over which nothing is sent."""
        kept = sorted(self._lines, key=lambda line: (line.alive, line.busy), reverse=True)[:limit]
        self._retired += [line for line in self._lines if line not in kept]
        self._lines = kept
        await self._close([line for line in self._retired if not line.busy])

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
            if line.session is not None:
                await line.session.close()
                line.session = None

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
