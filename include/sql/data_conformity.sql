-- The checks on raw input data of the inputs, in any order. Sees the table inputs (see work_order.sql).
--
-- Columns, cast to these types where they have another
--   work_order_number   from inputs
--   input_id            uuid
--   check               text
--   code                bigint
--   level               text
SELECT inputs.work_order_number, data_conformity.*
FROM inputs
JOIN data_conformity ON data_conformity.input_id = inputs.id
