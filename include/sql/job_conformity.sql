-- The results of the analyses of each input, in any order. Reads the table inputs (see work_order.sql).
--
-- Columns, cast to these types if they differ; a value that the cast would change is refused
--   work_order_number         from inputs
--   input_id                  uuid
--   task_name                 text
--   analyzed_value            jsonb, neither object nor array
--   corrected_value           jsonb, neither object nor array
--   corrected_date            timestamptz
--   message                   text
--   is_conformity_validated   bool
SELECT
    inputs.work_order_number,
    job_conformity.input_id,
    job_conformity.task_name,
    job_conformity.analyzed_value,
    job_conformity.corrected_value,
    job_conformity.corrected_date,
    job_conformity.message,
    job_conformity.is_conformity_validated
FROM inputs
JOIN job_conformity ON job_conformity.input_id = inputs.id
