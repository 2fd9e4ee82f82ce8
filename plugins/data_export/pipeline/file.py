"""One file of anybody's from one place to another, with the promises that an export's files have; and what is there."""

import logging
import mimetypes
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, get_args

from data_export.content import Content, Digests
from data_export.delivery.base import Destination, StoredObject
from data_export.delivery.connector import IfExists
from data_export.delivery.deliver import Placed, deliver
from data_export.delivery.threads import at_most, go_on, read_digests, run_async, run_blocking
from data_export.errors import ConfigError, ObjectRefused, TargetNotFound, TargetUnavailable
from data_export.layout import Encoding
from data_export.pipeline.receipts import counted_before
from data_export.plan import ExportPlan
from data_export.receipt import DataFile, Transformed
from data_export.scratch import scratch
from data_export.transform.encoding import look_into
from data_export.wording import size_in_words

_log = logging.getLogger(__name__)
_COMPRESSED = {".gz", ".zst", ".bz2", ".xz"}
_JSON_LINES = {".jsonl", ".ndjson"}
_CLOCKS_DIFFER = timedelta(minutes=5)


class FilePlace(NamedTuple):
    """A file's root and its name below it."""

    root: Destination
    key: str

    @property
    def uri(self) -> str:
        return self.root.uri + self.key


def deliver_file(source: FilePlace, target: FilePlace, if_exists: IfExists) -> dict[str, Any]:
    """Leaves the source's bytes at the target, complete and verified; the same bytes there are not sent again.

    Streamed by way of a temporary file. Returns `uri`, `outcome`, `revision`, `bytes` and `sha256`.

    Raises:
        ConfigError: `if_exists` is not one of its three words.
        TargetNotFound: there is no such source file.
        DataExportError: whatever else the source or the target raises.
    """
    if if_exists not in get_args(IfExists):
        raise ConfigError(f"if_exists={if_exists!r} is not one of {', '.join(get_args(IfExists))}: write one of these")

    async def run(path: Path) -> tuple[Placed, Content]:
        async with source.root:
            await _fetch(source, path)
        content = Content.of_file(path, content_type(target.key))
        async with target.root:
            return await deliver(target.root, lambda n: revision_key(target.key, n), content, if_exists), content

    with scratch() as folder:
        placed, content = run_async(run(folder / "file"))
    uri = target.root.uri + placed.key
    _log.info("%s: %s, %s", uri, placed.outcome, size_in_words(content.size))
    sums = {"bytes": content.size, "sha256": content.digests.sha256 or ""}
    return {"uri": uri, "outcome": placed.outcome, "revision": placed.revision, **sums}


async def _fetch(source: FilePlace, path: Path) -> None:
    try:
        with path.open("wb") as file:
            async for chunk in source.root.read(source.key):
                file.write(chunk)
    except TargetNotFound as error:
        raise TargetNotFound(f"there is no file to deliver: {error}; correct source_uri") from None


def revision_key(key: str, revision: int) -> str:
    """`folder/name.r2.json` of `folder/name.json`; `name.r2.json.gz` of `name.json.gz`."""
    if revision == 1:
        return key
    name = PurePosixPath(key)
    extensions = name.suffixes[-2 if name.suffix in _COMPRESSED else -1 :]
    stem = name.name.removesuffix("".join(extensions))
    return str(name.with_name(f"{stem}.r{revision}{''.join(extensions)}"))


def content_type(key: str) -> str:
    """The media type by the name's extension."""
    if PurePosixPath(key).suffix in _JSON_LINES:
        return "application/x-ndjson"
    found, encoding = mimetypes.guess_type(key, strict=False)
    return "application/octet-stream" if found is None or encoding else found


class _Lines:
    """Counts the lines of what is written to it."""

    count = 0

    def write(self, chunk: bytes, /) -> None:
        self.count += chunk.count(b"\n")


class FilesThere:
    """What is at the target under a data file's name, whoever wrote it; each file is read once at most."""

    def __init__(self, target: Destination, path: Path, encoding: Encoding, receipt_key: str) -> None:
        self._target, self._path, self._encoding, self._receipt_key = target, path, encoding, receipt_key
        self._seen: dict[str, DataFile] = {}
        self._of_later_runs: set[str] = set()

    async def read(self, _target: Destination, stored: StoredObject) -> Digests:
        found = await self._file(stored)
        return Digests(found.bytes, found.sha256, records_sha256=found.records_sha256 or None)

    async def kept(self, key: str) -> DataFile:
        """What the file that stays holds; if it cannot be read, what the target and an earlier receipt say of it."""
        stored = await self._stat(key)
        try:
            return await self._file(stored)
        except ObjectRefused as refusal:
            _log.warning("the work orders of the kept file are not counted: %s", refusal)
        said, plain = stored.digests, stored.digests.sha256 if self._encoding == "json" else None
        sums = {"sha256": said.sha256 or "", "records_sha256": said.records_sha256 or plain or ""}
        known = DataFile(work_orders=None, bytes=said.size, crc32c=said.crc32c, **sums)
        return await counted_before(self._target, self._receipt_key, known)

    async def is_of_later_run(self, plan: ExportPlan, transformed: Transformed, there: StoredObject) -> bool:
        """Whether a run that began after this one had read its data is known to have written what is there.

        A try may wait for a target for hours, and find there what another run has delivered meanwhile. The time of the
        file there does not say so: some servers write anew what they take, and a retry finds its own file changed.
        """
        began, read = there.digests.moment, datetime.fromisoformat(transformed.read_at or plan.created_at)
        latest = moment_of(datetime.now(UTC) + _CLOCKS_DIFFER)  # nothing would ever be later than that
        if began is None or not moment_of(read + _CLOCKS_DIFFER) < began <= latest:
            return False
        name, read_at = self._target.uri + there.key, moment_of(read)
        _log.warning("%s stays: its run began at %s, after this one read the source at %s", name, began, read_at)
        self._of_later_runs.add(there.key)
        return True

    async def same(self, key: str, transformed: Transformed) -> DataFile | None:
        """What the file there holds, where that are not our bytes: our records in others, or a later run's."""
        return await (self.kept(key) if key in self._of_later_runs else self.other_bytes(key, transformed))

    async def _file(self, stored: StoredObject) -> DataFile:
        """What the file holds; one that is packed comes to this machine's disk, and must leave half of it.

        Raises:
            TargetUnavailable: it does not.
        """
        key, size = stored.key, stored.digests.size
        if key not in self._seen:
            where = self._target.uri + key
            chunks = at_most(self._target.read(key), size, where)
            if self._encoding == "json":
                counted = _Lines()
                digests = await read_digests(chunks, most=size, into=counted)
                lines, digests = counted.count, replace(digests, records_sha256=digests.sha256)
            elif size > shutil.disk_usage(self._path.parent).free // 2:
                raise TargetUnavailable(
                    f"{where} has {size_in_words(size)}, more than half of the disk that is left here to look into it: "
                    "make room on the worker, or remove the file"
                )
            else:
                with self._path.open("wb") as file:
                    async for chunk in chunks:
                        file.write(chunk)
                lines, digests = await run_blocking(
                    lambda stop: look_into(self._path, self._encoding, partial(go_on, stop))
                )
            sums = {"sha256": digests.sha256 or "", "records_sha256": digests.records_sha256 or ""}
            self._seen[key] = DataFile(work_orders=lines, bytes=digests.size, crc32c=digests.crc32c, **sums)
        return self._seen[key]

    async def _stat(self, key: str) -> StoredObject:
        if (stored := await self._target.stat(key)) is None:
            raise TargetNotFound(self._target.uri + key)
        return stored

    async def other_bytes(self, key: str, transformed: Transformed) -> DataFile | None:
        """The file there, if it has our records in other bytes, as another version of a library packs them."""
        if self._encoding == "json":
            return None
        stored = await self._stat(key)
        found = stored.digests
        if found.matches(transformed.digests):
            return None
        if found.sha256 is None or found.records_sha256 is None:
            return await self._file(stored)
        sums = {"sha256": found.sha256, "records_sha256": found.records_sha256}
        return DataFile(work_orders=transformed.work_orders, bytes=found.size, crc32c=found.crc32c, **sums)


def moment_of(time: datetime) -> str:
    """As metadata have it: UTC, whole seconds."""
    return time.astimezone(UTC).isoformat(timespec="seconds")
