-- Which work orders one site's file of one window holds, and in which order.
--
-- Filled in before the query runs: :site_id (uuid), :start and :end (timestamptz; the window is start <= t < end).
-- The other queries see the result as the table `selected`.
--
-- Columns
--   work_order_number   1, 2, 3, ... in the order of the lines: create_date with NULL first, then id
--   id                  uuid of the work order
SELECT
    row_number() OVER (ORDER BY create_date NULLS FIRST, id) AS work_order_number,
    id
FROM work_order
WHERE site_id = :site_id
  AND (create_date >= :start AND create_date < :end OR update_date >= :start AND update_date < :end)
