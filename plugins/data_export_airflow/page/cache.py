"""One answer for everybody who asks within a few seconds, and nobody who waits for a fresh one."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)

_PATIENCE = 60.0  # seconds; the page's own requests give up then


class Cached(Generic[T]):
    """Calls `make` in a thread of its own, one call at a time, whatever number of requests wait for it.

    A value younger than `seconds` is the answer. An older one is too, up to `stale` seconds, while the next is made; a
    still older one is not: the caller waits. What `make` raises is not kept, and goes to a caller who waits.

    Who waits holds no thread. The API server has 40 for all that it is asked, by workers too: a slow database and a few
    open pages would take them all.
    """

    def __init__(self, make: Callable[[], T], seconds: float, stale: float, patience: float = _PATIENCE) -> None:
        self._make, self._seconds, self._stale, self._patience = make, seconds, stale, patience
        self._lock = threading.Lock()
        self._made: tuple[float, T] | None = None
        self._making: Future[T] | None = None

    async def __call__(self) -> T:
        """The value.

        Raises:
            TimeoutError: there is none, and the next was not made in time.
        """
        if (made := self._known(self._seconds)) is not None:
            return made[1]
        making = self.refresh()
        if (made := self._known(self._stale)) is not None:
            return made[1]
        return await asyncio.wait_for(asyncio.wrap_future(making), self._patience)

    def refresh(self) -> Future[T]:
        """The next value, which a thread begins to make, unless one is at it or the last is young."""
        with self._lock:
            if self._making is None or (self._making.done() and self._known(self._seconds) is None):
                self._making = Future()
                self._making.set_running_or_notify_cancel()  # so that none who gives up ends it for the others
                threading.Thread(target=self._renew, args=(self._making,), daemon=True).start()
            return self._making

    def _known(self, seconds: float) -> tuple[float, T] | None:
        made = self._made
        return made if made is not None and time.monotonic() - made[0] <= seconds else None

    def _renew(self, making: Future[T]) -> None:
        try:
            value = self._make()
        except Exception as error:
            log.exception("the page's next answer cannot be made; whoever asks when the last is too old gets the error")
            making.set_exception(error)
        else:
            self._made = (time.monotonic(), value)
            making.set_result(value)
