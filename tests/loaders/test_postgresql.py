"""The PostgreSQL loader on the real engine: by psycopg, and by psql alone."""

import gzip
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from data_export.layout import data_key
from data_export.window import ExportWindow
from demo.data import COLUMNS, SITES, build
from tests.loaders.conftest import (
    COLONS,
    KINDS,
    LOADERS,
    TWO_SITES,
    Delivered,
    State,
    respelled,
    two_formats,
    two_sites,
)
from tests.unit.source_kit import TIMELINE, SourceDatabase

SCRIPTS = (LOADERS / "postgresql" / "create.sql", LOADERS / "questions.sql")


def load(warehouse: psycopg.Connection[Any], folder: Path) -> int:
    from delivered import data_files
    from postgresql import load

    for script in SCRIPTS:
        warehouse.execute(script.read_text())
    return load(warehouse, data_files(folder))


def newest(warehouse: psycopg.Connection[Any]) -> dict[str, State]:
    columns = "id::text, name, metadata::text, progress_score, update_date, jsonb_array_length(work_items)"
    return {
        row[0]: (row[1], respelled(row[2]), row[3], row[4], row[5])
        for row in warehouse.execute(f"SELECT {columns} FROM work_order").fetchall()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_newest_state_of_each_work_order(
    warehouse: psycopg.Connection[Any], delivered: Delivered, as_kind: Callable[[str], Path], kind: str
) -> None:
    folder = as_kind(kind)
    assert load(warehouse, folder) == len([*folder.rglob(f"*.{kind}")])
    assert newest(warehouse) == delivered.states


def test_files_that_come_later_late_and_again(
    warehouse: psycopg.Connection[Any], delivered: Delivered, tmp_path: Path
) -> None:
    shutil.copytree(delivered.first, tmp_path, dirs_exist_ok=True)
    assert load(warehouse, tmp_path) == 6
    assert warehouse.execute("SELECT count(*) FROM missing_window").fetchone() == (1,)  # the 19th is late
    shutil.copytree(delivered.second, tmp_path, dirs_exist_ok=True)
    load(warehouse, tmp_path)
    history = warehouse.execute("SELECT count(*) FROM delivered_record").fetchone()
    assert load(warehouse, tmp_path) == 0
    assert warehouse.execute("SELECT count(*) FROM delivered_record").fetchone() == history
    assert newest(warehouse) == delivered.states
    assert warehouse.execute("SELECT count(*) FROM missing_window").fetchone() == (0,)
    assert warehouse.execute("SELECT count(*) FROM delivered_file WHERE records = 0").fetchone() == (1,)


def test_of_a_work_order_that_is_twice_in_a_mailed_file_the_newer_state_counts(
    warehouse: psycopg.Connection[Any], tmp_path: Path
) -> None:
    """It moved to another site while the sites were read."""
    two_formats(tmp_path, "json")
    (plain,) = tmp_path.rglob("*.json")
    line, moved = plain.read_text(), '"update_date": "2025-03-16T12:00:00.000000+00:00"'
    newer = line.replace('"update_date": null', moved).replace('"name": "json"', '"name": "moved"')
    for text in (line + newer, newer + line):
        plain.write_text(text)
        assert load(warehouse, tmp_path) == 1
        assert warehouse.execute("SELECT name, update_date IS NULL FROM work_order").fetchall() == [("moved", False)]
        warehouse.execute("TRUNCATE delivered_record, delivered_file")


@pytest.mark.parametrize(("hours", "newer"), TWO_SITES)
@pytest.mark.parametrize("reverse", [True, False])
def test_of_a_work_order_in_the_files_of_two_sites_the_newer_state_counts(
    warehouse: psycopg.Connection[Any], tmp_path: Path, hours: Any, newer: UUID, reverse: bool
) -> None:
    """Whichever of them is loaded last, and in one mailed file whichever comes last."""
    for _ in two_sites(tmp_path, hours, reverse=reverse):
        assert load(warehouse, tmp_path) == 1
    assert warehouse.execute("SELECT name FROM work_order").fetchall() == [(str(newer),)]
    warehouse.execute("TRUNCATE delivered_record, delivered_file")
    mailed = "".join(path.read_text() for path in two_sites(tmp_path / "sites", hours, reverse=reverse))
    (tmp_path / "mailed").mkdir()
    (tmp_path / "mailed" / f"acme_{TIMELINE}_2025-03-16_00-00-00_2025-03-17_00-00-00.json").write_text(mailed)
    assert load(warehouse, tmp_path / "mailed") == 1
    assert warehouse.execute("SELECT name FROM work_order").fetchall() == [(str(newer),)]


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
def test_psql_alone_loads_plain_and_compressed_files(server: Any, delivered: Delivered, tmp_path: Path) -> None:
    shutil.copytree(delivered.second, tmp_path, dirs_exist_ok=True)
    for path in sorted(tmp_path.rglob("*.json"))[::2]:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        path.unlink()
    (tmp_path / "data-export-check-1a2b3c4d.json").write_text("{}")  # was copied in the moment in which it was there
    mailed = "acme_work-orders-timeline_2025-03-16_00-00-00_2025-03-17_00-00-00"
    (tmp_path / f"{mailed} (1).json").write_text("{}")  # saved a second time
    dsn = server.create_database("by_psql")
    with psycopg.connect(dsn, autocommit=True) as warehouse:
        for create in SCRIPTS:
            warehouse.execute(create.read_text())
        subprocess.run(["bash", LOADERS / "postgresql" / "load.sh", dsn, tmp_path], check=True)
        assert newest(warehouse) == delivered.states


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
def test_load_sh_does_not_take_a_wrong_folder_for_an_empty_one(server: Any, tmp_path: Path) -> None:
    def load(folder: Path) -> tuple[int, str]:
        command = ["bash", LOADERS / "postgresql" / "load.sh", dsn, folder]
        run = subprocess.run(command, check=False, capture_output=True, text=True)
        return run.returncode, run.stderr

    dsn = server.create_database("by_psql_alone")
    with psycopg.connect(dsn, autocommit=True) as warehouse:
        for create in SCRIPTS:
            warehouse.execute(create.read_text())
        returncode, said = load(tmp_path / "nowhere")
        assert returncode == 1
        assert "No such file or directory" in said
        assert load(tmp_path) == (0, "")
        two_formats(tmp_path, "json")
        (plain,) = tmp_path.rglob("*.json")
        parquet = plain.with_suffix(".parquet")
        parquet.write_bytes(b"")
        told = f"load.sh does not read Parquet, use python/postgresql.py: {parquet}\n"
        assert load(tmp_path) == (0, told)
        assert len(newest(warehouse)) == 1
        for path in tmp_path.rglob("*.json*"):
            path.unlink()
        assert load(tmp_path) == (3, told)


def test_the_page_shows_what_comes_out(
    warehouse: psycopg.Connection[Any], database: SourceDatabase, tmp_path: Path
) -> None:
    database.clear()
    for table, rows in build().tables.items():
        database.insert(table, [dict(zip(COLUMNS[table], row, strict=True)) for row in rows])
    for number, site in enumerate(SITES):
        for day in range(14, 20):
            window = ExportWindow(datetime(2025, 3, day, tzinfo=UTC), datetime(2025, 3, day + 1, tzinfo=UTC))
            path = tmp_path / "acme" / data_key(site, TIMELINE, window)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(database.export(tmp_path / f"{number}-{day}", site=site, window=window).data)
    page = (LOADERS.parents[1] / "docs" / "load.md").read_text().partition("\n## PostgreSQL\n")[2].partition("\n## ")[0]
    zone, query = re.findall(r'^\$ psql .* -c "(.*)"$', page, re.MULTILINE)
    assert f"{load(warehouse, tmp_path / 'acme')} files loaded" in page
    warehouse.execute(zone)
    shown = [tuple(map(str.strip, row.split("|"))) for row in re.findall(r"^ l4_.*", page, re.MULTILINE)]
    assert [tuple(map(str, row)) for row in warehouse.execute(query).fetchall()] == shown


def test_a_name_that_is_not_a_data_files_is_refused(warehouse: psycopg.Connection[Any]) -> None:
    warehouse.execute(SCRIPTS[0].read_text())
    with pytest.raises(psycopg.errors.RaiseException, match=r"orders\.json is not the name of a data file"):
        warehouse.execute("SELECT load_delivered('orders.json')")


def test_names_are_read_however_they_are_spelled(warehouse: psycopg.Connection[Any]) -> None:
    warehouse.execute(SCRIPTS[0].read_text())
    folders = ("x/data/work-orders-states/", "x\\data\\work-orders-states\\", "acme_work-orders-states_")
    for folder in folders:
        for colon in COLONS:
            name = folder + "2025-03-15_23:00:00_2025-03-16_23:30:59.r10.json.gz".replace(":", colon)
            assert warehouse.execute("SELECT load_delivered(%s)", [name]).fetchone() == (0,)
    named = "SELECT DISTINCT export_type, window_start, window_end, revision FROM delivered_file"
    start, end = datetime(2025, 3, 15, 23, tzinfo=UTC), datetime(2025, 3, 16, 23, 30, 59, tzinfo=UTC)
    assert warehouse.execute(named).fetchall() == [("work-orders-states", start, end, 10)]
