"""Copies every image of a list: recognises what is there, counts what is missing, retries each fault by itself."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from heapq import nsmallest
from pathlib import Path
from secrets import SystemRandom
from uuid import UUID

from data_export.delivery.base import Destination
from data_export.errors import (
    DataExportError,
    ObjectExists,
    PermanentError,
    TargetFull,
    TargetUnavailable,
    TransientError,
)
from data_export.images.bounds import DEFAULT_LIMITS, CopyLimits, Progress
from data_export.images.copy_one import DEFAULT_RULES, CopyRules, Settled, Settler
from data_export.images.fetch import Fetcher
from data_export.images.left_out import Failures
from data_export.images.listing import ImageList, ListedImage
from data_export.images.seen import Seen
from data_export.receipt import ImagesCopied
from data_export.scratch import scratch

MISSING_LISTED = 100
_log = logging.getLogger(__name__)
_random = SystemRandom()


async def copy_images(
    images: Path,
    *,
    site_id: UUID,
    source: Destination,
    source_key: Callable[[str, str | None], str],
    destination: Destination,
    rules: CopyRules = DEFAULT_RULES,
    missing_list: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    limits: CopyLimits = DEFAULT_LIMITS,
    last_try: bool = True,
) -> ImagesCopied:
    """Copies the images listed in the local Parquet file `images` to `<site_id>/inputs/` of an open destination.

    An image that is there (see `CopyRules`) is not sent again, so that a repeated or killed copy sends what is missing
    and no more. An image that cannot be read or stored is counted with its reason and the others go on, see `Failures`.
    Both sides are asked for each image, at once and many at a time, except for what a listing shows, see `Seen`. Images
    go from server to server where both sides can, otherwise through this process: memory, local disk and tasks
    (`destination.concurrency`) are bounded by `limits`, whatever their number.

    Args:
        images: columns `input_id` (uuid text) and `file_extension` (text, null for none); read in batches.
        source_key: key at the source of `(input_id, file_extension)`, see `source_key_of`.
        missing_list: a local file for the names of all images missing at the source, one a line, in the order of
            `images`, so that a repeat writes the same; it is written where the result, which has 100, lacks some.
        progress: called every `limits.report_seconds` and at the end, in the event loop; default: the log.
        last_try: nobody repeats the copy: what may pass but did not is counted as failed, and not raised.

    Raises:
        PermanentError: source or target refuses more than single images; at once, everything else cancelled.
        TransientError: source or target is full, or down in spite of `limits.tries`, or, before the last try, single
            images are; repeating resumes.
    """
    with ImageList(images, site_id, source_key) as listed, scratch() as folder:
        copier = _Copier(destination.uri, limits, len(listed), Failures(last_try=last_try))
        fetcher = Fetcher(source, limits, folder)
        seen = Seen()
        if (first := next(iter(listed), None)) is not None:
            await seen.look(source, destination, first, len(listed))
        settler = Settler(source, destination, fetcher, rules, seen, copier.under_way.__setitem__)
        await copier.run(iter(listed), settler, destination.concurrency, progress)
        missing = await asyncio.to_thread(copier.missing, listed, missing_list)  # it may read the whole list again
    return copier.result(site_id, source.uri, missing)


class _Copier:
    """One copy in progress: the counts, and the tasks that share one iterator of images."""

    def __init__(self, uri: str, limits: CopyLimits, total: int, failures: Failures) -> None:
        self._uri = uri
        self._limits = limits
        #: By an image's number, whether it is missing: a byte each, where names of all would not be bounded.
        self._missing = bytearray(total)
        self._began = time.monotonic()
        self.total = total
        self.counts: Counter[str] = Counter()
        self.bytes = 0
        #: Bytes sent so far of images that are not settled yet.
        self.under_way: dict[str, int] = {}
        self.kept_name = ""
        self.failures = failures
        #: An image that both sides were last seen to answer for.
        self.known: ListedImage | None = None

    async def run(
        self,
        images: Iterator[ListedImage],
        settler: Settler,
        concurrency: int,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                reporter = group.create_task(self._report(progress))
                await self._work_side_by_side(group, images, settler, concurrency)
                if aside := self.failures.take_aside():
                    await self._work_side_by_side(group, iter(aside), settler, concurrency)
                if self.failures.are_aside and self.known is not None:
                    await settler.look(self.known)  # raises where the host is gone
                self.failures.settle()
                reporter.cancel()
        except ExceptionGroup as failures:
            raise _gravest(failures) from None
        self._tell(progress)

    async def _work_side_by_side(
        self, group: asyncio.TaskGroup, images: Iterator[ListedImage], settler: Settler, concurrency: int
    ) -> None:
        await asyncio.wait([group.create_task(self._work(images, settler)) for _ in range(concurrency)])

    async def _work(self, images: Iterator[ListedImage], settler: Settler) -> None:
        for image in images:  # shared by all workers: in one event loop a plain iterator is the queue
            copied_before = self.failures.copied
            try:
                settled = await self._persist(image, settler)
            except DataExportError as error:
                self.failures.add(image, error, copied_before)
                continue
            self.counts[settled.outcome] += 1
            self.bytes += settled.bytes
            if settled.outcome == "missing":
                self._missing[image.number] = True
            elif settled.outcome == "kept":
                self.kept_name = self.kept_name or image.name
            if settled.outcome != "missing":
                self.failures.went_well(copied=settled.outcome == "copied")
                self.known = image

    async def _persist(self, image: ListedImage, settler: Settler) -> Settled:
        """Settles the image and retries transient faults here, so that one image delays no other."""
        pause = self._limits.backoff_seconds
        for tries_left in reversed(range(self._limits.tries)):
            try:
                with suppress(ObjectExists):  # another run was quicker, or an answer was lost: the next look decides
                    return await settler.settle(image)
            except TransientError as error:
                if not tries_left or isinstance(error, TargetFull):
                    raise
                _log.info("%s: %s: trying again", image.name, error)
                await asyncio.sleep(pause * _random.uniform(0.5, 1))
                pause *= 2
            finally:
                self.under_way.pop(image.key, None)
        raise TargetUnavailable(f"{self._uri}{image.key} comes and goes while it is delivered: try again")

    def missing(self, listed: Iterable[ListedImage], path: Path | None) -> list[str]:
        """The first names, in their order, of images that are missing; all go to the file, if they are more."""

        def names() -> Iterator[str]:
            return (image.name for image in listed if self._missing[image.number])

        count = self.counts["missing"]
        if path and count > MISSING_LISTED:
            with path.open("w") as file:
                file.writelines(f"{name}\n" for name in names())
        return nsmallest(MISSING_LISTED, names()) if count else []

    def result(self, site_id: UUID, source_uri: str, names: list[str]) -> ImagesCopied:
        missing, kept = self.counts["missing"], self.counts["kept"]
        if missing:
            some = ", ".join(names[:3])
            _log.warning("%d of %d images are missing at %s: %s ...", missing, self.total, source_uri, some)
        if kept:
            text = "%d of %d images at %s differ from their source and are kept, e.g. %s"
            _log.warning(text, kept, self.total, self._uri, self.kept_name)
        if self.failures.count:
            text = "%d of %d images could not be copied to %s: %s ..."
            _log.error(text, self.failures.count, self.total, self._uri, self.failures.lines[0])
        return ImagesCopied(
            site_id=site_id,
            copied=self.counts["copied"],
            already_there=self.counts["already_there"],
            kept=kept,
            missing_at_source=missing,
            missing=names,
            failed=self.failures.count,
            failures=self.failures.lines,
            bytes=self.bytes,
        )

    async def _report(self, progress: Callable[[Progress], None] | None) -> None:
        while True:
            await asyncio.sleep(self._limits.report_seconds)
            self._tell(progress)

    def _tell(self, progress: Callable[[Progress], None] | None) -> None:
        sent = self.bytes + sum(self.under_way.values())
        now = Progress(self.counts.total() + self.failures.count, self.total, sent, time.monotonic() - self._began)
        if progress is None:
            _log.info("%s: %s", self._uri, now)
        else:
            progress(now)


def _gravest(failures: ExceptionGroup[Exception]) -> Exception:
    """The one failure to report: a permanent one if there is any, otherwise the first."""
    return next((error for error in failures.exceptions if isinstance(error, PermanentError)), failures.exceptions[0])
