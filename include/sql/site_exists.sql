-- Whether the platform knows a site. Asked only when a window holds no work order of it: an unknown site is a mistake
-- in the customer file, a known one gets its empty file.
--
-- Filled in before the query runs: :site_id (uuid).
-- One row, one boolean column.
SELECT EXISTS (SELECT FROM work_order WHERE site_id = :site_id)
