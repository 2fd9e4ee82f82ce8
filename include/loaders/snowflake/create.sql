-- Snowflake: stage, tables for delivered files, and the views that show the newest state. Run it in a schema of its own.
-- Safe to run again. The record is kept as text, so that no number and no nesting is too large to be loaded.

-- Your own bucket and storage integration:
CREATE STAGE IF NOT EXISTS delivered
    URL = 's3://acme-exports/production/'
    STORAGE_INTEGRATION = acme_exports;

CREATE TABLE IF NOT EXISTS reporting (zone VARCHAR NOT NULL);
-- Days and weeks are counted in this zone: UPDATE reporting SET zone = 'Europe/Paris';
INSERT INTO reporting SELECT 'UTC' WHERE NOT EXISTS (SELECT 1 FROM reporting);

-- The lines of the files that are being loaded. VARCHAR without a length holds 16 MB only.
CREATE TABLE IF NOT EXISTS delivered_line (
    file VARCHAR NOT NULL,
    modified_at TIMESTAMP_LTZ,
    line VARCHAR(134217728) NOT NULL
);

-- One row for each work order of each window and revision: the history. A load never removes a work order from it.
CREATE TABLE IF NOT EXISTS delivered_record (
    export_type VARCHAR NOT NULL,
    window_start TIMESTAMP_TZ NOT NULL,
    window_end TIMESTAMP_TZ NOT NULL,
    revision INTEGER NOT NULL,
    id VARCHAR NOT NULL,
    site_id VARCHAR NOT NULL,
    create_date TIMESTAMP_TZ,
    update_date TIMESTAMP_TZ,
    record VARCHAR(134217728) NOT NULL
)
CLUSTER BY (export_type, id);

-- The newest state of each work order. `update_date` decides, since a late or repeated file can be newer than its
-- window; then the later window, then the higher revision as a number (`.r10` is after `.r2`).
CREATE OR REPLACE VIEW work_order AS
SELECT
    export_type,
    window_start,
    window_end,
    revision,
    id,
    parsed:name::VARCHAR AS name,
    site_id,
    create_date,
    update_date,
    parsed:metadata AS metadata,
    parsed:progress_score::DOUBLE AS progress_score,
    -- The Monday, whatever the account's WEEK_START is.
    NEXT_DAY(CONVERT_TIMEZONE(zone, create_date), 'mo') - 7 AS week,
    parsed:work_items AS work_items
FROM (SELECT *, PARSE_JSON(record) AS parsed FROM delivered_record)
CROSS JOIN reporting
QUALIFY ROW_NUMBER() OVER (
    PARTITION BY export_type, id
    ORDER BY COALESCE(update_date, create_date) DESC NULLS LAST, window_end DESC, window_start DESC, revision DESC
) = 1;

CREATE OR REPLACE VIEW work_item AS
SELECT
    export_type,
    site_id,
    work_order.id AS work_order_id,
    create_date AS work_order_create_date,
    item.index + 1 AS position,
    item.value:id::VARCHAR AS work_item_id,
    item.value:name::VARCHAR AS work_item_name,
    item.value:input AS inputs
FROM work_order CROSS JOIN LATERAL FLATTEN(work_items) AS item;

-- `attempt` counts the inputs of a work item, from 1.
CREATE OR REPLACE VIEW input AS
SELECT
    export_type,
    site_id,
    work_order_id,
    work_item_id,
    work_item_name,
    entry.index + 1 AS attempt,
    entry.value:id::VARCHAR AS input_id,
    entry.value:create_date::VARCHAR::TIMESTAMP_TZ AS create_date,
    NEXT_DAY(
        CONVERT_TIMEZONE(
            zone, COALESCE(entry.value:create_date::VARCHAR::TIMESTAMP_TZ, work_order_create_date)
        ),
        'mo'
    ) - 7 AS week,
    DATEDIFF(
        'microsecond', work_order_create_date, entry.value:create_date::VARCHAR::TIMESTAMP_TZ
    ) / 60000000 AS minutes_after_creation,
    entry.value:metadata AS metadata,
    site_id || '/inputs/' || entry.value:id::VARCHAR || COALESCE(entry.value:file_extension::VARCHAR, '') AS image,
    entry.value AS entry
FROM work_item
CROSS JOIN reporting
CROSS JOIN LATERAL FLATTEN(inputs) AS entry;

CREATE OR REPLACE VIEW data_check AS
SELECT
    input.* EXCLUDE (metadata, entry),
    found.value:"check"::VARCHAR AS check_name,
    found.value:code::INTEGER AS code,
    found.value:level::VARCHAR AS check_level
FROM input CROSS JOIN LATERAL FLATTEN(input.entry:data_conformity) AS found;

-- `is_first`: the first input of the work item on which the task was analysed. Values are JSON text: one column has
-- one type.
CREATE OR REPLACE VIEW analysis AS
SELECT
    input.* EXCLUDE (metadata, entry),
    job.value:task_name::VARCHAR AS task_name,
    NULLIF(TO_JSON(job.value:analyzed_value), 'null') AS analyzed_value,
    NULLIF(TO_JSON(job.value:corrected_value), 'null') AS corrected_value,
    job.value:corrected_date::VARCHAR::TIMESTAMP_TZ AS corrected_date,
    job.value:message::VARCHAR AS message,
    job.value:is_conformity_validated::BOOLEAN AS is_conformity_validated,
    attempt = MIN(attempt) OVER (PARTITION BY export_type, work_item_id, job.value:task_name::VARCHAR) AS is_first
FROM input CROSS JOIN LATERAL FLATTEN(input.entry:job_conformity) AS job;
