-- Snowflake: loads new and changed files, plain, .gz or .zst. Safe to repeat; the order of files does not matter.
-- COPY INTO remembers for 64 days which files it has loaded, by name and checksum. An older one that it does not know
-- any more it would leave out: here it loads it, and MERGE makes a repeat harmless. A file without records adds no row.

-- COPY INTO outside a transaction would leave lines behind if the MERGE failed.
BEGIN TRANSACTION;

COPY INTO delivered_line (file, modified_at, line)
FROM (SELECT METADATA$FILENAME, METADATA$FILE_LAST_MODIFIED, $1 FROM @delivered)
-- For one window only, in place of `[^/]+`: 2025-03-16_00:00:00_2025-03-17_00:00:00([.]r[0-9]+)?
PATTERN = '.*/data/work-orders-[a-z]+/[^/]+[.]json([.]gz|[.]zst)?'
FILE_FORMAT = (
    -- A line of JSON contains no bare line break, so each line is one field.
    TYPE = CSV
    COMPRESSION = AUTO
    RECORD_DELIMITER = '\n'
    FIELD_DELIMITER = NONE
    ESCAPE = NONE
    ESCAPE_UNENCLOSED_FIELD = NONE
    FIELD_OPTIONALLY_ENCLOSED_BY = NONE
    NULL_IF = ()
)
ON_ERROR = ABORT_STATEMENT
LOAD_UNCERTAIN_FILES = TRUE;

MERGE INTO delivered_record AS stored
USING (
    SELECT
        REGEXP_SUBSTR(file, '/(work-orders-[a-z]+)/', 1, 1, 'e') AS export_type,
        REGEXP_REPLACE(
            REGEXP_SUBSTR(file, '/(\\d{4}-\\d\\d-\\d\\d_\\d\\d.\\d\\d.\\d\\d)_[^/]*$', 1, 1, 'e'),
            '_(\\d\\d).(\\d\\d).(\\d\\d)$',
            'T\\1:\\2:\\3+00:00'
        )::TIMESTAMP_TZ AS window_start,
        REGEXP_REPLACE(
            REGEXP_SUBSTR(file, '_(\\d{4}-\\d\\d-\\d\\d_\\d\\d.\\d\\d.\\d\\d)([.]r\\d+)?[.]json[^/]*$', 1, 1, 'e', 1),
            '_(\\d\\d).(\\d\\d).(\\d\\d)$',
            'T\\1:\\2:\\3+00:00'
        )::TIMESTAMP_TZ AS window_end,
        COALESCE(REGEXP_SUBSTR(file, '[.]r(\\d+)[.]json[^/]*$', 1, 1, 'e')::INTEGER, 1) AS revision,
        parsed:id::VARCHAR AS id,
        parsed:site_id::VARCHAR AS site_id,
        parsed:create_date::VARCHAR::TIMESTAMP_TZ AS create_date,
        parsed:update_date::VARCHAR::TIMESTAMP_TZ AS update_date,
        line AS record
    FROM (SELECT *, PARSE_JSON(line) AS parsed FROM delivered_line)
    -- The same window may be there twice, plain and compressed, and a work order that moves from one site to another
    -- while they are read is in both files of the window.
    QUALIFY ROW_NUMBER() OVER (
        PARTITION BY export_type, window_start, window_end, revision, id
        ORDER BY update_date DESC NULLS LAST, site_id DESC, modified_at DESC
    ) = 1
) AS loaded
ON stored.export_type = loaded.export_type
    AND stored.window_start = loaded.window_start
    AND stored.window_end = loaded.window_end
    AND stored.revision = loaded.revision
    AND stored.id = loaded.id
WHEN MATCHED
    AND stored.record <> loaded.record
    -- Of two sites' files the later state stays, whichever is loaded last; of two as late, the greater site_id's.
    AND (
        stored.site_id = loaded.site_id
        OR loaded.update_date > stored.update_date
        OR (stored.update_date IS NULL AND loaded.update_date IS NOT NULL)
        OR (loaded.site_id > stored.site_id AND loaded.update_date IS NOT DISTINCT FROM stored.update_date)
    )
THEN UPDATE SET
    site_id = loaded.site_id,
    create_date = loaded.create_date,
    update_date = loaded.update_date,
    record = loaded.record
WHEN NOT MATCHED THEN INSERT (
    export_type, window_start, window_end, revision, id, site_id, create_date, update_date, record
) VALUES (
    loaded.export_type, loaded.window_start, loaded.window_end, loaded.revision, loaded.id, loaded.site_id, loaded.create_date,
    loaded.update_date, loaded.record
);

DELETE FROM delivered_line;

COMMIT;
