"""What cannot be run here: parsed in its dialect. BigQuery's views also run on DuckDB, translated."""

import re
import subprocess
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from data_export.layout import data_key, manifest_key, receipt_key
from data_export.window import ExportWindow
from tests.loaders.conftest import LOADERS, Delivered
from tests.loaders.test_questions import answers, on_duckdb
from tests.unit.source_kit import SITE, TIMELINE

sqlglot = pytest.importorskip("sqlglot", reason="sqlglot is not installed")

__all__ = ["on_duckdb"]

DIALECTS = {
    "bigquery": "bigquery",
    "duckdb": "duckdb",
    "postgresql": "postgres",
    "snowflake": "snowflake",
    "spark": "databricks",
}
PAGE = LOADERS.parents[1] / "docs" / "load.md"
SCRIPTS = [path for folder in DIALECTS for path in sorted((LOADERS / folder).glob("*.sql"))]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_statement_is_of_its_dialect(path: Path) -> None:
    statements = sqlglot.parse(path.read_text(), dialect=DIALECTS[path.parent.name])
    assert len(statements) > 1
    if path.parent.name != "duckdb":  # what the parser does not know it keeps as text
        assert not [text for text in statements if isinstance(text, sqlglot.exp.Command)]


@pytest.mark.parametrize("script", ["bigquery/create.sql", "bigquery/load.sql", "questions.sql"])
def test_no_name_is_a_word_that_bigquery_keeps_for_itself(script: str) -> None:
    """The parser takes `AS new`, BigQuery does not."""
    reserved = sqlglot.Dialect.get_or_raise("bigquery").generator_class.RESERVED_KEYWORDS
    assert "new" in reserved
    for statement in sqlglot.parse((LOADERS / script).read_text(), dialect="bigquery"):
        names = {name.name.lower() for name in statement.find_all(sqlglot.exp.Identifier) if not name.quoted}
        assert not names & reserved


@pytest.mark.parametrize("folder", DIALECTS)
def test_the_questions_are_of_every_dialect(folder: str) -> None:
    statements = sqlglot.parse((LOADERS / "questions.sql").read_text(), dialect=DIALECTS[folder])
    assert [type(statement).__name__ for statement in statements] == ["Create"] * 4


@pytest.mark.parametrize("folder", DIALECTS)
def test_every_engine_has_the_tables_and_views_that_the_questions_read(folder: str) -> None:
    statements = sqlglot.parse((LOADERS / folder / "create.sql").read_text(), dialect=DIALECTS[folder])
    created = {table.name for text in statements for table in [text.find(sqlglot.exp.Table)] if table}
    assert created >= {"reporting", "delivered_record", "work_order", "work_item", "input", "data_check", "analysis"}


def in_data_set(script: str) -> str:
    """The script as the command in BigQuery's create.sql hands it over."""
    (edit,) = re.findall(r"sed -E '(\S+ \S+ \S+)' \|", (LOADERS / "bigquery" / "create.sql").read_text())
    return subprocess.run(
        ["sed", "-E", edit], input=(LOADERS / script).read_text(), check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("script", ["bigquery/create.sql", "questions.sql"])
def test_bigquery_is_told_the_data_set_of_each_table_that_a_view_reads(script: str) -> None:
    """To a view the default one is none (BigQuery, "View limitations")."""
    for statement in sqlglot.parse(in_data_set(script), dialect="bigquery"):
        if statement.kind == "VIEW":
            read = [*statement.expression.find_all(sqlglot.exp.Table)]
            assert {table.db for table in read} == {"acme"}, statement.sql()


def test_bigquerys_views_give_the_same_answers_when_translated(on_duckdb: dict[str, Any], delivered: Delivered) -> None:
    import duckdb

    from delivered import data_files, lines, parse

    connection = duckdb.connect()
    for setting in ("SET TimeZone = 'UTC'", "CREATE SCHEMA acme", "USE acme"):
        connection.execute(setting)
    for script in ("bigquery/create.sql", "questions.sql"):
        for statement in sqlglot.parse(in_data_set(script), dialect="bigquery"):
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


@pytest.mark.parametrize("folder", ["bigquery", "snowflake"])
def test_of_a_work_order_in_the_files_of_two_sites_the_newer_state_is_merged(folder: str) -> None:
    """Whichever is loaded last: the MERGE itself, translated, with the records of one file after the other."""
    import duckdb

    connection, dialect = duckdb.connect(), DIALECTS[folder]
    statements = sqlglot.parse((LOADERS / folder / "load.sql").read_text(), dialect=dialect)
    (merge,) = (statement for statement in statements if isinstance(statement, sqlglot.exp.Merge))
    merge.set("using", sqlglot.exp.to_table("loaded"))
    columns = "'x' AS export_type, 1 AS window_start, 2 AS window_end, 1 AS revision, 'a' AS id"
    states = [("s", None), ("t", 12), ("u", 11), ("u", None), ("s", 13), ("s", 9), ("t", 9)]
    states += [("s", 9), ("t", None), ("s", None), ("u", None)]
    seen = []
    for site, update in states:
        own = f"'{site}' AS site_id, 8 AS create_date, {update or 'NULL::INT'} AS update_date"
        connection.execute(f"CREATE OR REPLACE TABLE loaded AS SELECT {columns}, {own}, '{site}{update}' AS record")
        connection.execute("CREATE TABLE IF NOT EXISTS delivered_record AS FROM loaded LIMIT 0")
        connection.execute(merge.sql(dialect="duckdb").replace("INSERT ROW", "INSERT"))
        seen += connection.execute("SELECT record FROM delivered_record").fetchall()
    # What one site's own file says takes its place whatever it is, as a corrected file does.
    told = ["sNone", "t12", "t12", "t12", "s13", "s9", "t9"]
    # Of two as new, or both without a date, the greater site's.
    assert [record for (record,) in seen] == [*told, "t9", "tNone", "tNone", "uNone"]


def test_redshifts_statements_are_of_its_dialect() -> None:
    (block,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    statements = sqlglot.parse(block, dialect="redshift")
    assert [type(statement).__name__ for statement in statements] == ["Create", "Copy", "Create"]


def test_each_uri_finds_the_data_files_it_should() -> None:
    """Of BigQuery, whose one `*` also stands for `/`, of Snowflake's pattern, and of Redshift's prefix."""
    window = ExportWindow(datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC))
    root = "gs://acme-exports/production/"
    data, revision = (data_key(SITE, TIMELINE, window, number) for number in (1, 2))
    others = [receipt_key(SITE, TIMELINE, window, 1), manifest_key(TIMELINE, window, 1), f"{SITE}/inputs/a.json"]
    bigquery = (LOADERS / "bigquery" / "load.sql").read_text()
    uris = re.findall(r"'(gs://\S+)'", bigquery)
    assert [uri.count("*") for uri in uris] == [1, 1, 1]
    one, two, every = (
        [name for name in (data, revision, *others) if fnmatchcase(f"{root}{name}", uri)] for uri in uris
    )
    assert (one, two, every) == ([data], [revision], [data, revision])
    (pattern,) = re.findall(r"^PATTERN = '(.+)'$", (LOADERS / "snowflake" / "load.sql").read_text(), re.MULTILINE)
    found = [name for name in (data, revision, *others) if re.fullmatch(pattern, f"production/{name}")]
    assert found == [data, revision]
    (prefix,) = re.findall(r"'s3://acme-exports/production/(\S+)'", PAGE.read_text())
    assert [name for name in (data, revision, *others) if name.startswith(prefix)] == [data]


def test_the_documentation_names_every_loader() -> None:
    text = PAGE.read_text()
    files = [path.relative_to(LOADERS) for path in LOADERS.rglob("*.*") if "__pycache__" not in path.parts]
    assert [str(path) for path in files if str(path) not in text] == []
