"""A raw snapshot -> the delivered file and the list of its images."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from data_export.content import Digests
from data_export.layout import Encoding
from data_export.scratch import keep_freed_memory
from data_export.source.queries import MAX_RECORD_MB
from data_export.source.snapshot import LEFT_OUT
from data_export.transform.chunks import chunks
from data_export.transform.encoding import EncodedFile
from data_export.transform.invalid import Problem, check_queries, problems
from data_export.transform.json_columns import text_bytes, uuids
from data_export.transform.lines import Chunk, lines
from data_export.transform.quarantine import refusal, set_aside

_MAKERS = 2  # more gain nothing: reading and hashing want a core too
_TOO_LARGE = "is larger, with all that belongs to it, than limits.max_record_mb allows"
_Made = tuple[pa.LargeStringArray, pa.RecordBatch | None]
_IMAGES = pa.schema({"input_id": pa.string(), "file_extension": pa.string()})


@dataclass(frozen=True, slots=True)
class TransformResult:
    """The files that a transform wrote, with counts and digests."""

    work_orders: int  # lines of the data file
    quarantined: int  # work orders left out of it
    images: int  # rows of the list of images: the inputs in the data file
    digests: Digests  # of the data file: size, sha256, crc32c, and records_sha256 if it is packed


def transform(
    folder: Path,
    data_path: Path,
    images_path: Path,
    quarantine_path: Path,
    *,
    export_type: str,
    on_invalid: Literal["fail", "quarantine"],
    encoding: Encoding = "json",
    max_record_mb: int = MAX_RECORD_MB,
) -> TransformResult:
    """Writes the snapshot in `folder` as a data file (docs/format.md), and its images as Parquet.

    The same snapshot always gives the same bytes, packed ones as long as the libraries that pack them stay the same.
    The list of images has the columns `input_id` (uuid text) and `file_extension` (NULL if there is none), with one row
    per input of the data file. `quarantine_path` is written only if work orders are left out, those that extract left
    out included. Streams: holds a few row groups of 2 MiB and their text, or one work order if a single one is larger,
    and of Parquet 16 MiB of text more; a work order of more than `max_record_mb` is invalid and not held.

    Raises:
        InvalidRecord: the format cannot express a row, and `on_invalid` is `fail`.
        SourceRejected: the rows do not fit together, which only happens with edited queries.
    """
    keep_freed_memory()
    work_orders = images = 0
    quarantined = _left_out(folder, quarantine_path)
    with ExitStack() as stack:
        stack.enter_context(_lean_memory())
        data = stack.enter_context(_DataFile(data_path, encoding))
        images_file = stack.enter_context(_images_writer(images_path))
        last: pa.Array | None = None
        for chunk, too_large in chunks(folder, max_record_mb * 1_000_000):
            check_queries(chunk, export_type, last)
            last = chunk["work_order"]["id"][-1:]
            before = len(chunk["work_order"])
            chunk = _deliverable(chunk, too_large, on_invalid, quarantine_path)
            data.write(chunk)
            images_file.write_table(_images(chunk))
            work_orders += len(chunk["work_order"])
            quarantined += before - len(chunk["work_order"])
            images += len(chunk["input"])
        digests = data.digests()
    return TransformResult(work_orders, quarantined, images, digests)


def _left_out(folder: Path, quarantine_path: Path) -> int:
    """Begins the file of what is left out with what extract left out; returns how many work orders that is."""
    quarantine_path.unlink(missing_ok=True)
    if not (folder / LEFT_OUT).exists():
        return 0
    left_out = (folder / LEFT_OUT).read_bytes()
    quarantine_path.write_bytes(left_out)
    return left_out.count(b"\n")


def _deliverable(chunk: Chunk, too_large: Sequence[int], on_invalid: str, quarantine_path: Path) -> Chunk:
    found = [Problem(number, "work_order", 0, "", _TOO_LARGE) for number in too_large]
    found += [problem for problem in problems(chunk) if problem.number not in too_large]
    if not found:
        return chunk
    if on_invalid == "fail":
        raise refusal(chunk, found)
    return set_aside(chunk, found, quarantine_path)


def _images_writer(path: Path) -> pq.ParquetWriter:
    # An id is there once: to look for repetition costs as much as all else of it.
    return pq.ParquetWriter(
        path, _IMAGES, compression="zstd", use_dictionary=["file_extension"], write_statistics=False
    )


def _images(chunk: Chunk) -> pa.Table:
    inputs = chunk["input"]
    columns = [uuids(inputs["id"]).cast(pa.string()), inputs["file_extension"].cast(pa.string())]
    return pa.Table.from_arrays(columns, schema=_IMAGES)


class _DataFile:
    """Builds, writes and hashes the text of chunks in threads; Arrow and hashlib release the GIL."""

    def __init__(self, path: Path, encoding: Encoding) -> None:
        self._file = EncodedFile(path, encoding)
        self._made: deque[Future[_Made]] = deque()
        self._written: Future[None] | None = None

    def __enter__(self) -> "_DataFile":
        self._makers = ThreadPoolExecutor(_MAKERS, "lines")
        self._writer = ThreadPoolExecutor(1, "data-file")
        return self

    def __exit__(self, *_: object) -> None:
        self._makers.shutdown(cancel_futures=True)
        self._writer.shutdown()
        self._file.close()

    def write(self, chunk: Chunk) -> None:
        """Adds the chunk's lines; returns once at most a constant number of chunks is waiting."""
        self._made.append(self._makers.submit(self._make, chunk))
        if len(self._made) > _MAKERS:
            self._write_first()

    def digests(self) -> Digests:
        """Waits for all lines, then gives the digests of the whole file."""
        while self._made:
            self._write_first()
        self._wait()
        self._file.close()
        return self._file.digests()

    def _make(self, chunk: Chunk) -> "_Made":
        return lines(chunk), self._file.columns_of(chunk)

    def _write_first(self) -> None:
        text, columns = self._made.popleft().result()
        self._wait()  # one text at a time is being written: memory stays bounded, and an error shows
        self._written = self._writer.submit(self._file.append, text_bytes(text).data, columns)

    def _wait(self) -> None:
        if self._written is not None:
            self._written.result()


@contextmanager
def _lean_memory() -> Iterator[None]:
    """Uses the system's allocator: Arrow's default keeps freed memory, half as much again, at no gain here."""
    default = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(default)
