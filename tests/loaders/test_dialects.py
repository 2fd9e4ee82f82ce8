"""What cannot be run here: parsed in its dialect. BigQuery's views also run on DuckDB, translated."""

from pathlib import Path
from typing import Any

import pytest

from tests.loaders.conftest import LOADERS, Delivered
from tests.loaders.test_questions import answers, on_duckdb

sqlglot = pytest.importorskip("sqlglot", reason="sqlglot is not installed")

__all__ = ["on_duckdb"]

DIALECTS = {
    "bigquery": "bigquery",
    "duckdb": "duckdb",
    "postgresql": "postgres",
    "snowflake": "snowflake",
    "spark": "databricks",
}
SCRIPTS = [path for folder in DIALECTS for path in sorted((LOADERS / folder).glob("*.sql"))]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_statement_is_of_its_dialect(path: Path) -> None:
    statements = sqlglot.parse(path.read_text(), dialect=DIALECTS[path.parent.name])
    assert len(statements) > 1
    if path.parent.name != "duckdb":  # what the parser does not know it keeps as text
        assert not [text for text in statements if isinstance(text, sqlglot.exp.Command)]


@pytest.mark.parametrize("folder", DIALECTS)
def test_the_questions_are_of_every_dialect(folder: str) -> None:
    statements = sqlglot.parse((LOADERS / "questions.sql").read_text(), dialect=DIALECTS[folder])
    assert [type(statement).__name__ for statement in statements] == ["Create"] * 4


@pytest.mark.parametrize("folder", DIALECTS)
def test_every_engine_has_the_tables_and_views_that_the_questions_read(folder: str) -> None:
    statements = sqlglot.parse((LOADERS / folder / "create.sql").read_text(), dialect=DIALECTS[folder])
    created = {table.name for text in statements for table in [text.find(sqlglot.exp.Table)] if table}
    assert created >= {"reporting", "delivered_record", "work_order", "work_item", "input", "data_check", "analysis"}


def test_bigquerys_views_give_the_same_answers_when_translated(on_duckdb: dict[str, Any], delivered: Delivered) -> None:
    import duckdb

    from delivered import data_files, lines, parse

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for script in ("bigquery/create.sql", "questions.sql"):
        for statement in sqlglot.parse((LOADERS / script).read_text(), dialect="bigquery"):
            connection.execute(statement.sql(dialect="duckdb", unsupported_level=sqlglot.ErrorLevel.IGNORE))
    for file in data_files(delivered.second):
        for line in lines(file):
            record = parse(line)
            row = [file.export_type, file.window_start, file.window_end, file.revision]
            row += [record[name] for name in ("id", "site_id", "create_date", "update_date")]
            connection.execute("INSERT INTO delivered_record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [*row, line])
    # Truncated to the day, DuckDB's week is a moment where BigQuery's is a date.
    translated = answers(lambda query: connection.execute(query).fetchall())
    assert {
        view: [tuple(value.removesuffix(" 00:00:00") for value in row) for row in rows]
        for view, rows in translated.items()
    } == on_duckdb


def test_the_documentation_names_every_loader() -> None:
    text = (LOADERS.parents[1] / "docs" / "load.md").read_text()
    files = [path.relative_to(LOADERS) for path in LOADERS.rglob("*.*") if "__pycache__" not in path.parts]
    assert [str(path) for path in files if str(path) not in text] == []
