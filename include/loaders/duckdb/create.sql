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

-- What a file's name says: any spelling of its colons (gcloud on Windows writes `$1`), `.json`, `.json.gz`, `.json.zst`, `.parquet`, `.r2` to `.r10`.
CREATE OR REPLACE MACRO name_part(file, part) AS regexp_extract(
    file,
    '(work-orders-[a-z]+)[/\\_](\d{4}-\d\d-\d\d)_(\d\d(?:\$1|%3[Aa]|\D)\d\d(?:\$1|%3[Aa]|\D)\d\d)_(\d{4}-\d\d-\d\d)_(\d\d(?:\$1|%3[Aa]|\D)\d\d(?:\$1|%3[Aa]|\D)\d\d)(?:\.r(\d+))?\.(json|json\.gz|json\.zst|parquet)$',
    part
);
CREATE OR REPLACE MACRO name_time(file, part) AS CAST(
    name_part(file, part) || 'T'
    || regexp_replace(name_part(file, part + 1), '\$1|%3[Aa]|\D', ':', 'g') || '+00:00' AS TIMESTAMPTZ
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
SELECT * EXCLUDE (item), item.id AS work_item_id, item.name AS work_item_name, item.input AS inputs
FROM (
    SELECT
        export_type,
        site_id,
        id AS work_order_id,
        create_date AS work_order_create_date,
        generate_subscripts(work_items, 1) AS position,
        unnest(work_items) AS item
    FROM work_order
);

-- `attempt` counts the inputs of a work item, from 1.
CREATE OR REPLACE VIEW input AS
SELECT
    * EXCLUDE (entry, zone),
    entry.id AS input_id,
    entry.create_date AS create_date,
    CAST(date_trunc('week', timezone(zone, coalesce(entry.create_date, work_order_create_date))) AS DATE) AS week,
    epoch(entry.create_date - work_order_create_date) / 60 AS minutes_after_creation,
    entry.metadata AS metadata,
    site_id || '/inputs/' || entry.id || coalesce(entry.file_extension, '') AS image,
    entry.data_conformity AS data_conformity,
    entry.job_conformity AS job_conformity
FROM (
    SELECT
        * EXCLUDE (inputs, position),
        generate_subscripts(inputs, 1) AS attempt,
        unnest(inputs) AS entry
    FROM work_item
), reporting;

CREATE OR REPLACE VIEW data_check AS
SELECT * EXCLUDE (found), found."check" AS check_name, found.code, found."level" AS check_level
FROM (SELECT * EXCLUDE (metadata, data_conformity, job_conformity), unnest(data_conformity) AS found FROM input);

-- `is_first`: the first input of the work item on which the task was analysed.
CREATE OR REPLACE VIEW analysis AS
SELECT
    * EXCLUDE (job),
    job.task_name,
    nullif(CAST(job.analyzed_value AS VARCHAR), 'null') AS analyzed_value,
    nullif(CAST(job.corrected_value AS VARCHAR), 'null') AS corrected_value,
    job.corrected_date,
    job.message,
    job.is_conformity_validated,
    attempt = min(attempt) OVER (PARTITION BY export_type, work_item_id, job.task_name) AS is_first
FROM (SELECT * EXCLUDE (metadata, data_conformity, job_conformity), unnest(job_conformity) AS job FROM input);

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
