"""What the source has today of a window that was delivered: how many records came, changed and went since."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from data_export.config.models import CustomerExport
from data_export.delivery.base import Destination
from data_export.delivery.threads import read_digests, run_async
from data_export.errors import TargetNotFound
from data_export.layout import Encoding
from data_export.pipeline.audit_images import encoding_of
from data_export.pipeline.expected import Expected
from data_export.scratch import scratch
from data_export.source.database import Dsn, RowSecurity
from data_export.source.extract import extract
from data_export.source.queries import MAX_RECORD_MB
from data_export.transform.encoding import lines_of
from data_export.transform.transform import transform
from data_export.window import ExportWindow

# Compact separators are ours alone, and a text's quotes are escaped, so these are the record's own keys.
_RECORD = re.compile(
    rb'\{"id":"([0-9a-f-]{36})","name":(?:null|"(?:[^"\\]|\\.)*"),"site_id":(?:null|"[^"]*"),"create_date":(null|"[^"]*")'
)
#: So many records that came, and that went, are held to find those that only changed their place.
_HELD = 200_000


@dataclass(frozen=True, slots=True)
class Drift:
    """Of one site's file of one window; `unknown` says why it cannot be counted, and is empty where it was."""

    start: str
    end: str
    site_id: str
    delivered: int | None
    added: int = 0
    changed: int = 0
    gone: int = 0
    unknown: str = ""

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.gone or self.unknown)

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Source:
    """How the source is read: as a run of the export would."""

    dsn: Dsn
    export: CustomerExport
    row_security: RowSecurity = "refuse"
    max_record_mb: int = MAX_RECORD_MB


def drift(source: Source, file: Expected, target: Destination) -> Drift:
    """Extracts a delivered window again, to local disk alone, and holds it against what is at the target.

    The digest of all records decides; only where that differs is the delivered file read, record by record. Nothing is
    written but in the local scratch folder. Memory is bounded, whatever the size of the window.

    Raises:
        SourceUnavailable, SourceRejected, InvalidRecord: as `extract` and `transform`.
        DataExportError: as the target's `read`.
    """
    start, end, site_id = file.start, file.end, file.site_id
    with scratch() as folder:
        digest = _extracted(source, ExportWindow.from_dict({"start": start, "end": end}), UUID(site_id), folder)
        if digest == file.records_sha256:
            return Drift(start, end, site_id, file.work_orders)
        path = folder / "delivered"
        fetched = run_async(_fetched(target, file, path))
        if fetched is None or file.sha256 not in ("", fetched):
            return Drift(start, end, site_id, file.work_orders, unknown="the file at the target is not as delivered")
        try:
            counts = compare(_records(path, encoding_of(file.uri)), _records(folder / "data", "json"))
        except ValueError:  # under `if_exists: keep` the receipt tells of whatever is there
            return Drift(start, end, site_id, file.work_orders, unknown="the file at the target is not one of ours")
    return Drift(start, end, site_id, file.work_orders, *counts)


def _extracted(source: Source, window: ExportWindow, site_id: UUID, folder: Path) -> str | None:
    """Makes `<folder>/data`, plain JSON Lines, as a run would; returns its sha256."""
    export, snapshot = source.export, folder / "snapshot"
    snapshot.mkdir()
    extract(
        source.dsn,
        site_id,
        window,
        export.export_type,
        snapshot,
        row_security=source.row_security,
        on_invalid=export.on_invalid,
        max_record_mb=source.max_record_mb,
    )
    made = transform(
        snapshot,
        folder / "data",
        folder / "images",
        folder / "quarantine",
        export_type=export.export_type,
        on_invalid=export.on_invalid,
        max_record_mb=source.max_record_mb,
    )
    return made.digests.sha256


async def _fetched(target: Destination, file: Expected, path: Path) -> str | None:
    try:
        async with target:
            with path.open("wb") as sink:
                read = await read_digests(target.read(file.uri.removeprefix(target.uri)), most=file.bytes, into=sink)
    except TargetNotFound:
        return None
    return read.sha256


class _Record(NamedTuple):
    order: tuple[bytes, bytes]
    text: bytes


def _records(path: Path, encoding: Encoding) -> Iterator[_Record]:
    """In the order of the file, (create_date, id), which is that of their texts: null sorts first by its empty one."""
    for line in lines_of(path, encoding):
        match = _RECORD.match(line)
        if match is None:
            raise ValueError(f"{path}: a line is not a record of ours")
        created = b"" if match[2] == b"null" else match[2]
        yield _Record((created, match[1]), line)


def compare(before: Iterable[_Record], after: Iterable[_Record]) -> tuple[int, int, int]:
    """How many records were added, changed and gone from one sorted stream to another, by their ids."""
    came = changed = went = 0
    added, gone = set[bytes](), set[bytes]()
    old, new = iter(before), iter(after)
    mine, theirs = next(old, None), next(new, None)
    while mine is not None or theirs is not None:
        if theirs is None or (mine is not None and mine.order < theirs.order):
            went += 1
            if mine is not None and len(gone) < _HELD:
                gone.add(mine.order[1])
            mine = next(old, None)
        elif mine is None or theirs.order < mine.order:
            came += 1
            if len(added) < _HELD:
                added.add(theirs.order[1])
            theirs = next(new, None)
        else:
            changed += mine.text != theirs.text
            mine, theirs = next(old, None), next(new, None)
    moved = len(added & gone)  # their create_date is another one, and so is their place
    return came - moved, changed + moved, went - moved
