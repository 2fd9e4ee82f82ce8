"""What receipts say was delivered, held against what is at the target; reads only."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from data_export.content import Digests
from data_export.delivery.base import Destination
from data_export.delivery.threads import read_digests, run_async
from data_export.errors import CredentialsRefused, PermanentError, TargetNotFound
from data_export.pipeline.expected import is_unread
from data_export.wording import size_in_words

_AT_ONCE = 16  # whatever the target could take: files are read back one chunk after the other

Found = Literal["ok", "missing", "other size", "other content", "unreadable", "elsewhere"]


@dataclass(frozen=True, slots=True)
class DeliveredFile:
    """One data file as its window's newest receipt has it; `start` and `end` are ISO 8601 in UTC, end exclusive."""

    start: str
    end: str
    site_id: str
    uri: str
    bytes: int
    sha256: str
    work_orders: int | None
    outcome: str
    revision: int
    delivered_at: str
    site_name: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Verified:
    """What is at a file's address; `detail` says what differs, and is empty where nothing does."""

    file: DeliveredFile
    found: Found
    detail: str = ""

    @property
    def ok(self) -> bool:
        return self.found == "ok"

    def to_dict(self) -> dict[str, Any]:
        return self.file.to_dict() | {"found": self.found, "detail": self.detail}


def files_of(receipt: dict[str, Any]) -> Iterator[DeliveredFile]:
    """The files of a receipt as Airflow keeps it, also of one that an earlier version of the service wrote."""
    for site in receipt.get("sites", []):
        yield DeliveredFile(
            start=receipt["window"]["start"],
            end=receipt["window"]["end"],
            site_id=str(site["site_id"]),
            uri=site["uri"],
            bytes=int(site["bytes"]),
            sha256=site["sha256"],
            work_orders=None if is_unread(site) else int(site["work_orders"]),
            outcome=site["outcome"],
            revision=int(site.get("revision", 1)),
            delivered_at=receipt.get("delivered_at", ""),
            site_name=site.get("name") or "",
        )


def verify(
    target: Destination, files: Iterable[DeliveredFile], found: Callable[[Verified], None], *, read: bool = True
) -> None:
    """Looks at each file, many at a time, and reports it to `found` as soon as it is known.

    A file whose checksum the target does not confirm (a receipt has sha256, Cloud Storage crc32c, an SFTP server none)
    is read back, a chunk at a time.

    Args:
        read: False compares what needs no reading: presence and size.

    Raises:
        CredentialsRefused: the target does not let us in.
        TransientError: the target does not answer; files not reported until then are not known.
    """
    run_async(_verify(target, iter(files), found, read))


async def _verify(
    target: Destination, files: Iterator[DeliveredFile], found: Callable[[Verified], None], read: bool
) -> None:
    async def work() -> None:
        for file in files:  # all take from the one iterator
            found(await _look(target, file, read))

    async with target:
        workers = [asyncio.ensure_future(work()) for _ in range(max(1, min(target.concurrency, _AT_ONCE)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)


async def _look(target: Destination, file: DeliveredFile, read: bool) -> Verified:
    key = file.uri.removeprefix(target.uri)
    if key == file.uri:
        return Verified(file, "elsewhere", f"was delivered to another target than {target.uri}: look there")
    try:
        stored = await target.stat(key)
        if stored is None:
            return Verified(file, "missing")
        if stored.digests.size != file.bytes:
            there, said = size_in_words(stored.digests.size), size_in_words(file.bytes)
            return Verified(file, "other size", f"{there} ({stored.digests.size:,} bytes), not {said} ({file.bytes:,})")
        wanted = Digests(file.bytes, file.sha256 or None)
        same = stored.digests.matches(wanted)
        if same is None and read:
            same = (await read_digests(target.read(key), most=file.bytes)).matches(wanted)
    except TargetNotFound:
        return Verified(file, "missing")
    except CredentialsRefused:
        raise
    except PermanentError as error:
        return Verified(file, "unreadable", str(error))
    return Verified(file, "other content", "same size, another checksum") if same is False else Verified(file, "ok")
