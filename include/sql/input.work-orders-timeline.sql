-- The inputs of a timeline: all of the work items, in any order. Sees the table work_items (see work_order.sql).
--
-- Columns, cast to these types where they have another
--   work_order_number   from work_items
--   id                  uuid; also the first part of the image's file name
--   work_item_id        uuid
--   create_date         timestamptz; inputs are delivered by (create_date with NULL first, id)
--   file_extension      text such as .png, with its dot; the last part of the image's file name
--   metadata            jsonb, an object
SELECT work_items.work_order_number, input.*
FROM work_items
JOIN input ON input.work_item_id = work_items.id
