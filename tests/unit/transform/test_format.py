"""The delivered format, byte for byte: golden files, the published example, the images."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import google_crc32c
import jsonschema
import pyarrow.parquet as pq
import pytest

from data_export.errors import SourceRejected
from data_export.source.extract import SQL_FOLDER
from tests.unit.source_kit import SITE, STATES, TIMELINE, WINDOW, SourceDatabase

GOLDEN = Path(__file__).parent / "golden"
PAGE = json.loads((GOLDEN / "page-schema.json").read_text())  # refuses keys that it does not list
VALID = jsonschema.Draft202012Validator(PAGE, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
DAY = "2025-03-16T12:00:00+00:00"


@pytest.mark.parametrize("export_type", [TIMELINE, STATES])
def test_every_oddity_comes_out_as_the_golden_file(source: SourceDatabase, tmp_path: Path, export_type: str) -> None:
    source.connection.execute((GOLDEN / "source.sql").read_text())
    exported = source.export(tmp_path, export_type)
    assert exported.data == (GOLDEN / f"{export_type}.jsonl").read_bytes()
    for line in exported.lines:
        VALID.validate(json.loads(line))


@pytest.mark.parametrize("export_type", [TIMELINE, STATES])
def test_the_digests_are_those_of_the_file(source: SourceDatabase, tmp_path: Path, export_type: str) -> None:
    source.connection.execute((GOLDEN / "source.sql").read_text())
    exported = source.export(tmp_path, export_type)
    digests = exported.result.digests
    assert digests.size == len(exported.data)
    assert digests.sha256 == hashlib.sha256(exported.data).hexdigest()
    assert digests.crc32c == base64.b64encode(google_crc32c.value(exported.data).to_bytes(4, "big")).decode()


@pytest.mark.parametrize("export_type", [TIMELINE, STATES])
def test_the_images_are_those_of_every_input_in_the_file(
    source: SourceDatabase, tmp_path: Path, export_type: str
) -> None:
    source.connection.execute((GOLDEN / "source.sql").read_text())
    exported = source.export(tmp_path, export_type)
    listed = [
        (row["input_id"], row["file_extension"]) for row in pq.read_table(tmp_path / "images.parquet").to_pylist()
    ]
    inputs = [
        (shot["id"], shot["file_extension"])
        for line in exported.lines
        for item in json.loads(line)["work_items"]
        for shot in item["input"]
    ]
    assert sorted(listed, key=str) == sorted(inputs, key=str)
    assert exported.result.images == len(listed) > 2


def test_the_published_example_comes_out_as_published(source: SourceDatabase, tmp_path: Path) -> None:
    example = json.loads((GOLDEN / "page-example.json").read_text())
    insert(source, example)
    (line,) = source.export(tmp_path).lines
    VALID.validate(json.loads(line))
    record = json.loads(line)
    for item, published in zip(record["work_items"], example["work_items"], strict=True):
        for shot, published_shot in zip(item["input"], published["input"], strict=True):
            # What the schema requires and the example leaves out.
            assert (shot.pop("create_date"), shot.pop("file_extension")) == ("2025-03-16T12:00:00.000000+00:00", ".png")
            # The page shows no order of the analyses; ours is by name.
            published_shot["job_conformity"].sort(key=lambda job: job["task_name"])
    assert record == example
    assert '"analyzed_value":0.0' in line


def insert(source: SourceDatabase, record: dict[str, Any]) -> None:
    source.insert("work_order", [record | {"metadata": json.dumps(record["metadata"]), "update_date": DAY}])
    for position, item in enumerate(record["work_items"]):
        source.insert("work_item", [item | {"work_order_id": record["id"], "position": position}])
        for shot in item["input"]:
            row = {"work_item_id": item["id"], "create_date": DAY, "file_extension": ".png"}
            source.insert("input", [shot | row | {"metadata": json.dumps(shot["metadata"])}])
            for job in shot["job_conformity"]:
                values = {name: json.dumps(job[name]) for name in ("analyzed_value", "corrected_value")}
                source.insert("job_conformity", [job | values | {"input_id": shot["id"]}])
    record["update_date"] = "2025-03-16T12:00:00.000000+00:00"


def test_a_window_without_work_orders_is_an_empty_file(source: SourceDatabase, tmp_path: Path) -> None:
    source.insert("work_order", [{"id": UUID(int=1), "site_id": SITE, "create_date": "2020-01-01T00:00:00Z"}])
    exported = source.export(tmp_path)
    assert exported.data == b""
    assert exported.rows == dict.fromkeys(exported.rows, 0)
    assert exported.result.work_orders == exported.result.images == exported.result.digests.size == 0
    assert pq.read_table(tmp_path / "images.parquet").num_rows == 0


def test_one_work_order_larger_than_many_row_groups_is_whole(
    source: SourceDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for order in range(3):
        number = order << 32
        inputs = 2_000 if order == 1 else 1
        source.insert("work_order", [{"id": UUID(int=number), "site_id": SITE, "create_date": WINDOW.start}])
        source.insert("work_item", [{"id": UUID(int=number + 1), "work_order_id": UUID(int=number)}])
        rows = [{"id": UUID(int=number + 2 + k), "work_item_id": UUID(int=number + 1)} for k in range(inputs)]
        source.insert("input", rows)
        source.insert("job_conformity", [{"input_id": row["id"], "task_name": "ctx"} for row in rows])
    monkeypatch.setattr("data_export.source.database.BATCH_BYTES", 1_000)
    exported = source.export(tmp_path)
    assert pq.ParquetFile(tmp_path / "snapshot" / "job_conformity.parquet").num_row_groups > 10
    counts = [len(json.loads(line)["work_items"][0]["input"]) for line in exported.lines]
    assert counts == [1, 2_000, 1]
    assert exported.data.count(b'"task_name":"ctx"') == 2_002


BROKEN_QUERIES = {
    "a work order twice": ("work_order.sql", "SELECT * FROM ({}) AS a UNION ALL SELECT * FROM ({}) AS b", "twice"),
    "a work order twice under two numbers": (
        "work_order.sql",
        "SELECT row_number() OVER (ORDER BY a.work_order_number) AS work_order_number, id, name, site_id, create_date, "
        "update_date, metadata, progress_score FROM ({}) AS a CROSS JOIN generate_series(1, 2)",
        "query of work_order in .* same id twice",
    ),
    "an input twice": (
        "input.work-orders-timeline.sql",
        "SELECT * FROM ({}) AS a UNION ALL SELECT * FROM ({}) AS b",
        "same id twice",
    ),
    "an item of no work order": (
        "work_item.sql",
        "SELECT work_order_number, id, gen_random_uuid() AS work_order_id, name, position FROM ({}) AS a",
        "no row of the same work order",
    ),
}


@pytest.mark.parametrize("case", BROKEN_QUERIES)
def test_queries_that_do_not_fit_one_another_are_refused(
    source: SourceDatabase, tmp_path: Path, sql: Path, case: str
) -> None:
    name, wrapped, message = BROKEN_QUERIES[case]
    insert(source, json.loads((GOLDEN / "page-example.json").read_text()))
    original = (SQL_FOLDER / name).read_text()
    (sql / name).write_text(wrapped.format(original, original))
    with pytest.raises(SourceRejected, match=message):
        source.export(tmp_path / "out", sql_folder=sql)


def test_states_with_two_inputs_of_an_item_are_refused(source: SourceDatabase, tmp_path: Path, sql: Path) -> None:
    source.connection.execute((GOLDEN / "source.sql").read_text())
    (sql / f"input.{STATES}.sql").write_text((SQL_FOLDER / f"input.{TIMELINE}.sql").read_text())
    with pytest.raises(SourceRejected, match=r"input\.work-orders-states\.sql returned two inputs"):
        source.export(tmp_path / "out", STATES, sql_folder=sql)
