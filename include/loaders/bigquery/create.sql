-- BigQuery: tables for delivered files, and the views that show the newest state. Safe to run again. Run it in a data
-- set of its own, here `acme`, which BigQuery wants before each table that a view reads:
--   cat bigquery/create.sql questions.sql | sed -E 's/(FROM|JOIN) ([a-z_]+)/\1 acme.\2/' |
--     bq query --use_legacy_sql=false --dataset_id=acme
-- then load.sql, as it is:  bq query --use_legacy_sql=false --dataset_id=acme < bigquery/load.sql
-- The record is kept as text, so that no number and no nesting is too large.

CREATE TABLE IF NOT EXISTS reporting AS SELECT 'UTC' AS zone;
-- Days and weeks are counted in this zone: UPDATE reporting SET zone = 'Europe/Paris' WHERE TRUE;

-- One row for each work order of each window and revision: the history. A load never removes a work order from it.
CREATE TABLE IF NOT EXISTS delivered_record (
    export_type STRING NOT NULL,
    window_start TIMESTAMP NOT NULL,
    window_end TIMESTAMP NOT NULL,
    revision INT64 NOT NULL,
    id STRING NOT NULL,
    site_id STRING NOT NULL,
    create_date TIMESTAMP,
    update_date TIMESTAMP,
    record STRING NOT NULL
)
PARTITION BY TIMESTAMP_TRUNC(window_start, MONTH)
CLUSTER BY export_type, id;

-- The newest state of each work order. `update_date` decides, since a late or repeated file can be newer than its
-- window; then the later window, then the higher revision as a number (`.r10` is after `.r2`).
CREATE OR REPLACE VIEW work_order AS
SELECT
    export_type,
    window_start,
    window_end,
    revision,
    id,
    JSON_VALUE(record, '$.name') AS name,
    site_id,
    create_date,
    update_date,
    JSON_QUERY(record, '$.metadata') AS metadata,
    CAST(JSON_VALUE(record, '$.progress_score') AS FLOAT64) AS progress_score,
    -- In a zone the first or last day of the calendar may be none: its neighbour is in the same week.
    DATE_TRUNC(
        DATE(GREATEST(LEAST(create_date, TIMESTAMP '9999-12-30 00:00:00+00'), TIMESTAMP '0001-01-03 00:00:00+00'), zone),
        WEEK (MONDAY)
    ) AS week,
    JSON_QUERY_ARRAY(record, '$.work_items') AS work_items
FROM delivered_record
CROSS JOIN reporting
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (
    PARTITION BY export_type, id
    ORDER BY COALESCE(update_date, create_date) DESC, window_end DESC, window_start DESC, revision DESC
) = 1;

CREATE OR REPLACE VIEW work_item AS
SELECT
    export_type,
    site_id,
    work_order.id AS work_order_id,
    create_date AS work_order_create_date,
    place + 1 AS position,
    JSON_VALUE(item, '$.id') AS work_item_id,
    JSON_VALUE(item, '$.name') AS work_item_name,
    JSON_QUERY_ARRAY(item, '$.input') AS inputs
FROM work_order
CROSS JOIN UNNEST(work_items) AS item WITH OFFSET AS place;

-- `attempt` counts the inputs of a work item, from 1.
CREATE OR REPLACE VIEW input AS
SELECT
    work_item.* EXCEPT (inputs, position, work_order_create_date),
    place + 1 AS attempt,
    JSON_VALUE(entry, '$.id') AS input_id,
    SAFE_CAST(JSON_VALUE(entry, '$.create_date') AS TIMESTAMP) AS create_date,
    DATE_TRUNC(
        DATE(
            GREATEST(
                LEAST(
                    COALESCE(SAFE_CAST(JSON_VALUE(entry, '$.create_date') AS TIMESTAMP), work_order_create_date),
                    TIMESTAMP '9999-12-30 00:00:00+00'
                ),
                TIMESTAMP '0001-01-03 00:00:00+00'
            ),
            zone
        ),
        WEEK (MONDAY)
    ) AS week,
    TIMESTAMP_DIFF(
        SAFE_CAST(JSON_VALUE(entry, '$.create_date') AS TIMESTAMP), work_order_create_date, MICROSECOND
    ) / 60000000 AS minutes_after_creation,
    JSON_QUERY(entry, '$.metadata') AS metadata,
    CONCAT(
        site_id, '/inputs/', JSON_VALUE(entry, '$.id'), COALESCE(JSON_VALUE(entry, '$.file_extension'), '')
    ) AS image,
    entry
FROM work_item
CROSS JOIN reporting
CROSS JOIN UNNEST(inputs) AS entry WITH OFFSET AS place;

CREATE OR REPLACE VIEW data_check AS
SELECT
    input.* EXCEPT (metadata, entry),
    JSON_VALUE(found, '$.check') AS check_name,
    CAST(JSON_VALUE(found, '$.code') AS INT64) AS code,
    JSON_VALUE(found, '$.level') AS check_level
FROM input
CROSS JOIN UNNEST(JSON_QUERY_ARRAY(entry, '$.data_conformity')) AS found;

-- `is_first`: the first input of the work item on which the task was analysed. Values are JSON text: one column has
-- one type.
CREATE OR REPLACE VIEW analysis AS
SELECT
    input.* EXCEPT (metadata, entry),
    JSON_VALUE(job, '$.task_name') AS task_name,
    NULLIF(JSON_QUERY(job, '$.analyzed_value'), 'null') AS analyzed_value,
    NULLIF(JSON_QUERY(job, '$.corrected_value'), 'null') AS corrected_value,
    SAFE_CAST(JSON_VALUE(job, '$.corrected_date') AS TIMESTAMP) AS corrected_date,
    JSON_VALUE(job, '$.message') AS message,
    CAST(JSON_VALUE(job, '$.is_conformity_validated') AS BOOL) AS is_conformity_validated,
    attempt = MIN(attempt) OVER (PARTITION BY export_type, work_item_id, JSON_VALUE(job, '$.task_name')) AS is_first
FROM input
CROSS JOIN UNNEST(JSON_QUERY_ARRAY(entry, '$.job_conformity')) AS job;
