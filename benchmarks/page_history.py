"""Made-up runs and exports in Airflow's metadata database, to see and to measure how the page looks after a year."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

_HISTORY = Path(__file__).with_suffix(".sql")
_EXPORTS = """
CREATE TEMP TABLE copies ON COMMIT DROP AS
SELECT 'data_export__fleet_' || lpad(n::text, 5, '0') AS dag_id, 'fleet-' || lpad(n::text, 5, '0') AS export
FROM generate_series(%(first)s, %(last)s) AS n;

INSERT INTO dag
SELECT (jsonb_populate_record(d, jsonb_build_object('dag_id', c.dag_id, 'is_paused', false))).*
FROM dag AS d CROSS JOIN copies AS c WHERE d.dag_id = %(template)s;

INSERT INTO dag_tag (name, dag_id)
SELECT t.name, c.dag_id FROM dag_tag AS t CROSS JOIN copies AS c WHERE t.dag_id = %(template)s;

INSERT INTO dag_version
SELECT (jsonb_populate_record(v, jsonb_build_object('id', gen_random_uuid(), 'dag_id', c.dag_id))).*
FROM dag_version AS v CROSS JOIN copies AS c WHERE v.dag_id = %(template)s;

INSERT INTO serialized_dag
SELECT (jsonb_populate_record(s, jsonb_build_object(
    'id', gen_random_uuid(), 'dag_id', c.dag_id, 'dag_version_id', v.id,
    'data', replace(s.data::text, %(template)s, c.dag_id)::jsonb
))).*
FROM serialized_dag AS s CROSS JOIN copies AS c JOIN dag_version AS v ON v.dag_id = c.dag_id
WHERE s.dag_id = %(template)s;

INSERT INTO asset (name, uri, "group", extra, created_at, updated_at)
SELECT 'data_export/' || export, 'x-data-export://' || export, 'asset', '{}', now(), now() FROM copies;

INSERT INTO task_outlet_asset_reference (asset_id, dag_id, task_id, created_at, updated_at)
SELECT a.id, c.dag_id, 'close', now(), now() FROM copies AS c JOIN asset AS a ON a.name = 'data_export/' || c.export;
"""

#: A look of the watch, which the page takes late windows from: those without a run, two hours after their ends.
_LOOK = """
CREATE TEMP TABLE look ON COMMIT DROP AS
SELECT json_build_object('at', extract(epoch FROM now())::bigint, 'next', extract(epoch FROM now())::bigint + 31536000,
    'unknown', '[]'::json, 'windows', coalesce(json_object_agg(name, spans), '{}')) AS value
FROM (
    SELECT replace(substr(d.dag_id, 14), '_', '-') AS name, json_agg(json_build_array(
        extract(epoch FROM w)::bigint, extract(epoch FROM w + %(step)s::interval)::bigint,
        extract(epoch FROM w + %(step)s::interval)::bigint + 7200, 1) ORDER BY w) AS spans
    FROM dag AS d
    CROSS JOIN generate_series(%(first)s::timestamptz, %(last)s::timestamptz - interval '1 second', %(step)s) AS w
    LEFT JOIN dag_run AS r ON r.dag_id = d.dag_id AND r.logical_date = w
    WHERE d.dag_id LIKE %(pattern)s AND NOT d.is_paused AND r.id IS NULL
    GROUP BY d.dag_id
) AS late;

INSERT INTO dag_run (dag_id, run_id, run_type, state, logical_date, run_after, queued_at, start_date, end_date, conf)
SELECT 'data_export_watch', 'look__1', 'scheduled', 'success', now(), now(), now(), now(), now(), '{}';

INSERT INTO task_instance (id, task_id, dag_id, run_id, map_index, try_number, pool, pool_slots, state)
SELECT gen_random_uuid(), 'look', 'data_export_watch', 'look__1', -1, 1, 'default_pool', 1, 'success';

INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, timestamp, value)
SELECT r.id, 'look', -1, 'return_value', r.dag_id, r.run_id, now(), look.value::jsonb
FROM dag_run AS r CROSS JOIN look WHERE r.dag_id = 'data_export_watch' AND r.run_id = 'look__1';
"""


def add_look(
    connection: psycopg.Connection[Any], pattern: str, first: datetime, last: datetime, step: timedelta
) -> None:
    """What the watch found of the windows of `[first, last)`: those without a run are late; for a year."""
    with connection.transaction():
        _run(connection, _LOOK, {"pattern": pattern, "first": first, "last": last, "step": step})


def add_exports(connection: psycopg.Connection[Any], template: str, first: int, last: int) -> None:
    """Copies the DAG `template` to `fleet-<first>` up to `fleet-<last>`, as rows only: nothing can run them."""
    with connection.transaction():
        _run(connection, _EXPORTS, {"template": template, "first": first, "last": last})


def add_runs(
    connection: psycopg.Connection[Any], pattern: str, first: datetime, last: datetime, step: timedelta
) -> None:
    """A run and a receipt for nearly every window of `[first, last)`; a few failed, empty or missing."""
    with connection.transaction():
        _run(connection, _HISTORY.read_text(), {"pattern": pattern, "first": first, "last": last, "step": step})
        connection.execute(
            "UPDATE dag SET next_dagrun_data_interval_start = %s, next_dagrun_data_interval_end = %s,"
            " next_dagrun_create_after = %s, is_paused = false WHERE dag_id LIKE %s",
            [last, last + step, last + step + timedelta(minutes=5), pattern],
        )


def _run(connection: psycopg.Connection[Any], script: str, arguments: dict[str, Any]) -> None:
    with psycopg.ClientCursor(connection) as cursor:  # several statements at once need the client's own quoting
        cursor.execute(script.encode(), arguments)
