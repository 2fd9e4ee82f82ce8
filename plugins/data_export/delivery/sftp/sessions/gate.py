"""How many files are read and written at once: as many as the server bears, which shows in what it refuses."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from data_export.delivery.sftp.errors import ConnectionEnded, PerhapsTooMany, TooManyAtOnce
from data_export.delivery.sftp.sessions.pool import SftpConnections
from data_export.errors import DataExportError, PermanentError, TargetUnavailable

# So long a server may count files and connections that were closed.
_FORGETS_SECONDS = 1.0
# Connections that end leave at least so many at once where they bear them: it may have been the network, for hours.
_FEWEST = 4
# Files that one connection bears one after the other, where more at once are worth another try.
_BEARS_MORE = 16
# How often one file is tried again here because the others pass; its caller has pauses and tries of its own.
_RESUMES = 3
# So long nobody is let through to have one file tried alone.
_EMPTIES_SECONDS = 30.0
# After so many files that were refused alone, too, the next is tried alone when some thousands were refused since.
_LONGEST_TRUST = 10
_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(slots=True)
class Attempt:
    """One try of one operation: how many were let through when it began, and how many had then been finished."""

    allowed: int
    finished: int
    resumes: int = _RESUMES

    def resume(self) -> bool:
        self.resumes -= 1
        return self.resumes >= 0


class Gate:
    """Bounds the operations at once, and learns for the rest of its life where the server allows fewer.

    What concerns one file slows down no other: fewer are let through only where many fail, or where the server says in
    words that there are too many.
    """

    def __init__(self, size: int, connections: SftpConnections) -> None:
        self._connections = connections
        self._free = asyncio.Semaphore(size)
        #: How many are let through at once.
        self.allowed = size
        self._narrowing = asyncio.Lock()
        self._too_many = 0
        self._settles = self._left = 0.0
        #: How many may be let through again, once one connection bears enough files one after the other.
        self._widens_to = 0
        #: Since fewer were last let through: operations finished, ended with their connection, refused with no reason.
        self._finished = self._lost = self._refused = 0
        #: How often a file that was refused with no reason was refused alone, too.
        self._own = 0
        #: Since a connection last ended, and ever.
        self._in_a_row = self._ever = 0
        #: Operations under way.
        self.busy = 0

    async def __aenter__(self) -> None:
        await self._free.acquire()
        self.busy += 1

    async def __aexit__(self, *exc_info: object) -> None:
        self.busy -= 1
        self._left = asyncio.get_running_loop().time()
        if self._too_many:  # nobody comes in their place
            self._too_many -= 1
            self._settles = self._left + _FORGETS_SECONDS
        else:
            self._free.release()

    async def narrow(self, size: int) -> None:
        """Lets no more than `size` through from now on; those who are too many may end what they do."""
        await self._shrink(size)
        self._widens_to = 0
        await self._connections.narrow(size)

    async def _shrink(self, size: int) -> None:
        self._too_many += self.allowed - size
        self.allowed = size
        self._finished = self._lost = self._refused = 0
        while self._too_many and not self._free.locked():
            await self._free.acquire()  # at once
            self._too_many -= 1

    def _widen(self) -> None:
        for _ in range(self._widens_to - self.allowed):
            if self._too_many:
                self._too_many -= 1
            else:
                self._free.release()
        self.allowed, self._widens_to = self._widens_to, 0
        self._finished = self._lost = 0

    @property
    def settles_in(self) -> float:
        """Seconds until the server has forgotten those who were too many."""
        return max(self._settles - asyncio.get_running_loop().time(), 0)

    def attempt(self) -> Attempt:
        return Attempt(self.allowed, self._ever)

    def finish(self) -> None:
        """Counts a file that was read or written."""
        self._finished += 1
        self._ever += 1
        self._in_a_row += 1
        if self._widens_to and self._in_a_row >= _BEARS_MORE:
            self._widen()

    async def within_limits(self, action: Callable[[], Awaitable[T]]) -> T:
        """The result of `action`, let through this gate; it is tried again where that may help, see `again`.

        Raises:
            TooManyAtOnce: the server takes not even one.
        """
        done: list[T] = []

        async def act() -> None:
            done.append(await action())

        attempt = self.attempt()
        while not done:
            try:
                async with self:
                    await act()
            except TargetUnavailable as error:
                if await self.again(attempt, error, act):
                    continue
                if isinstance(error, PerhapsTooMany):
                    raise error.meant from error.__cause__
                raise
        self.finish()
        return done[0]

    async def again(self, attempt: Attempt, error: TargetUnavailable, alone: Callable[[], Awaitable[None]]) -> bool:
        """Whether to try again what failed: because fewer are let through now, or because the others pass.

        Args:
            alone: tries the same, or its beginning, where only that shows whether the file is refused or their number.

        Raises:
            TooManyAtOnce: see `_learn`.
            DataExportError: the error that `alone` meets while nobody else is let through.
        """
        again = False
        if isinstance(error, ConnectionEnded):
            passed = self._ever > attempt.finished
            again = await self._bears_fewer(attempt.allowed) or (passed and attempt.resume())
        elif isinstance(error, PerhapsTooMany):
            again = await self._refuses(attempt, error, alone)
        elif isinstance(error, TooManyAtOnce):
            await self._learn(attempt.allowed, error)
            again = True
        attempt.allowed, attempt.finished = self.allowed, self._ever
        return again

    async def _learn(self, allowed: int, error: TooManyAtOnce) -> None:
        """Lets half of `allowed` through from now on, which the server found too many.

        Raises:
            TooManyAtOnce: one is still too many when the server has forgotten the others.
        """
        if allowed == self.allowed == 1:
            if not self.settles_in:
                raise error
            await asyncio.sleep(self.settles_in)
            return
        async with self._narrowing:
            await self._halve(allowed, error)

    async def _halve(self, allowed: int, error: TargetUnavailable) -> None:
        if self.allowed == allowed:  # the first of those who met it together
            _log.warning("going on with %d files at once: %s", allowed // 2, error)
            self._settles = asyncio.get_running_loop().time() + _FORGETS_SECONDS
            await self.narrow(allowed // 2)

    async def _bears_fewer(self, allowed: int) -> bool:
        """Whether fewer are let through, because connections take more files down with them than they have finished.

        Some servers end a connection after so many files: all that are under way fail together, and none would ever be
        finished where more are begun at once than one connection is allowed. Where that is fewer than `_FEWEST`, one
        at a time is left, until a connection bears more.
        """
        self._in_a_row = 0
        async with self._narrowing:
            if self.allowed == allowed > 1:
                self._lost += 1
                if self._lost > max(self._finished, _FEWEST):
                    size = max(allowed // 2, _FEWEST) if allowed > _FEWEST else 1
                    _log.warning("going on with %d files at once: connections end with those that are under way", size)
                    if size > 1:
                        await self.narrow(size)
                    else:
                        await self._shrink(size)
                        self._widens_to = allowed
        return self.allowed < allowed

    async def _refuses(self, attempt: Attempt, error: PerhapsTooMany, alone: Callable[[], Awaitable[None]]) -> bool:
        """Whether to try again what was refused with no reason: its own, or a limit that the server does not name.

        While most files pass, it is tried among them. Else it is tried alone, which keeps all others waiting: the less
        often, the more often that has shown the file's own fault.
        """
        final, allowed = isinstance(error.meant, PermanentError), attempt.allowed
        self._refused += 1
        if 4 * self._refused <= max(self._finished, allowed, 4 * _FEWEST) and attempt.resume():
            return True
        async with self._narrowing:
            if self.allowed != allowed:
                return True
            if self._own and (not self._finished if final else self._refused <= 0):
                return False
            await self._by_itself(allowed, alone)
            if allowed > 1:
                await self._halve(allowed, error)
            return True

    async def _by_itself(self, allowed: int, alone: Callable[[], Awaitable[None]]) -> None:
        """Tries one file while nobody else is let through, over one connection; not where big files keep us waiting.

        Raises:
            DataExportError: what it meets.
        """
        held, now = 0, asyncio.get_running_loop().time
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_EMPTIES_SECONDS):
                    while held < allowed:  # one by one: whoever waits here may be cancelled
                        await self._free.acquire()
                        held += 1
            if held == allowed:
                self.busy += 1
                await self._connections.close_idle()
                await asyncio.sleep(max(self._left + _FORGETS_SECONDS - now(), self.settles_in))
                await alone()
        except DataExportError as error:
            if not isinstance(error, PerhapsTooMany):
                self._own += 1
                self._finished, self._refused = 0, -(_FEWEST << min(self._own, _LONGEST_TRUST))
                raise
            if allowed == 1:  # else it is not alone: others look around, over connections of their own
                raise
        finally:
            if held == allowed:
                self.busy -= 1
            for _ in range(held):
                self._free.release()
