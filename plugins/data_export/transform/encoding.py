"""How the records of a data file are packed: plain JSON Lines, gzip, zstd, or Parquet; and back to their lines.

Whatever the packing, a file is recognised by the sha256 of its JSON Lines text, its records: the packed bytes change
with the versions of the libraries that make them.
"""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from data_export.content import CHUNK_BYTES, Digests, Hasher
from data_export.layout import Encoding
from data_export.transform.columnar import ParquetFile, joined_parquet, lines_in, records
from data_export.transform.lines import Chunk

MEDIA_TYPES: dict[Encoding, str] = {
    "json": "application/x-ndjson",
    "gzip": "application/gzip",
    "zstd": "application/zstd",
    "parquet": "application/vnd.apache.parquet",
}
_LONGEST = 1_100_000_000  # bytes of a line: above the greatest `limits.max_record_mb`
_GZIP_LEVEL, _GZIP = 6, 31  # zlib writes a gzip header without time or name at 31 window bits


class _Sink(Protocol):
    def write(self, data: bytes | memoryview, /) -> object: ...

    def close(self) -> object: ...


class _Gzip:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP)

    def write(self, data: bytes | memoryview, /) -> None:
        self._file.write(self._packer.compress(data))

    def close(self) -> None:
        self._file.write(self._packer.flush())
        self._file.close()


def _zstd(path: Path) -> _Sink:
    sink: _Sink = pa.CompressedOutputStream(str(path), "zstd")
    return sink


_SINKS: dict[Encoding, Callable[[Path], _Sink]] = {"json": lambda path: path.open("wb"), "gzip": _Gzip, "zstd": _zstd}


class EncodedFile:
    """A data file that is being written, chunk by chunk; memory does not grow with it."""

    def __init__(self, path: Path, encoding: Encoding) -> None:
        self._path, self._encoding = path, encoding
        self._hasher = Hasher()
        self._columns = ParquetFile(path) if encoding == "parquet" else None
        self._sink = None if encoding == "parquet" else _SINKS[encoding](path)

    def columns_of(self, chunk: Chunk) -> pa.RecordBatch | None:
        """What `append` wants of a chunk besides its text."""
        return records(chunk) if self._encoding == "parquet" else None

    def append(self, text: memoryview, columns: pa.RecordBatch | None) -> None:
        """Adds the lines of a chunk."""
        if self._sink is not None:
            self._sink.write(text)
        elif self._columns is not None and columns is not None:
            self._columns.write(columns, len(text))
        self._hasher.update(text)

    def close(self) -> None:
        """Ends the file; a second time does nothing."""
        if self._sink is not None:
            self._sink.close()
        if self._columns is not None:
            self._columns.close()
        self._sink = self._columns = None

    def digests(self) -> Digests:
        """Of the closed file; of a packed one with the sha256 of its records."""
        found = self._hasher.digests()
        return found if self._encoding == "json" else digests_of(self._path, found.sha256)


def digests_of(path: Path, records_sha256: str | None = None) -> Digests:
    """Reads the file once, in chunks."""
    hasher = Hasher()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)
    found = hasher.digests()
    return Digests(found.size, found.sha256, crc32c=found.crc32c, records_sha256=records_sha256)


def look_into(path: Path, encoding: Encoding, go_on: Callable[[], None] = lambda: None) -> tuple[int, Digests]:
    """Lines and digests of a file, whoever wrote it; one that is not ours has no lines and no `records_sha256`.

    A small file may unpack for hours: what `go_on` raises ends it.
    """
    hasher, count = hashlib.sha256(), 0
    try:
        for text in decoded(path, encoding):
            go_on()
            hasher.update(text)
            count += bytes(text).count(b"\n")
    except ValueError:
        return 0, digests_of(path)
    return count, digests_of(path, hasher.hexdigest())


def decoded(path: Path, encoding: Encoding) -> Iterator[bytes | memoryview]:
    """The JSON Lines text of a file, some of it at a time.

    Raises:
        ValueError: it is damaged, or of another encoding.
    """
    if encoding != "json" and not path.stat().st_size:
        raise ValueError("it has no byte, where even a file without records has some")
    if encoding == "parquet":
        yield from lines_in(path)
    elif encoding == "gzip":
        yield from _gunzipped(path)
    else:
        try:
            with pa.input_stream(str(path), compression="zstd" if encoding == "zstd" else None) as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    yield chunk
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"it is damaged or not {encoding} ({type(error).__name__})") from None


def lines_of(path: Path, encoding: Encoding) -> Iterator[bytes]:
    """The records of a file one by one, each without its line end; raises as `decoded` does, and for an endless one."""
    rest = bytearray()
    for text in decoded(path, encoding):
        *whole, last = bytes(text).split(b"\n")
        for line in whole:
            yield bytes(rest) + line
            rest.clear()
        rest += last
        if len(rest) > _LONGEST:
            raise ValueError("a line is longer than any record")
    if rest:
        yield bytes(rest)


def _gunzipped(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"it is damaged or not gzip ({type(error).__name__})") from None


def join(parts: Sequence[Path], path: Path, encoding: Encoding) -> None:
    """Makes one file of the records of several, in their order, and removes those; one alone stays as it is.

    Packed anew as one: several frames of zstd, or members of gzip, may follow each other in a file, but many a reader
    takes the first for all, without a word (`ZstdDecompressor().decompress`).
    """
    if len(parts) == 1:
        parts[0].replace(path)
        return
    if encoding == "parquet":
        joined_parquet(parts, path)
        return
    with closing(_SINKS[encoding](path)) as whole:
        for part in parts:
            for text in decoded(part, encoding):
                whole.write(text)
            part.unlink()
