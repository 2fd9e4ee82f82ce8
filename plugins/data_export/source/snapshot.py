"""The contents of a raw snapshot: the contract between `source.extract` and `transform`.

A snapshot is a folder with one Parquet file per table. Every row has the number of its work order, and every file is
sorted by that number, so that the five files can be read in parallel. uuids are 16 bytes, jsonb is PostgreSQL's own
text.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

NUMBER = "work_order_number"
#: The file of the work orders that the source could not read, as records set aside, one JSON object per line.
LEFT_OUT = "left-out.json"

_UUID = pa.binary(16)
_TEXT = pa.string()
_JSON = pa.string()  # PostgreSQL's text of a jsonb value
_TIME = pa.timestamp("us", tz="UTC")

#: Columns of each table's file, in order.
TABLES: dict[str, pa.Schema] = {
    "work_order": pa.schema(
        {
            NUMBER: pa.int32(),
            "id": _UUID,
            "name": _TEXT,
            "site_id": _UUID,
            "create_date": _TIME,
            "update_date": _TIME,
            "metadata": _JSON,
            "progress_score": pa.float64(),
        }
    ),
    "work_item": pa.schema(
        {NUMBER: pa.int32(), "id": _UUID, "work_order_id": _UUID, "name": _TEXT, "position": pa.int64()}
    ),
    "input": pa.schema(
        {
            NUMBER: pa.int32(),
            "id": _UUID,
            "work_item_id": _UUID,
            "create_date": _TIME,
            "file_extension": _TEXT,
            "metadata": _JSON,
        }
    ),
    "data_conformity": pa.schema(
        {NUMBER: pa.int32(), "input_id": _UUID, "check": _TEXT, "code": pa.int64(), "level": _TEXT}
    ),
    "job_conformity": pa.schema(
        {
            NUMBER: pa.int32(),
            "input_id": _UUID,
            "task_name": _TEXT,
            "analyzed_value": _JSON,
            "corrected_value": _JSON,
            "corrected_date": _TIME,
            "message": _TEXT,
            "is_conformity_validated": pa.bool_(),
        }
    ),
}
#: Path of a table's columns in the delivered record.
PATHS = {
    "work_order": "",
    "work_item": "work_items[].",
    "input": "work_items[].input[].",
    "data_conformity": "work_items[].input[].data_conformity[].",
    "job_conformity": "work_items[].input[].job_conformity[].",
}

#: Text columns of few distinct values: written and read as dictionaries, each text is encoded once.
REPEATED: dict[str, list[str]] = {
    "work_order": [],
    "work_item": ["name"],
    "input": ["file_extension"],
    "data_conformity": ["check", "level"],
    "job_conformity": ["task_name"],
}

#: Text columns that hold JSON.
JSON_COLUMNS = frozenset({"metadata", "analyzed_value", "corrected_value"})

#: What names a row of a table: its own id, or that of the input that it is about.
KEYS = {"work_order": "id", "work_item": "id", "input": "id"} | dict.fromkeys(
    ("data_conformity", "job_conformity"), "input_id"
)

_SQL_TYPES = {
    pa.binary(16): "uuid",
    pa.string(): "text",
    pa.int64(): "int8",
    pa.float64(): "float8",
    pa.bool_(): "bool",
    pa.timestamp("us", tz="UTC"): "timestamptz",
}
#: Begins the words of ours that PostgreSQL quotes as a value that it cannot read.
OURS = "data_export: "
_INEXACT = ("numeric", "float4", "float8", "money", "jsonb")
_BINARY = ("float4", "float8")
# The most bytes of text that one byte of a stored value can be: lz4 packs 255 into one, JSON spells one as six.
_UNPACKED = 255 * 6
# And of JSON, where `1e131071,` is a number of so many digits.
_SPELLED_OUT = 131_072 // len("1e131071,")
# With their schema, since they take a value of any type: a function of that name which somebody made in `public` for
# this very type would be called in their place, as our login. What else we call has the exact types of its arguments.
_STORED, _COMPRESSED = "pg_catalog.pg_column_size", "pg_catalog.pg_column_compression"


@dataclass(frozen=True, slots=True)
class Found:
    """What the queries return at the source."""

    types: Mapping[str, Mapping[str, str]]  # of each table's columns, as PostgreSQL calls them
    encoded: bool  # whether the database knows the encoding of its texts; SQL_ASCII does not
    tells_compression: bool  # whether it says of a value if it is stored compressed; from PostgreSQL 14


def write_empty(folder: Path) -> None:
    """Writes the snapshot of a window without work orders."""
    for table, schema in TABLES.items():
        pq.write_table(schema.empty_table(), folder / f"{table}.parquet")


def sql_columns(table: str) -> list[tuple[str, str]]:
    """Name and SQL type of a table's columns, without the work order number."""
    return [
        (field.name, "jsonb" if field.name in JSON_COLUMNS else _SQL_TYPES[field.type])
        for field in TABLES[table]
        if field.name != NUMBER
    ]


#: Types that travel as one of another table's columns: the driver spends more time on a NULL than on a value, and reads
#: one for every slot that a row leaves empty. jsonb is text also because it is measured as such, see `cast`.
_TRAVELS_AS = {"bool": "int8", "float8": "text", "jsonb": "text"}


def _slots() -> list[str]:
    """The shared column types: each type as often as in the table with the most columns of it."""
    most: Counter[str] = Counter()
    for table in TABLES:
        most |= Counter(_TRAVELS_AS.get(kind, kind) for _, kind in sql_columns(table))
    return list(most.elements())


SLOTS = _slots()


def places(table: str) -> dict[str, int]:
    """The index in `SLOTS` of each column of a table: the first free slot of the type that it travels as."""
    free = {kind: iter([k for k, slot in enumerate(SLOTS) if slot == kind]) for kind in SLOTS}
    return {name: next(free[_TRAVELS_AS.get(kind, kind)]) for name, kind in sql_columns(table)}


def travelling(value: str, kind: str) -> str:
    """SQL: what `cast` gives as its slot has it."""
    if kind == "bool":
        return f"{value}::int4::int8"
    return f"{value}::text" if kind == "float8" else value


def cast(value: str, kind: str, found: str, max_bytes: int, database: Found) -> str:
    """SQL: the value as the type of the snapshot, of jsonb its text.

    What the type would change to fit is an error of PostgreSQL's; but a fraction is rounded to a float8.
    """
    if found in _BINARY and found != kind:
        # The number that is shown: as numeric it keeps 6 or 15 digits, and a float4's 0.1 is not 0.1 as float8.
        value = f"{value}::text"
    if kind in ("int4", "int8") and found in _INEXACT:
        return f"trim_scale({value}::numeric)::text::{kind}"  # 5.00 is 5, 1.5 is no whole number
    if kind == "uuid" and found == "bpchar":
        return f"{value}::text::uuid"  # without the spaces that fill a char(n) up, which the cast itself refuses
    if kind == "bool" and found in ("int2", "int4", "int8"):
        return f"{value}::text::bool"  # 0 and 1; the cast itself takes 2 for true
    if kind == "float8" and found in ("int8", "numeric"):  # of 9007199254740993 it makes ...992
        number = f"{value}::numeric"
        # A float8's text has no more digits than tell it from others, which of an int8 need not be all that it has.
        changed = f"trunc({number}) = {number} AND {value}::float8::text::numeric <> {number}"
        changed = f"{value}::float8::int8 <> {value}" if found == "int8" else changed
        refusal = _refusal("is %s, which has more digits than a float8 allows", value, kind)
        return f"CASE WHEN {changed} THEN {refusal} ELSE {value}::float8 END"
    if kind not in ("text", "jsonb"):
        return f"{value}::{kind}"
    read = value if database.encoded else f"pg_catalog.convert_from(textsend({value}::text), 'UTF8')"
    read = _spelled_once(value, read, max_bytes, database) if kind == "jsonb" else f"{read}::text"
    if found == kind == "jsonb":
        return read
    size = f"octet_length({value}::text)"
    too_large = f"{size} > {max_bytes}"  # of a text, its size is known without reading it
    if found not in ("text", "varchar"):  # what a small stored value can unpack to is small too
        too_large = f"{_STORED}({value}) > {max_bytes // _UNPACKED} AND {too_large}"
    return f"CASE WHEN {too_large} THEN {_too_large(size)} ELSE {read} END"


def _spelled_once(value: str, read: str, max_bytes: int, database: Found) -> str:
    """SQL: the text of a value as jsonb, made once and then measured where it may be long."""
    may_be = "true"
    if database.tells_compression:
        may_be = f"{_STORED}({value}) > {max_bytes // _SPELLED_OUT} OR {_COMPRESSED}({value}) IS NOT NULL"
    size = "octet_length(made.spelled)"
    measured = f"CASE WHEN {size} > {max_bytes} THEN {_too_large(size)} ELSE made.spelled END"
    made = f"{read}::jsonb::text AS spelled OFFSET 0) AS made"  # OFFSET keeps the planner from making it twice
    return (
        f"CASE WHEN {may_be} THEN ({' '.join(['SELECT', measured, 'FROM (SELECT', made])}) ELSE {read}::jsonb::text END"
    )


def _too_large(size: str) -> str:
    return f"{_refusal('is %s bytes long, more than limits.max_record_mb allows', size, 'int8')}::text"


def _refusal(words: str, shown: str, kind: str) -> str:
    """SQL: what PostgreSQL refuses as a value of that type, in our words."""
    return f"pg_catalog.format('{OURS}{words}', {shown})::{kind}"
