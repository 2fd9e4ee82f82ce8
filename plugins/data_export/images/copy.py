"""Copies every image of a list: what is there is recognised, what is missing is counted, faults are retried alone."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import SystemRandom
from tempfile import TemporaryDirectory
from typing import Literal
from uuid import UUID

from data_export.delivery.base import Destination, ServerSideCopy, StoredObject
from data_export.errors import (
    AccessDenied,
    ObjectExists,
    PermanentError,
    TargetFull,
    TargetNotFound,
    TransientError,
    VerificationFailed,
)
from data_export.images.fetch import Fetcher
from data_export.images.limits import DEFAULT_LIMITS, CopyLimits
from data_export.images.listing import ImageList, ListedImage
from data_export.images.progress import Progress
from data_export.receipt import ImagesCopied

_MISSING_LISTED = 100
_log = logging.getLogger(__name__)
_random = SystemRandom()


async def copy_images(
    images: Path,
    *,
    site_id: UUID,
    source: Destination,
    source_key: Callable[[str, str | None], str],
    destination: Destination,
    progress: Callable[[Progress], None] | None = None,
    limits: CopyLimits = DEFAULT_LIMITS,
) -> ImagesCopied:
    """Copies the images listed in the local Parquet file `images` to `<site_id>/inputs/` of an open destination.

    An image that is there with the same size and, where both sides know one, the same checksum is not sent again, so
    that a repeated or killed copy sends what is missing and no more. Both sides are asked for each image, at once and
    many at a time: a listing would read the years of images that this list does not name. An image whose content
    differs is replaced. Images go from server to server where both sides can, otherwise through this process: memory,
    local disk and tasks (`destination.concurrency`) are bounded by `limits`, whatever the number of images.

    Args:
        images: columns `input_id` (uuid text) and `file_extension` (text, null for none); read batch by batch.
        source_key: key at the source of `(input_id, file_extension)`, see `source_key_of`.
        progress: called every `limits.report_seconds` and at the end, in the event loop; without it, the log is told.

    Raises:
        PermanentError: at once, everything else cancelled.
        TransientError: one image failed `limits.tries` times; repeating resumes.
    """
    with ImageList(images, site_id, source_key) as listed, TemporaryDirectory(prefix="images-") as scratch:
        copier = _Copier(source, destination, Fetcher(source, limits, Path(scratch)), limits, len(listed))
        await copier.run(iter(listed), progress)
    if copier.missing:
        names = ", ".join(copier.missing_names[:3])
        _log.warning("%d of %d images are missing at %s: %s ...", copier.missing, copier.total, source.uri, names)
    return ImagesCopied(
        site_id=site_id,
        copied=copier.copied,
        already_there=copier.already_there,
        missing_at_source=copier.missing,
        missing=sorted(copier.missing_names),
        bytes=copier.bytes,
    )


class _Copier:
    """One copy under way: the counts, and the tasks that share one iterator of images."""

    def __init__(
        self, source: Destination, destination: Destination, fetcher: Fetcher, limits: CopyLimits, total: int
    ) -> None:
        self._source = source
        self._destination = destination
        self._fetcher = fetcher
        self._limits = limits
        self._server_side: ServerSideCopy | None = None
        if isinstance(destination, ServerSideCopy) and destination.can_copy_from(source):
            self._server_side = destination
        self._began = time.monotonic()
        self.total = total
        self.copied = self.already_there = self.missing = self.bytes = 0
        self.missing_names: list[str] = []

    async def run(self, images: Iterator[ListedImage], progress: Callable[[Progress], None] | None) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                reporter = group.create_task(self._report(progress))
                workers = [group.create_task(self._work(images)) for _ in range(self._destination.concurrency)]
                await asyncio.wait(workers)
                reporter.cancel()
        except ExceptionGroup as failures:
            raise _gravest(failures) from None
        self._tell(progress)

    async def _work(self, images: Iterator[ListedImage]) -> None:
        for image in images:  # shared by all workers: in one event loop a plain iterator is the queue
            outcome = await self._persist(image)
            if outcome == "already_there":
                self.already_there += 1
            elif outcome == "missing":
                self.missing += 1
                if len(self.missing_names) < _MISSING_LISTED:
                    self.missing_names.append(image.name)
            else:
                self.copied += 1
                self.bytes += outcome

    async def _persist(self, image: ListedImage) -> int | Literal["already_there", "missing"]:
        """Settles the image, over transient faults, which are retried here so that one image delays no other."""
        pause = self._limits.backoff_seconds
        for tries_left in reversed(range(self._limits.tries)):
            try:
                return await self._settle(image)
            except ObjectExists:
                if not tries_left:
                    raise
                # Another run was quicker, or the answer to our own write was lost: the next look tells.
            except TransientError as error:
                if not tries_left or isinstance(error, TargetFull):
                    raise
                _log.info("%s: %s: trying again", image.name, error)
                await asyncio.sleep(pause * _random.uniform(0.5, 1))
                pause *= 2
        raise AssertionError("unreachable: the last try returns or raises")

    async def _settle(self, image: ListedImage) -> int | Literal["already_there", "missing"]:
        """The bytes copied, or why none were."""
        here, there = await self._look(image)
        if there is not None and (here is None or there.digests.matches(here.digests) is not False):
            return "already_there"
        if here is None:
            return "missing"
        try:
            await self._copy(image, here, there)
        except TargetNotFound as error:
            if await self._source.stat(image.source_key) is None:
                return "missing"
            raise TargetNotFound(  # a server-side copy may blame the image, which is there
                f"{self._destination.uri}: no such bucket or folder: create it, or correct the address in the customer "
                f"file ({error})"
            ) from error
        return here.digests.size

    async def _look(self, image: ListedImage) -> tuple[StoredObject | None, StoredObject | None]:
        """What source and target hold, asked at once: it halves the time of recognising what is there."""
        here = asyncio.create_task(self._source.stat(image.source_key))
        try:
            there = await self._destination.stat(image.key)
        except BaseException:
            here.cancel()
            await asyncio.gather(here, return_exceptions=True)
            raise
        return await here, there

    async def _copy(self, image: ListedImage, here: StoredObject, there: StoredObject | None) -> None:
        if there is None and self._server_side is not None:
            try:
                stored = await self._server_side.copy_from(self._source, image.source_key, image.key)
            except AccessDenied as error:
                if self._server_side is not None:
                    self._server_side = None
                    _log.warning("images are streamed, not copied from server to server: %s", error)
            else:
                if stored.digests.matches(here.digests) is False:
                    raise VerificationFailed(f"{self._destination.uri}{image.key} is not what was copied: {stored}")
                return
        async with self._fetcher.fetch(here) as content:
            if there is None:
                await self._destination.create(image.key, content)
            else:
                _log.warning("%s%s differs from its source and is replaced", self._destination.uri, image.key)
                await self._destination.replace(image.key, content)

    async def _report(self, progress: Callable[[Progress], None] | None) -> None:
        while True:
            await asyncio.sleep(self._limits.report_seconds)
            self._tell(progress)

    def _tell(self, progress: Callable[[Progress], None] | None) -> None:
        done = self.copied + self.already_there + self.missing
        now = Progress(done, self.total, self.bytes, time.monotonic() - self._began)
        if progress is None:
            _log.info("%s: %s", self._destination.uri, now)
        else:
            progress(now)


def _gravest(failures: ExceptionGroup[Exception]) -> Exception:
    """The one failure to tell: a permanent one before any other, else the first."""
    return next((error for error in failures.exceptions if isinstance(error, PermanentError)), failures.exceptions[0])
