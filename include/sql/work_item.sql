-- The work items of the selected work orders, in any order.
--
-- Sees the table `selected` (selected.sql). :site_id, :start and :end may be used.
--
-- Columns, cast to these types where they have another
--   work_order_number   from `selected`
--   id                  uuid
--   work_order_id       uuid
--   name                text
--   position            bigint; work items are delivered by (position with NULL first, id)
SELECT selected.work_order_number, work_item.*
FROM selected
JOIN work_item ON work_item.work_order_id = selected.id
