-- The five tables that the shipped queries (include/sql/) read, as a platform might have them.
-- Any column but the ids may be NULL.

CREATE TABLE work_order (
    id             uuid PRIMARY KEY,
    name           text,
    site_id        uuid NOT NULL,
    create_date    timestamptz,
    update_date    timestamptz,
    metadata       jsonb,
    progress_score double precision
);
-- One index for each half of the window's condition: PostgreSQL combines them.
CREATE INDEX work_order_created ON work_order (site_id, create_date);
CREATE INDEX work_order_updated ON work_order (site_id, update_date);

CREATE TABLE work_item (
    id            uuid PRIMARY KEY,
    work_order_id uuid NOT NULL REFERENCES work_order ON DELETE CASCADE,
    name          text,
    position      int
);
CREATE INDEX work_item_of_order ON work_item (work_order_id);

CREATE TABLE input (
    id             uuid PRIMARY KEY,
    work_item_id   uuid NOT NULL REFERENCES work_item ON DELETE CASCADE,
    create_date    timestamptz,
    file_extension text,
    metadata       jsonb
);
CREATE INDEX input_of_item ON input (work_item_id);

CREATE TABLE data_conformity (
    input_id uuid NOT NULL REFERENCES input ON DELETE CASCADE,
    "check"  text,
    code     int,
    level    text
);
CREATE INDEX data_conformity_of_input ON data_conformity (input_id);

CREATE TABLE job_conformity (
    input_id                uuid NOT NULL REFERENCES input ON DELETE CASCADE,
    task_name               text,
    analyzed_value          jsonb,
    corrected_value         jsonb,
    corrected_date          timestamptz,
    message                 text,
    is_conformity_validated boolean
);
CREATE INDEX job_conformity_of_input ON job_conformity (input_id);
