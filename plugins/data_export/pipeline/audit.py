"""Whether what was delivered is still at the target, unchanged; reads only."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from data_export.content import Digests
from data_export.delivery.base import Destination, Listing, StoredObject
from data_export.delivery.threads import read_digests, run_async
from data_export.errors import CredentialsRefused, PermanentError, TargetNotFound
from data_export.pipeline.audit_images import ImagesOf, Missed, all_of
from data_export.pipeline.expected import Delivered, Expected, Kind
from data_export.scratch import scratch
from data_export.wording import size_in_words

#: More objects of one export are not looked at in one audit: they are what it holds in memory.
MOST = 200_000
_FEW = 4  # of one folder are asked for one by one; a folder may hold the files of years
_AT_ONCE = 16
_FILES_ON_DISK = 2  # at once: each may be a gigabyte
_KEPT = 1_000  # findings, each with its address
#: So long after the moment of delivery, which is in whole seconds, a data file and what `close` writes are written.
_DATA_WRITTEN, _CLOSED = timedelta(seconds=1), timedelta(minutes=5)

Found = Literal["missing", "other size", "other content", "unreadable"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One object that is not as it was delivered. `fix` says what makes it good where no run can."""

    kind: Kind
    uri: str
    found: Found
    detail: str
    start: str
    end: str
    site_id: str
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def with_fix(self, fix: str) -> "Finding":
        return replace(self, fix=fix)

    def __str__(self) -> str:
        return f"{self.kind} {self.uri}: {self.found}{self.detail and f', {self.detail}'}"


@dataclass(frozen=True, slots=True)
class AuditRules:
    """How thoroughly an audit looks.

    Always: presence and size of every object, and the content of those that were written after their delivery. Besides,
    the content of `sample` data files and of their images; with `full`, of all.
    """

    full: bool = False
    sample: int = 20
    seconds: float = 1800
    seed: str = ""


@dataclass(slots=True)
class Audited:
    """What an audit has seen so far. `left` counts the objects that there was no time for."""

    objects: int = 0
    read: int = 0
    images: int = 0
    left: int = 0
    cut: bool = False
    elsewhere: int = 0
    #: Images that could not be compared, since the platform's own store refuses them, and the first refusal.
    unknown: int = 0
    unknown_reason: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[Expected, Finding]] = field(default_factory=list)

    def add(self, file: Expected, found: Found, detail: str = "", kind: Kind | None = None, uri: str = "") -> None:
        self.counts[found] += 1
        if len(self.findings) < _KEPT:
            place = (file.start, file.end, file.site_id)
            self.findings.append((file, Finding(kind or file.kind, uri or file.uri, found, detail, *place)))


def audit(
    target: Destination, delivered: Delivered, rules: AuditRules, images: ImagesOf | None, began: datetime
) -> Audited:
    """Looks at everything that was delivered, many objects at a time, the newest windows first.

    Args:
        images: how to look at the images of a data file; None where the export has none.
        began: when the receipts were read; what is written later is a run's own and is left to the next audit.

    Raises:
        CredentialsRefused: the target does not let us in.
        TransientError: the target, or the image store, does not answer.
    """
    return run_async(_Audit(target, rules, images, began).run(delivered))


class _Audit:
    def __init__(self, target: Destination, rules: AuditRules, images: ImagesOf | None, began: datetime) -> None:
        self._target, self._rules, self._images, self._began = target, rules, images, began
        self._end = time.monotonic() + rules.seconds
        self._at_once = max(1, min(target.concurrency, _AT_ONCE))
        self._on_disk = asyncio.Semaphore(_FILES_ON_DISK)
        self._missed: set[str] = set()
        self.seen = Audited()

    async def run(self, delivered: Delivered) -> Audited:
        files = [file for file in delivered.files if file.uri.startswith(self._target.uri)]
        self.seen.cut, self.seen.elsewhere = delivered.cut, len(delivered.files) - len(files)
        data = [file.uri for file in files if file.kind == "data"]
        chosen = random.Random(self._rules.seed)  # noqa: S311 - no secret
        sample = {*chosen.sample(data, min(self._rules.sample, len(data)))}
        async with self._target, self._images.source if self._images else nullcontext():
            folders: dict[str, list[Expected]] = defaultdict(list)
            for file in files:
                folders[self._key(file).rpartition("/")[0]].append(file)
            for folder, inside in folders.items():
                if time.monotonic() > self._end:
                    self.seen.left += len(inside)
                    continue
                listed = await self._listed(folder, inside)
                await self._look_at(inside, listed, sample)
        return self.seen

    def _key(self, file: Expected) -> str:
        return file.uri.removeprefix(self._target.uri)

    async def _listed(self, folder: str, inside: Sequence[Expected]) -> dict[str, StoredObject] | None:
        """Of the folder's objects those that are looked for; None where each is asked for by itself."""
        if len(inside) <= _FEW or not folder or not isinstance(self._target, Listing):
            return None
        wanted, found = {self._key(file) for file in inside}, dict[str, StoredObject]()
        try:
            async for stored in self._target.list(f"{folder}/"):
                if stored.key in wanted:
                    found[stored.key] = stored
        except CredentialsRefused:
            raise
        except PermanentError:  # there may be the right to read all the same, or a server that does not list
            return None
        return found

    async def _look_at(
        self, files: Sequence[Expected], listed: dict[str, StoredObject] | None, sample: set[str]
    ) -> None:
        left = iter(files)

        async def work() -> None:
            for file in left:  # all take from the one iterator
                if time.monotonic() > self._end:
                    self.seen.left += 1
                    continue
                self.seen.objects += 1
                await self._look(file, listed, read=self._rules.full or file.uri in sample)

        await all_of(work() for _ in range(self._at_once))

    async def _look(self, file: Expected, listed: dict[str, StoredObject] | None, *, read: bool) -> None:
        key = self._key(file)
        try:
            stored = listed.get(key) if listed is not None else None
            if stored is None and (stored := await self._stat(key)) is None:
                self.seen.add(file, "missing")
                return
            if stored.modified is not None and stored.modified >= self._began:
                return
            if (size := stored.digests.size) != file.bytes:
                words = f"{size_in_words(size)} ({size:,} bytes), not {size_in_words(file.bytes)} ({file.bytes:,})"
                self.seen.add(file, "other size", words)
                return
            written = file.delivered_at + (_DATA_WRITTEN if file.kind == "data" else _CLOSED)
            if read or stored.modified is None or stored.modified > written:
                await self._read(file, key, with_images=read)
        except CredentialsRefused:
            raise
        except TargetNotFound:  # removed while it was looked at
            self.seen.add(file, "missing")
        except PermanentError as error:
            self.seen.add(file, "unreadable", str(error))

    async def _stat(self, key: str) -> StoredObject | None:
        try:
            return await self._target.stat(key)
        except TargetNotFound:  # not even the bucket
            return None

    async def _read(self, file: Expected, key: str, *, with_images: bool) -> None:
        """The bytes themselves: a checksum in metadata is whatever the last writer put there."""
        self.seen.read += 1
        if self._images is None or file.images is None or not with_images:
            self._compare(file, await read_digests(self._target.read(key), most=file.bytes))
            return
        async with self._on_disk:
            with scratch() as folder:
                path = folder / "file"
                with path.open("wb") as sink:
                    read = await read_digests(self._target.read(key), most=file.bytes, into=sink)
                if not self._compare(file, read):
                    return
                add, full = partial(self._add_image, file), self._rules.full
                looked = await self._images.look(file, path, self._target, add, full=full, end=self._end)
                self.seen.images += looked

    def _compare(self, file: Expected, found: Digests) -> bool:
        if same := file.sha256 in ("", found.sha256):  # empty: nobody knew it, and the size is right
            return same
        self.seen.add(file, "other content", "same size, another checksum")
        return same

    def _add_image(self, file: Expected, missed: Missed) -> None:
        """Once, however many files refer to the image."""
        if missed.key not in self._missed and len(self._missed) < MOST:
            self._missed.add(missed.key)
            if missed.found == "unknown":
                self.seen.unknown += 1
                self.seen.unknown_reason = self.seen.unknown_reason or missed.detail
                return
            self.seen.add(file, missed.found, missed.detail, "image", self._target.uri + missed.key)
