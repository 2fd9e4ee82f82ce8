-- DuckDB 1.3 or newer: tables for delivered files, and the views that show the newest state. Safe to run again.
--
-- A JSON column keeps the text as delivered: `1e400`, twenty digits and deep nesting stay what they are.

CREATE TABLE IF NOT EXISTS reporting (zone VARCHAR NOT NULL);
-- Days and weeks are counted in this zone: UPDATE reporting SET zone = 'Europe/Paris';
INSERT INTO reporting SELECT 'UTC' WHERE NOT EXISTS (SELECT 1 FROM reporting);

-- One row for each file that was loaded, the empty ones too.
CREATE TABLE IF NOT EXISTS delivered_file (
    file VARCHAR NOT NULL,
    export_type VARCHAR NOT NULL,
    window_start TIMESTAMPTZ NOT NULL,
    window_end TIMESTAMPTZ NOT NULL,
    revision INTEGER NOT NULL,
    bytes BIGINT NOT NULL,
    modified_at TIMESTAMPTZ NOT NULL,
    loaded_at TIMESTAMPTZ NOT NULL
);

-- One row for each work order of each window and revision: the history. A load never removes a work order from it.
CREATE TABLE IF NOT EXISTS delivered_record (
    export_type VARCHAR NOT NULL,
    window_start TIMESTAMPTZ NOT NULL,
    window_end TIMESTAMPTZ NOT NULL,
    revision INTEGER NOT NULL,
    id UUID NOT NULL,
    name VARCHAR,
    site_id UUID NOT NULL,
    create_date TIMESTAMPTZ,
    update_date TIMESTAMPTZ,
    metadata JSON,
    progress_score DOUBLE,
    work_items STRUCT(
        id UUID,
        name VARCHAR,
        input STRUCT(
            id UUID,
            create_date TIMESTAMPTZ,
            file_extension VARCHAR,
            metadata JSON,
            data_conformity STRUCT("check" VARCHAR, code BIGINT, "level" VARCHAR)[],
            job_conformity STRUCT(
                task_name VARCHAR,
                analyzed_value JSON,
                corrected_value JSON,
                corrected_date TIMESTAMPTZ,
                message VARCHAR,
                is_conformity_validated BOOLEAN
            )[]
        )[]
    )[]
);

-- What a file's name says: any spelling of its colons, `.json`, `.json.gz`, `.json.zst`, `.parquet`, `.r2` to `.r10`.
CREATE OR REPLACE MACRO name_part(file, part) AS regexp_extract(
    file,
    '(work-orders-[a-z]+)[/\\_](\d{4}-\d\d-\d\d)_(\d\d.{1,3}?\d\d.{1,3}?\d\d)_(\d{4}-\d\d-\d\d)_(\d\d.{1,3}?\d\d.{1,3}?\d\d)(?:\.r(\d+))?\.(json|json\.gz|json\.zst|parquet)$',
    part
);
CREATE OR REPLACE MACRO name_time(file, part) AS CAST(
    name_part(file, part) || 'T'
    || regexp_replace(name_part(file, part + 1), '(\d\d).+?(\d\d).+?(\d\d)', '\1:\2:\3') || '+00:00' AS TIMESTAMPTZ
);
CREATE OR REPLACE MACRO name_revision(file) AS coalesce(TRY_CAST(name_part(file, 6) AS INTEGER), 1);

-- The newest state of each work order. `update_date` decides, since a late or repeated file can be newer than its
-- window; then the later window, then the higher revision as a number (`.r10` is after `.r2`).
CREATE OR REPLACE VIEW work_order AS
SELECT
    * EXCLUDE (work_items),
    CAST(date_trunc('week', timezone(zone, create_date)) AS DATE) AS week,
    work_items
FROM delivered_record, reporting
QUALIFY row_number() OVER (
    PARTITION BY export_type, id
    ORDER BY coalesce(update_date, create_date) DESC NULLS LAST, window_end DESC, window_start DESC, revision DESC
) = 1;

CREATE OR REPLACE VIEW work_item AS
SELECT
    export_type,
    site_id,
    work_order.id AS work_order_id,
    work_order.create_date AS work_order_create_date,
    position,
    work_items[position].id AS work_item_id,
    work_items[position].name AS work_item_name,
    work_items[position].input AS inputs
FROM work_order, unnest(range(1, len(work_items) + 1)) AS _ (position);

-- `attempt` counts the inputs of a work item, from 1.
CREATE OR REPLACE VIEW input AS
SELECT
    work_item.* EXCLUDE (inputs, position),
    attempt,
    inputs[attempt].id AS input_id,
    inputs[attempt].create_date AS create_date,
    CAST(
        date_trunc('week', timezone(zone, coalesce(inputs[attempt].create_date, work_order_create_date))) AS DATE
    ) AS week,
    epoch(inputs[attempt].create_date - work_order_create_date) / 60 AS minutes_after_creation,
    inputs[attempt].metadata AS metadata,
    site_id || '/inputs/' || inputs[attempt].id || coalesce(inputs[attempt].file_extension, '') AS image,
    inputs[attempt].data_conformity AS data_conformity,
    inputs[attempt].job_conformity AS job_conformity
FROM work_item, reporting, unnest(range(1, len(inputs) + 1)) AS _ (attempt);

CREATE OR REPLACE VIEW data_check AS
SELECT
    input.* EXCLUDE (metadata, data_conformity, job_conformity),
    found."check" AS check_name,
    found.code,
    found."level" AS check_level
FROM input, unnest(data_conformity) AS _ (found);

-- `is_first`: the first input of the work item on which the task was analysed.
CREATE OR REPLACE VIEW analysis AS
SELECT
    input.* EXCLUDE (metadata, data_conformity, job_conformity),
    job.task_name,
    nullif(CAST(job.analyzed_value AS VARCHAR), 'null') AS analyzed_value,
    nullif(CAST(job.corrected_value AS VARCHAR), 'null') AS corrected_value,
    job.corrected_date,
    job.message,
    job.is_conformity_validated,
    attempt = min(attempt) OVER (PARTITION BY export_type, work_item_id, job.task_name) AS is_first
FROM input, unnest(job_conformity) AS _ (job);

-- Windows that are not there between two that are. Each window has its file, so each row is a fault or a file not loaded.
CREATE OR REPLACE VIEW missing_window AS
SELECT export_type, folder, covered_until AS gap_start, next_start AS gap_end
FROM (
    SELECT
        *,
        max(window_end) OVER (PARTITION BY export_type, folder ORDER BY window_start, window_end) AS covered_until,
        lead(window_start) OVER (PARTITION BY export_type, folder ORDER BY window_start, window_end) AS next_start
    FROM (SELECT *, regexp_replace(file, '[^/\\]*$', '') AS folder FROM delivered_file)
)
WHERE next_start > covered_until;
