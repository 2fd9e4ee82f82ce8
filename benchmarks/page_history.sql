-- Windows of %(step)s in [%(first)s, %(last)s) for every export whose dag_id is like %(pattern)s, as runs and receipts
-- that look like real ones. The same arguments give the same history: what happened to a window is a hash of its name.
CREATE TEMP TABLE made ON COMMIT DROP AS
SELECT
    d.dag_id,
    replace(substr(d.dag_id, 14), '_', '-') AS export,
    o.asset_id,
    w.start,
    w.start + %(step)s::interval AS stop,
    'scheduled__' || to_char(w.start, 'YYYY-MM-DD"T"HH24:MI:SS') || '+00:00' AS run_id,
    abs(hashtext(d.dag_id || w.start::text)) AS luck,
    abs(hashtext(d.dag_id)) %% 900 + 20 AS size
FROM dag AS d
JOIN task_outlet_asset_reference AS o ON o.dag_id = d.dag_id AND o.task_id = 'close'
CROSS JOIN generate_series(%(first)s::timestamptz, %(last)s::timestamptz - interval '1 second', %(step)s::interval)
    AS w (start)
WHERE d.dag_id LIKE %(pattern)s;

DELETE FROM made WHERE luck %% 211 = 1; -- windows that never ran

INSERT INTO dag_run (
    dag_id, run_id, run_type, state, logical_date, data_interval_start, data_interval_end, run_after, queued_at,
    start_date, end_date, conf
)
SELECT
    dag_id, run_id, 'scheduled', CASE WHEN luck %% 173 = 2 THEN 'failed' ELSE 'success' END, start, start, stop,
    stop + interval '5 minutes', stop + interval '5 minutes', stop + interval '5 minutes',
    stop + interval '5 minutes' + make_interval(secs => 12 + luck %% 90), '{}'
FROM made
ORDER BY start;

INSERT INTO task_instance (id, task_id, dag_id, run_id, map_index, try_number, pool, pool_slots, state)
SELECT gen_random_uuid(), 'deliver', dag_id, run_id, 0, 1, 'default_pool', 1, 'failed'
FROM made
WHERE luck %% 173 = 2;

INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, timestamp, value)
SELECT
    r.id, 'deliver', 0, 'failure', m.dag_id, m.run_id, m.stop,
    CASE m.luck %% 3
        WHEN 0 THEN '{"error": "AccessDenied", "message": "gs://customer-bucket/exports: 403, the service may not create objects: grant storage.objects.create"}'
        WHEN 1 THEN '{"error": "TargetUnavailable", "message": "sftp.customer.example:22: no answer within 15 s: is the server up, and our address allowed?"}'
        ELSE '{"error": "TargetFull", "message": "sftp.customer.example:22: the disk is full: make room, the next try resumes"}'
    END::jsonb
FROM made AS m
JOIN dag_run AS r ON r.dag_id = m.dag_id AND r.run_id = m.run_id
WHERE m.luck %% 173 = 2;

INSERT INTO asset_event (asset_id, source_task_id, source_dag_id, source_run_id, source_map_index, timestamp, extra)
SELECT
    asset_id, 'close', dag_id, run_id, -1, stop + interval '5 minutes' + make_interval(secs => 12 + luck %% 90),
    json_build_object(
        'summary', work_orders || ' work orders',
        'totals', json_build_object(
            'sites', 1, 'work_orders', work_orders, 'quarantined', 0, 'bytes', work_orders * 5200, 'images', images,
            'images_copied', images, 'images_missing', missing, 'image_bytes', images * 184000
        ),
        'export', export, 'export_type', 'work-orders-timeline',
        'window', json_build_object('start', to_json(start), 'end', to_json(stop)),
        'connector', 'cloud_storage', 'target', 'gs://customer-bucket/' || export || '/', 'config_hash', md5(export),
        'sites', json_build_array(json_build_object(
            'site_id', md5(export)::uuid, 'work_orders', work_orders, 'quarantined', 0, 'bytes', work_orders * 5200,
            'sha256', encode(sha256(run_id::bytea), 'hex'),
            'uri', 'gs://customer-bucket/' || export || '/' || md5(export)::uuid || '/data/work-orders-timeline/'
                || to_char(start, 'YYYY-MM-DD_HH24:MI:SS') || '_' || to_char(stop, 'YYYY-MM-DD_HH24:MI:SS') || '.json',
            'outcome', 'created',
            'images', json_build_object(
                'site_id', md5(export)::uuid, 'copied', images, 'already_there', 0, 'missing_at_source', missing,
                'missing', CASE WHEN missing = 0 THEN '[]'::json
                    ELSE json_build_array(md5(run_id || 1)::uuid || '.jpg', md5(run_id || 2)::uuid || '.jpg') END,
                'bytes', images * 184000
            )
        )),
        'delivered_at', to_json(stop + interval '6 minutes')
    )
FROM (
    SELECT
        *, CASE WHEN luck %% 37 = 3 THEN 0 ELSE size + luck %% 101 END AS work_orders,
        CASE WHEN luck %% 37 = 3 THEN 0 ELSE 3 * size + luck %% 211 END AS images,
        CASE WHEN luck %% 89 = 4 THEN 2 ELSE 0 END AS missing
    FROM made
) AS counted
WHERE luck %% 173 <> 2
ORDER BY stop;
