"""The DuckDB loader on the real engine."""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from demo.data import PARIS
from tests.loaders.conftest import (
    COLONS,
    KINDS,
    LOADERS,
    REPLACED,
    REVISED,
    TWO_SITES,
    VALUES,
    Delivered,
    State,
    as_kind_of,
    respelled,
    two_formats,
    two_sites,
)

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
def connection() -> Any:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'Asia/Kathmandu'")  # the answers must not depend on it
    connection.execute((LOADERS / "duckdb" / "create.sql").read_text())
    connection.execute((LOADERS / "questions.sql").read_text())
    return connection


def load(connection: Any, folder: Path, kind: str = "json") -> None:
    script, ending = ("load_parquet.sql", ".parquet") if kind == "parquet" else ("load.sql", ".json*")
    connection.execute("SET VARIABLE delivered = ?", [f"{folder}/*/data/work-orders-timeline/*{ending}"])
    connection.execute((LOADERS / "duckdb" / script).read_text())


def newest(connection: Any) -> dict[str, State]:
    columns = "id::VARCHAR, name, metadata::VARCHAR, progress_score, epoch_us(update_date), len(work_items)"
    return {
        row[0]: (row[1], respelled(row[2]), row[3], row[4] and EPOCH + timedelta(microseconds=row[4]), row[5])
        for row in connection.execute(f"SELECT {columns} FROM work_order").fetchall()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_newest_state_of_each_work_order(
    connection: Any, delivered: Delivered, as_kind: Callable[[str], Path], kind: str
) -> None:
    load(connection, as_kind(kind), kind)
    assert newest(connection) == delivered.states


def test_eight_threads_need_no_more_than_two_gigabytes(connection: Any, delivered: Delivered) -> None:
    """The reader takes memory for each thread, however small the files are."""
    connection.execute("SET threads = 8")
    connection.execute("SET memory_limit = '2GB'")
    load(connection, delivered.second)
    assert newest(connection) == delivered.states


@pytest.mark.parametrize("kind", ["json", "parquet"])
@pytest.mark.parametrize("folder", ["env=prod", "name=x", "site_id=1"])
def test_a_folder_of_a_key_and_a_value_is_no_column(connection: Any, tmp_path: Path, folder: str, kind: str) -> None:
    two_formats(tmp_path / folder, "json")
    (plain,) = tmp_path.rglob("*.json")
    as_kind_of(plain, plain.with_suffix(".parquet"), "parquet")
    load(connection, tmp_path / folder, kind)
    loaded = "SELECT name, site_id::VARCHAR FROM delivered_record"
    assert connection.execute(loaded).fetchall() == [("json", str(PARIS))]


def test_files_that_come_later_late_and_again(connection: Any, delivered: Delivered, tmp_path: Path) -> None:
    shutil.copytree(delivered.first, tmp_path, dirs_exist_ok=True)
    load(connection, tmp_path)
    assert connection.execute("SELECT count(*) FROM missing_window").fetchone() == (1,)  # the 19th is late
    shutil.copytree(delivered.second, tmp_path, dirs_exist_ok=True)
    load(connection, tmp_path)
    history = connection.execute("SELECT count(*) FROM delivered_record").fetchone()
    load(connection, tmp_path)
    assert connection.execute("SELECT count(*) FROM delivered_record").fetchone() == history
    assert newest(connection) == delivered.states
    assert connection.execute("SELECT count(*) FROM missing_window").fetchone() == (0,)
    names = dict(
        connection.execute("SELECT id, name FROM work_order WHERE id IN (?, ?)", [REPLACED, REVISED]).fetchall()
    )
    assert names == {REPLACED: "replaced", REVISED: "revision 10"}


def test_an_empty_file_is_a_loaded_window(connection: Any, delivered: Delivered) -> None:
    load(connection, delivered.second)
    empty = "SELECT window_start = '2025-03-14 00:00:00+00' FROM delivered_file WHERE bytes = 0"
    assert connection.execute(empty).fetchall() == [(True,)]


def test_values_of_mixed_types_keep_their_type_and_spelling(connection: Any, delivered: Delivered) -> None:
    load(connection, delivered.second)
    found = connection.execute(
        "SELECT analyzed_value FROM analysis WHERE task_name = 'mixed' ORDER BY attempt"
    ).fetchall()
    huge = "1" + "0" * 400
    assert [row[0] for row in found] == [None if v in ("null", None) else huge if v == "1e400" else v for v in VALUES]


def test_days_and_weeks_are_those_of_the_zone(connection: Any, delivered: Delivered) -> None:
    load(connection, delivered.second)
    weeks = "SELECT week::VARCHAR FROM work_order WHERE id = '00000000-0000-0000-0000-00000000000b'"
    assert connection.execute(weeks).fetchone() == ("2025-03-10",)  # Sunday, 23:30 UTC
    connection.execute("UPDATE reporting SET zone = 'Europe/Paris'")
    assert connection.execute(weeks).fetchone() == ("2025-03-17",)


@pytest.mark.parametrize("colon", COLONS)
@pytest.mark.parametrize(
    "folder", ["x/data/work-orders-states/", "x\\data\\work-orders-states\\", "acme_work-orders-states_"]
)
def test_names_are_read_however_they_are_spelled(connection: Any, folder: str, colon: str) -> None:
    name = folder + "2025-03-15_23:00:00_2025-03-16_23:30:59.r10.json.gz".replace(":", colon)
    parts = "name_part($1, 1), epoch(name_time($1, 2)), epoch(name_time($1, 4)), name_revision($1), name_part($1, 7)"
    start, end = datetime(2025, 3, 15, 23, tzinfo=UTC), datetime(2025, 3, 16, 23, 30, 59, tzinfo=UTC)
    found = connection.execute(f"SELECT {parts}", [name]).fetchone()
    assert found == ("work-orders-states", start.timestamp(), end.timestamp(), 10, "json.gz")


@pytest.mark.parametrize("late", ["json", "json.gz"])
def test_of_a_window_in_two_formats_the_last_counts(connection: Any, tmp_path: Path, late: str) -> None:
    two_formats(tmp_path, late)
    load(connection, tmp_path)
    assert connection.execute("SELECT name FROM delivered_record").fetchall() == [(late,)]
    load(connection, tmp_path)
    assert connection.execute("SELECT name FROM delivered_record").fetchall() == [(late,)]


@pytest.mark.parametrize("kind", ["json", "parquet"])
@pytest.mark.parametrize(("hours", "newer"), TWO_SITES)
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
def test_of_a_work_order_in_the_files_of_two_sites_the_newer_state_counts(
    connection: Any, tmp_path: Path, hours: Any, newer: UUID, kind: str, at_once: bool, reverse: bool
) -> None:
    for path in two_sites(tmp_path, hours, reverse=reverse):
        if kind == "parquet":
            as_kind_of(path, path.with_suffix(".parquet"), "parquet")
        if not at_once:
            load(connection, tmp_path, kind)
    for path in (None, *tmp_path.rglob(f"*.{kind}")):  # each may come again
        if path:
            os.utime(path)
        load(connection, tmp_path, kind)
        assert connection.execute("SELECT name FROM delivered_record").fetchall() == [(str(newer),)], path


def test_a_load_without_a_new_file_leaves_what_another_format_brought(connection: Any, tmp_path: Path) -> None:
    two_formats(tmp_path, "json.gz")
    (packed,) = tmp_path.rglob("*.json.gz")
    plain = packed.with_suffix("")
    as_kind_of(packed, plain.with_suffix(".parquet"), "parquet")
    packed.unlink()
    for kind, name in (("json", "json"), ("parquet", "json.gz"), ("json", "json.gz"), ("parquet", "json.gz")):
        load(connection, tmp_path, kind)
        assert connection.execute("SELECT name FROM delivered_record").fetchall() == [(name,)]


def test_receipts_and_manifests_are_not_data_files(connection: Any, delivered: Delivered, tmp_path: Path) -> None:
    root = tmp_path / "receipts"
    shutil.copytree(delivered.first, root)
    (site,) = root.iterdir()
    shutil.copytree(site / "data", site / "receipts")
    shutil.copytree(site / "data", root / "manifests")
    connection.execute("SET VARIABLE delivered = ?", [f"{root}/**/*.json*"])
    connection.execute((LOADERS / "duckdb" / "load.sql").read_text())
    assert connection.execute("SELECT count(*) FROM delivered_file").fetchone() == (6,)


@pytest.mark.parametrize("script", ["load.sql", "load_parquet.sql"])
@pytest.mark.parametrize(
    ("delivered", "problem"),
    [
        (None, "set the variable delivered"),
        ("/nowhere/*", r"no data file matches /nowhere/\*"),
        ([__file__], "no data f"),
    ],
)
def test_what_names_no_data_file_is_said(connection: Any, script: str, delivered: object, problem: str) -> None:
    connection.execute("SET VARIABLE delivered = ?", [delivered])
    with pytest.raises(duckdb.Error, match=problem):
        connection.execute((LOADERS / "duckdb" / script).read_text())
    assert connection.execute("SELECT count(*) FROM delivered_file").fetchone() == (0,)  # in no broken transaction


def test_both_loads_end_alike() -> None:
    end = "-- A work order that moves"
    (lines, parquet) = ((LOADERS / "duckdb" / name).read_text().split(end) for name in ("load.sql", "load_parquet.sql"))
    assert lines[1] == parquet[1]
