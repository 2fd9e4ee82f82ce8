"""A store in memory that keeps the connector contract, counts what it is asked, and fails on request."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from typing import Self

from data_export.content import Content, Digests
from data_export.delivery.base import Destination, StoredObject
from data_export.errors import ObjectExists, TargetNotFound


class MemoryStore:
    """Keeps the promises of `Destination`.

    `fault(call, key)` runs before each call and `after(call, key)` once it has taken effect; either may raise. With
    `checksums` off it knows only sizes, as an SFTP server does. `steps` gives the event loop that many turns per call,
    so that calls overlap.
    """

    concurrency = 8

    def __init__(self, uri: str = "memory://store/", *, checksums: bool = True, steps: int = 1) -> None:
        self.uri = uri
        self.objects: dict[str, bytes] = {}
        self.modified: dict[str, datetime] = {}
        self.calls: Counter[str] = Counter()
        self.sent = self.active = self.most_active = 0
        self.fault: Callable[[str, str], None] = lambda call, key: None
        self.after: Callable[[str, str], None] = lambda call, key: None
        self._checksums = checksums
        self._steps = steps

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    async def stat(self, key: str) -> StoredObject | None:
        await self._call("stat", key)
        return self._stored(key) if key in self.objects else None

    async def create(self, key: str, content: Content) -> StoredObject:
        await self._call("create", key)
        self.sent += content.size  # refused or not, the bytes were on the wire
        if key in self.objects:
            raise ObjectExists(f"{self.uri}{key}")
        return self._put("create", key, content)

    async def replace(self, key: str, content: Content) -> StoredObject:
        await self._call("replace", key)
        self.sent += content.size
        return self._put("replace", key, content)

    async def read(self, key: str) -> AsyncIterator[bytes]:
        await self._call("read", key)
        if key not in self.objects:
            raise TargetNotFound(f"{self.uri}{key}: no such object")
        data = self.objects[key]
        for start in range(0, len(data), 1 << 20):
            yield data[start : start + (1 << 20)]

    async def delete(self, key: str) -> None:
        await self._call("delete", key)
        self.objects.pop(key, None)

    async def _call(self, call: str, key: str) -> None:
        self.calls[call] += 1
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            for _ in range(self._steps):
                await asyncio.sleep(0)
            self.fault(call, key)
        finally:
            self.active -= 1

    def _put(self, call: str, key: str, content: Content) -> StoredObject:
        self.objects[key] = b"".join(content.chunks())
        self.after(call, key)
        return self._stored(key)

    def _stored(self, key: str) -> StoredObject:
        digests = Content.of_bytes(self.objects[key]).digests if self._checksums else Digests(len(self.objects[key]))
        return StoredObject(
            key, replace(digests, sha256=None), self.modified.get(key)
        )  # as object stores: crc32c, never sha256


class CopyingStore(MemoryStore):
    """A memory store whose server copies by itself."""

    def can_copy_from(self, source: Destination) -> bool:
        return isinstance(source, MemoryStore)

    async def look_to_copy(self, source: Destination, source_key: str) -> StoredObject | None:
        return await source.stat(source_key)

    async def copy_from(
        self, source: Destination, source_key: str, key: str, here: StoredObject | None = None
    ) -> StoredObject:
        await self._call("copy_from", key)
        assert isinstance(source, MemoryStore)
        if source_key not in source.objects:
            raise TargetNotFound(f"{source.uri}{source_key}: no such object")
        if key in self.objects:
            raise ObjectExists(f"{self.uri}{key}")
        return self._put("copy_from", key, Content.of_bytes(source.objects[source_key]))
