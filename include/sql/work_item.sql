-- The work items of the work orders, in any order. Reads the table work_orders (see work_order.sql).
--
-- Columns, cast to these types if they differ; a value that the cast would change is refused
--   work_order_number   from work_orders
--   id                  uuid
--   work_order_id       uuid
--   name                text
--   position            bigint; work items are delivered by (position with NULL first, id)
SELECT
    work_orders.work_order_number,
    work_item.id,
    work_item.work_order_id,
    work_item.name,
    work_item.position
FROM work_orders
JOIN work_item ON work_item.work_order_id = work_orders.id
