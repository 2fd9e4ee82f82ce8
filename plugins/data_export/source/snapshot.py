"""The contents of a raw snapshot: the contract between `source.extract` and `transform`.

A snapshot is a folder with one Parquet file per table. Every row has the number of its work order, and every file is
sorted by that number, so that the five files can be read in parallel. uuids are 16 bytes, jsonb is PostgreSQL's own
text.
"""

import pyarrow as pa

NUMBER = "work_order_number"

_UUID = pa.binary(16)
_TEXT = pa.string()
_JSON = pa.string()  # PostgreSQL's text of a jsonb value
_TIME = pa.timestamp("us", tz="UTC")

#: Columns of each table's file, in order.
TABLES: dict[str, pa.Schema] = {
    "work_order": pa.schema(
        {
            NUMBER: pa.int32(),
            "id": _UUID,
            "name": _TEXT,
            "site_id": _UUID,
            "create_date": _TIME,
            "update_date": _TIME,
            "metadata": _JSON,
            "progress_score": pa.float64(),
        }
    ),
    "work_item": pa.schema(
        {NUMBER: pa.int32(), "id": _UUID, "work_order_id": _UUID, "name": _TEXT, "position": pa.int64()}
    ),
    "input": pa.schema(
        {
            NUMBER: pa.int32(),
            "id": _UUID,
            "work_item_id": _UUID,
            "create_date": _TIME,
            "file_extension": _TEXT,
            "metadata": _JSON,
        }
    ),
    "data_conformity": pa.schema(
        {NUMBER: pa.int32(), "input_id": _UUID, "check": _TEXT, "code": pa.int64(), "level": _TEXT}
    ),
    "job_conformity": pa.schema(
        {
            NUMBER: pa.int32(),
            "input_id": _UUID,
            "task_name": _TEXT,
            "analyzed_value": _JSON,
            "corrected_value": _JSON,
            "corrected_date": _TIME,
            "message": _TEXT,
            "is_conformity_validated": pa.bool_(),
        }
    ),
}

#: Text columns of few distinct values: written and read as dictionaries, each text is encoded once.
REPEATED: dict[str, list[str]] = {
    "work_order": [],
    "work_item": ["name"],
    "input": ["file_extension"],
    "data_conformity": ["check", "level"],
    "job_conformity": ["task_name"],
}

#: Text columns that hold JSON.
JSON_COLUMNS = frozenset({"metadata", "analyzed_value", "corrected_value"})
