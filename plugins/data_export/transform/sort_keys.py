"""Sort keys: columns of a snapshot -> integers that sort in the delivered order, NULL first.

`np.lexsort` sorts by its last key first, so every list of keys starts with the least significant.

Here and in `json_columns`, values pass between Arrow and numpy or Python as buffers. `to_numpy`, `pa.scalar` and
`pa.array` would work, but each imports pandas if it is installed: 40 MB and up to seconds in every task.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Keys = list[NDArray[Any]]


def values(column: pa.Array) -> NDArray[Any]:
    """The column's numbers, not copied; the column has no NULL."""
    return np.from_dlpack(column)


def array(numbers: NDArray[Any]) -> pa.Array:
    """Numpy integers or floats as an Arrow array, not copied."""
    return pa.Array.from_buffers(pa.from_numpy_dtype(numbers.dtype), len(numbers), [None, pa.py_buffer(numbers)])


_SMALLEST = array(np.array([np.iinfo(np.int64).min]))[0]
_NO_TEXT = array(np.array([-1], np.int32))[0]


def uuid_bytes(column: pa.Array) -> NDArray[np.uint8]:
    """The column's 16-byte uuids as rows of bytes, not copied."""
    if not len(column):
        return np.empty((0, 16), np.uint8)
    data = np.frombuffer(column.buffers()[-1], np.uint8)
    return data[column.offset * 16 : (column.offset + len(column)) * 16].reshape(-1, 16)


def uuid_keys(column: pa.Array) -> Keys:
    """Sort keys of uuids by their bytes: the two halves as big-endian words."""
    halves = uuid_bytes(column).view(">u8").astype(np.uint64)
    return [halves[:, 1], halves[:, 0]]


def whole(column: pa.Array) -> Integers:
    """Sort key of integers, or timestamps as microseconds. NULL is the smallest 64-bit value."""
    return values(column.cast(pa.int64()).fill_null(_SMALLEST))


def rank(column: pa.Array) -> Integers:
    """The rank of each text among the column's distinct texts by code point, which is UTF-8 order; NULL is -1."""
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    texts = np.array([text.encode() for text in coded.dictionary.to_pylist()] or [b""], object)
    place = np.empty(len(texts) + 1, np.int64)
    place[np.argsort(texts, kind="stable")] = np.arange(len(texts))
    place[-1] = -1
    return np.asarray(place[values(coded.indices.fill_null(_NO_TEXT))])
