-- The inputs of work-orders-timeline: all inputs of each work item, in any order. Reads the table work_items
-- (see work_order.sql).
--
-- Columns, cast to these types if they differ; a value that the cast would change is refused
--   work_order_number   from work_items
--   id                  uuid; also the first part of the image's file name
--   work_item_id        uuid
--   create_date         timestamptz; inputs are delivered by (create_date with NULL first, id)
--   file_extension      text such as .png, with its dot; the last part of the image's file name
--   metadata            jsonb, an object
SELECT
    work_items.work_order_number,
    input.id,
    input.work_item_id,
    input.create_date,
    input.file_extension,
    input.metadata
FROM work_items
JOIN input ON input.work_item_id = work_items.id
