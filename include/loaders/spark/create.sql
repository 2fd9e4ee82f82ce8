-- Spark 4 or newer, Databricks (Spark 3.5 after SET spark.sql.legacy.createHiveTableByDefault = false): tables for
-- delivered files, and the views that show the newest state. Safe to run again.
-- Values and metadata are JSON text, as delivered.

-- Days and weeks are counted in this zone: put your own here.
CREATE OR REPLACE VIEW reporting AS SELECT 'UTC' AS zone;

-- One row for each file that was loaded, the empty ones too.
CREATE TABLE IF NOT EXISTS delivered_file (
    file STRING,
    export_type STRING,
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    revision INT,
    bytes BIGINT,
    modified_at TIMESTAMP,
    loaded_at TIMESTAMP
);

-- One row for each work order of each load of a file: the history. Nothing is ever removed from it.
CREATE TABLE IF NOT EXISTS delivered_record (
    export_type STRING,
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    revision INT,
    loaded_at TIMESTAMP,
    id STRING,
    name STRING,
    site_id STRING,
    create_date TIMESTAMP,
    update_date TIMESTAMP,
    metadata STRING,
    progress_score DOUBLE,
    work_items ARRAY<STRUCT<id: STRING, name: STRING, input: ARRAY<STRUCT<
        id: STRING, create_date: TIMESTAMP, file_extension: STRING, metadata: STRING,
        data_conformity: ARRAY<STRUCT<check: STRING, code: BIGINT, level: STRING>>,
        job_conformity: ARRAY<STRUCT<
            task_name: STRING, analyzed_value: STRING, corrected_value: STRING, corrected_date: TIMESTAMP,
            message: STRING, is_conformity_validated: BOOLEAN
        >>
    >>>>
);

-- The newest state of each work order. `update_date` decides, since a late or repeated file can be newer than its
-- window; then the later window, then the higher revision as a number (`.r10` is after `.r2`), then
-- the greater site_id (of a work order that moved while the sites were read), then the later load.
CREATE OR REPLACE VIEW work_order AS
SELECT
    export_type,
    window_start,
    window_end,
    revision,
    id,
    name,
    site_id,
    create_date,
    update_date,
    metadata,
    progress_score,
    -- By days since 1970: a cast to DATE would count in the session's zone too.
    trunc(
        date_from_unix_date(CAST(floor(unix_seconds(from_utc_timestamp(create_date, zone)) / 86400) AS INT)), 'WEEK'
    ) AS week,
    work_items
FROM (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY export_type, id
            ORDER BY
                coalesce(update_date, create_date) DESC NULLS LAST, window_end DESC, window_start DESC, revision DESC,
                site_id DESC, loaded_at DESC
        ) AS age
    FROM delivered_record
) AS history
CROSS JOIN reporting
WHERE age = 1;

CREATE OR REPLACE VIEW work_item AS
SELECT
    export_type,
    site_id,
    work_order_id,
    work_order_create_date,
    place + 1 AS position,
    item.id AS work_item_id,
    item.name AS work_item_name,
    item.input AS inputs
FROM (
    SELECT
        export_type,
        site_id,
        id AS work_order_id,
        create_date AS work_order_create_date,
        posexplode(work_items) AS (place, item)
    FROM work_order
) AS items;

-- `attempt` counts the inputs of a work item, from 1.
CREATE OR REPLACE VIEW input AS
SELECT
    export_type,
    site_id,
    work_order_id,
    work_item_id,
    work_item_name,
    place + 1 AS attempt,
    entry.id AS input_id,
    entry.create_date AS create_date,
    trunc(
        date_from_unix_date(CAST(floor(
            unix_seconds(from_utc_timestamp(coalesce(entry.create_date, work_order_create_date), zone)) / 86400
        ) AS INT)),
        'WEEK'
    ) AS week,
    (unix_micros(entry.create_date) - unix_micros(work_order_create_date)) / 60000000 AS minutes_after_creation,
    entry.metadata AS metadata,
    concat(site_id, '/inputs/', entry.id, coalesce(entry.file_extension, '')) AS image,
    entry
FROM (SELECT *, posexplode(inputs) AS (place, entry) FROM work_item) AS entries
CROSS JOIN reporting;

CREATE OR REPLACE VIEW data_check AS
SELECT
    export_type, site_id, work_order_id, work_item_id, work_item_name, attempt, input_id, create_date, week,
    found.check AS check_name,
    found.code,
    found.level AS check_level
FROM (SELECT *, explode(entry.data_conformity) AS found FROM input) AS checks;

-- `is_first`: the first input of the work item on which the task was analysed.
CREATE OR REPLACE VIEW analysis AS
SELECT
    export_type, site_id, work_order_id, work_item_id, work_item_name, attempt, input_id, create_date, week,
    job.task_name,
    job.analyzed_value,
    job.corrected_value,
    job.corrected_date,
    job.message,
    job.is_conformity_validated,
    attempt = min(attempt) OVER (PARTITION BY export_type, work_item_id, job.task_name) AS is_first
FROM (SELECT *, explode(entry.job_conformity) AS job FROM input) AS jobs;
