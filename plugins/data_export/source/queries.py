"""Combines the files of `include/sql/` into the one statement that reads a snapshot."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from data_export.config.platform import ROOT
from data_export.config.sections import LimitSettings
from data_export.errors import SourceRejected
from data_export.source.snapshot import KEYS, NUMBER, SLOTS, TABLES, Found, cast, places, sql_columns, travelling
from data_export.source.sql_text import ALL_ORDERS, Orders, filled, narrowed, tables_read
from data_export.window import ExportWindow

SQL_FOLDER = ROOT / "include" / "sql"
MAX_RECORD_MB = LimitSettings().max_record_mb
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
        return str(self.parts[0][2].parent) if self.parts else "source"

    def after(self, words: str) -> "Query":
        """The same with words before it."""
        moved = [(start + len(words), end + len(words), path, own) for start, end, path, own in self.parts]
        return Query(words + self.text, tuple(moved))


def source_tables(export_type: str, folder: Path = SQL_FOLDER) -> list[str]:
    """The tables that the queries of an export type read, as they are written there.

    Raises:
        OSError: a query cannot be read.
    """
    files = [folder / (f"input.{export_type}.sql" if table == "input" else f"{table}.sql") for table in TABLES]
    found = dict.fromkeys(name for file in files for name in tables_read(file.read_text()))
    return [name for name in found if name not in _SEEN_AS.values()]


class Queries:
    """The statements for one site, window and export type.

    `:site_id`, `:start` and `:end` become typed literals. With bind parameters the driver would fetch row by row, not
    by COPY. Only a uuid and two instants ever become part of a query, so nothing can be injected.
    """

    def __init__(
        self, folder: Path, site_id: UUID, window: ExportWindow, export_type: str, max_record_mb: int = MAX_RECORD_MB
    ) -> None:
        self._folder = folder
        self._export_type = export_type
        self._max_bytes = max_record_mb * 1_000_000
        self._values = {
            "site_id": f"'{site_id}'::uuid",
            "start": f"'{window.start.isoformat()}'::timestamptz",
            "end": f"'{window.end.isoformat()}'::timestamptz",
        }

    def file(self, table: str) -> Path:
        """The file that selects a table's rows."""
        return self._folder / (f"input.{self._export_type}.sql" if table == "input" else f"{table}.sql")

    def snapshot(self, found: Found, orders: Orders = ALL_ORDERS) -> Query:
        """The rows of all tables: index of the table, work order number, then `SLOTS`; each table sorted by number.

        One statement lets the source look up every row once: each level is joined to the kept rows of the level above,
        instead of finding them again for every table. The casts cost nothing if the type is right, and let an
        installation's columns be varchar, citext, json, or timestamp (read as UTC). A value that the cast would change,
        or that is larger than the limit of a record, is an error of PostgreSQL's.

        Raises:
            SourceRejected: a file is missing.
        """
        pieces = self._tables(list(TABLES), orders)
        for index, table in enumerate(TABLES):
            rows = self._rows_of(index, table, found)
            pieces.append((("\nUNION ALL " if index else "\n") + rows, self.file(table), False))
        return _joined(pieces)

    def columns(self) -> Query:
        """No rows, the columns of all tables as the queries return them, in the order of `TABLES`; not to be run."""
        pieces = self._tables(list(TABLES), ALL_ORDERS)
        for index, table in enumerate(TABLES):
            names = [NUMBER, *(name for name, _ in sql_columns(table))]
            listed = ", ".join(f'{_SEEN_AS[table]}."{name}"' for name in names)
            pieces.append(((", " if index else "\nSELECT ") + listed, self.file(table), False))
        pieces.append((" FROM " + ", ".join(_SEEN_AS.values()), self.file("work_order"), False))
        return _joined(pieces)

    def ids(self, table: str, orders: Orders) -> Query:
        """The names of a table's rows as text (see `KEYS`), bytewise in order, without computing any other column."""
        path = self.file(table)
        above = list(TABLES)[: list(TABLES).index(table)]
        key = f'rows."{KEYS[table]}"::text'
        pieces = self._tables(above, orders)
        pieces += [(f'\nSELECT DISTINCT {key} COLLATE "C" FROM (', path, False), *self._own(table, orders)]
        where = f" WHERE {orders.condition('rows.id')}" if table == "work_order" else ""
        return _joined([*pieces, (f") AS rows{where} ORDER BY 1", path, False)])

    def column(self, table: str, name: str, found: Found, orders: Orders, keys: tuple[str, str] | None = None) -> Query:
        """One column as the snapshot has it, of all rows or of those whose key is in that range."""
        path = self.file(table)
        above = list(TABLES)[: list(TABLES).index(table)]
        value = self._cast("rows", table, name, dict(sql_columns(table)).get(name, "int4"), found)
        tests = [orders.condition("rows.id")] if table == "work_order" else []
        tests += [Orders(*keys).condition(f'rows."{KEYS[table]}"')] if keys else []
        where = " AND ".join(tests) or "true"
        pieces = self._tables(above, orders)
        pieces += [(f"\nSELECT {value} AS value FROM (", path, False), *self._own(table, orders)]
        return _joined([*pieces, (f") AS rows WHERE {where}", path, False)])

    def _tables(self, tables: Sequence[str], orders: Orders) -> list[tuple[str, Path, bool]]:
        """`WITH` and what the queries of these tables are seen as."""
        pieces: list[tuple[str, Path, bool]] = []
        for table in tables:
            path = self.file(table)
            opening, closing = ("NOT MATERIALIZED (", ")") if table.endswith("_conformity") else _KEPT_IN_ORDER
            if table == "work_order" and orders != ALL_ORDERS:
                closing = closing.replace("AS rows", f"AS rows WHERE {orders.condition('rows.id')}")
            opening = f"{', ' if pieces else 'WITH '}{_SEEN_AS[table]} AS {opening}"
            pieces += [(opening, path, False), *self._own(table, orders), (closing, path, False)]
        return pieces

    def _own(self, table: str, orders: Orders) -> list[tuple[str, Path, bool]]:
        """An installation's own query; that of the work orders narrowed inside, where its expressions may fail."""
        path = self.file(table)
        text = self._filled(path)
        if table == "work_order" and orders != ALL_ORDERS:
            text = narrowed(text, "id", orders.condition("{id}")) or text
        return [(text, path, True)]

    def _rows_of(self, index: int, table: str, found: Found) -> str:
        name = _SEEN_AS[table]
        values = [f"NULL::{kind}" for kind in SLOTS]
        for (column, kind), place in zip(sql_columns(table), places(table).values(), strict=True):
            values[place] = travelling(self._cast(name, table, column, kind, found), kind)
        # As it is where it can be: another expression than that of ORDER BY costs the source one more pass of each row.
        number = f"{name}.{NUMBER}"
        if found.types[table][NUMBER] != "int8":
            number = self._cast(name, table, NUMBER, "int8", found)
        listed = ", ".join([f"{index}::int2", number, *values])
        # As a number: the text '10' comes before '2'.
        return " ".join(["(SELECT", listed, "FROM", name, "ORDER BY", f"{number})"])

    def _cast(self, rows: str, table: str, column: str, kind: str, found: Found) -> str:
        return cast(f'{rows}."{column}"', kind, found.types[table][column], self._max_bytes, found)

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
            pieces += [*self._own(table, ALL_ORDERS), (")", path, False)]
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
        return filled(text, self._values).rstrip() + "\n"  # a line break: the file may end in a comment


def _joined(pieces: list[tuple[str, Path, bool]]) -> Query:
    text, parts = "", []
    for piece, path, own in pieces:
        parts.append((len(text), len(text) + len(piece), path, own))
        text += piece
    return Query(text, tuple(parts))
