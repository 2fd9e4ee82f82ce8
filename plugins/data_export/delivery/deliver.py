"""Delivers one finished object so that repeating it costs nothing and nothing is lost."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from os.path import commonprefix
from typing import Literal, NamedTuple

from data_export.content import Content, Digests
from data_export.delivery.base import Destination, Listing, StoredObject, WithFolderListing, WithServerDigest
from data_export.delivery.connector import IfExists
from data_export.delivery.threads import read_digests
from data_export.errors import (
    CredentialsRefused,
    ObjectExists,
    ObjectRefused,
    PermanentError,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
)

Outcome = Literal["created", "unchanged", "replaced", "kept", "revision"]
_LOOKS = 3
_REVISIONS = 999
_AHEAD = 4  # so many names are looked for at once
_PACKED = 4  # times larger, and it cannot be the same records packed by another library
_log = logging.getLogger(__name__)
ReadBack = Callable[[Destination, StoredObject], Awaitable[Digests]]


class Placed(NamedTuple):
    """Where the content, or what was kept in its stead, is, and what was done."""

    key: str
    outcome: Outcome
    revision: int


async def _nothing() -> None: ...


async def _never(_there: StoredObject) -> bool:
    return False


async def _read(destination: Destination, stored: StoredObject) -> Digests:
    return await read_digests(destination.read(stored.key), most=stored.digests.size)


async def deliver(
    destination: Destination,
    key_of: Callable[[int], str],
    content: Content,
    if_exists: IfExists,
    before_write: Callable[[], Awaitable[None]] = _nothing,
    read: ReadBack = _read,
    is_newer: Callable[[StoredObject], Awaitable[bool]] = _never,
) -> Placed:
    """Leaves `content` at the destination, complete and verified, and says where.

    The same bytes found there are not sent again (`unchanged`), nor the same records in other bytes, if the content is
    a packed data file (`Digests.records_sha256`). Other bytes are replaced atomically (`replaced`), left with a warning
    (`kept`), or joined by the next revision (`revision`, then `unchanged` when repeated). Only the newest revision is
    compared: a loader takes the highest number, so what was taken back and is what an earlier one has comes again. Two
    runs at once, or a lost answer, end in the same state as one run. Equal size proves nothing: where the server gives
    no checksum that we have (most of SFTP), the object is read back and hashed, a chunk at a time.

    Args:
        key_of: the name of revision 1, 2, 3, ...; only `revision` asks for more than the first.
        before_write: makes the content's file ready; until then only its digests are needed. May be called again.
        read: digests of an object there, by reading it; of a packed file with those of its records.
        is_newer: whether other content is known to be newer: then it stays as if it were the same.

    Raises:
        OverwriteRefused: `replace`, and the target does not let us.
        DataExportError: whatever else the destination raises.
    """
    async for revision in _to_try(destination, key_of, if_exists):
        key = key_of(revision)
        found = await _create_or_compare(destination, key, content, before_write, read)
        if isinstance(found, str):
            return Placed(key, "revision" if found == "created" and revision > 1 else found, revision)
        if if_exists == "keep":
            _log.warning("%s%s holds other content and is kept (if_exists: keep)", destination.uri, key)
            return Placed(key, "kept", revision)
        if await is_newer(found):
            return Placed(key, "unchanged", revision)
        if if_exists == "replace":
            await before_write()
            await destination.replace(key, content)
            return Placed(key, "replaced", revision)
    raise TargetRefused(
        f"{destination.uri}{key_of(1)} has {_REVISIONS} revisions with other content: remove some of them"
    )


async def _to_try(destination: Destination, key_of: Callable[[int], str], if_exists: IfExists) -> AsyncIterator[int]:
    """The newest revision, and the next ones to be tried where that has other content."""
    newest = await newest_revision(destination, key_of) if if_exists == "revision" else 1
    yield newest
    # More names moved away than are looked past would hide a higher number, which loaders take.
    for revision in range(max(newest + 1, await _highest_listed(destination, key_of)), _REVISIONS + 1):
        yield revision


async def newest_revision(destination: Destination, key_of: Callable[[int], str], *, lists: bool = True) -> int:
    """The highest revision that is there, past a few names that somebody has moved away; 1 where there is none.

    Args:
        lists: whether a listing of the names is asked for where the first is not there, which may be a new window or
            one whose files were moved away; if the destination has one for us.
    """
    there = await _there(destination, key_of, 1)
    has_first, newest = 1 in there, max(there, default=0)
    while there and newest < _REVISIONS:
        there = await _there(destination, key_of, newest + 1)
        newest = max(there, default=newest)
    if lists and not has_first:
        newest = max(1, newest, await _highest_listed(destination, key_of))
    return min(newest, _REVISIONS)


async def _there(destination: Destination, key_of: Callable[[int], str], start: int) -> list[int]:
    """Which of a few revisions from `start` on are there."""
    looks = {number: asyncio.ensure_future(destination.stat(key_of(number))) for number in range(start, start + _AHEAD)}
    try:
        await asyncio.gather(*looks.values())
    finally:
        for look in looks.values():
            look.cancel()
        await asyncio.gather(*looks.values(), return_exceptions=True)
    return [number for number, look in looks.items() if look.result() is not None]


async def _highest_listed(destination: Destination, key_of: Callable[[int], str]) -> int:
    """The highest revision that a listing shows; 0 where there is none, or no listing for us."""
    numbers, found = {key_of(number): number for number in range(1, _REVISIONS + 1)}, 0
    prefix = commonprefix(list(numbers))  # noqa: RUF071 - of characters, not of folders
    try:
        if isinstance(destination, Listing):
            async for stored in destination.list(prefix):
                found = max(found, numbers.get(stored.key, 0))
        elif isinstance(destination, WithFolderListing):
            async for page in destination.files_in(prefix.rpartition("/")[0]):
                found = max(found, *(numbers.get(stored.key, 0) for stored in page), 0)
    except CredentialsRefused:
        raise
    except PermanentError as error:
        _log.info("%s%s: revisions past a gap are not looked for: %s", destination.uri, key_of(1), error)
    return found


async def _create_or_compare(
    destination: Destination,
    key: str,
    content: Content,
    before_write: Callable[[], Awaitable[None]],
    read: ReadBack,
) -> Literal["created", "unchanged"] | StoredObject:
    """Creates the object where there is none, else says whether it holds the same; returns one of other content."""
    said = ""
    for _ in range(_LOOKS):
        stored = await destination.stat(key)
        if stored is None:
            await before_write()
            try:
                await destination.create(key, content)
            except ObjectExists as error:
                said = f" ({error})"
                continue  # another run was quicker, or the answer to our own write was lost: compare
            return "created"
        try:
            return "unchanged" if await _holds(destination, stored, content, read) else stored
        except TargetNotFound:
            continue  # removed between our look and our reading
        except ObjectRefused as refusal:  # archived, say: nobody can tell that it holds the same
            _log.warning("taken for other content, since it cannot be read: %s", refusal)
            return stored
    raise TargetUnavailable(f"{destination.uri}{key} comes and goes while it is delivered{said}: try again")


async def _holds(destination: Destination, stored: StoredObject, content: Content, read: ReadBack) -> bool:
    """Whether the stored object has the content's bytes, or its records; reads it where no checksum can tell.

    Raises:
        TargetNotFound: it was removed meanwhile.
    """
    records, there = content.digests.records_sha256, stored.digests
    same = there.matches(content.digests)
    if same is None and isinstance(destination, WithServerDigest):
        there = await destination.digest(stored.key, there.size) or there
        same = there.matches(content.digests)
    may_be_packed = (
        records is not None and there.records_sha256 is None and there.size < _PACKED * (content.size + 1024)
    )
    if same is None or (not same and may_be_packed):
        there = await read(destination, stored)
        same = there.matches(content.digests)
    return bool(same) or (records is not None and there.records_sha256 == records)
