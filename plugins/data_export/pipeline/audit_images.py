"""Whether the images that a delivered data file refers to are at the target, as the platform has them; reads only."""

import asyncio
import math
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple
from uuid import UUID

import orjson

from data_export.delivery.base import Destination, StoredObject
from data_export.delivery.threads import read_digests
from data_export.errors import CredentialsRefused, PermanentError, TargetNotFound
from data_export.images.listing import ListedImage
from data_export.layout import DATA_SUFFIXES, Encoding, image_key
from data_export.pipeline.expected import Expected
from data_export.transform.encoding import lines_of

_SAMPLE = 200  # images of one data file at most, unless all are wanted
_COUNTED = ("copied", "already_there", "kept", "missing_at_source", "failed")  # all that a data file refers to
_AT_ONCE = 16
# Compact separators are ours alone: PostgreSQL puts a space after each colon, and a text's quotes are escaped.
_INPUT = re.compile(
    rb'\{"id":"([0-9a-f-]{36})","create_date":(?:null|"[^"]*"),"file_extension":(null|"(?:[^"\\]|\\.)*")'
)


class Missed(NamedTuple):
    """An image at the target that is not as it was delivered; `unknown`: the platform's own store does not say."""

    key: str
    found: Literal["missing", "other size", "other content", "unreadable", "unknown"]
    detail: str


Report = Callable[[Missed], None]


@dataclass(frozen=True, slots=True)
class ImagesOf:
    """The platform's image store, open while an audit runs, and the names of images in it."""

    source: Destination
    source_key_of: Callable[[UUID], Callable[[str, str | None], str]]

    async def look(
        self, file: Expected, path: Path, target: Destination, report: Report, *, full: bool, end: float
    ) -> int:
        """Looks at the images of a data file whose bytes are at `path`; returns at how many, until `end`.

        What the receipt says was missing at the source, failed or kept is left out; so is what the platform changed
        since.

        Raises:
            CredentialsRefused, TransientError: of either side.
        """
        images, looked = self._images(file, path, full=full), 0

        async def work() -> None:
            nonlocal looked
            for image in images:  # all take from the one iterator
                if time.monotonic() > end:
                    return
                looked += 1
                if missed := await _One(self.source, target, file, image, full).look():
                    report(missed)

        await all_of(work() for _ in range(max(1, min(target.concurrency, _AT_ONCE))))
        return looked

    def _images(self, file: Expected, path: Path, *, full: bool) -> Iterator[ListedImage]:
        counts = file.images or {}
        total = sum(int(counts.get(key) or 0) for key in _COUNTED)
        step = 1 if full else max(1, math.ceil(total / _SAMPLE))
        first, site_id = random.Random(file.uri).randrange(step), UUID(file.site_id)  # noqa: S311 - no secret
        source_key = self.source_key_of(site_id)
        with suppress(ValueError):  # a file of somebody else's, which the target's rule kept
            for number, (input_id, extension) in enumerate(inputs(path, encoding_of(file.uri))):
                if number % step == first:
                    yield ListedImage(source_key(input_id, extension), image_key(site_id, input_id, extension))


class _One:
    def __init__(
        self, source: Destination, target: Destination, file: Expected, image: ListedImage, full: bool
    ) -> None:
        self._source, self._target, self._file, self._image, self._full = source, target, file, image, full

    async def look(self) -> Missed | None:
        here, there = await asyncio.gather(
            self._source.stat(self._image.source_key), self._target.stat(self._image.key), return_exceptions=True
        )
        if isinstance(here, PermanentError):
            return self._unknown(here)
        if isinstance(here, BaseException):
            raise here
        try:
            if isinstance(there, BaseException):
                raise there
            if there is None:
                return self._missing(here)
            return await self._compare(here, there) if here is not None else None
        except CredentialsRefused:
            raise
        except TargetNotFound:
            return None
        except PermanentError as error:
            return Missed(self._image.key, "unreadable", str(error))

    def _unknown(self, error: PermanentError) -> Missed:
        if isinstance(error, CredentialsRefused):
            raise error
        return Missed(self._image.key, "unknown", str(error))

    def _missing(self, here: StoredObject | None) -> Missed | None:
        counts = self._file.images or {}
        named, failures = counts.get("missing") or [], counts.get("failures") or []
        known = self._image.name in named or any(each.startswith(f"{self._image.name}: ") for each in failures)
        unknown = (counts.get("missing_at_source") or 0) > len(named) or (counts.get("failed") or 0) > len(failures)
        if known or unknown or (here is None and (named or failures)):
            return None
        return Missed(self._image.key, "missing", "" if here else "and no longer at the platform either")

    async def _compare(self, here: StoredObject, there: StoredObject) -> Missed | None:
        at = self._file.delivered_at
        changed_since = here.modified is not None and here.modified > at
        if (self._file.images or {}).get("kept") or here.encoding is not None or changed_since:
            return None
        if there.digests.size != here.digests.size:
            sizes = f"{there.digests.size:,} bytes, not {here.digests.size:,}"
            return Missed(self._image.key, "other size", sizes)
        same = there.digests.matches(here.digests)
        if (there.modified is not None and there.modified > at) or (same is None and self._full):
            size = here.digests.size
            read = await read_digests(self._target.read(there.key), md5=True, most=size)
            same = read.matches(here.digests)
            if same is None:
                try:
                    same = read.matches(await read_digests(self._source.read(here.key), md5=True, most=size))
                except TargetNotFound:  # it has gone meanwhile
                    return None
                except PermanentError as error:
                    return self._unknown(error)
        if same is False:
            return Missed(self._image.key, "other content", "same size, another checksum")
        return None


def inputs(path: Path, encoding: Encoding) -> Iterator[tuple[str, str | None]]:
    """Id and extension of each input that a data file of ours holds, in its order; raises as `lines_of` does."""
    for line in lines_of(path, encoding):
        for match in _INPUT.finditer(line):
            yield match[1].decode(), orjson.loads(match[2])


def encoding_of(uri: str) -> Encoding:
    """How a data file is packed, by its name."""
    return max((name for name, suffix in DATA_SUFFIXES.items() if uri.endswith(suffix)), key=_length)


def _length(encoding: Encoding) -> int:
    return len(DATA_SUFFIXES[encoding])


async def all_of(works: Iterable[Awaitable[None]]) -> None:
    """Waits for all; the first that raises ends the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
