-- The work orders in the file of one site and window, numbered in the order of its lines.
--
-- All queries in this folder run as one statement, in which later queries read the rows of earlier ones as tables:
-- work_order.sql -> work_orders -> work_item.sql -> work_items -> input.<export type>.sql -> inputs -> *_conformity.sql.
-- Filled in before it runs, in any query: :site_id (uuid), :start and :end (timestamptz; the window is
-- start <= t < end). An installation with other tables writes its own queries here; extra columns do no harm.
--
-- Columns, cast to these types if they differ; a value that the cast would change is refused, but for progress_score
--   work_order_number   1, 2, 3, ... by create_date with NULL first, then id
--   id                  uuid, each once; one that comes twice is noticed only where its lines are near each other
--   name                text
--   site_id             uuid
--   create_date         timestamptz; where it is text, cast it in the conditions too, by a function that makes NULL of
--                       what is no moment: one such text would stop every window of its site
--   update_date         timestamptz, likewise
--   metadata            jsonb, an object
--   progress_score      float8; a fraction of more digits is rounded; a whole number that would be is refused
SELECT
    row_number() OVER (ORDER BY create_date::timestamptz NULLS FIRST, id) AS work_order_number,
    id,
    name,
    site_id,
    create_date,
    update_date,
    metadata,
    progress_score
FROM work_order
WHERE site_id = :site_id
  AND (create_date >= :start AND create_date < :end OR update_date >= :start AND update_date < :end)
