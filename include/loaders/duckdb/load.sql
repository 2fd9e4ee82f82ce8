-- Load new and changed JSON Lines files, plain or compressed. Safe to repeat; the order of files does not matter.
--   SET VARIABLE delivered = 'acme/*/data/work-orders-timeline/*.json*';   -- a folder, or gs:// and s3:// with httpfs

-- Of a window that is there plain and packed, since the format was changed, the file that was written last.
SET VARIABLE listed = coalesce((
    SELECT list({'file': filename, 'bytes': size, 'modified_at': last_modified} ORDER BY filename)
    FROM (
        SELECT filename, size, last_modified
        FROM read_blob(coalesce(getvariable('delivered'), error('set the variable delivered, as load.sql says at its top')))
        WHERE name_part(filename, 7) IN ('json', 'json.gz', 'json.zst')
            AND NOT regexp_matches(filename, '(receipts|manifests)[/\\]work-orders-[a-z]+[/\\][^/\\]*$')
        QUALIFY row_number() OVER (
            PARTITION BY regexp_replace(filename, '\.json(\.gz|\.zst)?$', '')
            ORDER BY last_modified DESC, filename DESC
        ) = 1
    )
), error('no data file matches ' || CAST(getvariable('delivered') AS VARCHAR) || '; load_parquet.sql reads .parquet'));

BEGIN;

SET VARIABLE fresh = (
    SELECT list(seen.file ORDER BY seen.file)
    FROM unnest(getvariable('listed')) AS _ (seen)
    ANTI JOIN delivered_file AS loaded
        ON loaded.file = seen.file AND loaded.bytes = seen.bytes AND loaded.modified_at = seen.modified_at
);

-- Without a new file the first one is opened, since read_json needs one, and nothing of it is taken.
CREATE OR REPLACE TEMP TABLE incoming AS
SELECT
    name_part(filename, 1) AS export_type,
    name_time(filename, 2) AS window_start,
    name_time(filename, 4) AS window_end,
    name_revision(filename) AS revision,
    * EXCLUDE (filename)
FROM read_json(
    coalesce(getvariable('fresh'), [getvariable('listed')[1].file]),
    format = 'newline_delimited',
    filename = true,
    -- or a folder such as env=prod/ would become a column
    hive_partitioning = false,
    -- The longest line; the default is 16 MB. DuckDB takes twice as much of its memory_limit for each thread: 1 GiB for
    -- 8. Our lines have up to 32 MB. If your platform allows longer ones, raise this and lower the number of threads
    -- (SET threads = 4).
    maximum_object_size = 67108864,
    columns = {
        id: 'UUID',
        name: 'VARCHAR',
        site_id: 'UUID',
        create_date: 'TIMESTAMPTZ',
        update_date: 'TIMESTAMPTZ',
        metadata: 'JSON',
        progress_score: 'DOUBLE',
        work_items: 'STRUCT(id UUID, name VARCHAR, input STRUCT(id UUID, create_date TIMESTAMPTZ, file_extension VARCHAR, metadata JSON, data_conformity STRUCT("check" VARCHAR, code BIGINT, "level" VARCHAR)[], job_conformity STRUCT(task_name VARCHAR, analyzed_value JSON, corrected_value JSON, corrected_date TIMESTAMPTZ, message VARCHAR, is_conformity_validated BOOLEAN)[])[])[]'
    }
)
WHERE getvariable('fresh') IS NOT NULL;

-- A work order that moves from one site to another while they are read is in both files of the window: its newer state
-- stays or, of two as new, that of the greater site_id, whichever file is loaded last. Only where a site's file comes
-- again with an older state than before does the order matter: it takes the place of its own.
DELETE FROM incoming AS new
USING (
    SELECT export_type, window_start, window_end, revision, id, site_id, update_date FROM delivered_record
    UNION ALL
    SELECT export_type, window_start, window_end, revision, id, site_id, update_date FROM incoming
) AS old
WHERE (old.export_type, old.window_start, old.window_end, old.revision, old.id)
    = (new.export_type, new.window_start, new.window_end, new.revision, new.id)
    AND old.site_id <> new.site_id
    AND (coalesce(old.update_date, '-infinity'), old.site_id) > (coalesce(new.update_date, '-infinity'), new.site_id);

-- A changed file takes the place of the same work orders of the same window and revision, and of nothing else.
DELETE FROM delivered_record AS old
USING incoming AS new
WHERE (old.export_type, old.window_start, old.window_end, old.revision, old.id)
    = (new.export_type, new.window_start, new.window_end, new.revision, new.id);

INSERT INTO delivered_record BY NAME SELECT * FROM incoming;

DELETE FROM delivered_file WHERE file IN (SELECT seen.file FROM unnest(getvariable('listed')) AS _ (seen));

INSERT INTO delivered_file BY NAME
SELECT
    seen.file,
    name_part(seen.file, 1) AS export_type,
    name_time(seen.file, 2) AS window_start,
    name_time(seen.file, 4) AS window_end,
    name_revision(seen.file) AS revision,
    seen.bytes,
    seen.modified_at,
    now() AS loaded_at
FROM unnest(getvariable('listed')) AS _ (seen);

COMMIT;
