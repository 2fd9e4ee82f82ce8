"""One answer for everybody who asks within a few seconds."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cached(Generic[T]):
    """Calls `make` at most once per `seconds`, one caller at a time, whatever number of requests wait for it.

    What `make` raises goes to the caller and is not kept.
    """

    def __init__(self, make: Callable[[], T], seconds: float) -> None:
        self._make, self._seconds = make, seconds
        self._lock = threading.Lock()
        self._made: tuple[float, T] | None = None

    def __call__(self) -> T:
        with self._lock:
            if self._made is None or time.monotonic() - self._made[0] > self._seconds:
                value = self._make()
                self._made = (time.monotonic(), value)
            return self._made[1]
