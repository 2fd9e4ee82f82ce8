-- Whether the platform knows a site. Runs only when a window has no work orders of the site: an unknown site is a
-- mistake in the customer file, a known one gets its empty file.
--
-- Filled in before the query runs: :site_id (uuid).
-- Returns one row with one boolean column.
SELECT EXISTS (SELECT FROM work_order WHERE site_id = :site_id)
