"""Rows that the format cannot express: each kind refused by name, or set aside whole."""

import json
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import orjson
import pyarrow as pa
import pytest

from data_export.errors import InvalidRecord
from data_export.source.extract import SQL_FOLDER
from data_export.transform import json_columns
from tests.unit.source_kit import SITE, SourceDatabase

DAY = "2025-03-16T12:00:00+00:00"
GOOD, BAD, ITEM, INPUT = UUID(int=1), UUID(int=2), UUID(int=20), UUID(int=200)

#: table, wrong values, what the message says.
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "metadata an array": ("work_order", {"metadata": "[1]"}, "metadata is neither an object nor null"),
    "metadata a number": ("work_order", {"metadata": "-1"}, "metadata is neither an object nor null"),
    "update infinite": ("work_order", {"update_date": "infinity"}, "update_date is infinite or outside"),
    "update minus infinite": ("work_order", {"update_date": "-infinity"}, "update_date is infinite or outside"),
    "update before Christ": ("work_order", {"update_date": "0044-03-15 BC"}, "update_date is infinite or outside"),
    "update in year 10000": (
        "work_order",
        {"update_date": "10000-01-01 00:00:00+00"},
        "update_date is infinite or outside",
    ),
    "input metadata a string": (
        "input",
        {"metadata": '"x"'},
        rf"work_items\[\]\.input\[\]\.metadata of input {INPUT} is neither an object nor null",
    ),
    "input date infinite": (
        "input",
        {"create_date": "infinity"},
        rf"work_items\[\]\.input\[\]\.create_date of input {INPUT} is infinite",
    ),
    "extension with a separator": (
        "input",
        {"file_extension": "/../x.png"},
        rf"work_items\[\]\.input\[\]\.file_extension of input {INPUT} is not a plain extension",
    ),
    "extension with a line break": ("input", {"file_extension": ".png\n"}, "is not a plain extension"),
    "analyzed an object": (
        "job_conformity",
        {"analyzed_value": "{}"},
        rf"job_conformity\[\]\.analyzed_value of input {INPUT} is an object or array",
    ),
    "corrected an array": (
        "job_conformity",
        {"corrected_value": "[]"},
        rf"job_conformity\[\]\.corrected_value of input {INPUT} is an object or array",
    ),
    "corrected date infinite": (
        "job_conformity",
        {"corrected_date": "infinity"},
        rf"job_conformity\[\]\.corrected_date of input {INPUT} is infinite",
    ),
}


def insert(source: SourceDatabase, table: str, wrong: dict[str, Any]) -> None:
    """Two work orders, one of them with the wrong values in one row of a table."""
    order = {"site_id": SITE, "create_date": DAY, "metadata": "{}"}
    rows: dict[str, dict[str, Any]] = {
        "work_order": order | {"id": BAD, "name": "bad"},
        "work_item": {"id": ITEM, "work_order_id": BAD},
        "input": {"id": INPUT, "work_item_id": ITEM, "create_date": DAY},
        "job_conformity": {"input_id": INPUT, "task_name": "ctx"},
    }
    rows[table] |= wrong
    source.insert("work_order", [order | {"id": GOOD, "name": "good"}])
    for name, row in rows.items():
        source.insert(name, [row])


@pytest.mark.parametrize("case", CASES)
def test_it_fails_naming_work_order_field_and_fix(source: SourceDatabase, tmp_path: Path, case: str) -> None:
    table, wrong, message = CASES[case]
    insert(source, table, wrong)
    with pytest.raises(InvalidRecord, match=f"work order {BAD}: .*{message}") as caught:
        source.export(tmp_path)
    assert "on_invalid: quarantine" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", CASES)
def test_quarantine_takes_the_whole_record_and_nothing_else(source: SourceDatabase, tmp_path: Path, case: str) -> None:
    table, wrong, _ = CASES[case]
    insert(source, table, wrong)
    exported = source.export(tmp_path, on_invalid="quarantine")
    assert [json.loads(line)["name"] for line in exported.lines] == ["good"]
    assert (exported.result.work_orders, exported.result.quarantined, exported.result.images) == (1, 1, 0)
    (line,) = (tmp_path / "quarantine.json").read_text().splitlines()
    kept = json.loads(line)
    (problem,) = kept["problems"]
    column = problem["field"].split(".")[-1]
    assert kept["work_order"] == str(BAD)
    assert column in wrong
    assert problem["input"] == (None if table == "work_order" else str(INPUT))
    assert {name: len(rows) for name, rows in kept["rows"].items()} == {
        "work_order": 1,
        "work_item": 1,
        "input": 1,
        "data_conformity": 0,
        "job_conformity": 1,
    }
    if "date" not in column:  # Arrow cannot spell what its calendar has not
        assert kept["rows"][table][0][column] == wrong[column]


def test_every_case_is_alone_wrong(source: SourceDatabase, tmp_path: Path) -> None:
    insert(source, "input", {"file_extension": ".jpeg", "metadata": "null", "create_date": None})
    exported = source.export(tmp_path, on_invalid="quarantine")
    assert (exported.result.work_orders, exported.result.quarantined) == (2, 0)
    assert not (tmp_path / "quarantine.json").exists()


def test_many_problems_are_listed_and_the_first_is_named(source: SourceDatabase, tmp_path: Path) -> None:
    insert(source, "job_conformity", {"analyzed_value": "{}", "corrected_value": "[]"})
    with pytest.raises(InvalidRecord, match="and 1 more"):
        source.export(tmp_path)
    exported = source.export(tmp_path, on_invalid="quarantine")
    kept = json.loads((tmp_path / "quarantine.json").read_text())
    assert [problem["field"].split(".")[-1] for problem in kept["problems"]] == ["analyzed_value", "corrected_value"]
    assert exported.result.quarantined == 1


def test_a_null_id_is_a_problem(source: SourceDatabase, tmp_path: Path, sql: Path) -> None:
    insert(source, "work_item", {})
    inner = (SQL_FOLDER / "work_order.sql").read_text().replace("    id,", "    id, NULL::uuid AS no_id,")
    columns = "work_order_number, id, name, no_id AS site_id, create_date, update_date, metadata, progress_score"
    (sql / "work_order.sql").write_text(f"SELECT {columns} FROM ({inner}) AS rows")
    with pytest.raises(InvalidRecord, match=f"work order {GOOD}: site_id is NULL"):
        source.export(tmp_path / "out", sql_folder=sql)


#: Query, its columns after the number with the id that is missing, what the message says.
MISSING_IDS = {
    "work item": ("work_item", "NULL::uuid AS id, work_order_id, name, position", r"work_items\[\]\.id is NULL"),
    "input": (
        "input.work-orders-timeline",
        "NULL::uuid AS id, work_item_id, create_date, file_extension, metadata",
        r"work_items\[\]\.input\[\]\.id is NULL",
    ),
}


@pytest.mark.parametrize("case", MISSING_IDS)
def test_a_null_id_deeper_down_is_a_problem_of_its_record_alone(
    source: SourceDatabase, tmp_path: Path, sql: Path, case: str
) -> None:
    """As a LEFT JOIN in an installation's own query makes it; no id is there twice."""
    query, columns, message = MISSING_IDS[case]
    insert(source, "work_item", {})
    shipped = (SQL_FOLDER / f"{query}.sql").read_text()
    (sql / f"{query}.sql").write_text(f"SELECT work_order_number, {columns} FROM ({shipped}) AS rows")
    with pytest.raises(InvalidRecord, match=f"work order {BAD}: {message}"):
        source.export(tmp_path / "out", sql_folder=sql)
    exported = source.export(tmp_path / "out", on_invalid="quarantine", sql_folder=sql)
    assert [json.loads(line)["name"] for line in exported.lines] == ["good"]
    assert exported.result.quarantined == 1


@pytest.mark.parametrize("place", ["first", "between", "last"])
def test_many_rows_of_one_work_order_sum_up_to_one_that_is_too_large(
    source: SourceDatabase, tmp_path: Path, place: str
) -> None:
    numbers = [1, 2, 3]
    large = {"first": 1, "between": 2, "last": 3}[place]
    order = {"site_id": SITE, "create_date": DAY}
    source.insert("work_order", [order | {"id": UUID(int=k), "name": f"order {k}"} for k in numbers])
    source.insert("work_item", [{"id": UUID(int=10 + k), "work_order_id": UUID(int=k)} for k in numbers])
    many = [UUID(int=large << 32 | k) for k in range(60_000)]
    source.insert("work_item", [{"id": item, "work_order_id": UUID(int=large)} for item in many])
    some = [{"id": item, "work_item_id": item, "metadata": '{"a": 1}'} for item in many[:20_000]]
    source.insert("input", some)
    with pytest.raises(InvalidRecord, match=rf"work order {UUID(int=large)}: is larger, with all .*max_record_mb"):
        source.export(tmp_path, max_record_mb=1)
    exported = source.export(tmp_path, on_invalid="quarantine", max_record_mb=1)
    assert [json.loads(line)["name"] for line in exported.lines] == [f"order {k}" for k in numbers if k != large]
    assert (exported.result.work_orders, exported.result.quarantined, exported.result.images) == (2, 1, 0)
    kept = json.loads((tmp_path / "quarantine.json").read_text())
    assert (kept["work_order"], kept["rows"]) == (str(UUID(int=large)), {})
    assert len(source.export(tmp_path, max_record_mb=100).lines) == 3


@pytest.mark.parametrize("first", [0, -3])
def test_a_query_of_ones_own_may_number_work_orders_from_anywhere(
    source: SourceDatabase, tmp_path: Path, sql: Path, first: int
) -> None:
    """One with the number 0 was delivered without its rows, and without a word."""
    text = (sql / "work_order.sql").read_text()
    number = "row_number() OVER (ORDER BY create_date::timestamptz NULLS FIRST, id)"
    assert number in text
    (sql / "work_order.sql").write_text(text.replace(number, f"{number} - 1 + {first}"))
    order = {"site_id": SITE, "create_date": DAY}
    source.insert("work_order", [order | {"id": UUID(int=k), "name": f"order {k}"} for k in (1, 2)])
    source.insert("work_item", [{"id": UUID(int=9 + k), "work_order_id": UUID(int=1)} for k in range(60_000)])
    exported = source.export(tmp_path / "out", on_invalid="quarantine", max_record_mb=1, sql_folder=sql)
    assert [json.loads(line)["name"] for line in exported.lines] == ["order 2"]


def test_one_that_is_too_large_hides_no_other_problem_nearby(source: SourceDatabase, tmp_path: Path) -> None:
    """They are read together; the neighbour went out with what the format cannot express."""
    order = {"site_id": SITE, "create_date": DAY}
    names = ["list", "good", "large", "infinite"]
    source.insert("work_order", [order | {"id": UUID(int=k), "name": name} for k, name in enumerate(names)])
    source.connection.execute("UPDATE work_order SET metadata = '[1]' WHERE name = 'list'")
    source.connection.execute("UPDATE work_order SET update_date = 'infinity' WHERE name = 'infinite'")
    source.insert("work_item", [{"id": ITEM, "work_order_id": UUID(int=2)}])
    metadata = json.dumps({"a": "x" * 200_000})
    source.insert("input", [{"id": UUID(int=k), "work_item_id": ITEM, "metadata": metadata} for k in range(8)])
    exported = source.export(tmp_path, on_invalid="quarantine", max_record_mb=1)
    assert [json.loads(line)["name"] for line in exported.lines] == ["good"]
    records = map(json.loads, (tmp_path / "quarantine.json").read_text().splitlines())
    kept = {UUID(record["work_order"]).int: record for record in records}
    assert {names[k]: len(one["problems"]) for k, one in kept.items()} == {"list": 1, "large": 1, "infinite": 1}
    assert "max_record_mb" in kept[2]["problems"][0]["problem"]
    with pytest.raises(InvalidRecord, match=r"max_record_mb allows \(and 1 more nearby\)"):
        source.export(tmp_path / "refused", max_record_mb=1)


def test_the_texts_of_other_work_orders_make_none_too_large(source: SourceDatabase, tmp_path: Path) -> None:
    """The names of items are read as a dictionary, which each row of the chunk refers to."""
    orders = [UUID(int=k) for k in range(1000)]
    source.insert("work_order", [{"id": order, "site_id": SITE, "create_date": DAY} for order in orders])
    source.insert("work_item", [{"id": k, "work_order_id": k, "name": str(k) * 50} for k in orders])
    exported = source.export(tmp_path, max_record_mb=1)
    assert (len(exported.data) > 2_000_000, exported.result.work_orders) == (True, 1000)


def test_a_text_counts_as_often_as_it_is_delivered(source: SourceDatabase, tmp_path: Path) -> None:
    """The snapshot holds one of them, a line all: a small snapshot could make a line of gigabytes."""
    insert(source, "input", {})
    check = "INSERT INTO data_conformity SELECT %s, repeat('x', 20000), k, 'error' FROM generate_series(1, %s) AS k"
    source.connection.execute(check, [INPUT, 40])
    assert source.export(tmp_path / "some", max_record_mb=1).result.work_orders == 2
    source.connection.execute(check, [INPUT, 20])
    with pytest.raises(InvalidRecord, match=rf"work order {BAD}: is larger, with all that belongs"):
        source.export(tmp_path / "many", max_record_mb=1)


#: Table, column, and what JSON makes longer.
SPELLED = {
    "control characters": ("job_conformity", "message", "\x01" * 400_000),
    "quotes": ("work_item", "name", '"' * 600_000),
    "line breaks": ("work_order", "name", "\n" * 600_000),
}


@pytest.mark.parametrize("case", SPELLED)
def test_a_text_is_as_large_as_json_spells_it(source: SourceDatabase, tmp_path: Path, case: str) -> None:
    """Of 31 MB of control characters comes a line of 186 MB."""
    table, column, text = SPELLED[case]
    insert(source, table, {column: text})
    with pytest.raises(InvalidRecord, match=rf"work order {BAD}: is larger, with all that belongs"):
        source.export(tmp_path / "refused", max_record_mb=1)
    exported = source.export(tmp_path / "aside", on_invalid="quarantine", max_record_mb=1)
    assert [json.loads(line)["name"] for line in exported.lines] == ["good"]
    source.connection.execute(f"UPDATE {table} SET {column} = repeat('x', 900000) WHERE length({column}) > 9")
    assert source.export(tmp_path / "plain", max_record_mb=1).result.work_orders == 2


@pytest.mark.parametrize("seed", range(12))
def test_lengths_are_those_of_the_texts_in_json(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_columns, "_BLOCK", 16)
    random = Random(seed)
    letters = "ab" if seed == 0 else 'ab"\\\x00\x01\x1f\n\t\b\f\r\x7f\u00e9\U0001f600'
    texts = [None, *("".join(random.choices(letters, k=random.choice([0, 0, 1, 3, 40]))) for _ in range(40)), None]
    lengths = [None if text is None else len(orjson.dumps(text)) - 2 for text in texts]
    column = pa.array(texts, pa.string())
    for first, last in ((0, 42), (3, 20), (7, 7), (41, 42)):
        assert json_columns.spelled_lengths(column[first:last]).to_pylist() == lengths[first:last]


#: Rows with as little text as they may have.
SMALL: dict[str, dict[str, Any]] = {
    "work_item": {"work_order_id": BAD},
    "input": {"work_item_id": ITEM, "create_date": DAY, "file_extension": ".png"},
    "data_conformity": {"input_id": INPUT, "check": "blur", "code": 3, "level": "error"},
    "job_conformity": {"input_id": INPUT, "task_name": "l4_civil_ctx", "analyzed_value": "12", "message": "12"},
}


@pytest.mark.parametrize("table", SMALL)
def test_a_work_order_is_as_large_as_its_line(source: SourceDatabase, tmp_path: Path, table: str) -> None:
    """Rows of few texts are small in a snapshot: what their keys make of them counts, here and in memory."""
    insert(source, "input", {})
    row, key = SMALL[table], {} if table.endswith("_conformity") else {"id"}

    def line_with(first: int, rows: int) -> int:
        ids = [{"id": UUID(int=k)} if key else {} for k in range(first, first + rows)]
        source.insert(table, [row | each for each in ids])
        exported = source.export(tmp_path / str(rows), max_record_mb=100)
        return max(len(line.encode()) for line in exported.lines)

    few = line_with(1000, 1000)
    each = (line_with(2000, 1000) - few) / 1000
    line_with(3000, int((920_000 - few) / each) - 1000)
    assert source.export(tmp_path / "below", max_record_mb=1).result.work_orders == 2
    line_with(100_000, int(160_000 / each))
    with pytest.raises(InvalidRecord, match=rf"work order {BAD}: is larger, with all that belongs"):
        source.export(tmp_path / "above", max_record_mb=1)
