"""How content becomes a blob: whole in one request, or in blocks that are committed together."""

import asyncio
import base64
import hashlib
import mimetypes
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING, Any

from data_export.content import Content, Digests, Hasher, digests_in, metadata_of
from data_export.delivery.abfs.errors import BlocksGone, asked
from data_export.delivery.base import StoredObject
from data_export.delivery.retry import Patience, persist
from data_export.delivery.threads import chunks_until, run_blocking
from data_export.errors import ObjectExists, VerificationFailed

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobClient

#: Bytes that are hashed and sent inside the event loop: these take it less than a millisecond.
BODY_AT_ONCE = 256 << 10

Landed = Callable[[], Awaitable[StoredObject | None]]


class Slices:
    """A body that may be sent again: a token that has ended is found out by the first answer."""

    def __init__(self, body: memoryview) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for start in range(0, len(self._body), BODY_AT_ONCE):
            yield self._body[start : start + BODY_AT_ONCE]


async def whole(content: Content, where: str) -> tuple[bytes, Digests]:
    """The bytes of a small content, and their digests with MD5.

    Raises:
        VerificationFailed: they are not the announced ones.
    """

    def read(stop: Any) -> tuple[bytes, Digests]:
        data = b"".join(chunks_until(stop, content))
        return data, content.digests_of(data, md5=True)

    if content.size <= BODY_AT_ONCE and isinstance(content.source, bytes):  # a thread costs more than it spares
        data, digests = read(Event())
    else:
        data, digests = await run_blocking(read)
    return data, _announced(content, digests, where)


def _announced(content: Content, digests: Digests, where: str) -> Digests:
    if digests.matches(content.digests) is False:
        raise VerificationFailed(
            f"{where}: the local bytes are not the announced ones, {digests.size} of {content.size}"
        )
    return digests


def headers_of(content: Content, digests: Digests) -> dict[str, Any]:
    """What is kept with the object."""
    from azure.storage.blob import ContentSettings

    return {
        "content_settings": ContentSettings(
            content_type=content.content_type, content_md5=bytearray(base64.b64decode(digests.md5 or ""))
        ),
        "metadata": to_metadata(
            replace(digests, records_sha256=content.digests.records_sha256, moment=content.digests.moment)
        ),
    }


# A prefix of our own: image stores and copying tools keep checksums too, under names and in spellings of theirs.
def _named(name: str) -> str:
    return f"data_export_{name}"


def to_metadata(digests: Digests) -> dict[str, str]:
    """Digests to keep with the object, and their size; its MD5 is one of Azure's own properties."""
    return metadata_of(replace(digests, md5=None), _named)


def from_metadata(size: int, md5: str | None, metadata: Mapping[str, str] | None) -> Digests:
    """With the digests that `to_metadata` kept of just these bytes; none of an object that somebody else made."""
    kept = digests_in(size, {name.lower(): value for name, value in (metadata or {}).items()}, _named)
    return replace(kept or Digests(size), md5=md5)


def type_of(key: str) -> str:
    """The content type that a copy has, as one that passes through the worker has it."""
    return mimetypes.guess_type(key)[0] or "application/octet-stream"


async def server_copy(
    blob: "BlobClient", patience: Patience, where: str, link: str, original: StoredObject
) -> datetime | None:
    """Has Azure make the blob from what the link leads to; returns when, where it compared the bytes with their MD5.

    By Put Blob From URL, not by Copy Blob, which would show the customer the link itself as `x-ms-copy-source` of the
    new blob, and whose headers are those of the platform's.
    """
    from azure.core import MatchConditions
    from azure.storage.blob import ContentSettings

    digests = original.digests
    # What is named here, a size at least, takes the place of the source's own metadata, which are not for customers.
    only = to_metadata(digests)
    md5 = base64.b64decode(digests.md5) if digests.md5 else None
    answer: Any = await asked(
        patience.whole(digests.size),
        where,
        lambda: blob.upload_blob_from_url(
            link,
            metadata=only,
            overwrite=False,
            include_source_blob_properties=False,
            content_settings=ContentSettings(content_type=type_of(blob.blob_name)),
            source_etag=original.version,
            source_match_condition=MatchConditions.IfNotModified,
            source_content_md5=bytearray(md5) if md5 else None,
            headers={"x-ms-blob-content-md5": digests.md5} if digests.md5 else {},
        ),
        creates=True,
    )
    return answer.get("last_modified") if md5 else None


class BlockWriter:
    """Sends bigger contents in blocks; `slots` bounds how many are in memory, of all contents together."""

    def __init__(self, patience: Patience, slots: asyncio.Semaphore, block_bytes: int) -> None:
        self._patience, self._slots, self._block_bytes = patience, slots, block_bytes

    async def write(self, blob: "BlobClient", where: str, content: Content, only_new: bool, landed: Landed) -> None:
        """
        Raises:
            ObjectExists: there is a blob of that name, and it must be new.
        """
        for last in (False, False, True):
            blocks, digests = await self._stage(blob, where, content)
            try:
                await self._commit(blob, where, blocks, headers_of(content, digests), only_new, landed)
                return
            except BlocksGone:
                if only_new and await asked(self._patience.answer, where, blob.exists):
                    raise ObjectExists(f"{where}: another writer of the name was quicker") from None
                if last:
                    raise

    async def _stage(self, blob: "BlobClient", where: str, content: Content) -> tuple[list[str], Digests]:
        hasher, names = Hasher(md5=True), list[str]()
        ours = secrets.token_hex(8)  # two writers of a name never share a block
        pieces, sending = content.chunks(self._block_bytes), set[asyncio.Task[None]]()
        try:
            while True:
                await self._slots.acquire()
                piece = await self._next(pieces, hasher)
                if piece is None:
                    break
                names.append(base64.b64encode(f"{ours}-{len(names):06}".encode()).decode())
                sending.add(task := asyncio.create_task(self._send(blob, where, names[-1], piece)))
                task.add_done_callback(lambda _: self._slots.release())  # also of one that ends before it begins
                for done in [task for task in sending if task.done()]:
                    sending.remove(done)
                    done.result()
            await asyncio.gather(*sending)
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
        return names, _announced(content, hasher.digests(), where)

    async def _next(self, pieces: Iterator[bytes], hasher: Hasher) -> bytes | None:
        """The next piece; without one the slot is given back."""

        def read(_: object) -> bytes | None:
            piece = next(pieces, None)
            if piece is not None:
                hasher.update(piece)
            return piece

        piece = None
        try:
            piece = await run_blocking(read)
        finally:
            if piece is None:
                self._slots.release()
        return piece

    async def _send(self, blob: "BlobClient", where: str, name: str, piece: bytes) -> None:
        # Azure compares it; `validate_content` would compute it in the event loop.
        md5 = await run_blocking(lambda _: hashlib.md5(piece, usedforsecurity=False).digest())
        options: dict[str, Any] = {"length": len(piece), "transactional_content_md5": bytearray(md5)}
        longest = self._patience.whole(len(piece))
        await self._patience.retry(lambda: asked(longest, where, lambda: blob.stage_block(name, piece, **options)))

    async def _commit(
        self, blob: "BlobClient", where: str, names: list[str], kept: dict[str, Any], only_new: bool, landed: Landed
    ) -> None:
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock

        condition: dict[str, Any] = {"match_condition": MatchConditions.IfMissing} if only_new else {}
        blocks = [BlobBlock(name) for name in names]

        async def commit() -> StoredObject:
            await asked(
                self._patience.whole(0),
                where,
                lambda: blob.commit_block_list(blocks, validate_content=True, **kept, **condition),
                creates=only_new,
            )
            return StoredObject("", Digests(0))  # looked at by whoever called

        await persist(self._patience, landed, commit)
