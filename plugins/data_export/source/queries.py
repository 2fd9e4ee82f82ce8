"""Puts the files of `include/sql/` together into one query per table of a snapshot."""

import re
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pyarrow as pa

from data_export.config.platform import ROOT
from data_export.errors import SourceRejected
from data_export.snapshot import JSON_COLUMNS, NUMBER, TABLES
from data_export.window import ExportWindow

SQL_FOLDER = ROOT / "include" / "sql"

_SQL_TYPES = {
    pa.binary(16): "uuid",
    pa.string(): "text",
    pa.int32(): "int4",
    pa.int64(): "int8",
    pa.float64(): "float8",
    pa.bool_(): "bool",
    pa.timestamp("us", tz="UTC"): "timestamptz",
}
_PLACEHOLDER = re.compile(r"(?<!:):(site_id|start|end)\b")  # not the `::type` of a cast


@dataclass(frozen=True, slots=True)
class Query:
    """SQL text that knows which file each part of it came from."""

    text: str
    parts: tuple[tuple[int, int, Path], ...]  # from, to, file; the last is the query's own

    def where(self, position: int | None) -> str:
        """`<file>, line <n>` of a position in the text (the first is 1, as PostgreSQL counts), or `<file>`."""
        for start, end, path in self.parts:
            if position is not None and start < position <= end:
                return f"{path}, line {self.text.count(chr(10), start, position - 1) + 1}"
        return str(self.parts[-1][2])


class Queries:
    """The queries of one site, window and export type.

    `:site_id`, `:start` and `:end` become typed literals, not bind parameters: with those the driver would fetch row by
    row instead of by COPY. Only a uuid and two instants ever become part of a query, so nothing can be injected.

    Raises:
        SourceRejected: a file is missing.
    """

    def __init__(self, folder: Path, site_id: UUID, window: ExportWindow, export_type: str) -> None:
        self._folder = folder
        self._export_type = export_type
        self._values = {
            "site_id": f"'{site_id}'::uuid",
            "start": f"'{window.start.isoformat()}'::timestamptz",
            "end": f"'{window.end.isoformat()}'::timestamptz",
        }

    def table(self, table: str) -> Query:
        """The rows of one table, sorted by work order number, every column cast to the type a snapshot has.

        The casts cost nothing where the type is right, and let an installation's own columns be varchar, citext,
        json, or timestamp (taken as UTC).
        """
        inputs = f"input.{self._export_type}.sql"
        columns = ", ".join(f'"{table}"."{name}"::{_type(name, kind)}' for name, kind in _fields(table))
        pieces: list[str | Path] = ["WITH selected AS (", self._folder / "selected.sql", ")"]
        if table.endswith("_conformity"):
            pieces += [", inputs AS (", self._folder / inputs, ")"]
        source = self._folder / (inputs if table == "input" else f"{table}.sql")
        pieces += [" SELECT ", columns, " FROM (", source, f') AS "{table}" ORDER BY "{table}"."{NUMBER}"']
        return self._joined(pieces)

    def site_exists(self) -> Query:
        return self._joined([self._folder / "site_exists.sql"])

    def _joined(self, pieces: list[str | Path]) -> Query:
        text, parts = "", []
        for piece in pieces:
            start = len(text)
            text += self._filled(piece) if isinstance(piece, Path) else piece
            if isinstance(piece, Path):
                parts.append((start, len(text), piece))
        return Query(text, tuple(parts))

    def _filled(self, path: Path) -> str:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise SourceRejected(
                f"{path}: no such file: put the query back, or name another folder of queries"
            ) from None
        # A line break after it: the file may end in a comment.
        return _PLACEHOLDER.sub(lambda match: self._values[match[1]], text).rstrip().removesuffix(";") + "\n"


def _fields(table: str) -> list[tuple[str, pa.DataType]]:
    return [(field.name, field.type) for field in TABLES[table]]


def _type(name: str, kind: pa.DataType) -> str:
    return "jsonb" if name in JSON_COLUMNS else _SQL_TYPES[kind]
