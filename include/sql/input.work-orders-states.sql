-- The inputs of the states: of each work item only the last created, in any order.
--
-- Sees the table `selected` (selected.sql). :site_id, :start and :end may be used.
-- The queries of data_conformity and job_conformity see the result as the table `inputs`.
--
-- Last is last by (create_date with NULL first, id), whether or not it was created in the window.
-- Columns: those of input.work-orders-timeline.sql.
SELECT DISTINCT ON (work_item.id) selected.work_order_number, input.*
FROM selected
JOIN work_item ON work_item.work_order_id = selected.id
JOIN input ON input.work_item_id = work_item.id
ORDER BY work_item.id, input.create_date DESC NULLS LAST, input.id DESC
