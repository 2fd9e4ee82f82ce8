"""The delivered format: one chunk of a snapshot -> one line of JSON per work order.

Each level is one pass, from the bottom up: the JSON of every row is sorted by (parent, keys), joined with commas per
parent, and passed to the level above as that parent's list. Key order, row order and spelling of values are the
published format (docs/format.md): whoever changes them changes customers' files.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_export.errors import SourceRejected
from data_export.transform.json_columns import (
    booleans,
    concatenated,
    embedded,
    floats,
    integers,
    literal,
    strings,
    timestamps,
    uuids,
)
from data_export.transform.sort_keys import Integers, Keys, array, rank, uuid_keys, values, whole

#: The rows of some whole work orders, by table.
Chunk = dict[str, pa.RecordBatch]


def lines(chunk: Chunk) -> pa.LargeStringArray:
    """The line of each work order, in the order of the chunk's work orders.

    Raises:
        SourceRejected: a row has no parent, which only happens if the queries do not fit together.
    """
    orders, items, inputs = chunk["work_order"], chunk["work_item"], chunk["input"]
    inputs_of_item = _lists(
        *_placed(items["id"], inputs, "input", "work_item_id"),
        _input_texts(chunk),
        lambda: [*uuid_keys(inputs["id"]), whole(inputs["create_date"])],
    )
    items_of_order = _lists(
        *_placed(orders["id"], items, "work_item", "work_order_id"),
        concatenated(
            '{"id":"', uuids(items["id"]), '","name":', *strings(items["name"]), ',"input":[', inputs_of_item, "]}"
        ),
        lambda: [*uuid_keys(items["id"]), whole(items["position"])],
    )
    return concatenated(
        *('{"id":"', uuids(orders["id"]), '","name":', *strings(orders["name"])),
        *(',"site_id":"', uuids(orders["site_id"]), '","create_date":', *timestamps(orders["create_date"])),
        *(',"update_date":', *timestamps(orders["update_date"]), ',"metadata":', embedded(orders["metadata"])),
        *(',"progress_score":', floats(orders["progress_score"]), ',"work_items":[', items_of_order, "]}\n"),
    )


def _input_texts(chunk: Chunk) -> pa.Array:
    inputs, checks, jobs = chunk["input"], chunk["data_conformity"], chunk["job_conformity"]
    check_texts = concatenated(
        *('{"check":', *strings(checks["check"]), ',"code":', integers(checks["code"])),
        *(',"level":', *strings(checks["level"]), "}"),
    )
    checks_of_input = _ranked_lists(
        *_placed(inputs["id"], checks, "data_conformity", "input_id"),
        check_texts,
        rank(checks["check"]),
        lambda: [rank(checks["level"]), whole(checks["code"])],
    )
    job_texts = concatenated(
        *('{"task_name":', *strings(jobs["task_name"]), ',"analyzed_value":', embedded(jobs["analyzed_value"])),
        *(',"corrected_value":', embedded(jobs["corrected_value"])),
        *(',"corrected_date":', *timestamps(jobs["corrected_date"]), ',"message":', *strings(jobs["message"])),
        *(',"is_conformity_validated":', booleans(jobs["is_conformity_validated"]), "}"),
    )
    jobs_of_input = _ranked_lists(
        *_placed(inputs["id"], jobs, "job_conformity", "input_id"),
        job_texts,
        rank(jobs["task_name"]),
        # The text itself last: rows that differ in no other key still get one order.
        lambda: [rank(job_texts), rank(jobs["message"]), whole(jobs["corrected_date"])],
    )
    return concatenated(
        *('{"id":"', uuids(inputs["id"]), '","create_date":', *timestamps(inputs["create_date"])),
        *(',"file_extension":', *strings(inputs["file_extension"]), ',"metadata":', embedded(inputs["metadata"])),
        *(',"data_conformity":[', checks_of_input, '],"job_conformity":[', jobs_of_input, "]}"),
    )


def _placed(parents: pa.Array, rows: pa.RecordBatch, table: str, key: str) -> tuple[Integers, int]:
    """The index of each row's parent in the column of parents, and the number of parents."""
    places = pc.index_in(rows[key], value_set=parents)
    if places.null_count:
        raise SourceRejected(
            f"include/sql/{table}*.sql returned {places.null_count} rows whose {key} is of no row of the same "
            "work order: fix the query's join, or its work_order_number"
        )
    return values(places).astype(np.int64), len(parents)


def _lists(parent: Integers, parents: int, texts: pa.Array, keys: Callable[[], Keys]) -> pa.Array:
    """For each parent, its rows' texts, sorted by the keys and joined with commas."""
    return _joined(texts, np.lexsort([*keys(), parent]), parent, parents)


def _ranked_lists(
    parent: Integers, parents: int, texts: pa.Array, first: Integers, ties: Callable[[], Keys]
) -> pa.Array:
    """The same for many rows with a rank as first key; the other keys are computed only for ties."""
    both = parent * (first.max(initial=0) + 2) + first + 1
    order = np.argsort(both, kind="stable")
    if (np.diff(both[order]) == 0).any():
        order = np.lexsort([*ties(), both])
    return _joined(texts, order, parent, parents)


def _joined(texts: pa.Array, order: Integers, parent: Integers, parents: int) -> pa.Array:
    starts = np.concatenate([[0], np.cumsum(np.bincount(parent, minlength=parents))])
    sorted_texts = texts.take(array(order))
    return pc.binary_join(pa.LargeListArray.from_arrays(array(starts), sorted_texts), literal(","))
