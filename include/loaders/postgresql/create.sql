-- PostgreSQL 14 or newer: tables for delivered files, the function that loads one, and the views that show the newest
-- state. Safe to run again. jsonb keeps all digits of a number, and `1e400` as a number.

CREATE TABLE IF NOT EXISTS reporting (zone text NOT NULL);
-- Days and weeks are counted in this zone: UPDATE reporting SET zone = 'Europe/Paris';
INSERT INTO reporting SELECT 'UTC' WHERE NOT EXISTS (SELECT FROM reporting);

-- One row for each file that was loaded, the empty ones too.
CREATE TABLE IF NOT EXISTS delivered_file (
    file text PRIMARY KEY,
    export_type text NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    revision int NOT NULL,
    records bigint NOT NULL,
    bytes bigint,
    modified_at timestamptz,
    loaded_at timestamptz NOT NULL DEFAULT now()
);

-- One row for each work order of each window and revision: the history. A load never removes a work order from it.
CREATE TABLE IF NOT EXISTS delivered_record (
    export_type text NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    revision int NOT NULL,
    id uuid NOT NULL,
    site_id uuid NOT NULL,
    create_date timestamptz,
    update_date timestamptz,
    record jsonb NOT NULL,
    PRIMARY KEY (export_type, id, window_end, window_start, revision)
);

-- The lines of the file that is being loaded.
CREATE UNLOGGED TABLE IF NOT EXISTS delivered_line (line text NOT NULL);

-- Loads the lines in delivered_line as the records of a file, and empties it. A file that is loaded again takes the
-- place of the same work orders of the same window and revision, and of nothing else. Returns the number of records.
-- The name may have any spelling of its colons, `.json`, `.json.gz`, `.json.zst`, `.parquet`, `.r2` to `.r10`.
CREATE OR REPLACE FUNCTION load_delivered(file_name text, file_bytes bigint DEFAULT NULL, file_modified_at timestamptz DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    part text[] := regexp_match(
        file_name,
        '(work-orders-[a-z]+)[/\\_](\d{4}-\d\d-\d\d)_(\d\d)(?:\$1|%3[Aa]|\D)(\d\d)(?:\$1|%3[Aa]|\D)(\d\d)_(\d{4}-\d\d-\d\d)_(\d\d)(?:\$1|%3[Aa]|\D)(\d\d)(?:\$1|%3[Aa]|\D)(\d\d)(?:\.r(\d+))?\.(json|json\.gz|json\.zst|parquet)$'
    );
    from_time timestamptz;
    to_time timestamptz;
    number int := coalesce(part[10]::int, 1);
    found bigint;
BEGIN
    IF part IS NULL THEN
        RAISE EXCEPTION '% is not the name of a data file: keep the folder and the name that it was delivered with', file_name;
    END IF;
    from_time := format('%sT%s:%s:%sZ', part[2], part[3], part[4], part[5]);
    to_time := format('%sT%s:%s:%sZ', part[6], part[7], part[8], part[9]);
    INSERT INTO delivered_record
    SELECT DISTINCT ON (id)
        part[1], from_time, to_time, number, (parsed->>'id')::uuid AS id, (parsed->>'site_id')::uuid AS site_id,
        (parsed->>'create_date')::timestamptz, (parsed->>'update_date')::timestamptz AS update_date, parsed
    FROM (SELECT line::jsonb AS parsed FROM delivered_line) AS lines
    -- A mailed file has a work order twice if it moved to another site while the sites were read.
    ORDER BY id, update_date DESC NULLS LAST, site_id DESC
    ON CONFLICT (export_type, id, window_end, window_start, revision) DO UPDATE SET
        site_id = excluded.site_id,
        create_date = excluded.create_date,
        update_date = excluded.update_date,
        record = excluded.record
    -- Or it is in the files of both sites, whichever is loaded last; of two states as new, the greater site_id's stays.
    WHERE delivered_record.site_id = excluded.site_id
        OR (coalesce(excluded.update_date, '-infinity'), excluded.site_id)
            > (coalesce(delivered_record.update_date, '-infinity'), delivered_record.site_id);
    GET DIAGNOSTICS found = ROW_COUNT;
    INSERT INTO delivered_file
    VALUES (file_name, part[1], from_time, to_time, number, found, file_bytes, file_modified_at)
    ON CONFLICT (file) DO UPDATE SET
        records = excluded.records, bytes = excluded.bytes, modified_at = excluded.modified_at, loaded_at = now();
    TRUNCATE delivered_line;
    RETURN found;
END $$;

-- The newest state of each work order. `update_date` decides, since a late or repeated file can be newer than its
-- window; then the later window, then the higher revision as a number (`.r10` is after `.r2`).
CREATE OR REPLACE VIEW work_order AS
SELECT DISTINCT ON (export_type, id)
    export_type,
    window_start,
    window_end,
    revision,
    id,
    record->>'name' AS name,
    site_id,
    create_date,
    update_date,
    nullif(record->'metadata', 'null') AS metadata,
    (record->>'progress_score')::float8 AS progress_score,
    date_trunc('week', create_date AT TIME ZONE zone)::date AS week,
    record->'work_items' AS work_items
FROM delivered_record CROSS JOIN reporting
ORDER BY
    export_type, id, coalesce(update_date, create_date) DESC NULLS LAST, window_end DESC, window_start DESC,
    revision DESC;

CREATE OR REPLACE VIEW work_item AS
SELECT
    export_type,
    site_id,
    work_order.id AS work_order_id,
    create_date AS work_order_create_date,
    (item->>'id')::uuid AS work_item_id,
    item->>'name' AS work_item_name,
    position,
    item->'input' AS inputs
FROM work_order CROSS JOIN jsonb_array_elements(work_items) WITH ORDINALITY AS items (item, position);

-- `attempt` counts the inputs of a work item, from 1.
CREATE OR REPLACE VIEW input AS
SELECT
    export_type,
    site_id,
    work_order_id,
    work_item_id,
    work_item_name,
    attempt,
    (entry->>'id')::uuid AS input_id,
    taken AS create_date,
    date_trunc('week', coalesce(taken, work_order_create_date) AT TIME ZONE zone)::date AS week,
    (extract(epoch FROM taken - work_order_create_date) / 60)::float8 AS minutes_after_creation,
    nullif(entry->'metadata', 'null') AS metadata,
    concat(site_id, '/inputs/', entry->>'id', entry->>'file_extension') AS image,
    entry
FROM work_item
CROSS JOIN reporting
CROSS JOIN jsonb_array_elements(inputs) WITH ORDINALITY AS entries (entry, attempt)
CROSS JOIN LATERAL (SELECT (entry->>'create_date')::timestamptz AS taken) AS moment;

CREATE OR REPLACE VIEW data_check AS
SELECT
    export_type, site_id, work_order_id, work_item_id, work_item_name, attempt, input_id, create_date, week,
    found->>'check' AS check_name,
    (found->>'code')::bigint AS code,
    found->>'level' AS check_level
FROM input
CROSS JOIN jsonb_array_elements(nullif(entry->'data_conformity', 'null')) AS checks (found);

-- `is_first`: the first input of the work item on which the task was analysed. Values are JSON text: one column has
-- one type.
CREATE OR REPLACE VIEW analysis AS
SELECT
    export_type, site_id, work_order_id, work_item_id, work_item_name, attempt, input_id, create_date, week,
    job->>'task_name' AS task_name,
    nullif(job->'analyzed_value', 'null')::text AS analyzed_value,
    nullif(job->'corrected_value', 'null')::text AS corrected_value,
    (job->>'corrected_date')::timestamptz AS corrected_date,
    job->>'message' AS message,
    (job->>'is_conformity_validated')::boolean AS is_conformity_validated,
    attempt = min(attempt) OVER (PARTITION BY export_type, work_item_id, job->>'task_name') AS is_first
FROM input
CROSS JOIN jsonb_array_elements(entry->'job_conformity') AS jobs (job);

-- Windows that are not there between two that are. Each window has its file, so each row is a fault or a file not loaded.
CREATE OR REPLACE VIEW missing_window AS
SELECT export_type, folder, covered_until AS gap_start, next_start AS gap_end
FROM (
    SELECT
        export_type,
        folder,
        max(window_end) OVER so_far AS covered_until,
        lead(window_start) OVER so_far AS next_start
    FROM (SELECT *, regexp_replace(file, '[^/\\]*$', '') AS folder FROM delivered_file) AS files
    WINDOW so_far AS (PARTITION BY export_type, folder ORDER BY window_start, window_end)
) AS gaps
WHERE next_start > covered_until;
