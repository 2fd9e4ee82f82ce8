"""Combines the files of `include/sql/` into the one statement that reads a snapshot."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pyarrow as pa

from data_export.config.platform import ROOT
from data_export.errors import SourceRejected
from data_export.source.snapshot import JSON_COLUMNS, NUMBER, TABLES
from data_export.window import ExportWindow

SQL_FOLDER = ROOT / "include" / "sql"

_PLACEHOLDER = re.compile(r"(?<!:):(site_id|start|end)\b")  # not the `::type` of a cast
_SQL_TYPES = {
    pa.binary(16): "uuid",
    pa.string(): "text",
    pa.int64(): "int8",
    pa.float64(): "float8",
    pa.bool_(): "bool",
    pa.timestamp("us", tz="UTC"): "timestamptz",
}
#: What each query is seen as by the queries after it.
_SEEN_AS = {
    "work_order": "work_orders",
    "work_item": "work_items",
    "input": "inputs",
    "data_conformity": "data_conformities",
    "job_conformity": "job_conformities",
}
# PostgreSQL 17 and newer know of the order: what is looked up row by row then streams at once, without a sort.
_KEPT_IN_ORDER = ("MATERIALIZED (SELECT * FROM (", f") AS rows ORDER BY {NUMBER})")

_UNMOVED = """
SELECT count(*), count(*) FILTER (WHERE later), min(id) FILTER (WHERE later)
FROM (
    SELECT work_orders.id::text AS id,
        greatest(max(inputs.create_date::timestamptz), max(job_conformities.corrected_date::timestamptz))
        > max(work_orders.update_date::timestamptz) + interval '1 minute' AS later
    FROM work_orders
    LEFT JOIN inputs ON inputs.work_order_number = work_orders.work_order_number
    LEFT JOIN job_conformities ON job_conformities.input_id::text = inputs.id::text
    GROUP BY work_orders.work_order_number, work_orders.id
) AS orders"""


def _columns(table: str) -> list[tuple[str, str]]:
    """Name and SQL type of a table's columns, without the work order number."""
    return [
        (field.name, "jsonb" if field.name in JSON_COLUMNS else _SQL_TYPES[field.type])
        for field in TABLES[table]
        if field.name != NUMBER
    ]


def _slots() -> list[str]:
    """The shared column types: each type as often as in the table with the most columns of it."""
    most: Counter[str] = Counter()
    for table in TABLES:
        most |= Counter(kind for _, kind in _columns(table))
    return list(most.elements())


SLOTS = _slots()


def places(table: str) -> dict[str, int]:
    """The index in `SLOTS` of each column of a table: the first free slot of its type."""
    free = {kind: iter([k for k, slot in enumerate(SLOTS) if slot == kind]) for kind in SLOTS}
    return {name: next(free[kind]) for name, kind in _columns(table)}


@dataclass(frozen=True, slots=True)
class Query:
    """SQL text that knows which file each part came from."""

    text: str
    parts: tuple[tuple[int, int, Path, bool], ...]  # from, to, the file it is about, whether it is the file's own text

    def where(self, position: int | None) -> str:
        """`<file>, line <n>` for a position in the text (from 1, as PostgreSQL counts), or `<file>`, or the folder."""
        for start, end, path, own in self.parts:
            if position is not None and start < position <= end:
                return f"{path}, line {self.text.count(chr(10), start, position - 1) + 1}" if own else str(path)
        return str(self.parts[0][2].parent)


class Queries:
    """The statements for one site, window and export type.

    `:site_id`, `:start` and `:end` become typed literals. With bind parameters the driver would fetch row by row, not
    by COPY. Only a uuid and two instants ever become part of a query, so nothing can be injected.
    """

    def __init__(self, folder: Path, site_id: UUID, window: ExportWindow, export_type: str) -> None:
        self._folder = folder
        self._export_type = export_type
        self._values = {
            "site_id": f"'{site_id}'::uuid",
            "start": f"'{window.start.isoformat()}'::timestamptz",
            "end": f"'{window.end.isoformat()}'::timestamptz",
        }

    def file(self, table: str) -> Path:
        """The file that selects a table's rows."""
        return self._folder / (f"input.{self._export_type}.sql" if table == "input" else f"{table}.sql")

    def snapshot(self) -> Query:
        """The rows of all tables: index of the table, work order number, then `SLOTS`; each table sorted by number.

        One statement lets the source look up every row once: each level is joined to the kept rows of the level above,
        instead of finding them again for every table. The casts cost nothing if the type is right, and let an
        installation's columns be varchar, citext, json, or timestamp (read as UTC).

        Raises:
            SourceRejected: a file is missing.
        """
        pieces: list[tuple[str, Path, bool]] = []
        for table, name in _SEEN_AS.items():
            path = self.file(table)
            opening, closing = ("NOT MATERIALIZED (", ")") if table.endswith("_conformity") else _KEPT_IN_ORDER
            opening = f"{', ' if pieces else 'WITH '}{name} AS {opening}"
            pieces += [(opening, path, False), (self._filled(path), path, True), (closing, path, False)]
        for index, table in enumerate(TABLES):
            pieces.append((("\nUNION ALL " if index else "\n") + _rows_of(index, table), self.file(table), False))
        return _joined(pieces)

    def counts(self, *, inputs: bool) -> Query:
        """One row: how many work orders and inputs (NULL if not requested) the snapshot would have."""
        tables = ["work_order", "work_item", "input"] if inputs else ["work_order"]
        counts = "SELECT (SELECT count(*) FROM work_orders), (SELECT count(*) FROM inputs)"
        return self._of(tables, counts if inputs else "SELECT count(*), NULL FROM work_orders")

    def unmoved(self) -> Query:
        """One row: how many work orders the snapshot would have, how many of them have an input or correction that is
        more than a minute later than their update_date, and the id of one of these."""
        return self._of(["work_order", "work_item", "input", "job_conformity"], _UNMOVED)

    def _of(self, tables: list[str], select: str) -> Query:
        """A statement on the rows of some tables."""
        pieces: list[tuple[str, Path, bool]] = []
        for table in tables:
            path = self.file(table)
            pieces.append((f"{', ' if pieces else 'WITH '}{_SEEN_AS[table]} AS (", path, False))
            pieces += [(self._filled(path), path, True), (")", path, False)]
        return _joined([*pieces, (select, self.file("work_order"), False)])

    def site_exists(self) -> Query:
        """One row, one column: whether the source knows the site at all."""
        path = self._folder / "site_exists.sql"
        return _joined([(self._filled(path), path, True)])

    def _filled(self, path: Path) -> str:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise SourceRejected(f"{path}: no such file: put the query back") from None
        # A line break after it: the file may end in a comment.
        return _PLACEHOLDER.sub(lambda match: self._values[match[1]], text).rstrip().removesuffix(";") + "\n"


def _rows_of(index: int, table: str) -> str:
    name = _SEEN_AS[table]
    columns = {place: f'{name}."{column}"' for column, place in places(table).items()}
    values = ", ".join(f"{columns.get(place, 'NULL')}::{kind}" for place, kind in enumerate(SLOTS))
    columns_of = f"{index}::int2, {name}.{NUMBER}::int4, {values}"
    return " ".join(["(SELECT", columns_of, "FROM", name, f"ORDER BY {name}.{NUMBER})"])


def _joined(pieces: list[tuple[str, Path, bool]]) -> Query:
    text, parts = "", []
    for piece, path, own in pieces:
        parts.append((len(text), len(text) + len(piece), path, own))
        text += piece
    return Query(text, tuple(parts))
