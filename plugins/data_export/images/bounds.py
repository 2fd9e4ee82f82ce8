"""What bounds a copy of many images, whatever their number and size, and how far it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from data_export.wording import size_in_words


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """The bounds of one `copy_images`; the defaults keep a worker well below 256 MiB.

    Images up to `in_memory_bytes` pass through memory, at most `memory_bytes` at once. Larger images pass through local
    temporary files, at most `disk_bytes` at once.
    """

    in_memory_bytes: int = 8 << 20
    memory_bytes: int = 32 << 20
    disk_bytes: int = 4 << 30
    #: How often one image is tried, and the longest first pause; each next one is twice as long.
    tries: int = 5
    backoff_seconds: float = 0.5
    report_seconds: float = 5.0


DEFAULT_LIMITS = CopyLimits()


class ByteBudget:
    """A semaphore that counts bytes, first come, first served, so that small images do not starve a large one."""

    def __init__(self, capacity: int) -> None:
        self._capacity = self._free = capacity
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Waits until `size` bytes are free and holds them; a larger size than the capacity holds all of it."""
        weight = min(size, self._capacity)
        async with self._turn:
            while self._free < weight:
                self._freed.clear()
                await self._freed.wait()
            self._free -= weight
        try:
            yield
        finally:
            self._free += weight
            self._freed.set()


@dataclass(frozen=True, slots=True)
class Progress:
    """Images done of all, bytes sent and seconds spent, since this attempt began."""

    done: int
    total: int
    bytes: int
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None before the first image."""
        return (self.total - self.done) * self.seconds / self.done if self.done else None

    def __str__(self) -> str:
        """`12,000 of 500,000 images (2.4 %), 310 MB, 45.2 MB/s, 0:21:10 left`."""
        share = 100 * self.done / self.total if self.total else 100
        left = "" if self.seconds_left is None else f", {timedelta(seconds=round(self.seconds_left))} left"
        return (
            f"{self.done:,} of {self.total:,} images ({share:.1f} %), {size_in_words(self.bytes)}, "
            f"{size_in_words(self.bytes_per_second)}/s{left}"
        )
