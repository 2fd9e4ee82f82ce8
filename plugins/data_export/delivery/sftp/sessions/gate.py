"""How many files are read and written at once: as many as the server bears, which shows in what it refuses."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from data_export.delivery.sftp.errors import ConnectionEnded, TooManyAtOnce
from data_export.delivery.sftp.sessions.pool import SftpConnections
from data_export.errors import TargetUnavailable

# So long a server may count files and connections that were closed.
_FORGETS_SECONDS = 1.0
# Connections that end leave at least so many at once: it may have been the network, for hours, and it comes back.
_FEWEST = 4
# So long nobody is let through to have one file tried alone.
_EMPTIES_SECONDS = 30.0
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Gate:
    """Bounds the operations at once, and learns for the rest of its life where the server allows fewer."""

    def __init__(self, size: int, connections: SftpConnections) -> None:
        self._connections = connections
        self._free = asyncio.Semaphore(size)
        #: How many are let through at once.
        self.allowed = size
        self._narrowing = asyncio.Lock()
        self._too_many = 0
        self._settles = self._left = 0.0
        self._lost = 0
        #: How many files were read or written, since connections last ended too often.
        self.finished = 0
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
        self._too_many += self.allowed - size
        self.allowed = size
        while self._too_many and not self._free.locked():
            await self._free.acquire()  # at once
            self._too_many -= 1
        await self._connections.narrow(size)

    @property
    def settles_in(self) -> float:
        """Seconds until the server has forgotten those who were too many."""
        return max(self._settles - asyncio.get_running_loop().time(), 0)

    async def within_limits(self, action: Callable[[], Awaitable[T]]) -> T:
        """The result of `action`, which passes this gate; it is tried again where fewer at once may help, see `again`.

        Raises:
            TooManyAtOnce: the server takes not even one.
        """
        while True:
            allowed = self.allowed
            try:
                result = await action()
            except TargetUnavailable as error:
                if not await self.again(allowed, error):
                    raise
            else:
                self.finished += 1
                return result

    async def again(
        self, allowed: int, error: TargetUnavailable, alone: Callable[[], Awaitable[None]] | None = None
    ) -> bool:
        """Whether to try again what failed when `allowed` were let through, because fewer are now.

        Args:
            alone: tries the same in short. Where it is given, a bare "Failure" may be a limit too, or the file's own.

        Raises:
            TooManyAtOnce: see `_learn`.
            DataExportError: the error that `alone` meets while nobody else is let through.
        """
        import asyncssh

        if isinstance(error, ConnectionEnded):
            return await self._bears_fewer(allowed, error)
        if not isinstance(error, TooManyAtOnce):
            if alone is None or type(error.__cause__) is not asyncssh.SFTPFailure:
                return False
            await self._by_itself(allowed, alone)
            error = TooManyAtOnce(str(error))
        await self._learn(allowed, error)
        return True

    async def _learn(self, allowed: int, error: TooManyAtOnce) -> None:
        """Lets half of `allowed` through from now on, which the server found too many.

        Raises:
            TooManyAtOnce: that was one only, and is still too many when the server has forgotten the others.
        """
        if allowed == 1:
            if not self.settles_in:
                raise error
            await asyncio.sleep(self.settles_in)
            return
        await self._halve(allowed, error)

    async def _halve(self, allowed: int, error: TargetUnavailable, fewest: int = 1) -> None:
        async with self._narrowing:
            if self.allowed == allowed:  # the first of those who met it together
                size = max(allowed // 2, fewest)
                _log.warning("going on with %d files at once: %s", size, error)
                self._settles = asyncio.get_running_loop().time() + _FORGETS_SECONDS
                await self.narrow(size)

    async def _bears_fewer(self, allowed: int, error: ConnectionEnded) -> bool:
        """Whether fewer are let through, because connections take more files down with them than they have finished.

        Some servers end a connection after so many files: all that are under way fail together, and none would ever be
        finished where more are begun at once than one connection is allowed.
        """
        if self.allowed == allowed > _FEWEST:
            self._lost += 1
            if self._lost > max(self.finished, _FEWEST):
                self._lost = self.finished = 0
                await self._halve(allowed, error, _FEWEST)
        return self.allowed < allowed

    async def _by_itself(self, allowed: int, action: Callable[[], Awaitable[None]]) -> None:
        """Does `action` while nobody else is let through, over one connection.

        Not where fewer are let through already, nor where big files keep us waiting.
        """
        async with self._narrowing:
            if allowed == 1 or self.allowed != allowed:
                return
            held = 0
            try:
                async with asyncio.timeout(_EMPTIES_SECONDS):
                    while held < allowed:  # one by one: whoever waits here may be cancelled
                        await self._free.acquire()
                        held += 1
                await self._connections.close_idle()
                await asyncio.sleep(self._left + _FORGETS_SECONDS - asyncio.get_running_loop().time())
                await action()
            except TimeoutError:
                return
            finally:
                for _ in range(held):
                    self._free.release()
