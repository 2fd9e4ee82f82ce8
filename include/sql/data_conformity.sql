-- The checks on the raw data of each input, in any order. Reads the table inputs (see work_order.sql).
--
-- Columns, cast to these types if they differ; a value that the cast would change is refused
--   work_order_number   from inputs
--   input_id            uuid
--   check               text
--   code                bigint
--   level               text
SELECT
    inputs.work_order_number,
    data_conformity.input_id,
    data_conformity."check",
    data_conformity.code,
    data_conformity.level
FROM inputs
JOIN data_conformity ON data_conformity.input_id = inputs.id
