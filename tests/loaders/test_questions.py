"""The three questions: every engine gives the same answers to the same files, and they are right."""

import json
from typing import Any

import psycopg
import pytest

from tests.loaders.conftest import LOADERS, Delivered

QUESTIONS = ("field_operations", "first_time_right", "operator_experience")


def answers(run: Any) -> dict[str, list[tuple[Any, ...]]]:
    """Numbers as float: engines differ in their integer and decimal types."""
    found = {}
    for view in QUESTIONS:
        rows = run(f"SELECT * FROM {view}")
        found[view] = sorted(tuple(_plain(value) for value in row) for row in rows)
    return found


def _plain(value: Any) -> Any:
    try:
        return f"{float(value):g}"
    except (TypeError, ValueError):
        return str(value)


@pytest.fixture
def on_duckdb(delivered: Delivered) -> dict[str, list[tuple[Any, ...]]]:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    connection = duckdb.connect()
    for script in ("duckdb/create.sql", "questions.sql"):
        connection.execute((LOADERS / script).read_text())
    connection.execute("SET VARIABLE delivered = ?", [f"{delivered.second}/*/data/*/*.json"])
    connection.execute((LOADERS / "duckdb" / "load.sql").read_text())
    return answers(lambda query: connection.execute(query).fetchall())


def test_postgresql_and_duckdb_agree(
    on_duckdb: dict[str, Any], warehouse: psycopg.Connection[Any], delivered: Delivered
) -> None:
    from delivered import data_files
    from postgresql import load

    for script in ("postgresql/create.sql", "questions.sql"):
        warehouse.execute((LOADERS / script).read_text())
    load(warehouse, data_files(delivered.second))
    assert answers(lambda query: warehouse.execute(query).fetchall()) == on_duckdb


def test_the_tables_for_pandas_and_polars_agree(on_duckdb: dict[str, Any], delivered: Delivered) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    from frames import arrow_tables

    connection = duckdb.connect()
    for name, table in arrow_tables(delivered.second).items():
        connection.register(name, table)
    connection.execute((LOADERS / "questions.sql").read_text().replace("OR REPLACE VIEW", "OR REPLACE TEMP VIEW"))
    assert answers(lambda query: connection.execute(query).fetchall()) == on_duckdb


def test_first_time_right_is_counted_as_the_documentation_says(on_duckdb: dict[str, Any], delivered: Delivered) -> None:
    counted: dict[str, list[int]] = {}
    for record in delivered.newest.values():
        for item in record["work_items"]:
            seen: set[str] = set()
            for photo in item["input"]:
                for job in photo["job_conformity"]:
                    task = counted.setdefault(job["task_name"], [0] * 5)
                    first = job["task_name"] not in seen
                    task[0] += first and job["is_conformity_validated"] is True
                    task[1] += first and job["is_conformity_validated"] is False
                    task[2] += first and job["is_conformity_validated"] is None
                    corrected = job["corrected_value"] is not None and json.dumps(job["corrected_value"]) != json.dumps(
                        job["analyzed_value"]
                    )
                    task[3] += corrected
                    task[4] += 1
                seen |= {job["task_name"] for job in photo["job_conformity"]}
    assert sum(task[0] for task in counted.values()) > 50
    totals: dict[str, list[int]] = {}
    for task, _week, firsts, undecided, validated_pct, analyses, corrected, _pct in on_duckdb["first_time_right"]:
        sums = totals.setdefault(task, [0] * 5)
        decided = float(firsts) - float(undecided)
        sums[0] += round(float(validated_pct) / 100 * decided) if decided else 0
        sums[2] += int(float(undecided))
        sums[3] += int(float(corrected))
        sums[4] += int(float(analyses))
        sums[1] += round(decided)
    for sums in totals.values():
        sums[1] -= sums[0]
    assert totals == counted
