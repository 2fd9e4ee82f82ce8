"""Writes one object to S3, or to a server that speaks less of its protocol; whatever it is, the bytes are proven."""

import asyncio
import math
import threading
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data_export.content import Content
from data_export.delivery.base import StoredObject
from data_export.delivery.retry import PreconditionFailed, persist
from data_export.delivery.s3.dialect import SUSPECTS, SUSPECTS_IN_PARTS
from data_export.delivery.s3.multipart import looking_again, upload_parts
from data_export.delivery.s3.objects import PIECE_BYTES, bears, checksum, full_head, is_md5, md5_of, put, to_metadata
from data_export.delivery.threads import read_digests, run_blocking
from data_export.errors import AccessDenied, DataExportError, ObjectExists, TargetRefused, VerificationFailed
from data_export.wording import harmless

if TYPE_CHECKING:
    from data_export.delivery.s3.store import S3Store

_LARGE_BYTES = 1 << 20
#: Where the server refuses no second writer: so long after ours another's may appear that looked before it, between
#: these bounds and three times as long as our own took from that look on.
_SETTLES_AFTER = (0.3, 2.0)


async def write(store: "S3Store", key: str, content: Content, *, create_only: bool) -> StoredObject:
    """See `Destination.create` and `.replace`. A feature that the server is found to lack is done without."""
    writing = _Writing(store, key, content, create_only)
    async with store.large if content.size > _LARGE_BYTES else nullcontext():
        stored = await persist(store.patience, writing.look, writing.send)
    if create_only and not store.dialect.refuses(parts=content.size > PIECE_BYTES):
        await asyncio.sleep(min(max(_SETTLES_AFTER[0], 3 * writing.seconds), _SETTLES_AFTER[1]))
        await _require_ours(store, key, content)
    return stored


@dataclass
class _Writing:
    """One object on its way, over several tries."""

    store: "S3Store"
    key: str
    content: Content
    create_only: bool
    #: Whether what was there last was ours, and not whole although it said so of itself.
    damaged: bool = False
    #: From a look to what we wrote; endless where the answer was lost, and a look alone has found it.
    seconds: float = math.inf

    async def look(self) -> StoredObject | None:
        found = None if self.damaged else await self.store.stat(self.key)
        if not found or not found.digests.matches(self.content.digests):
            return None
        if not self.store.dialect.has("checksums"):  # else it repeats only what we have said of it
            try:
                await _read_back(self.store, self.key, self.content)
            except _Damaged:
                self.damaged = await self._is_ours() is True
                return None
        return found

    async def send(self) -> StoredObject:
        before = self.store.dialect.known()
        while True:
            known = self.store.dialect.known()
            try:
                return await self._once()
            except TargetRefused:
                if self.store.dialect.known() == known:
                    self.store.dialect.forget(before)
                    raise
            except PreconditionFailed as error:
                if (error.repeated or self.content.size > PIECE_BYTES) and (found := await self.look()):
                    return found
                raise

    async def _once(self) -> StoredObject:
        try:
            if self.create_only and not (self.damaged and await self._is_ours()):
                return await self._create()
            return (await _send(self.store, self.key, self.content, create_only=False)).stored
        except _Damaged:
            await self._remove()
            raise

    async def _create(self) -> StoredObject:
        """Under the condition that there is no such object, and after a look where the server may not heed that."""
        store, key, content, dialect, begun = self.store, self.key, self.content, self.store.dialect, time.monotonic()
        if not dialect.refuses() and await store.stat(key) is not None:
            raise ObjectExists(f"{store.root.address(key)} is there already")
        looked = time.monotonic() - begun
        sent = await _send(store, key, content, create_only=True)
        self.seconds = sent.seconds + (looked if content.size <= PIECE_BYTES else 0)
        if dialect.has("conditions") and dialect.refuses_second is None and content.size <= PIECE_BYTES:
            await _ask_second(store, key, content)
        return sent.stored

    async def _is_ours(self) -> bool | None:
        """Whether what is there says of itself that it is ours, whatever it reads as; None where nothing is."""
        found = await self.store.stat(self.key)
        return None if found is None else bool(found.digests.matches(self.content.digests))

    async def _remove(self) -> None:
        """Removes what is ours and not whole.

        Raises:
            ObjectExists, VerificationFailed: somebody else's took its place before it was read back, and stays.
        """
        self.damaged = bool(ours := await self._is_ours())
        if ours is False:
            kind = ObjectExists if self.create_only else VerificationFailed
            raise kind(f"{self.store.root.address(self.key)} was written by another run at the same moment") from None
        if ours:
            with suppress(DataExportError):
                await self.store.delete(self.key)


class _Damaged(VerificationFailed):
    """A server that compares nothing holds other bytes than were sent."""


async def _ask_second(store: "S3Store", key: str, content: Content) -> None:
    """Learns whether the server refuses a second writer, by writing once more what has just been written, where another
    has not written over it (which raises ObjectExists). Some servers show a new object after a moment only."""
    with suppress(VerificationFailed):
        await _require_ours(store, key, content)
    try:
        await _send(store, key, content, create_only=True)
    except ObjectExists:
        store.dialect.refuses_second = True
    except (AccessDenied, TargetRefused):  # it may be that it would: comparing afterwards is right in any case
        return
    else:
        store.dialect.refuses_second = False
        store.dialect.lacking["conditions"] = "it takes a second writer's file in spite of If-None-Match"


async def _require_ours(store: "S3Store", key: str, content: Content) -> None:
    """Raises ObjectExists if another run's bytes took the place of ours, or ours came second: the caller compares."""
    if (await store.there(key)).digests.matches(content.digests) is False:
        raise ObjectExists(f"{store.root.address(key)} was written by another run at the same moment")


@dataclass(frozen=True, slots=True)
class _Sent:
    """What a write left: whether checksums have proven it, and how many seconds after a look it was there."""

    stored: StoredObject
    proven: bool
    seconds: float


async def _send(store: "S3Store", key: str, content: Content, *, create_only: bool) -> _Sent:
    """One write, in parts where it is big; what no checksum has proven is read back."""
    send = send_parts if content.size > PIECE_BYTES else _send_whole
    sent = await send(store, key, content, create_only=create_only)
    if not sent.proven:
        await _read_back(store, key, content)
    return sent


async def _send_whole(store: "S3Store", key: str, content: Content, *, create_only: bool) -> _Sent:
    begun, conditional = time.monotonic(), create_only and store.dialect.has("conditions")
    name, address = store.root.name(key), store.root.address(key)
    if store.dialect.has("checksums") and not store.grants.acl:
        digests, etag = await store.once(
            address, "s3:PutObject", lambda: put(store.objects, name, content, create_only=conditional), SUSPECTS
        )
        stored = await _answered(store, StoredObject(key, digests), etag)
        return _Sent(stored, True, time.monotonic() - begun)
    data = b"".join(content.chunks())
    digests = content.digests_of(data, md5=True)
    if content.digests.matches(digests) is False:
        raise VerificationFailed(f"{name}: {digests} is to be sent where {content.digests} was announced")
    options = store.grants.to_request() | checksum(store.dialect, data) | ({"IfNoneMatch": "*"} if conditional else {})
    options |= {"ContentType": content.content_type, "Metadata": to_metadata(content.digests)}
    target, looks = {"Bucket": store.root.bucket, "Key": name}, create_only and not store.dialect.refuses()

    def send(client: Any) -> Any:
        with looking_again(target if looks else None):
            return client.put_object(**target, Body=data, **options)

    answer = await store.once(address, "s3:PutObject", store.in_thread(send), SUSPECTS)
    stored = await _answered(store, StoredObject(key, digests), answer.get("ETag"))
    proven = store.dialect.has("checksums") or is_md5(answer.get("ETag"), data)
    return _Sent(stored, proven, time.monotonic() - begun)


async def _answered(store: "S3Store", stored: StoredObject, etag: str | None) -> StoredObject:
    """What was stored; where the answer may be the page of a gateway or what it leads to, as a look finds it.

    Raises:
        VerificationFailed: nothing is there, or something else.
    """
    if md5_of(etag or "") is None and (there := await store.there(stored.key)).digests.matches(stored.digests) is False:
        raise VerificationFailed(f"{store.root.address(stored.key)} holds {there.digests}, sent was {stored.digests}")
    return stored


async def send_parts(store: "S3Store", key: str, content: Content, *, create_only: bool, looks: bool = True) -> _Sent:
    name = store.root.name(key)

    def upload(stop: threading.Event) -> tuple[bool, float]:
        target = {"Bucket": store.root.bucket, "Key": name}
        return upload_parts(
            store.client, target, content, stop, store.dialect, store.grants, create_only=create_only, looks=looks
        )

    address = store.root.address(key)
    proven, seconds = await store.once(
        address, "s3:PutObject", lambda: run_blocking(upload, store.threads), SUSPECTS_IN_PARTS
    )
    stored = await store.there(key)
    if stored.digests.matches(content.digests) is False:  # replaced by somebody else since
        if create_only:
            raise ObjectExists(f"{store.root.address(key)} was written by another run at the same moment")
        raise VerificationFailed(f"{store.root.address(key)} holds {stored.digests}, sent was {content.digests}")
    return _Sent(stored, proven, seconds)


async def _read_back(store: "S3Store", key: str, content: Content) -> None:
    """
    Raises:
        _Damaged: the server holds other bytes than were sent.
    """
    try:
        found = await read_digests(store.read(key), most=content.size)
    except VerificationFailed as error:
        raise _Damaged(str(error)) from None
    if content.digests.matches(found) is False:
        raise _Damaged(f"{store.root.address(key)} reads as {found}, sent was {content.digests}")


async def require_bare(target: "S3Store", source: "S3Store", source_key: str, key: str, *, learns: bool = True) -> None:
    """Learns from a copy whether the server leaves out the source's own metadata when it is asked to; some merge both.

    Raises:
        AccessDenied: it does not. The copy is removed, and the image to be streamed.
        TargetRefused: the copy could not be removed.
    """
    if not source.bears or target.dialect.complete or target.dialect.copies_bare is True:
        return
    taken = bears(await full_head(target, target.root.name(key), target.root.address(key)))
    if not taken:
        if learns and bears(await full_head(source, source.root.name(source_key), source.root.address(source_key))):
            target.dialect.copies_bare = True
        return
    target.dialect.copies_bare = False
    carried = (
        f"{target.root.address(key)}: the server's copy carries the source's own {harmless(', '.join(sorted(taken)))}"
    )
    try:
        await target.delete(key)
    except DataExportError as error:
        raise TargetRefused(f"{carried}, and may not be removed: remove it, or let us ({error})") from None
    raise AccessDenied(carried)
