"""Copies every image of a list: recognises what is there, counts what is missing, retries each fault by itself."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from secrets import SystemRandom
from tempfile import TemporaryDirectory
from typing import IO
from uuid import UUID

from data_export.delivery.base import Destination
from data_export.errors import ObjectExists, PermanentError, TargetFull, TargetUnavailable, TransientError
from data_export.images.bounds import DEFAULT_LIMITS, CopyLimits
from data_export.images.copy_one import DEFAULT_RULES, CopyRules, Settled, Settler
from data_export.images.fetch import Fetcher
from data_export.images.listing import ImageList, ListedImage
from data_export.receipt import ImagesCopied
from data_export.wording import size_in_words

MISSING_LISTED = 100
_log = logging.getLogger(__name__)
_random = SystemRandom()


@dataclass(frozen=True, slots=True)
class Progress:
    """Images done, images in total, bytes sent and seconds spent, since this attempt began."""

    done: int
    total: int
    bytes: int
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds left at the pace so far; None before the first image."""
        return (self.total - self.done) * self.seconds / self.done if self.done else None

    def __str__(self) -> str:
        """`12,000 of 500,000 images (2.4 %), 310 MB, 45.2 MB/s, 0:21:10 left`."""
        share = 100 * self.done / self.total if self.total else 100
        left = "" if self.seconds_left is None else f", {timedelta(seconds=round(self.seconds_left))} left"
        return (
            f"{self.done:,} of {self.total:,} images ({share:.1f} %), {size_in_words(self.bytes)}, "
            f"{size_in_words(self.bytes_per_second)}/s{left}"
        )


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
) -> ImagesCopied:
    """Copies the images listed in the local Parquet file `images` to `<site_id>/inputs/` of an open destination.

    An image that is already there (see `CopyRules`) is not sent again, so a repeated or killed copy sends only what is
    missing. Both sides are queried for each image, many at a time, because a listing would read years of images that
    this list does not name. Images go from server to server if both sides can, otherwise through this process. `limits`
    bounds memory, local disk and tasks (`destination.concurrency`), however many images there are.

    Args:
        images: columns `input_id` (uuid text) and `file_extension` (text, null for none); read in batches.
        source_key: key at the source of `(input_id, file_extension)`, see `source_key_of`.
        missing_list: a local file for the names of all images missing at the source, one a line; the result has 100.
        progress: called every `limits.report_seconds` and at the end, in the event loop; default: the log.

    Raises:
        PermanentError: at once, with everything else cancelled.
        TransientError: one image failed `limits.tries` times; the next call resumes.
    """
    with (
        ImageList(images, site_id, source_key) as listed,
        TemporaryDirectory(prefix="images-") as scratch,
        (missing_list or Path(scratch, "missing")).open("w") as missing,
    ):
        copier = _Copier(destination.uri, limits, len(listed), missing)
        fetcher = Fetcher(source, limits, Path(scratch))
        settler = Settler(source, destination, fetcher, rules, copier.under_way.__setitem__)
        await copier.run(iter(listed), settler, destination.concurrency, progress)
    return copier.result(site_id, source.uri)


class _Copier:
    """One copy in progress: the counts, and the tasks that share one iterator of images."""

    def __init__(self, uri: str, limits: CopyLimits, total: int, missing: IO[str]) -> None:
        self._uri = uri
        self._limits = limits
        self._missing = missing
        self._began = time.monotonic()
        self.total = total
        self.counts: Counter[str] = Counter()
        self.bytes = 0
        #: Bytes sent so far of images that are not settled yet.
        self.under_way: dict[str, int] = {}
        self.missing_names: list[str] = []
        self.kept_name = ""

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
                workers = [group.create_task(self._work(images, settler)) for _ in range(concurrency)]
                await asyncio.wait(workers)
                reporter.cancel()
        except ExceptionGroup as failures:
            raise _gravest(failures) from None
        self._tell(progress)

    async def _work(self, images: Iterator[ListedImage], settler: Settler) -> None:
        for image in images:  # shared by all workers: in one event loop a plain iterator is the queue
            settled = await self._persist(image, settler)
            self.counts[settled.outcome] += 1
            self.bytes += settled.bytes
            if settled.outcome == "missing":
                self._missing.write(f"{image.name}\n")
                self.missing_names.append(image.name)
                if len(self.missing_names) > 2 * MISSING_LISTED:  # the first by name: the same in every repeat
                    self.missing_names = sorted(self.missing_names)[:MISSING_LISTED]
            elif settled.outcome == "kept":
                self.kept_name = self.kept_name or image.name

    async def _persist(self, image: ListedImage, settler: Settler) -> Settled:
        """Settles the image and retries transient faults here, so that one image delays no other."""
        pause = self._limits.backoff_seconds
        for tries_left in reversed(range(self._limits.tries)):
            try:
                with suppress(ObjectExists):  # another run was quicker, or an answer was lost: the next look tells
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

    def result(self, site_id: UUID, source_uri: str) -> ImagesCopied:
        missing, kept = self.counts["missing"], self.counts["kept"]
        if missing:
            names = ", ".join(self.missing_names[:3])
            _log.warning("%d of %d images are missing at %s: %s ...", missing, self.total, source_uri, names)
        if kept:
            told = "%d of %d images at %s differ from their source and are kept, e.g. %s"
            _log.warning(told, kept, self.total, self._uri, self.kept_name)
        return ImagesCopied(
            site_id=site_id,
            copied=self.counts["copied"],
            already_there=self.counts["already_there"],
            kept=kept,
            missing_at_source=missing,
            missing=sorted(self.missing_names)[:MISSING_LISTED],
            bytes=self.bytes,
        )

    async def _report(self, progress: Callable[[Progress], None] | None) -> None:
        while True:
            await asyncio.sleep(self._limits.report_seconds)
            self._tell(progress)

    def _tell(self, progress: Callable[[Progress], None] | None) -> None:
        sent = self.bytes + sum(self.under_way.values())
        now = Progress(self.counts.total(), self.total, sent, time.monotonic() - self._began)
        if progress is None:
            _log.info("%s: %s", self._uri, now)
        else:
            progress(now)


def _gravest(failures: ExceptionGroup[Exception]) -> Exception:
    """The one failure to report: a permanent one if there is any, otherwise the first."""
    return next((error for error in failures.exceptions if isinstance(error, PermanentError)), failures.exceptions[0])
