"""Keys that later versions add, and exports of both types in one place, change no answer."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.loaders.conftest import LOADERS

SITE = "433a60f6-9756-473e-b1e9-9e89e24bb787"
NAME = "2025-03-15_23:00:00_2025-03-16_23:00:00"
ADDED = {"added": {"metadata": {"deep": [1, None]}}}
MOMENT = "2025-03-16T10:00:00.000000+00:00"
JOB = {
    "task_name": "ctx",
    "analyzed_value": 0.5,
    "corrected_value": None,
    "corrected_date": None,
    "message": None,
    "is_conformity_validated": True,
}
INPUT = {
    "id": "00000000-0000-0000-0002-000000000001",
    "create_date": MOMENT,
    "file_extension": ".png",
    "metadata": {"metadata": {"metadata": '"}{'}},
    "data_conformity": [{"check": "blur", "code": 3, "level": "Error"} | ADDED],
    "job_conformity": [JOB | ADDED],
}
ITEM = {"id": "00000000-0000-0000-0001-000000000001", "name": "open", "input": [ADDED | INPUT]}
ORDER = ADDED | {
    "id": "00000000-0000-0000-0000-000000000001",
    "name": "00123",
    "site_id": SITE,
    "create_date": MOMENT,
    "update_date": None,
    "metadata": {"metadata": {}},
    "progress_score": 1.0,
    "work_items": [ADDED | ITEM],
}
WANTED = [("work-orders-states", "ctx", "0.5", True), ("work-orders-timeline", "ctx", "0.5", True)]
QUERY = "SELECT export_type, task_name, analyzed_value, is_first FROM analysis ORDER BY export_type"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for export_type in ("work-orders-states", "work-orders-timeline"):
        path = tmp_path / SITE / "data" / export_type / f"{NAME}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(ORDER) + "\n")  # with blanks, as others may write it
    return tmp_path


def test_postgresql(warehouse: psycopg.Connection[Any], folder: Path) -> None:
    from delivered import data_files
    from postgresql import load

    warehouse.execute((LOADERS / "postgresql" / "create.sql").read_text())
    assert load(warehouse, data_files(folder)) == 2
    assert warehouse.execute(QUERY).fetchall() == WANTED


def test_pandas_polars_and_pyarrow(folder: Path) -> None:
    from frames import arrow_tables

    tables = arrow_tables(folder)
    found = tables["analysis"].select(["export_type", "task_name", "analyzed_value", "is_first"]).to_pylist()
    assert sorted(tuple(row.values()) for row in found) == WANTED
    assert json.loads(tables["input"]["metadata"][0].as_py()) == INPUT["metadata"]


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_duckdb(folder: Path, kind: str) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    connection = duckdb.connect()
    connection.execute((LOADERS / "duckdb" / "create.sql").read_text())
    if kind == "parquet":
        for path in folder.rglob("*.json"):
            _as_parquet(path)
    connection.execute("SET VARIABLE delivered = ?", [f"{folder}/*/data/*/*.{kind}"])
    script = "load_parquet.sql" if kind == "parquet" else "load.sql"
    connection.execute((LOADERS / "duckdb" / script).read_text())
    assert connection.execute(QUERY).fetchall() == WANTED
    assert connection.execute("SELECT check_name, code FROM data_check LIMIT 1").fetchone() == ("blur", 3)


def _as_parquet(path: Path) -> None:
    """With a column more at each level, not at the end."""
    from delivered import parse
    from frames import RECORD, nested

    added = pa.field("added", pa.string())
    item = RECORD.field("work_items").type.value_type
    entry = pa.struct([added, *item.field("input").type.value_type])
    item = pa.struct([added, *(field for field in item if field.name != "input"), pa.field("input", pa.list_(entry))])
    schema = pa.schema([added, *(f for f in RECORD if f.name != "work_items"), pa.field("work_items", pa.list_(item))])
    row = nested(parse(path.read_text()))
    for level in (row, row["work_items"][0], row["work_items"][0]["input"][0]):
        level["added"] = "x"
    pq.write_table(pa.Table.from_pylist([row], schema), path.with_suffix(".parquet"))


def test_the_day_of_a_window_is_that_of_the_zone(folder: Path) -> None:
    from zoneinfo import ZoneInfo

    from delivered import data_files

    for file in data_files(folder):
        assert file.window_start.astimezone(ZoneInfo("Europe/Paris")).isoformat() == "2025-03-16T00:00:00+01:00"
