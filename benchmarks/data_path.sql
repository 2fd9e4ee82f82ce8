-- Deterministic operational data: {sites} sites of {per_site} work orders, all created and updated on 2025-03-17 UTC.
SELECT setseed(0.25);
SET session_replication_role = replica;  -- no foreign key checks while loading
INSERT INTO work_order
SELECT md5('order' || k)::uuid,
       'test-' || upper(substr(md5('name' || k), 1, 8)),
       md5('site' || k % {sites})::uuid,
       timestamptz '2025-03-17 00:00:00+00' + random() * interval '86399 s',
       timestamptz '2025-03-17 00:00:00+00' + random() * interval '86399 s',
       jsonb_build_object('created_with', (array['mobile_app', 'web', 'api'])[1 + k % 3], 'operator', 'agent-' || k % 977),
       CASE WHEN k % 10 > 0 THEN (k % 997 + 0.5) / 1000 END
FROM generate_series(1, {sites} * {per_site}) AS k;
INSERT INTO work_item
SELECT md5('item' || k || '-' || p)::uuid, md5('order' || k)::uuid,
       (array['l4_civil_open', 'l4_civil_close', 'l4_civil_open_floor_closeup'])[p], p
FROM generate_series(1, {sites} * {per_site}) AS k, generate_series(1, 3) AS p;
INSERT INTO input
SELECT md5('input' || k || '-' || p || '-' || q)::uuid, md5('item' || k || '-' || p)::uuid,
       timestamptz '2025-03-17 00:00:00+00' + random() * interval '86399 s',
       (array['.jpg', '.png', '.jpeg'])[1 + (k + q) % 3],
       jsonb_build_object('timestamp_ms', 1742169600000 + (random() * 86399000)::bigint,
                          'lat', round((45 + random())::numeric, 6), 'lon', round((3 + random())::numeric, 6))
FROM generate_series(1, {sites} * {per_site}) AS k, generate_series(1, 3) AS p, generate_series(1, 2) AS q
WHERE q = 1 OR (k + p) % 3 > 0;
INSERT INTO data_conformity
SELECT md5('input' || k || '-' || p || '-' || q)::uuid, (array['blur', 'darkness', 'duplicate'])[c], c * 10,
       (array['error', 'warning', 'information'])[c]
FROM generate_series(1, {sites} * {per_site}) AS k, generate_series(1, 3) AS p, generate_series(1, 2) AS q, generate_series(1, 3) AS c
WHERE (q = 1 OR (k + p) % 3 > 0) AND (k + p + q + c) % 4 = 0;
INSERT INTO job_conformity
SELECT md5('input' || k || '-' || p || '-' || q)::uuid,
       (array['l4_civil_open', 'l4_civil_close', 'l4_civil_open_floor_closeup'])[p]
         || (array['_ctx', '_geolocation', '_geolocation_maps', '_earthing', '_duct_count'])[j],
       value, CASE WHEN chance > 0.9 THEN value END,
       CASE WHEN chance > 0.9 THEN timestamptz '2025-03-17 00:00:00+00' + random() * interval '86399 s' END,
       message, CASE WHEN chance > 0.5 THEN chance > 0.6 END
FROM generate_series(1, {sites} * {per_site}) AS k, generate_series(1, 3) AS p, generate_series(1, 2) AS q, generate_series(1, 5) AS j,
LATERAL (SELECT random() AS chance, 'CMIB-G-' || upper(substr(md5('value' || k || p || q), 1, 8)) AS reference OFFSET 0) AS x,
LATERAL (
    SELECT (array['"UNAVAILABLE"', 'true', 'false', '0.0', to_json(reference)::text])[1 + (j + k) % 5]::jsonb AS value,
           (array['UNAVAILABLE', 'OK', 'KO', '0.0', 'PON Reference: ' || reference])[1 + (j + k) % 5] AS message
) AS y
WHERE q = 1 OR (k + p) % 3 > 0;
SET session_replication_role = origin;
VACUUM ANALYZE
