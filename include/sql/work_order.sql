-- The selected work orders themselves, one row each, in any order.
--
-- Sees the table `selected` (selected.sql). :site_id, :start and :end may be used.
--
-- Columns, cast to these types where they have another
--   work_order_number   from `selected`
--   id                  uuid
--   name                text
--   site_id             uuid
--   create_date         timestamptz
--   update_date         timestamptz
--   metadata            jsonb, an object
--   progress_score      float8
SELECT selected.work_order_number, work_order.*
FROM selected
JOIN work_order ON work_order.id = selected.id
