"""How many files are read and written at once: as many as the server bears, which shows in what it refuses."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from data_export.delivery.sftp.errors import ConnectionEnded, PerhapsTooMany, TooManyAtOnce, perhaps_too_many
from data_export.delivery.sftp.sessions.pool import SftpConnections
from data_export.delivery.sftp.sessions.turns import Attempt, Sparing, Turns
from data_export.errors import DataExportError, PermanentError, TargetUnavailable

# Connections that end leave at least so many at once where they bear them: it may have been the network, for hours.
_FEWEST = 4
# Files that one connection bears one after the other, where more at once are worth another try.
_BEARS_MORE = 16
# Files that pass one after the other, beside as many as are allowed, where one more is; twice as many once it was not.
_BEARS_ONE_MORE = 100
# So long nobody is let through to have one file tried alone; and where many are refused, which may be by a limit.
_EMPTIES_SECONDS = 30.0
_EMPTIES_PATIENTLY_SECONDS = 300.0
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Gate(Turns):
    """Bounds the operations at once, and learns where the server allows fewer.

    What concerns one file slows down no other: fewer are let through only where connections end with many files, where
    the server says in words that there are too many, or where a refused file passes as soon as fewer are under way.
    That may have been one bad moment, so that many files in a row that pass have one more let through.
    """

    def __init__(self, size: int, connections: SftpConnections) -> None:
        super().__init__(size)
        self._connections = connections
        self._narrowing = asyncio.Lock()
        #: The most that are ever let through; how many are known to be borne; and how many are let through next.
        self._widest = self._borne = self._next = size
        #: After how many files in a row that is.
        self._needed = _BEARS_ONE_MORE
        #: Refusals that do not show a limit. Words do, unless they are said of one file where it is alone.
        self._vague: type[TooManyAtOnce] = PerhapsTooMany
        #: Since fewer were last let through: operations finished, ended with their connection, refused with no reason.
        self._finished = self._lost = self._refused = 0
        self._sparing = Sparing()
        #: Since a connection last ended, a file was refused, or the number changed; and ever.
        self._in_a_row = self._ever = 0

    async def narrow(self, size: int) -> None:
        """Lets no more than `size` through from now on; those who are too many may end what they do."""
        self._widest = size
        await self._lower(size)

    async def _lower(self, size: int) -> None:
        self._let_through(size)
        self._finished = self._lost = self._refused = 0
        await self._connections.narrow(size)

    def _let_through(self, size: int, needed: int = 0, borne: int = 0) -> None:
        """Of whom `borne` are known to be; after `needed` files in a row that pass, more."""
        self.allowed, self._borne = size, borne or size
        self._next, self._needed, self._in_a_row = min(size + 1, self._widest), needed or _BEARS_ONE_MORE, 0
        self._connections.widen(size)
        self.let_in()

    @property
    def is_alone(self) -> bool:
        """Whether the one file under way is all that the server can be counting, but for what only looks around."""
        return self.busy == 1 and (self.is_emptied or (self._connections.alive == 1 and not self.settles_in))

    def attempt(self) -> Attempt:
        return Attempt(self.allowed, self._ever)

    def finish(self) -> None:
        """Counts a file that was read or written."""
        self._finished += 1
        self._ever += 1
        self._in_a_row += self.busy + 1 >= self.allowed
        if self._in_a_row >= self._needed and self._borne < self._widest:
            self._let_through(self._next, 0 if self.allowed > self._borne else self._needed, borne=self.allowed)

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
            PerhapsTooMany: it does not show which, see `_refuses`.
            DataExportError: the error that `alone` meets while nobody else is let through.
        """
        again = False
        if isinstance(error, ConnectionEnded):
            passed = self._ever > attempt.finished
            again = await self._bears_fewer(attempt.allowed) or (passed and attempt.resume())
        elif isinstance(error, self._vague) and self.allowed == self._borne:
            again = await self._refuses(attempt, error, alone)
        elif isinstance(error, TooManyAtOnce):
            again = await self._learn(attempt.allowed, error, alone)
        attempt.begin_again(self.allowed, self._ever)
        return again

    async def _learn(self, allowed: int, error: TooManyAtOnce, alone: Callable[[], Awaitable[None]]) -> bool:
        """Lets fewer than `allowed` through from now on, which the server found too many.

        Raises:
            TooManyAtOnce: one is still too many when the server has forgotten the others: it was never their number.
        """
        async with self._narrowing:
            if allowed == self.allowed == 1:
                try:
                    return (await self._passes_with_few(alone, _EMPTIES_PATIENTLY_SECONDS))[0]
                except TooManyAtOnce:
                    self._vague = TooManyAtOnce
                    self._let_through(self._widest)
                    raise
            await self._lessen(allowed, error)
        return True

    async def _lessen(self, allowed: int, error: TargetUnavailable) -> None:
        """Lets half as many through, or as many as before the last one more."""
        if self.allowed < allowed:  # not the first of those who met it together
            return
        self.crowded_at = asyncio.get_running_loop().time()
        if self.allowed > self._borne:
            self._let_through(self._borne, 2 * self._needed)
            await self._connections.narrow(self.allowed)
        else:
            _log.warning("going on with %d files at once: %s", self.allowed // 2, error)
            await self._lower(self.allowed // 2)

    async def _bears_fewer(self, allowed: int) -> bool:
        """Whether fewer are let through, because connections take more files down with them than they have finished.

        Some servers end a connection after so many files: all that are under way fail together, and none would ever be
        finished where more are begun at once than one connection is allowed. Where that is fewer than `_FEWEST`, one
        at a time is left, until a connection bears more.
        """
        self._in_a_row = 0
        async with self._narrowing:
            if self.allowed >= max(allowed, 2):
                self._lost += 1
                if self._lost > max(self._finished, _FEWEST):
                    before, size = self.allowed, max(self.allowed // 2, _FEWEST) if self.allowed > _FEWEST else 1
                    _log.warning("going on with %d files at once: connections end with those that are under way", size)
                    await self._lower(size)
                    if size == 1:
                        self._next, self._needed = before, _BEARS_MORE
        return self.allowed < allowed

    async def _refuses(self, attempt: Attempt, error: TooManyAtOnce, alone: Callable[[], Awaitable[None]]) -> bool:
        """Whether to try again what was refused with no reason: its own, or a limit that the server does not name.

        While most files pass, and where nothing shows, it is tried among the others.

        Raises:
            PerhapsTooMany: what the file is refused for would be final, and has not shown to be its own.
            DataExportError: see `_passes_with_few`.
        """
        self._refused += 1
        self._in_a_row = 0
        with self.turned_away():
            rare = 4 * self._refused <= max(self._finished, attempt.allowed, 4 * _FEWEST)
            if not (rare and attempt.resumes):
                patience = _EMPTIES_SECONDS if rare or self.away == 1 else _EMPTIES_PATIENTLY_SECONDS
                if (shown := await self._shows(attempt, error, alone, patience)) is not None:
                    return shown
            if attempt.resume():
                await self.somebody_left(_EMPTIES_SECONDS)  # else it would meet the same
                return True
        if isinstance(error, PerhapsTooMany) and isinstance(error.meant, PermanentError):
            raise error
        return False

    async def _shows(
        self, attempt: Attempt, error: TooManyAtOnce, alone: Callable[[], Awaitable[None]], patience: float
    ) -> bool | None:
        """Whether a limit shows, or that the refusal is the file's own, or neither.

        For that it is tried alone, which keeps all others waiting: the less often, the more often that has shown no
        limit.
        """
        async with self._narrowing:
            if self.allowed < attempt.allowed:
                return True
            if self._sparing.spares():
                return None if self._finished else False
            most = self.most
            passes, others = await self._passes_with_few(alone, patience)
            if passes and others + 1 < most:  # what was refused among more
                self._sparing = Sparing()
                await self._lessen(attempt.allowed, error)
            else:
                self._spare(not passes and not others)
            return True if passes else None if others else False

    def _spare(self, is_own: bool) -> None:
        """Has fewer files tried alone, because no limit has shown."""
        self._sparing.spare_more()
        if is_own:
            self._finished = self._refused = 0

    async def _passes_with_few(self, alone: Callable[[], Awaitable[None]], patience: float) -> tuple[bool, int]:
        """Tries one file while nobody else is let through, and over one connection where all leave in so many seconds.

        Returns:
            Whether it passes, and how many others had not left.

        Raises:
            DataExportError: what it meets, unless that is again a refusal with no reason.
        """
        async with self.closed():
            await self.empties(patience)
            others = self.busy
            await self._connections.close_idle()
            await self.forgotten()
            return await self._try(alone), others

    async def _try(self, alone: Callable[[], Awaitable[None]]) -> bool:
        self.busy += 1
        try:
            await alone()
            return True
        except TargetUnavailable as error:  # of the network, or a limit in words: says nothing of the file
            if isinstance(perhaps_too_many(error), self._vague):
                return False
            raise
        except DataExportError:
            self._spare(self.is_emptied)
            raise
        finally:
            self.busy -= 1
