"""The Spark loader on the real engine, where pyspark and Java are there: neither is among the requirements."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.loaders.conftest import LOADERS, VALUES, Delivered, respelled

pyspark = pytest.importorskip("pyspark", reason="pyspark is not installed: pip install pyspark")
pytestmark = [
    pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed"),
    pytest.mark.filterwarnings("ignore"),  # of pyspark itself
]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
    builder = builder.config("spark.sql.session.timeZone", "Asia/Kathmandu")  # the answers must not depend on it
    session = builder.config("spark.sql.shuffle.partitions", "2").getOrCreate()
    for script in (LOADERS / "spark" / "create.sql", LOADERS / "questions.sql"):
        for statement in script.read_text().split(";\n"):
            if statement.strip():
                session.sql(statement)
    yield session
    session.stop()


def test_the_newest_state_of_each_work_order(session: Any, delivered: Delivered, tmp_path: Path) -> None:
    from spark import load

    shutil.copytree(delivered.first, tmp_path, dirs_exist_ok=True)
    assert load(session, tmp_path) == 6
    shutil.copytree(delivered.second, tmp_path, dirs_exist_ok=True)
    assert load(session, tmp_path) > 4
    assert load(session, tmp_path) == 0
    rows = session.sql(
        "SELECT id, name, metadata, progress_score, unix_micros(update_date), size(work_items) FROM work_order"
    )
    found = {row[0]: (row[1], respelled(row[2]), *row[3:]) for row in rows.collect()}
    expected = {
        key: (name, metadata, score, updated and round(updated.timestamp() * 1_000_000), items)
        for key, (name, metadata, score, updated, items) in delivered.states.items()
    }
    assert found == expected
    values = session.sql("SELECT analyzed_value FROM analysis WHERE task_name = 'mixed' ORDER BY attempt").collect()
    huge = "1" + "0" * 400
    assert [row[0] for row in values] == [None if v in ("null", None) else huge if v == "1e400" else v for v in VALUES]
    for zone, rows, week in (
        ("UTC", "work_order WHERE id = '00000000-0000-0000-0000-00000000000b'", "2025-03-10"),  # Sunday, 23:30 UTC
        ("Europe/Paris", "work_order WHERE id = '00000000-0000-0000-0000-00000000000b'", "2025-03-17"),
        ("Asia/Kathmandu", "input WHERE work_order_id = '00000000-0000-0000-0000-00000000000c'", "2025-03-10"),  # 13:00
    ):
        session.sql(f"CREATE OR REPLACE VIEW reporting AS SELECT '{zone}' AS zone")
        assert {row[0] for row in session.sql(f"SELECT CAST(week AS STRING) FROM {rows}").collect()} == {week}, zone
    for question in ("field_operations", "first_time_right", "operator_experience", "unmoved_update_date"):
        assert session.table(question).count() > 0
