"""Bounds the memory and disk of a copy, whatever the number and size of the images."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """The bounds of one `copy_images`; the defaults keep a worker well below 256 MiB.

    Images up to `in_memory_bytes` pass through memory, at most `memory_bytes` at once. Larger images pass through local
    temporary files, at most `disk_bytes` at once.
    """

    in_memory_bytes: int = 8 << 20
    memory_bytes: int = 64 << 20
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
