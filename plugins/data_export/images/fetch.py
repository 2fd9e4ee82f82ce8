"""Reads one image from the image store, checks it, and holds it ready to be stored."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TypedDict
from urllib.parse import urlsplit
from uuid import UUID

from data_export.content import CHUNK_BYTES, Content, Digests, Hasher
from data_export.delivery.base import Destination, StoredObject
from data_export.delivery.threads import at_most
from data_export.errors import ConfigError, ObjectRefused, VerificationFailed
from data_export.images.bounds import ByteBudget, CopyLimits
from data_export.layout import plain_extension


class Fetcher:
    """Fetches images under the byte budgets of `CopyLimits`; `scratch` is a local folder for the large ones."""

    def __init__(self, source: Destination, limits: CopyLimits, scratch: Path) -> None:
        self._source = source
        self._in_memory_bytes = limits.in_memory_bytes
        self._scratch = scratch
        self._memory = ByteBudget(limits.memory_bytes)
        self._disk = ByteBudget(limits.disk_bytes)
        self._disk_bytes = limits.disk_bytes

    @asynccontextmanager
    async def fetch(self, image: StoredObject) -> AsyncIterator[Content]:
        """The image's bytes, checked against the size and checksum of its stat; removed when the block ends.

        What the store keeps compressed is unpacked, up to all of the disk budget.

        Raises:
            ObjectRefused: it is compressed in a way that we do not know, broken, or too large when unpacked.
            VerificationFailed: the bytes read are not those of the stat.
            TargetNotFound: the image was removed since.
        """
        if image.encoding is not None:
            async with self._disk.hold(self._disk_bytes):
                with NamedTemporaryFile(dir=self._scratch) as packed, NamedTemporaryFile(dir=self._scratch) as file:
                    self._checked(image, await self._into_file(image, Path(packed.name)))
                    yield await asyncio.to_thread(self._unpacked, image, Path(packed.name), Path(file.name))
        elif image.digests.size <= self._in_memory_bytes:
            async with self._memory.hold(image.digests.size):
                yield self._checked(image, await self._into_memory(image))
        else:
            async with self._disk.hold(image.digests.size):
                with NamedTemporaryFile(dir=self._scratch) as file:
                    yield self._checked(image, await self._into_file(image, Path(file.name)))

    def _unpacked(self, image: StoredObject, packed: Path, path: Path) -> Content:
        where = f"{self._source.uri}{image.key}"
        if image.encoding != "gzip":
            raise ObjectRefused(f"{where} is stored with Content-Encoding {image.encoding}: store the image as it is")
        hasher, room = Hasher(md5=True), self._disk_bytes
        with packed.open("rb") as raw, path.open("wb") as file:
            is_gzip = raw.read(2) == b"\x1f\x8b"  # else the store only says so, and the bytes are the image's own
            raw.seek(0)
            stream = gzip.GzipFile(fileobj=raw) if is_gzip else raw
            try:
                while chunk := stream.read(CHUNK_BYTES):
                    room -= len(chunk)
                    if room < 0:
                        raise ObjectRefused(f"{where} is larger than {self._disk_bytes} bytes when it is unpacked")
                    file.write(chunk)
                    hasher.update(chunk)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise ObjectRefused(f"{where} is stored as gzip and cannot be unpacked ({error})") from None
        return Content(path, hasher.digests())

    async def _into_memory(self, image: StoredObject) -> Content:
        data = b"".join([chunk async for chunk in self._read(image)])
        return Content.of_bytes(data, **proof_of(image))

    async def _into_file(self, image: StoredObject, path: Path) -> Content:
        hasher = Hasher(**proof_of(image))
        with path.open("wb") as file:
            async for chunk in self._read(image):
                await asyncio.to_thread(file.write, chunk)
                await asyncio.to_thread(hasher.update, chunk)
        return Content(path, hasher.digests())

    def _read(self, image: StoredObject) -> AsyncIterator[bytes]:
        return at_most(self._source.read(image.key), image.digests.size, f"{self._source.uri}{image.key}")

    def _checked(self, image: StoredObject, content: Content) -> Content:
        if image.digests.matches(content.digests) is False:
            raise VerificationFailed(
                f"{self._source.uri}{image.key} reads as {content.digests}, but the store says {image.digests}"
            )
        return content


class Proof(TypedDict):
    """Which digests beside crc32c are computed."""

    md5: bool
    sha256: bool


def proof_of(image: StoredObject) -> Proof:
    """Which digests beside crc32c are computed to compare the image with what its store says."""
    known = image.digests
    others = known if known.crc32c is None else Digests(known.size)
    return {"md5": others.md5 is not None, "sha256": others.sha256 is not None}


def split_images_uri(template: str) -> tuple[str, str]:
    """The folder of all images, on which to open a store, and the template of the keys below it.

    `gs://images/all/{site_id}/{input_id}` is `("gs://images/all/", "{site_id}/{input_id}")`.

    Raises:
        ConfigError: the bucket's name has a placeholder, but one store is opened for all sites.
    """
    fixed = template.partition("{")[0]
    root = fixed[: fixed.rfind("/") + 1]
    parts = urlsplit(root)
    if not (parts.netloc or parts.path):
        raise ConfigError(f"source.images_uri {template!r} has a placeholder in the bucket: name one bucket")
    return root, template[len(root) :]


def source_key_of(key_template: str, site_id: UUID) -> Callable[[str, str | None], str]:
    """The function from `(input_id, file_extension)` to the image's key below the folder of `split_images_uri`.

    That function raises ValueError for an extension that could leave the folder.
    """
    of_site = key_template.replace("{site_id}", str(site_id))

    def source_key(input_id: str, file_extension: str | None) -> str:
        return of_site.replace("{input_id}", input_id).replace("{file_extension}", plain_extension(file_extension))

    return source_key
