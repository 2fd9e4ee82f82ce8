"""The delivered format: one chunk of a snapshot -> one line of JSON per work order.

Each level is one pass, from the bottom up: the JSON of every row is sorted by (parent, keys), joined with commas per
parent, and passed to the level above as that parent's list. Key order, row order and spelling of values are the
published format (docs/format.md): whoever changes them changes customers' files.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

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


class Children(NamedTuple):
    """A table's rows below their parents: row numbers in the delivered order, and where each parent's begin and end."""

    order: Integers
    starts: Integers

    def joined(self, texts: pa.Array) -> pa.Array:
        """For each parent, its rows' texts joined with commas."""
        return joined(texts.take(array(self.order)), self.starts)


def joined(texts: pa.Array, starts: Integers) -> pa.Array:
    """For each parent, its texts joined with commas; they stand in order, from `starts[n]` to `starts[n + 1]`."""
    return pc.binary_join(pa.LargeListArray.from_arrays(array(starts), texts), literal(","))


def lines(chunk: Chunk) -> pa.LargeStringArray:
    """The line of each work order, in the order of the chunk's work orders.

    Raises:
        SourceRejected: a row has no parent, which only happens if the queries do not fit together.
    """
    jobs = job_texts(chunk["job_conformity"])
    below = arranged(chunk, jobs)
    checks = below["data_conformity"].joined(check_texts(chunk["data_conformity"]))
    inputs = input_texts(chunk["input"], checks, below["job_conformity"].joined(jobs))
    items = item_texts(chunk["work_item"], below["input"].joined(inputs))
    return order_texts(chunk["work_order"], below["work_item"].joined(items))


def arranged(chunk: Chunk, jobs: pa.Array) -> dict[str, Children]:
    """The delivered order of each table's rows; `jobs` are the texts of `job_texts`. Raises as `lines` does."""
    orders, items, inputs = chunk["work_order"], chunk["work_item"], chunk["input"]
    checks, job_rows = chunk["data_conformity"], chunk["job_conformity"]
    return {
        "work_item": _sorted(
            *_placed(orders["id"], items, "work_item", "work_order_id"),
            [*uuid_keys(items["id"]), whole(items["position"])],
        ),
        "input": _sorted(
            *_placed(items["id"], inputs, "input", "work_item_id"),
            [*uuid_keys(inputs["id"]), whole(inputs["create_date"])],
        ),
        "data_conformity": _ranked(
            *_placed(inputs["id"], checks, "data_conformity", "input_id"),
            rank(checks["check"]),
            lambda: [rank(checks["level"]), whole(checks["code"])],
        ),
        "job_conformity": _ranked(
            *_placed(inputs["id"], job_rows, "job_conformity", "input_id"),
            rank(job_rows["task_name"]),
            # The text itself last: rows that differ in no other key still get one order.
            lambda: [rank(jobs), rank(job_rows["message"]), whole(job_rows["corrected_date"])],
        ),
    }


def order_texts(orders: Any, items: pa.Array) -> pa.LargeStringArray:
    """The lines of work orders, with the joined texts of their items. Rows are a batch, here and below."""
    return concatenated(
        *('{"id":"', uuids(orders["id"]), '","name":', *strings(orders["name"])),
        *(',"site_id":"', uuids(orders["site_id"]), '","create_date":', *timestamps(orders["create_date"])),
        *(',"update_date":', *timestamps(orders["update_date"]), ',"metadata":', embedded(orders["metadata"])),
        *(',"progress_score":', floats(orders["progress_score"]), ',"work_items":[', items, "]}\n"),
    )


def item_texts(items: Any, inputs: pa.Array) -> pa.Array:
    """The JSON of work items, with the joined texts of their inputs."""
    return concatenated('{"id":"', uuids(items["id"]), '","name":', *strings(items["name"]), ',"input":[', inputs, "]}")


def input_texts(inputs: Any, checks: pa.Array, jobs: pa.Array) -> pa.Array:
    """The JSON of inputs, with the joined texts of what was found about them."""
    return concatenated(
        *('{"id":"', uuids(inputs["id"]), '","create_date":', *timestamps(inputs["create_date"])),
        *(',"file_extension":', *strings(inputs["file_extension"]), ',"metadata":', embedded(inputs["metadata"])),
        *(',"data_conformity":[', checks, '],"job_conformity":[', jobs, "]}"),
    )


def check_texts(checks: Any) -> pa.Array:
    """The JSON of rows of `data_conformity`."""
    return concatenated(
        *('{"check":', *strings(checks["check"]), ',"code":', integers(checks["code"])),
        *(',"level":', *strings(checks["level"]), "}"),
    )


def job_texts(jobs: Any) -> pa.Array:
    """The JSON of rows of `job_conformity`."""
    return concatenated(
        *('{"task_name":', *strings(jobs["task_name"]), ',"analyzed_value":', embedded(jobs["analyzed_value"])),
        *(',"corrected_value":', embedded(jobs["corrected_value"])),
        *(',"corrected_date":', *timestamps(jobs["corrected_date"]), ',"message":', *strings(jobs["message"])),
        *(',"is_conformity_validated":', booleans(jobs["is_conformity_validated"]), "}"),
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


def _sorted(parent: Integers, parents: int, keys: Keys) -> Children:
    return _children(np.lexsort([*keys, parent]), parent, parents)


def _ranked(parent: Integers, parents: int, first: Integers, ties: Callable[[], Keys]) -> Children:
    """The same for many rows with a rank as first key; the other keys are computed only for ties."""
    both = parent * (first.max(initial=0) + 2) + first + 1
    order = np.argsort(both, kind="stable")
    if (np.diff(both[order]) == 0).any():
        order = np.lexsort([*ties(), both])
    return _children(order, parent, parents)


def _children(order: Integers, parent: Integers, parents: int) -> Children:
    return Children(order, np.concatenate([[0], np.cumsum(np.bincount(parent, minlength=parents))]))
