"""Columns of a snapshot -> columns of JSON text, a whole column at a time.

Every function takes an Arrow array of any length and gives one `large_string` per row, never null: NULL is `null`.
Some give the parts for `concatenated` instead, which saves a copy. Strings are large because a chunk's text may exceed
the 2 GiB that 32-bit offsets can address.
"""

from functools import lru_cache

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from data_export.transform.sort_keys import array, uuid_bytes, values

# Digits from, to -> column of the text: 8-4-4-4-12.
_UUID_GROUPS = ((0, 8, 0), (8, 12, 9), (12, 16, 14), (16, 20, 19), (20, 32, 24))
_UUID_LENGTH = 36
Parts = tuple[str | pa.Array, ...]
_NEEDS_ESCAPE = r'[\x00-\x1f"\\]'
# Bytes by which each byte grows: `"` is two, and \u0001 six.
_GROWS = bytes(1 if byte in b'"\\\b\f\n\r\t' else 5 if byte < 0x20 else 0 for byte in range(256))
_BLOCK = 1 << 20


def from_bytes(texts: list[bytes]) -> pa.LargeStringArray:
    """An array of UTF-8 texts."""
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(b"".join(texts)))


@lru_cache
def literal(text: str) -> pa.LargeStringScalar:
    return from_bytes([text.encode()])[0]


_NULL = literal("null")
_FALSE = pa.Array.from_buffers(pa.bool_(), 1, [None, pa.py_buffer(b"\0")])[0]
_NAN = array(np.array([np.nan]))[0]


def concatenated(*parts: str | pa.Array) -> pa.Array:
    """Joins the parts of each row; a row with a NULL part is NULL."""
    merged: list[str | pa.Array] = []
    for part in parts:
        if merged and isinstance(part, str) and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    texts = [literal(part) if isinstance(part, str) else part for part in merged]
    return pc.binary_join_element_wise(*texts, literal(""))


def uuids(column: pa.Array) -> pa.Array:
    """The bare text of 16-byte uuids, without quotes, or of uuids that are text already; the column holds no NULL."""
    if not pa.types.is_fixed_size_binary(column.type):
        return column.cast(pa.large_string())
    digits = np.frombuffer(uuid_bytes(column).tobytes().hex().encode(), np.uint8).reshape(-1, 32)
    text = np.full((len(digits), _UUID_LENGTH), ord("-"), np.uint8)
    for first, last, at in _UUID_GROUPS:
        text[:, at : at + last - first] = digits[:, first:last]
    offsets = np.arange(0, len(digits) * _UUID_LENGTH + 1, _UUID_LENGTH)
    return pa.LargeStringArray.from_buffers(len(digits), pa.py_buffer(offsets), pa.py_buffer(text))


def strings(column: pa.Array) -> Parts:
    """JSON strings; non-ASCII stays as it is. A dictionary column encodes each distinct text once."""
    if pa.types.is_dictionary(column.type):
        return (concatenated(*strings(column.dictionary)).take(column.indices).fill_null(_NULL),)
    column = column.cast(pa.large_string())
    escape = _may_need_escape(column)
    if not escape and not column.null_count:
        return '"', column, '"'
    quoted = concatenated('"', column, '"')
    if escape:
        rows = pc.match_substring_regex(column, _NEEDS_ESCAPE).fill_null(_FALSE)
        escaped = from_bytes([orjson.dumps(text) for text in column.filter(rows).to_pylist()])
        quoted = pc.replace_with_mask(quoted, rows, escaped)
    return (quoted.fill_null(_NULL),)


def _may_need_escape(column: pa.LargeStringArray) -> bool:
    """Whether any byte of the column is a control character, a quote or a backslash, in one pass over the buffer."""
    data = text_bytes(column)
    return bool(((data < 0x20) | (data == ord('"')) | (data == ord("\\"))).any())


def spelled_lengths(column: pa.StringArray) -> pa.Array:
    """The bytes of each text as `strings` spells it, without the quotes; NULL stays NULL. Looks at each byte."""
    texts = column.cast(pa.large_string())
    lengths, data = pc.binary_length(texts), text_bytes(texts)
    if not len(data):
        return lengths
    starts = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts)]
    starts, added = starts - starts[0], np.zeros(len(texts), np.int64)
    for at in range(0, len(data), _BLOCK):
        grows = np.frombuffer(data[at : at + _BLOCK].tobytes().translate(_GROWS), np.uint8)
        if grows.any():
            first, last = starts.searchsorted(at, side="right") - 1, starts.searchsorted(at + len(grows))
            cuts = np.maximum(starts[first:last] - at, 0)
            sums = np.add.reduceat(grows, cuts, dtype=np.int64)
            added[first:last] += np.where(np.diff(cuts, append=len(grows)), sums, 0)  # of an empty text it is no sum
    return pc.add(lengths, array(added))


def text_bytes(column: pa.LargeStringArray) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    """The bytes of all texts in sequence, not copied."""
    if not len(column):
        return np.empty(0, np.uint8)
    offsets = np.frombuffer(column.buffers()[1], np.int64)
    first, last = offsets[column.offset], offsets[column.offset + len(column)]
    data = column.buffers()[2]
    return np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)[first:last]


def embedded(column: pa.Array) -> pa.Array:
    """JSON text as PostgreSQL prints it."""
    return column.cast(pa.large_string()).fill_null(_NULL)


def timestamps(column: pa.Array) -> Parts:
    """`"2025-03-19T14:21:40.105568+00:00"`: UTC, always six decimals; years 1 to 9999 only."""
    text = column.cast(pa.timestamp("us")).cast(pa.large_string())  # 2025-03-19 14:21:40.105568
    if text.null_count == len(text):
        return (text.fill_null(_NULL),)
    text = pc.binary_replace_slice(text, 10, 11, "T")
    if not column.null_count:
        return '"', text, '+00:00"'
    return (concatenated('"', text, '+00:00"').fill_null(_NULL),)


def floats(column: pa.Array) -> pa.Array:
    """The shortest decimal that reads back as the same float; NaN and infinities are null."""
    if not len(column):
        return from_bytes([])
    numbers = values(column.fill_null(_NAN))
    text = orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
    return pc.split_pattern(from_bytes([text]), ",").values


def integers(column: pa.Array) -> pa.Array:
    return column.cast(pa.large_string()).fill_null(_NULL)


def booleans(column: pa.Array) -> pa.Array:
    return column.cast(pa.string()).cast(pa.large_string()).fill_null(_NULL)
