-- The inputs of work-orders-states: only the last created of each work item, whether or not it was created in the
-- window. Reads the table work_items (see work_order.sql).
--
-- "Last" is by (create_date with NULL first, id), compared as moments: the texts of moments have another order.
-- Columns: as in input.work-orders-timeline.sql.
SELECT DISTINCT ON (work_items.work_order_number, work_items.id)
    work_items.work_order_number,
    input.id,
    input.work_item_id,
    input.create_date,
    input.file_extension,
    input.metadata
FROM work_items
JOIN input ON input.work_item_id = work_items.id
ORDER BY work_items.work_order_number, work_items.id, input.create_date::timestamptz DESC NULLS LAST, input.id DESC
