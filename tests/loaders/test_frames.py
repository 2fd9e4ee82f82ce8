"""The tables for pandas, polars and pyarrow."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pytest

from tests.loaders.conftest import (
    COLONS,
    KINDS,
    LOADERS,
    TWO_SITES,
    VALUES,
    Delivered,
    respelled,
    two_formats,
    two_sites,
)


def states(tables: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    columns = ("name", "metadata", "progress_score", "update_date")
    rows = {row["id"]: [row[column] for column in columns] for row in tables["work_order"].to_pylist()}
    return {key: (name, respelled(metadata), *rest) for key, (name, metadata, *rest) in rows.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_newest_state_of_each_work_order(delivered: Delivered, as_kind: Callable[[str], Path], kind: str) -> None:
    from frames import arrow_tables

    found = states(arrow_tables(as_kind(kind)))
    assert found == {key: state[:-1] for key, state in delivered.states.items()}


def test_the_order_in_which_files_came_is_no_matter(delivered: Delivered) -> None:
    from delivered import data_files, newest

    files = data_files(delivered.second)
    forward, backward = ({record["id"]: record for _, record in newest(order)} for order in (files, files[::-1]))
    assert forward == backward


@pytest.mark.parametrize(("hours", "newer"), TWO_SITES)
def test_of_a_work_order_in_the_files_of_two_sites_the_newer_state_counts(
    tmp_path: Path, hours: Any, newer: UUID
) -> None:
    from delivered import data_files, newest

    assert len([*two_sites(tmp_path, hours)]) == 2
    files = data_files(tmp_path)
    for order in (files, files[::-1]):
        assert [record["name"] for _, record in newest(order)] == [str(newer)]


def test_pandas_and_polars_take_them_as_they_are(delivered: Delivered) -> None:
    from frames import arrow_tables

    tables = arrow_tables(delivered.second, zone="Europe/Paris")
    orders = tables["work_order"].to_pandas(types_mapper=pd.ArrowDtype).set_index("id")
    sunday_night = orders.loc["00000000-0000-0000-0000-00000000000b"]
    assert (sunday_night["name"], sunday_night["week"]) == ("00123", date(2025, 3, 17))
    polars = pytest.importorskip("polars", reason="polars is not installed")
    analysis = polars.from_arrow(tables["analysis"]).filter(polars.col("task_name") == "mixed").sort("attempt")
    huge = "1" + "0" * 400
    values = [None if value in ("null", None) else huge if value == "1e400" else value for value in VALUES]
    assert analysis["analyzed_value"].to_list() == values


@pytest.mark.parametrize(
    ("moment", "zone", "week"),
    [
        ("0001-01-01T00:00:00.000000Z", "America/New_York", date(1, 1, 1)),
        ("9999-12-31T23:59:59.999999Z", "Europe/Paris", date(9999, 12, 27)),
    ],
)
def test_a_moment_at_the_end_of_the_calendar_has_a_week_in_every_zone(
    tmp_path: Path, moment: str, zone: str, week: date
) -> None:
    from frames import arrow_tables

    two_formats(tmp_path, "json")
    for path in tmp_path.rglob("*.json"):
        path.write_text(path.read_text().replace('"create_date": null', f'"create_date": "{moment}"'))
    (found,) = arrow_tables(tmp_path, zone=zone)["work_order"].to_pylist()
    assert found["week"] == week


def test_a_copy_without_colons_says_the_same(delivered: Delivered, tmp_path: Path) -> None:
    from delivered import copy_without_colons
    from frames import arrow_tables

    assert copy_without_colons(delivered.second, tmp_path) == len([*delivered.second.rglob("*.json")])
    assert not [path for path in tmp_path.rglob("*") if ":" in path.name]
    assert arrow_tables(tmp_path) == arrow_tables(delivered.second)


def test_a_copy_without_colons_has_the_manifests_of_its_files(delivered: Delivered, tmp_path: Path) -> None:
    from delivered import copy_without_colons, new_files

    root, copy = tmp_path / "root", tmp_path / "copy"
    shutil.copytree(delivered.second, root)
    for path in sorted(root.rglob("*.json")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        file = {"key": path.relative_to(root).as_posix(), "sha256": digest, "records_sha256": digest}
        manifest = root / "manifests" / path.parent.name / path.name
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(json.dumps({"sites": [{"file": file}]}))
    found = [entry for _, entry in new_files(root, {})]
    assert len(found) > 6
    assert copy_without_colons(root, copy) == len([*delivered.second.rglob("*.json")])
    assert [entry for _, entry in new_files(copy, {})] == found


def test_a_folder_that_does_not_exist_is_not_an_empty_one(tmp_path: Path) -> None:
    from delivered import copy_without_colons, new_files
    from frames import arrow_tables

    nowhere = tmp_path / "nowhere"
    other = tmp_path.with_name("copy")
    for load in (arrow_tables, lambda root: new_files(root, {}), lambda root: copy_without_colons(root, other)):
        assert load(tmp_path) in (0, [], arrow_tables(tmp_path))
        with pytest.raises(FileNotFoundError, match=f"there is no folder {nowhere}"):
            load(nowhere)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("delivered.py nowhere out", "there is no folder nowhere"),
        ("postgresql.py DSN nowhere", "there is no folder nowhere"),
        ("delivered.py . ./plain", "plain is in .: name a folder outside it"),
        ("delivered.py", "usage: python delivered.py FROM TO"),
        ("postgresql.py DSN", "usage: python postgresql.py DSN FOLDER"),
        ("../postgresql/load.sh DSN", "usage: bash load.sh DSN FOLDER"),
    ],
)
def test_a_command_says_in_one_line_what_is_wrong(command: str, said: str, tmp_path: Path) -> None:
    script, *arguments = command.split()
    program = "bash" if script.endswith(".sh") else sys.executable
    run = subprocess.run(
        [program, LOADERS / "python" / script, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (run.returncode, run.stdout, run.stderr) == (1, "", f"{said}\n")


@pytest.mark.parametrize("colon", COLONS)
def test_names_are_read_however_colons_are_spelled(colon: str) -> None:
    from delivered import data_file

    name = "x/data/work-orders-states/2025-03-15_23:00:00_2025-03-16_23:00:00.r10.json.gz"
    plain, other = data_file(Path(name)), data_file(Path(name.replace(":", colon)))
    assert plain is not None
    assert other is not None
    assert plain.order == other.order
    assert (plain.revision, plain.kind, plain.window_start.hour) == (10, "json.gz", 23)


@pytest.mark.parametrize("late", ["json", "json.gz"])
def test_of_a_window_in_two_formats_the_last_counts(tmp_path: Path, late: str) -> None:
    from delivered import data_files, lines, parse

    two_formats(tmp_path, late)
    assert [parse(line)["name"] for file in data_files(tmp_path) for line in lines(file)] == [late]


def test_a_file_saved_from_a_mail_is_one() -> None:
    from delivered import data_file

    file = data_file(Path("acme_work-orders-timeline_2025-03-16_00-00-00_2025-03-17_00-00-00.json"))
    assert file is not None
    assert (file.export_type, file.revision) == ("work-orders-timeline", 1)


def test_receipts_and_manifests_are_not_data_files(delivered: Delivered, tmp_path: Path) -> None:
    from delivered import data_files

    root = tmp_path / "receipts" / "manifests"  # names of the customer's own folders say nothing
    shutil.copytree(delivered.second, root)
    (site,) = root.iterdir()
    wanted = len(data_files(root))
    assert wanted > 6
    shutil.copytree(site / "data", site / "receipts")
    shutil.copytree(site / "data", root / "manifests")
    assert len(data_files(root)) == wanted
