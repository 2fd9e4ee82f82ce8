"""Reads one image from the image store into something that can be stored, checked on the way."""

import asyncio
import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from data_export.content import Content, Hasher
from data_export.delivery.base import Destination, StoredObject
from data_export.errors import VerificationFailed
from data_export.images.limits import ByteBudget, CopyLimits


class Fetcher:
    """Fetches images under the byte budgets of `CopyLimits`; `scratch` is a local folder for the large ones."""

    def __init__(self, source: Destination, limits: CopyLimits, scratch: Path) -> None:
        self._source = source
        self._in_memory_bytes = limits.in_memory_bytes
        self._scratch = scratch
        self._memory = ByteBudget(limits.memory_bytes)
        self._disk = ByteBudget(limits.disk_bytes)

    @asynccontextmanager
    async def fetch(self, image: StoredObject) -> AsyncIterator[Content]:
        """The image's bytes, as many as its stat said and with its checksum; gone when the block ends.

        Raises:
            VerificationFailed: the bytes read are not those of the stat.
            TargetNotFound: the image was removed since.
        """
        if image.digests.size <= self._in_memory_bytes:
            async with self._memory.hold(image.digests.size):
                yield self._checked(image, await self._into_memory(image))
        else:
            async with self._disk.hold(image.digests.size):
                with NamedTemporaryFile(dir=self._scratch) as file:
                    yield self._checked(image, await self._into_file(image, Path(file.name)))

    async def _into_memory(self, image: StoredObject) -> Content:
        chunks = [chunk async for chunk in self._read(image)]
        only_md5 = image.digests.crc32c is None and image.digests.md5 is not None
        return Content.of_bytes(b"".join(chunks), _content_type(image.key), md5=only_md5)

    async def _into_file(self, image: StoredObject, path: Path) -> Content:
        hasher = Hasher(md5=image.digests.crc32c is None and image.digests.md5 is not None)
        with path.open("wb") as file:
            async for chunk in self._read(image):
                await asyncio.to_thread(file.write, chunk)
                await asyncio.to_thread(hasher.update, chunk)
        return Content(path, hasher.digests(), _content_type(image.key))

    async def _read(self, image: StoredObject) -> AsyncIterator[bytes]:
        """The source's chunks, never more than announced: an endless answer would break the budgets."""
        left = image.digests.size
        async for chunk in self._source.read(image.key):
            left -= len(chunk)
            if left < 0:
                raise VerificationFailed(f"{self._source.uri}{image.key} is longer than its {image.digests.size} bytes")
            yield chunk

    def _checked(self, image: StoredObject, content: Content) -> Content:
        if image.digests.matches(content.digests) is False:
            raise VerificationFailed(
                f"{self._source.uri}{image.key} reads as {content.digests}, but the store says {image.digests}"
            )
        return content


def _content_type(key: str) -> str:
    return mimetypes.guess_type(key)[0] or "application/octet-stream"
