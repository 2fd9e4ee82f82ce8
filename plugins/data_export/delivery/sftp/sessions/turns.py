"""Who may work now: so many at once, and the others in the order in which they came; and how often one tries."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

# So long a server may count files and connections that were closed.
_FORGETS_SECONDS = 1.0
# How often one file is tried again here because the others pass; its caller has pauses and tries of its own.
_RESUMES = 3
# Of files that are refused with no reason, at least one in so many is tried alone.
_RAREST = 256
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Attempt:
    """One try of one operation: how many were let through when it began, and how many had then been finished."""

    allowed: int
    finished: int
    resumes: int = _RESUMES

    def resume(self) -> bool:
        self.resumes -= 1
        return self.resumes >= 0

    def begin_again(self, allowed: int, finished: int) -> None:
        """With all its tries where only half as many are let through as before: it was among far too many."""
        if 2 * allowed <= self.allowed:
            self.resumes = _RESUMES
        self.allowed, self.finished = allowed, finished


class Sparing:
    """How many refusals are taken for the files' own before one is tried alone again."""

    def __init__(self) -> None:
        self._left, self._last = 0, 1

    def spares(self) -> bool:
        spares = self._left > 0
        self._left -= spares
        return spares

    def spare_more(self) -> None:
        self._last = self._left = min(2 * self._last, _RAREST)


class Turns:
    """Lets so many through at once, and knows when the server has forgotten those who left."""

    def __init__(self, size: int) -> None:
        #: How many are let through at once.
        self.allowed = size
        #: Those under way, and the most of them since the others were last kept out.
        self.busy = self.most = 0
        #: Those who were refused, and may come again.
        self.away = 0
        self._waiting = deque[asyncio.Future[None]]()
        self._closed = False
        #: Whether all have left since the others are kept out.
        self.is_emptied = False
        self._left = asyncio.Event()  # set for a moment only
        #: When somebody last left, and last did so who was one too many.
        self._left_at = self.crowded_at = -math.inf

    async def __aenter__(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self.let_in()
        try:
            await turn
        except BaseException:
            if not turn.cancel() and not turn.cancelled():  # let in at that very moment
                self._leave()
            raise

    async def __aexit__(self, *exc_info: object) -> None:
        self._leave()

    def let_in(self) -> None:
        """To be called when more are allowed."""
        while self._waiting and self.busy < self.allowed and not self._closed:
            turn = self._waiting.popleft()
            if not turn.done():  # else cancelled
                turn.set_result(None)
                self.busy += 1
        self.most = max(self.most, self.busy)

    def _leave(self) -> None:
        self.busy -= 1
        self._left_at = asyncio.get_running_loop().time()
        if self.busy >= self.allowed:  # nobody comes in their place
            self.crowded_at = self._left_at
        self.let_in()
        self._tell_of_leaving()

    def _tell_of_leaving(self) -> None:
        self._left.set()
        self._left.clear()

    @contextmanager
    def turned_away(self) -> Iterator[None]:
        """Counts one more `away` until it is known whether it comes again."""
        self.away += 1
        try:
            yield
        finally:
            self.away -= 1

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Lets nobody through meanwhile."""
        self._closed = True
        try:
            yield
        finally:
            self._closed = self.is_emptied = False
            self.most = self.busy
            self.let_in()
            self._tell_of_leaving()

    async def empties(self, patience: float) -> None:
        """Waits so many seconds for those under way to leave, while nobody is let through; see `is_emptied`."""
        if self.busy:
            _log.info(
                "to try a refused file alone, no other begins until %d have ended, or for %.0f s", self.busy, patience
            )
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self.busy:
                    await self._left.wait()
        self.is_emptied = not self.busy

    async def somebody_left(self, patience: float) -> None:
        """Waits so many seconds for one of those under way to leave, if there are any."""
        if self.busy:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._left.wait()

    @property
    def settles_in(self) -> float:
        """Seconds until the server has forgotten those who were too many."""
        return self._forgotten_in(self.crowded_at)

    async def forgotten(self) -> None:
        """Waits until the server has forgotten all who left so far."""
        await asyncio.sleep(self._forgotten_in(max(self._left_at, self.crowded_at)))

    @staticmethod
    def _forgotten_in(left_at: float) -> float:
        return max(left_at + _FORGETS_SECONDS - asyncio.get_running_loop().time(), 0)
