"""What is about to be stored, with the digests that prove it arrived."""

import base64
import hashlib
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Digests:
    """Size in bytes and checksums of one object; None where it is not known.

    `crc32c` and `md5` are base64 of the big-endian bytes, as Cloud Storage and S3 spell them; `sha256` is hexadecimal.
    `records_sha256`, hexadecimal too, is of the JSON Lines text that a packed data file holds: other bytes may hold the
    same records. `moment` is of a data file too, and goes with its digests where a store keeps them: when the run that
    delivers it began, as ISO 8601 in UTC with whole seconds.
    """

    size: int
    sha256: str | None = None
    md5: str | None = None
    crc32c: str | None = None
    records_sha256: str | None = None
    moment: str | None = None

    def matches(self, other: Self) -> bool | None:
        """Whether both describe the same bytes; None when no checksum is known on both sides and only sizes agree."""
        if self.size != other.size:
            return False
        for name in ("sha256", "crc32c", "md5"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None and theirs is not None:
                return bool(mine == theirs)
        return None


_WELL_FORMED = {
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "crc32c": re.compile(r"[A-Za-z0-9+/]{6}=="),
    "md5": re.compile(r"[A-Za-z0-9+/]{22}=="),
    "records_sha256": re.compile(r"[0-9a-f]{64}"),
    "moment": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"),
}


def metadata_of(digests: Digests, named: Callable[[str], str]) -> dict[str, str]:
    """Digests to keep with an object, by names of ours, and the size that they are of.

    Metadata stay where somebody appends to the object, or writes other bytes and hands on what was there.
    """
    kept = {named(name): value for name in _WELL_FORMED if (value := getattr(digests, name)) is not None}
    return kept | {named("size"): str(digests.size)}


def digests_in(size: int, metadata: Mapping[str, Any], named: Callable[[str], str]) -> Digests | None:
    """The digests that `metadata_of` kept; None for an object that somebody else made, or has changed since.

    Without the size that they are of, as earlier versions kept them, `records_sha256` is none of them: it would make
    any other bytes ours, where each other digest only confirms the same ones.
    """
    said = {name: str(metadata.get(named(name), "")) for name in (*_WELL_FORMED, "size")}
    kept = {name: said[name] for name, form in _WELL_FORMED.items() if form.fullmatch(said[name])}
    if not said["size"]:
        kept.pop("records_sha256", None)
    return Digests(size, **kept) if kept and said["size"] in ("", str(size)) else None


class Hasher:
    """Computes the `Digests` of a stream in one pass; md5, the slowest by far, only on request, sha256 unless refused.

    A crc32c costs a fifteenth of a sha256.
    """

    def __init__(self, *, md5: bool = False, sha256: bool = True) -> None:
        import google_crc32c  # C implementation; imported late because not every use of the core needs it

        self._size = 0
        self._sha256 = hashlib.sha256() if sha256 else None
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._extend = google_crc32c.extend
        self._crc32c = 0

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        self._size += len(chunk)
        if self._sha256 is not None:
            self._sha256.update(chunk)
        if self._md5 is not None:
            self._md5.update(chunk)
        self._crc32c = self._extend(self._crc32c, bytes(chunk))

    def digests(self) -> Digests:
        return Digests(
            self._size,
            None if self._sha256 is None else self._sha256.hexdigest(),
            None if self._md5 is None else base64.b64encode(self._md5.digest()).decode(),
            base64.b64encode(struct.pack(">I", self._crc32c)).decode(),
        )


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes to store: a small object held in memory, or a file on local disk that is only ever streamed.

    `sent`, if given, is called with the bytes that a sender has taken so far, in whatever thread it runs.
    """

    source: bytes | Path
    digests: Digests
    content_type: str = "application/octet-stream"
    sent: Callable[[int], None] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of_bytes(
        cls, data: bytes, content_type: str = "application/octet-stream", *, md5: bool = False, sha256: bool = True
    ) -> Self:
        hasher = Hasher(md5=md5, sha256=sha256)
        hasher.update(data)
        return cls(data, hasher.digests(), content_type)

    @classmethod
    def of_file(cls, path: Path, content_type: str = "application/octet-stream") -> Self:
        """Reads the file once, in chunks, for its digests."""
        hasher = Hasher()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                hasher.update(chunk)
        return cls(path, hasher.digests(), content_type)

    @property
    def size(self) -> int:
        return self.digests.size

    def digests_of(self, data: bytes, *, md5: bool = False, sha256: bool = False) -> Digests:
        """Digests of `data`, all of these bytes as they were just read: those announced, and those asked for.

        A file may have changed since it was announced. What is in memory was hashed as it came, and is compared by
        crc32c alone.
        """
        known = self.digests
        kept = known if isinstance(self.source, bytes) and known.crc32c else Digests(known.size)
        hasher = Hasher(
            md5=(md5 or known.md5 is not None) and kept.md5 is None,
            sha256=(sha256 or known.sha256 is not None) and kept.sha256 is None,
        )
        hasher.update(data)
        found = hasher.digests()
        if known.matches(found) is False:  # and so are none of the others
            return found
        found = replace(found, sha256=found.sha256 or kept.sha256, md5=found.md5 or kept.md5)
        return replace(found, records_sha256=known.records_sha256, moment=known.moment)

    def chunks(self, size: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The bytes from the beginning, at most `size` at a time."""
        taken = 0
        for chunk in self._chunks(size):
            yield chunk
            taken += len(chunk)
            if self.sent is not None:
                self.sent(taken)

    def _chunks(self, size: int) -> Iterator[bytes]:
        if isinstance(self.source, bytes):
            for start in range(0, len(self.source), size):
                yield self.source[start : start + size]
            return
        with self.source.open("rb") as file:
            while chunk := file.read(size):
                yield chunk
