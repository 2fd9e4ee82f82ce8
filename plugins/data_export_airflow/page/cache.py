"""One answer for everybody who asks within a few seconds, and nobody who waits for a fresh one."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class Cached(Generic[T]):
    """Calls `make`, one call at a time, whatever number of requests wait for it.

    A value younger than `seconds` is the answer. An older one is too, up to `stale` seconds, while a thread makes the
    next; a still older one is not: the caller waits. What `make` raises is not kept, and goes to a caller who waits.
    """

    def __init__(self, make: Callable[[], T], seconds: float, stale: float) -> None:
        self._make, self._seconds, self._stale = make, seconds, stale
        self._lock = threading.Lock()
        self._made: tuple[float, T] | None = None

    def __call__(self) -> T:
        if (made := self._known(self._seconds)) is not None:
            return made[1]
        if (made := self._known(self._stale)) is not None:
            self.refresh()
            return made[1]
        with self._lock:
            made = self._known(self._seconds) or self._renew()
        return made[1]

    def refresh(self) -> None:
        """Makes the next value in a thread, unless somebody is at it."""
        if self._lock.acquire(blocking=False):
            threading.Thread(target=self._renew_quietly, daemon=True).start()

    def _known(self, seconds: float) -> tuple[float, T] | None:
        made = self._made
        return made if made is not None and time.monotonic() - made[0] <= seconds else None

    def _renew(self) -> tuple[float, T]:
        value = self._make()
        self._made = (time.monotonic(), value)
        return self._made

    def _renew_quietly(self) -> None:
        """In the thread that `refresh` started, which took the lock for it."""
        try:
            self._renew()
        except Exception:
            log.exception("the page's next answer cannot be made; whoever asks when the last is too old is told why")
        finally:
            self._lock.release()
