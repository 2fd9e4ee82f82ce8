-- The inputs of a timeline: all of the selected work orders, in any order.
--
-- Sees the table `selected` (selected.sql). :site_id, :start and :end may be used.
-- The queries of data_conformity and job_conformity see the result as the table `inputs`.
--
-- Columns, cast to these types where they have another
--   work_order_number   from `selected`
--   id                  uuid; also the first part of the image's file name
--   work_item_id        uuid
--   create_date         timestamptz; inputs are delivered by (create_date with NULL first, id)
--   file_extension      text such as .png, with its dot; the last part of the image's file name
--   metadata            jsonb, an object
SELECT selected.work_order_number, input.*
FROM selected
JOIN work_item ON work_item.work_order_id = selected.id
JOIN input ON input.work_item_id = work_item.id
