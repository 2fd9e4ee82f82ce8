"""Extract: the snapshot it promises, at one moment of the source."""

import json
import threading
import time
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit
from uuid import UUID

import psycopg
import pyarrow.parquet as pq
import pytest

from data_export.errors import InvalidRecord, PermanentError
from data_export.source.extract import extract, require_site
from data_export.source.snapshot import NUMBER, TABLES
from data_export.window import ExportWindow
from tests.unit.source_kit import SITE, STATES, WINDOW, SourceDatabase, run_extract


def test_the_snapshot_has_the_tables_it_promises(one_order: SourceDatabase, tmp_path: Path) -> None:
    rows = run_extract(one_order, tmp_path)
    assert rows == {"work_order": 1, "work_item": 1, "input": 1, "data_conformity": 0, "job_conformity": 1}
    for table, schema in TABLES.items():
        written = pq.read_table(tmp_path / f"{table}.parquet")
        assert written.schema.equals(schema)
        assert written.num_rows == rows[table]
        assert written[NUMBER].to_pylist() == [1] * rows[table]


@pytest.mark.parametrize("key_value", [False, True], ids=["uri", "key=value"])
def test_both_spellings_of_a_connection_work(one_order: SourceDatabase, tmp_path: Path, key_value: bool) -> None:
    dsn = one_order.dsn + "?application_name=mine"
    if key_value:
        parts = urlsplit(one_order.dsn)
        dsn = f"host={parts.hostname} port={parts.port} user={parts.username} password={parts.password} dbname=source"
    assert run_extract(one_order, tmp_path, dsn=dsn)["work_order"] == 1


def test_the_same_rows_give_the_same_bytes_whatever_connection_and_login_have_set(
    one_order: SourceDatabase, tmp_path: Path, sql: Path
) -> None:
    metadata = "jsonb_build_object('sum', 0.1::float8 + 0.2, 'span', interval '1 day', 'raw', '\\x00ff'::bytea)"
    text = (sql / "work_order.sql").read_text()
    text = text.replace("    metadata,", f"    {metadata} AS metadata,")
    (sql / "work_order.sql").write_text(text.replace("    name,", "    name || create_date::text AS name,"))
    one_order.connection.execute("UPDATE work_order SET name = 'café € '")
    expected = one_order.export(tmp_path / "one", sql_folder=sql).data
    styles = {
        "extra_float_digits": "-3",
        "DateStyle": "German",
        "IntervalStyle": "iso_8601",
        "bytea_output": "escape",
        "standard_conforming_strings": "off",
    }
    options = " ".join(f"-c {name}={value}" for name, value in styles.items())
    dsn = f"{one_order.dsn}?client_encoding=WIN1252&options={quote(options)}"
    other = replace(one_order, dsn=dsn)
    assert other.export(tmp_path / "other", sql_folder=sql).data == expected
    assert "café € 2025-03-16" in expected.decode()


PLANTED = """
CREATE SCHEMA planted;
CREATE FUNCTION planted.pg_column_size(jsonb) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RAISE $$not ours$$; END';
CREATE FUNCTION planted.pg_column_compression(jsonb) RETURNS text IMMUTABLE LANGUAGE plpgsql
    AS 'BEGIN RAISE $$not ours$$; END';
CREATE FUNCTION planted.to_timestamp(int) RETURNS timestamptz IMMUTABLE LANGUAGE plpgsql
    AS 'BEGIN RAISE $$not ours$$; END';
CREATE FUNCTION planted.pg_relation_filenode(oid) RETURNS oid IMMUTABLE LANGUAGE plpgsql
    AS 'BEGIN RAISE $$not ours$$; END';
CREATE FUNCTION planted.format(text, name, name) RETURNS text IMMUTABLE LANGUAGE plpgsql
    AS 'BEGIN RAISE $$not ours$$; END';
CREATE FUNCTION planted.differs(oid, int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RAISE $$not ours$$; END';
CREATE OPERATOR planted.<> (FUNCTION = planted.differs, LEFTARG = oid, RIGHTARG = int);
CREATE FUNCTION planted.divided(int8, numeric) RETURNS numeric IMMUTABLE LANGUAGE plpgsql
    AS 'BEGIN RAISE $$not ours$$; END';
CREATE OPERATOR planted./ (FUNCTION = planted.divided, LEFTARG = int8, RIGHTARG = numeric);
CREATE FUNCTION planted.joined(int, int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RAISE $$not ours$$; END';
CREATE OPERATOR planted.|| (FUNCTION = planted.joined, LEFTARG = int, RIGHTARG = int);
"""


def test_no_function_that_another_user_made_of_a_system_s_name_is_called(
    one_order: SourceDatabase, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One for the very type of an argument goes before PostgreSQL's own for any type, and would run as our login."""
    metadata = """'{"a": 1}'"""
    one_order.connection.execute(f"UPDATE work_order SET metadata = {metadata}")
    before = one_order.export(tmp_path / "before").data
    one_order.connection.execute(PLANTED)
    try:
        under = replace(one_order, dsn=one_order.dsn + "?options=-csearch_path%3Dplanted,public")
        assert under.export(tmp_path / "after").data == before
        assert "not ours" not in caplog.text  # of the query that asks for the moment, a refusal is a warning
        one_order.connection.execute("UPDATE work_order SET metadata = json_build_object('x', repeat('y', 2000000))")
        with pytest.raises(InvalidRecord, match=r"metadata is 20000\d\d bytes long, more than limits.max_record_mb"):
            under.export(tmp_path / "after", max_record_mb=1)
    finally:
        one_order.connection.execute("DROP SCHEMA planted CASCADE")


@pytest.mark.parametrize("kind", ["int8", "numeric"])
@pytest.mark.parametrize("score", [-9_007_199_254_740_993, 1_152_921_504_606_846_977])
def test_a_whole_score_is_not_rounded(
    one_order: SourceDatabase, tmp_path: Path, sql: Path, kind: str, score: int
) -> None:
    with pytest.raises(InvalidRecord, match=f"progress_score is {score}, which has more digits than a float8 allows"):
        one_order.export(tmp_path, sql_folder=scored(sql, f"'{score}'::{kind}"))


@pytest.mark.parametrize(
    ("score", "delivered"),
    [
        ("9007199254740991::int8", 9_007_199_254_740_991.0),
        ("1152921504606846976::int8", 2.0**60),
        ("100.000::numeric", 100.0),
        ("2e22::numeric", 2e22),
        ("0.333333333333333333333::numeric", 1 / 3),
        ("'NaN'::numeric", None),
        ("NULL::int8", None),
    ],
)
def test_a_score_of_another_type(
    one_order: SourceDatabase, tmp_path: Path, sql: Path, score: str, delivered: float | None
) -> None:
    (line,) = one_order.export(tmp_path, sql_folder=scored(sql, score)).lines
    assert json.loads(line)["progress_score"] == delivered


def scored(sql: Path, score: str) -> Path:
    path = sql / "work_order.sql"
    path.write_text(path.read_text().replace("    progress_score\n", f"    {score} AS progress_score\n"))
    return sql


def test_a_file_is_one_moment_of_the_source(source: SourceDatabase, tmp_path: Path) -> None:
    """A writer changes every table in one transaction, over and over: no export may see half of one."""
    orders = [UUID(int=k << 32) for k in range(1, 40)]
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(source.dsn) as connection:
            version = 0
            while not stop.is_set():
                version += 1
                connection.execute("UPDATE work_order SET name = %s", [str(version)])
                connection.execute("DELETE FROM input")
                for k, order in enumerate(orders):
                    shot = UUID(int=order.int + (version << 8) + k % 3)
                    connection.execute(
                        "INSERT INTO input (id, work_item_id, file_extension) VALUES (%s, %s, %s)",
                        [shot, order, str(version)],
                    )
                    connection.execute(
                        "INSERT INTO job_conformity (input_id, message) VALUES (%s, %s)", [shot, str(version)]
                    )
                connection.execute("UPDATE work_item SET name = %s", [str(version)])
                connection.commit()

    source.insert("work_order", [{"id": order, "site_id": SITE, "create_date": WINDOW.start} for order in orders])
    source.insert("work_item", [{"id": order, "work_order_id": order} for order in orders])
    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = set()
        deadline = time.monotonic() + 30
        while len(seen) < 4 and time.monotonic() < deadline:
            exported = source.export(tmp_path)
            tables = {table: pq.read_table(tmp_path / "snapshot" / f"{table}.parquet") for table in TABLES}
            versions = {
                *tables["work_order"]["name"].to_pylist(),
                *tables["work_item"]["name"].to_pylist(),
                *tables["input"]["file_extension"].to_pylist(),
                *tables["job_conformity"]["message"].to_pylist(),
            }
            if exported.rows["input"]:  # the writer has begun
                assert len(versions) == 1
                assert exported.rows == {
                    "work_order": 39,
                    "work_item": 39,
                    "input": 39,
                    "data_conformity": 0,
                    "job_conformity": 39,
                }
                seen |= versions
        assert len(seen) >= 4
    finally:
        stop.set()
        writer.join()


def test_an_unknown_site_is_an_error_and_an_idle_one_is_not(one_order: SourceDatabase, tmp_path: Path) -> None:
    later = ExportWindow(WINDOW.end, WINDOW.end + timedelta(days=1))
    assert extract(one_order.dsn, SITE, later, STATES, tmp_path)["work_order"] == 0
    require_site(one_order.dsn, SITE)
    for ask in (
        lambda site: extract(one_order.dsn, site, WINDOW, STATES, tmp_path),
        partial(require_site, one_order.dsn),
    ):
        with pytest.raises(
            PermanentError, match=f"site {UUID(int=9)} is unknown .* check site_id in the customer file"
        ):
            ask(UUID(int=9))
