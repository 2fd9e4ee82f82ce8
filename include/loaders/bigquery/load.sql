-- BigQuery: loads the files that the URIs match. Safe to repeat; the order of files does not matter.
-- All windows need one URI for each site, since a URI may have one `*` only. One window of all sites is one URI, and one
-- for each of its revisions:
--   'gs://acme-exports/production/*/data/work-orders-timeline/2025-03-16_00:00:00_2025-03-17_00:00:00.json'
--   'gs://acme-exports/production/*/data/work-orders-timeline/2025-03-16_00:00:00_2025-03-17_00:00:00.r2.json'
-- The names are as delivered: do not write `%3A` for `:`. The files stay where they are. For `.json.gz` set
-- compression = 'GZIP'; BigQuery does not read `.json.zst`. A file without records adds no row.

-- A line of JSON contains no tab and no bare line break, so each line is one field.
CREATE OR REPLACE EXTERNAL TABLE delivered_line (line STRING)
OPTIONS (
    format = 'CSV',
    field_delimiter = '\t',
    quote = '',
    compression = 'NONE',
    uris = ['gs://acme-exports/production/433a60f6-9756-473e-b1e9-9e89e24bb787/data/work-orders-timeline/*.json']
);

MERGE delivered_record AS stored
USING (
    SELECT
        REGEXP_EXTRACT(file, r'/(work-orders-[a-z]+)/') AS export_type,
        TIMESTAMP(REGEXP_REPLACE(
            REGEXP_EXTRACT(file, r'/(\d{4}-\d\d-\d\d_\d\d.\d\d.\d\d)_[^/]*$'), r'_(\d\d).(\d\d).(\d\d)$', r' \1:\2:\3+00'
        )) AS window_start,
        TIMESTAMP(REGEXP_REPLACE(
            REGEXP_EXTRACT(file, r'_(\d{4}-\d\d-\d\d_\d\d.\d\d.\d\d)(?:\.r\d+)?\.json[^/]*$'),
            r'_(\d\d).(\d\d).(\d\d)$',
            r' \1:\2:\3+00'
        )) AS window_end,
        CAST(COALESCE(REGEXP_EXTRACT(file, r'\.r(\d+)\.json[^/]*$'), '1') AS INT64) AS revision,
        JSON_VALUE(line, '$.id') AS id,
        JSON_VALUE(line, '$.site_id') AS site_id,
        CAST(JSON_VALUE(line, '$.create_date') AS TIMESTAMP) AS create_date,
        CAST(JSON_VALUE(line, '$.update_date') AS TIMESTAMP) AS update_date,
        line AS record
    FROM (SELECT _FILE_NAME AS file, line FROM delivered_line)
    WHERE TRUE
    -- A work order that moves from one site to another while they are read is in both files of the window.
    QUALIFY ROW_NUMBER() OVER (
        PARTITION BY REGEXP_EXTRACT(file, r'[^/]*/[^/]*$'), JSON_VALUE(line, '$.id')
        ORDER BY JSON_VALUE(line, '$.update_date') DESC, JSON_VALUE(line, '$.site_id') DESC, file DESC
    ) = 1
) AS loaded
ON stored.export_type = loaded.export_type
    AND stored.window_start = loaded.window_start
    AND stored.window_end = loaded.window_end
    AND stored.revision = loaded.revision
    AND stored.id = loaded.id
WHEN MATCHED
    AND stored.record != loaded.record
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
WHEN NOT MATCHED THEN INSERT ROW;
