"""Azure Blob Storage as a place for objects."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal, Self, TypeVar, cast

from data_export.content import Content
from data_export.delivery.abfs.account import LinkSigner
from data_export.delivery.abfs.errors import BlobArchived, asked
from data_export.delivery.abfs.read import PIECE, page, piece, stored_object
from data_export.delivery.abfs.write import BlockWriter, headers_of, server_copy, type_of, whole
from data_export.delivery.base import Destination, StoredObject
from data_export.delivery.keys import BucketRoot, checked_prefix
from data_export.delivery.retry import NoSuchObject, Patience, PreconditionFailed, persist
from data_export.errors import (
    AccessDenied,
    CredentialsRefused,
    ObjectExists,
    OverwriteRefused,
    TargetUnavailable,
    VerificationFailed,
)
from data_export.wording import harmless

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobClient, ContainerClient

    from data_export.delivery.abfs.account import Access

T = TypeVar("T")

_log = logging.getLogger(__name__)
_LONGEST_NAME = 200
_COPIED_AT_ONCE = 256 << 20  # Put Blob From URL takes 5,000 MiB, and took so much at first; no image has more


class AbfsStore:
    """A folder of a container, `abfs://container@account/folder/`.

    A create is exclusive by `If-None-Match: *`, also at the commit of a bigger object's blocks. Azure verifies the MD5
    of each request's body; size, MD5, crc32c and, where it is known, sha256 of the whole are kept with the object.
    Needed are the rights of Storage Blob Data Contributor, or of a SAS token `racwdl`. Memory: 8 pieces of 4 MiB,
    however many are written.

    Blocks of an object that will not be finished are seen by nobody, and Azure alone drops them, after a week.
    """

    concurrency = 96
    lists_in_full: Literal[True] = True

    def __init__(self, uri: str, *, connect: Callable[[], "Access"], patience: Patience | None = None) -> None:
        self.root = BucketRoot.parse(uri, "abfs")
        self.patience = patience or Patience()
        self._connect = connect

    @property
    def uri(self) -> str:
        return self.root.uri

    async def __aenter__(self) -> Self:
        self.access = self._connect()
        await self.access.open()
        self.container: ContainerClient = self.access.service.get_container_client(self.root.bucket.partition("@")[0])
        self._signer = LinkSigner(self.access, self.container.container_name)
        self._writer = BlockWriter(self.patience, asyncio.Semaphore(8), PIECE)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.access.close()

    def blob(self, key: str) -> "BlobClient":
        """Client of one blob; raises as `checked_key` does."""
        return self.container.get_blob_client(self.root.name(key))

    async def ask(self, where: str, call: Callable[[], Awaitable[T]], body_bytes: int = 0) -> T:
        """One request, tried again while its fault may pass."""
        return await self.patience.retry(lambda: asked(self.patience.whole(body_bytes), where, call))

    async def stat(self, key: str) -> StoredObject | None:
        return await self._look(key, self.blob(key))

    async def _look(self, key: str, blob: "BlobClient") -> StoredObject | None:
        """As `stat`, by a client that there is: to make one costs a fifth of a request."""
        try:
            return stored_object(self.root, await self.ask(self.root.address(key), blob.get_blob_properties))
        except NoSuchObject:
            return None
        except CredentialsRefused:
            with suppress(NoSuchObject):  # an answer to a GET has a body, in which Azure says what is wrong
                await self.ask(self.root.address(key), partial(piece, blob, 0, None))
            raise

    async def create(self, key: str, content: Content) -> StoredObject:
        return await self._write(key, content, only_new=True)

    async def replace(self, key: str, content: Content) -> StoredObject:
        try:
            return await self._write(key, content, only_new=False)
        except CredentialsRefused:
            raise
        except BlobArchived as refusal:  # Azure replaces none
            raise OverwriteRefused(f"{refusal}, or set if_exists to keep or revision") from None
        except AccessDenied as refusal:
            if isinstance(refusal, OverwriteRefused) or await self.stat(key) is None:
                raise
            raise OverwriteRefused(f"{refusal}; it may create, not replace: or set if_exists to revision") from None

    async def _write(self, key: str, content: Content, only_new: bool) -> StoredObject:
        blob, where = self.blob(key), self.root.address(key)

        async def landed() -> StoredObject | None:
            found = await self._look(key, blob)
            return found if found and found.digests.matches(content.digests) else None

        if content.size <= PIECE:
            data, digests = await whole(content, where)
            put = headers_of(content, digests)
            put["transactional_content_md5"] = put["content_settings"].content_md5  # of the request's body too

            async def write() -> StoredObject:
                answer = await asked(
                    self.patience.whole(len(data)),
                    where,
                    lambda: blob.upload_blob(data, overwrite=not only_new, **put),
                    creates=only_new,
                )
                confirmed = answer.get("content_md5")
                if not confirmed:  # whoever answers may not be Azure
                    return await self._confirmed(key, blob, content)
                if bytes(confirmed) != put["content_settings"].content_md5:
                    raise VerificationFailed(f"{where}: Azure confirms another MD5 than was sent")
                return StoredObject(key, digests, answer.get("last_modified"))

            return await persist(self.patience, landed, write)
        if only_new and await self._look(key, blob) is not None:
            raise ObjectExists(f"{where}: there is a blob of that name")
        await self._writer.write(blob, where, content, only_new, landed)
        return await self._confirmed(key, blob, content)

    async def _confirmed(self, key: str, blob: "BlobClient", content: Content) -> StoredObject:
        found = await self._look(key, blob)
        if found is None or not found.digests.matches(content.digests):
            raise VerificationFailed(
                f"{self.root.address(key)}: {found and found.digests} where {content.digests} was sent"
            )
        return found

    async def read(self, key: str) -> AsyncIterator[bytes]:
        blob, where, start, etag, size = self.blob(key), self.root.address(key), 0, None, 1
        while start < size:
            try:
                data, etag, size = await self.ask(where, partial(piece, blob, start, etag), PIECE)
            except PreconditionFailed:
                raise TargetUnavailable(f"{where}: it was replaced while it was read: read it again") from None
            if len(data) != min(PIECE, size - start):
                raise VerificationFailed(f"{where}: {len(data)} bytes at {start} of {size}")
            if data:
                yield data
            start += PIECE

    async def delete(self, key: str) -> None:
        blob = self.blob(key)
        try:
            await self.ask(self.root.address(key), lambda: blob.delete_blob(delete_snapshots="include"))
        except NoSuchObject:
            return

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        async for found in self._pages(self.root.prefix + checked_prefix(prefix)):
            for one in found:
                yield one

    async def files_in(self, folder: str) -> AsyncIterator[Sequence[StoredObject]]:
        """By size, time, MD5 and what `create` keeps with each: a look says no more."""
        start = checked_prefix(f"{folder}/")
        async for found in self._pages(self.root.prefix + start):
            yield [one for one in found if "/" not in one.key[len(start) :]]

    async def _pages(self, start: str) -> AsyncIterator[Sequence[StoredObject]]:
        token, tokens, others, one_of_them = None, set[str](), 0, ""
        while True:
            found, unfinished, token = await self.ask(self.uri, partial(page, self.container, self.root, start, token))
            others, one_of_them = others + len(unfinished), one_of_them or next(iter(unfinished), "")
            yield found
            if not token:
                if others:
                    text = (
                        "%s: blobs left out of a list, as a copy into each is unfinished or has failed: %d, e.g. %s: "
                        "have these copies finished, or delete the blobs"
                    )
                    _log.warning(text, self.uri, others, harmless(one_of_them, _LONGEST_NAME))
                return
            if token in tokens:
                raise TargetUnavailable(f"{self.uri}: Azure gives the same page of a list again")
            tokens.add(token)

    async def sign(self, key: str, lifetime: timedelta, file_name: str) -> str:
        return await self._signer.link(self.blob(key), self.ask, self.root.address(key), lifetime, file_name)

    def can_copy_from(self, source: Destination) -> bool:
        return isinstance(source, AbfsStore) and source.can_sign()

    def can_sign(self) -> bool:
        """Whether its identity can make links, by which another account's server reads."""
        return self.access.delegates or self.access.key is not None

    async def look_to_copy(self, source: Destination, source_key: str) -> StoredObject | None:
        return await source.stat(source_key)

    async def copy_from(
        self, source: Destination, source_key: str, key: str, here: StoredObject | None = None
    ) -> StoredObject:
        source, blob = cast("AbfsStore", source), self.blob(key)  # `can_copy_from` was asked
        from_blob = source.blob(source_key)
        where, origin = self.root.address(key), source.root.address(source_key)
        if here is None or here.version is None or here.digests.size == 0:
            here = stored_object(source.root, await self.ask(origin, from_blob.get_blob_properties))
        original = here
        if original.digests.size == 0:  # Azure reads no source without a first byte
            return await self.create(key, Content.of_bytes(b"", type_of(key)))
        if original.digests.size > _COPIED_AT_ONCE:
            raise AccessDenied(f"{where}: Azure copies at most {_COPIED_AT_ONCE >> 20} MiB at once")
        link = await source._signer.link(from_blob, source.ask, origin, timedelta(hours=1), "copy")

        async def landed() -> StoredObject | None:
            found = await self._look(key, blob)
            return found if found and found.digests.matches(original.digests) else None

        async def copy() -> StoredObject:
            if modified := await server_copy(blob, self.patience, f"{where}: copy of {origin}", link, original):
                return StoredObject(key, original.digests, modified)
            found = await self._look(key, blob)
            if found is None or found.digests.matches(original.digests) is False:
                raise VerificationFailed(f"{where}: {found and found.digests} where {original.digests} was copied")
            return found

        return await persist(self.patience, landed, copy)
