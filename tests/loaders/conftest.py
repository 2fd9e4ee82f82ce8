"""What a customer has after some weeks: files made by the service's own data path, with every trap for loaders."""

import gzip
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_export.layout import data_key
from data_export.transform.transform import transform
from data_export.window import ExportWindow
from demo.data import COLUMNS, LYON, PARIS, build
from demo.servers.postgres import PostgresServer
from tests.unit.source_kit import TIMELINE, SourceDatabase, database, server

LOADERS = Path(__file__).parents[2] / "include" / "loaders"
sys.path.insert(0, str(LOADERS / "python"))  # as for a customer who runs the files in that folder

__all__ = ["database", "server"]

sys.setrecursionlimit(10_000)  # for what this file parses with Python's json
#: How systems without `:` in file names spell it, browsers, and gcloud on Windows.
COLONS = (":", "-", "_", ".", "%3A", "\uff1a", "\uf03a", "$1")
KINDS = ("json", "json.gz", "json.zst", "parquet")
REPLACED, REVISED, UPDATED, LATE, DELETED = (UUID(int=number) for number in range(1, 6))
DEEP = '{"a": ' * 1_500 + "1" + "}" * 1_500
VALUES = ("true", "0.0", "12", '"00123"', "1e400", "12345678901234567890123", '"null"', "null", None)


State = tuple[str | None, str | None, float | None, datetime | None, int]


@dataclass(frozen=True)
class Delivered:
    """`first`: the folder before, `second`: after the last files, `parquet`: the same in Parquet; `newest`: by id."""

    first: Path
    second: Path
    parquet: Path
    newest: dict[str, dict[str, Any]]

    @property
    def states(self) -> dict[str, State]:
        """What every engine must show: name, metadata, progress_score, update_date, work items."""
        return {
            key: (
                record["name"],
                record["metadata"],
                None if record["progress_score"] is None else float(record["progress_score"]),
                record["update_date"] and datetime.fromisoformat(record["update_date"]),
                len(record["work_items"]),
            )
            for key, record in self.newest.items()
        }


@pytest.fixture(scope="session")
def delivered(database: SourceDatabase, tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    root, before, parquet = (tmp_path_factory.mktemp(name) for name in ("delivered", "before", "parquet"))
    _fill(database)

    def deliver(day: int, revision: int = 1) -> None:
        start = datetime(2025, 3, day, tzinfo=UTC)
        window = ExportWindow(start, start + timedelta(days=1))
        run = tmp_path_factory.mktemp("run")
        exported = database.export(run, site=PARIS, window=window)
        path = root / data_key(PARIS, TIMELINE, window, revision)
        packed = parquet / data_key(PARIS, TIMELINE, window, revision, "parquet")
        for folder in (path.parent, packed.parent):
            folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(exported.data)
        side = (run / "images", run / "quarantine")
        transform(run / "snapshot", packed, *side, export_type=TIMELINE, on_invalid="fail", encoding="parquet")

    def change(order: UUID, name: str, update_date: str | None = None) -> None:
        database.connection.execute(
            "UPDATE work_order SET name = %s, update_date = coalesce(%s, update_date) WHERE id = %s",
            [name, update_date, order],
        )

    for day in (14, 15, 16, 17):  # nothing happened on the 14th: an empty file
        deliver(day)
    change(UPDATED, "updated on the 18th", "2025-03-18 10:00:00+00")
    change(LATE, "before the late file", "2025-03-20 08:00:00+00")
    deliver(18)
    deliver(20)
    shutil.copytree(root, before, dirs_exist_ok=True)
    change(LATE, "in the late file", "2025-03-21 08:00:00+00")
    deliver(19)
    change(REPLACED, "replaced")
    deliver(17)
    for revision in (2, 9, 10):
        change(REVISED, f"revision {revision}")
        deliver(16, revision)
    everything = ExportWindow(datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC))
    newest = database.export(tmp_path_factory.mktemp("run"), site=PARIS, window=everything).lines
    database.connection.execute("DELETE FROM work_order WHERE id = %s", [DELETED])
    deliver(15, revision=2)
    return Delivered(before, root, parquet, {record["id"]: record for record in map(state, newest)})


def _fill(database: SourceDatabase) -> None:
    database.clear()
    for table, rows in build().tables.items():
        database.insert(table, [dict(zip(COLUMNS[table], row, strict=True)) for row in rows])
    for order, day in ((REPLACED, 17), (REVISED, 16), (UPDATED, 15), (LATE, 19), (DELETED, 15)):
        _add(database, order.int, f"2025-03-{day} 12:00:00+00")
    _add(database, 11, "2025-03-16 23:30:00+00", '{"huge": 1e400, "digits": 12345678901234567890, "text": "a\\u2028b"}')
    _add(database, 12, "2025-03-16 13:00:00+00", DEEP, VALUES)
    _add(database, 13, "2025-03-17 13:00:00+00", json.dumps({"long": "x" * (17 << 20)}))


def _add(
    database: SourceDatabase, number: int, moment: str, metadata: str = "{}", values: tuple[str | None, ...] = ()
) -> None:
    order, item = UUID(int=number), UUID(int=number + (1 << 32))
    row = {"id": order, "name": "00123", "site_id": PARIS, "create_date": moment, "update_date": moment}
    database.insert("work_order", [row | {"metadata": metadata}])
    database.insert("work_item", [{"id": item, "work_order_id": order, "position": 1}])
    for index, value in enumerate(values):
        photo = UUID(int=number + (1 << 32) + (index << 64))
        database.insert("input", [{"id": photo, "work_item_id": item, "metadata": metadata if index == 0 else None}])
        job = {"input_id": photo, "task_name": "mixed", "analyzed_value": value, "corrected_value": value}
        database.insert("job_conformity", [job])


def state(line: str) -> dict[str, Any]:
    """A record whose metadata and values are JSON text in one spelling, and numbers as text."""
    record = json.loads(line, parse_int=Spelled, parse_float=Spelled)
    record["metadata"] = spelled(record["metadata"])
    return record


class Spelled(str):
    """A number."""

    __slots__ = ()


def spelled(value: Any) -> str | None:
    """JSON text without blanks, numbers as they were; the same for a text that an engine printed."""
    if value is None:
        return None
    # Not json.dumps: the numbers would be quoted.
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{spelled(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(str(spelled(entry)) for entry in value) + "]"
    return value if isinstance(value, Spelled) else json.dumps(value)


def respelled(text: str | None) -> str | None:
    return None if text is None else spelled(json.loads(text, parse_int=Spelled, parse_float=Spelled))


@pytest.fixture(scope="session")
def as_kind(delivered: Delivered, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder `second` with its files written in another way."""
    made = {"json": delivered.second, "parquet": delivered.parquet}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            for path in delivered.second.rglob("*.json"):
                target = made[kind] / path.relative_to(delivered.second).with_suffix("." + kind)
                target.parent.mkdir(parents=True, exist_ok=True)
                as_kind_of(path, target, kind)
        return made[kind]

    return folder


def as_kind_of(source: Path, target: Path, kind: str) -> None:
    if kind == "json.gz":
        target.write_bytes(gzip.compress(source.read_bytes(), 1))
    elif kind == "json.zst":
        with pa.CompressedOutputStream(str(target), "zstd") as stream:
            stream.write(source.read_bytes())
    else:
        from delivered import data_file, lines, parse
        from frames import RECORD, nested

        file = data_file(source)
        assert file is not None
        rows = [nested(parse(line)) for line in lines(file)]
        pq.write_table(pa.Table.from_pylist(rows, RECORD), target, compression="zstd")


def two_formats(folder: Path, late: str) -> None:
    """One window, plain and packed; the name of its one work order is the ending of its file."""
    for number, kind in enumerate(sorted(("json", "json.gz"), key=late.__eq__)):
        _window_of_one(folder, kind, kind, number=number)


#: When each of two sites' states was updated, and the site that counts: of two as new, that of the greater id.
TWO_SITES = [((13, 12), PARIS), ((12, 13), LYON), ((12, None), PARIS), ((None, 12), LYON)]
TWO_SITES += [((12, 12), max(PARIS, LYON)), ((None, None), max(PARIS, LYON))]


def two_sites(folder: Path, hours: tuple[int | None, int | None], *, reverse: bool = False) -> Iterator[Path]:
    """One window of two sites, file after file: a work order that moves while they are read is in both.

    Its name is the site of the file.
    """
    for site, hour in sorted(zip((PARIS, LYON), hours, strict=True), reverse=reverse):
        update = hour and f"2025-03-16T{hour}:00:00.000000+00:00"
        yield _window_of_one(folder, "json", str(site), site_id=str(site), update_date=update)


def _window_of_one(folder: Path, kind: str, name: str, number: int = 0, **values: str | None) -> Path:
    """A file with one work order, written `number` seconds after 1970."""
    empty = dict.fromkeys(("create_date", "update_date", "metadata", "progress_score"))
    record = {"id": str(UUID(int=1)), "name": name, "site_id": str(PARIS), "work_items": []} | empty | values
    text = json.dumps(record).encode() + b"\n"
    path = folder / f"{record['site_id']}/data/{TIMELINE}/2025-03-16_00:00:00_2025-03-17_00:00:00.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text) if kind == "json.gz" else text)
    os.utime(path, (number, number))
    return path


@pytest.fixture
def warehouse(server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    """An empty PostgreSQL database of the customer's."""
    with psycopg.connect(server.create_database(f"warehouse_{uuid4().hex}"), autocommit=True) as connection:
        yield connection
