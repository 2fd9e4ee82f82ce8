"""What a listing of each side shows, so that not every image is looked for by itself."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, cast

from data_export.content import Digests
from data_export.delivery.base import Destination, Store, StoredObject, WithFolderListing, WithFullListing
from data_export.errors import DataExportError, TransientError
from data_export.images.listing import ListedImage

# A page of 100 names costs the server and us about as much as ten looks; a folder may hold years of images that this
# list does not name. At most about 22 MiB of names are held of each side.
_NAMES_FOR_AN_IMAGE = 10
_MOST_NAMES = 50_000
_LONGEST_SECONDS = 30.0


class Seen:
    """The images that the target's folder held when the copy began, as far as it paid to list them.

    A listing is a moment older than a look: whoever creates what it `lacks` must fail where it is there by now, and
    then calls `distrust`.
    """

    def __init__(self) -> None:
        #: By the image's name: the target's file, or None once the source was seen to hold the same.
        self._there: dict[str, StoredObject | None] = {}
        #: What the source's listing says in full of images that the target lacks.
        self._here: dict[str, StoredObject] = {}
        self._is_whole = False
        self._source_folder = ""

    async def look(self, source: Destination, destination: Destination, image: ListedImage, total: int) -> None:
        """Lists the target's folder of `image`, and the source's where it may spare a look.

        What cannot be listed is looked at one by one, so that errors are raised where they concern an image.
        """
        most = min(_NAMES_FOR_AN_IMAGE * total, _MOST_NAMES)
        if not isinstance(destination, WithFolderListing) or total < 2:
            return
        with suppress(DataExportError, TimeoutError):
            async with asyncio.timeout(_LONGEST_SECONDS):
                self._is_whole = await _take(destination.files_in(image.key.rpartition("/")[0]), most, self._found)
        self._source_folder = image.source_key.removesuffix(image.name)
        spares = self._there or (self._is_whole and isinstance(source, WithFullListing))
        if spares and self._source_folder != image.source_key and hasattr(source, "list"):
            with suppress(DataExportError, TimeoutError):
                async with asyncio.timeout(_LONGEST_SECONDS):
                    await _take(_pages(cast("Store", source), self._source_folder), most, self._compare)

    def is_same(self, image: ListedImage) -> bool:
        """Whether both sides were seen to hold the same."""
        return self._there.get(image.name, image) is None and image.source_key == self._source_folder + image.name

    def listed(self, image: ListedImage) -> StoredObject | None:
        """The target's file, where a look at the source, or at both, says more than the listings did."""
        there = self._there.get(image.name)
        return there if there and _may_prove(there) else None

    def lacks(self, image: ListedImage) -> bool:
        """Whether the target was seen not to hold the image."""
        return self._is_whole and image.name not in self._there

    def held(self, image: ListedImage) -> StoredObject | None:
        """What the source was seen to hold of an image that the target lacks."""
        here = self._here.get(image.name) if image.source_key == self._source_folder + image.name else None
        return here and replace(here, key=image.source_key)

    def distrust(self, image: ListedImage, error: DataExportError) -> None:
        """Forgets what the source listed of the image; unless the fault may pass, nothing counts as lacking now."""
        self._here.pop(image.name, None)
        if not isinstance(error, TransientError):
            self._is_whole = False
            self._here.clear()

    def _found(self, page: Sequence[StoredObject]) -> int:
        before = len(self._there)
        self._there.update((one.key, one) for one in map(_small, page))
        return len(self._there) - before

    def _compare(self, page: Sequence[StoredObject]) -> int:
        for here in page:
            name = here.key.removeprefix(self._source_folder)
            there = self._there.get(name)
            if name not in self._there and self._is_whole and _is_plain(here):
                self._here[name] = _small(here)
            if there is None or here.encoding is not None:
                continue
            same = there.digests.matches(here.digests)
            if same or (same is None and not (_may_prove(there) or is_older(there, here))):
                self._there[name] = None
        return len(page)


def _small(stored: StoredObject) -> StoredObject:
    """With its name in place of its key, and with no more digests than it takes to compare: there may be many."""
    digests = stored.digests
    if digests.crc32c or digests.md5:
        digests = Digests(digests.size, md5=digests.md5, crc32c=digests.crc32c)
    name = stored.key.rpartition("/")[2]
    return StoredObject(name, digests, stored.modified, partial=stored.partial, version=stored.version)


def _is_plain(here: StoredObject) -> bool:
    """Whether a look would say no more, and the bytes are the image's own."""
    return not here.partial and here.encoding is None and here.digests != Digests(here.digests.size)


def _may_prove(there: StoredObject) -> bool:
    """Whether more than size and time says what is there."""
    return there.partial or there.digests != Digests(there.digests.size)


async def _pages(store: Store, start: str) -> AsyncIterator[Sequence[StoredObject]]:
    if isinstance(store, WithFolderListing) and start.endswith("/"):
        async with aclosing(cast("Any", store.files_in(start[:-1]))) as pages:
            async for page in pages:
                yield page
        return
    async with aclosing(cast("Any", store.list(start))) as found:
        async for one in found:
            yield (one,)


async def _take(listing: AsyncIterator[Any], most: int, take: Callable[[Any], int]) -> bool:
    """Whether the listing ended before more than `most` were taken."""
    taken = 0
    async with aclosing(cast("Any", listing)) as pages:
        async for page in pages:
            taken += take(page)
            if taken > most:
                return False
    return True


def is_older(there: StoredObject, here: StoredObject) -> bool:
    """Whether the target's file was written before the source's image, in whole seconds, as in SFTP."""
    if there.modified is None or here.modified is None:
        return False
    return there.modified < here.modified.replace(microsecond=0)
