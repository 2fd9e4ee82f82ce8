-- Three questions, as views over those of create.sql; the same text for every engine. Percentages are 0 to 100, and
-- null where nothing was to count. `week` is the Monday of a week in the zone of the table `reporting`.
-- They read work-orders-timeline: work-orders-states has only the last input of each work item, so no retakes.

-- Field operations: per site and week in which the work orders were created.
CREATE OR REPLACE VIEW field_operations AS
SELECT
    work_order.site_id,
    work_order.week,
    COUNT(*) AS work_orders,
    SUM(CASE WHEN photos.photos > 0 THEN 1 ELSE 0 END) AS with_photos,
    SUM(CASE WHEN work_order.progress_score >= 1 THEN 1 ELSE 0 END) AS complete,
    ROUND(100.0 * AVG(work_order.progress_score)) AS mean_progress_pct,
    COALESCE(SUM(photos.photos), 0) AS photos,
    ROUND(AVG(photos.last_minute)) AS mean_minutes_to_last_photo
FROM work_order
LEFT JOIN (
    SELECT export_type, work_order_id, COUNT(*) AS photos, MAX(minutes_after_creation) AS last_minute
    FROM input
    GROUP BY export_type, work_order_id
) AS photos ON photos.work_order_id = work_order.id AND photos.export_type = work_order.export_type
WHERE work_order.export_type = 'work-orders-timeline'
GROUP BY work_order.site_id, work_order.week;

-- AI and first time right: per task and week of the photo. The two readings differ; docs/format.md defines them.
--   validated_first_pct   validated at the first photo: how often field work was right at once
--   uncorrected_pct       not corrected: how often the analysis was right
CREATE OR REPLACE VIEW first_time_right AS
SELECT
    task_name,
    week,
    SUM(CASE WHEN is_first THEN 1 ELSE 0 END) AS first_photos,
    SUM(CASE WHEN is_first AND is_conformity_validated IS NULL THEN 1 ELSE 0 END) AS first_photos_undecided,
    ROUND(
        100.0 * SUM(CASE WHEN is_first AND is_conformity_validated THEN 1 ELSE 0 END)
        / NULLIF(SUM(CASE WHEN is_first AND is_conformity_validated IS NOT NULL THEN 1 ELSE 0 END), 0)
    ) AS validated_first_pct,
    COUNT(*) AS analyses,
    SUM(CASE WHEN corrected_value <> COALESCE(analyzed_value, 'null') THEN 1 ELSE 0 END) AS corrected,
    ROUND(
        100.0 * SUM(CASE WHEN corrected_value <> COALESCE(analyzed_value, 'null') THEN 0 ELSE 1 END) / COUNT(*)
    ) AS uncorrected_pct
FROM analysis
WHERE export_type = 'work-orders-timeline'
GROUP BY task_name, week;

-- Operator experience: per work item and week, how often a photo had to be taken again, was refused, and how long it took.
CREATE OR REPLACE VIEW operator_experience AS
SELECT
    work_item_name,
    week,
    COUNT(*) AS work_items,
    SUM(photos) AS photos,
    ROUND(100.0 * SUM(CASE WHEN photos = 1 THEN 1 ELSE 0 END) / COUNT(*)) AS one_photo_pct,
    SUM(refused) AS photos_refused,
    ROUND(AVG(CASE WHEN photos > 1 THEN minutes END)) AS mean_minutes_of_retakes
FROM (
    SELECT
        input.work_item_id,
        input.work_item_name,
        MIN(input.week) AS week,
        COUNT(*) AS photos,
        COUNT(refused.input_id) AS refused,
        MAX(input.minutes_after_creation) - MIN(input.minutes_after_creation) AS minutes
    FROM input
    LEFT JOIN (
        SELECT DISTINCT input_id FROM data_check WHERE export_type = 'work-orders-timeline' AND LOWER(check_level) = 'error'
    ) AS refused ON refused.input_id = input.input_id
    WHERE input.export_type = 'work-orders-timeline'
    GROUP BY input.work_item_id, input.work_item_name
) AS items
GROUP BY work_item_name, week;

-- Not a question of yours but one to us: work orders whose update_date did not move with an input or a correction. They
-- may be incomplete until their next update; docs/format.md, "What moves update_date".
CREATE OR REPLACE VIEW unmoved_update_date AS
SELECT work_order.export_type, work_order.site_id, work_order.id, work_order.update_date, MAX(changes.moment) AS last_change
FROM work_order
JOIN (
    SELECT export_type, work_order_id, create_date AS moment FROM input
    UNION ALL
    SELECT export_type, work_order_id, corrected_date AS moment FROM analysis
) AS changes ON changes.work_order_id = work_order.id AND changes.export_type = work_order.export_type
WHERE changes.moment > work_order.update_date
GROUP BY work_order.export_type, work_order.site_id, work_order.id, work_order.update_date;
