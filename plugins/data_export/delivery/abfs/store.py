"""Azure Blob Storage as a place for objects."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from data_export.content import Content, Digests
from data_export.delivery.abfs.account import LinkSigner
from data_export.delivery.abfs.errors import asked
from data_export.delivery.abfs.write import BlockWriter, from_metadata, headers_of, to_metadata, whole
from data_export.delivery.base import Destination, StoredObject, encoding_of
from data_export.delivery.keys import BucketRoot, checked_prefix
from data_export.delivery.retry import NoSuchObject, Patience, PreconditionFailed, persist
from data_export.errors import (
    AccessDenied,
    CredentialsRefused,
    ObjectExists,
    ObjectRefused,
    OverwriteRefused,
    TargetUnavailable,
    VerificationFailed,
)

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobClient, ContainerClient

    from data_export.delivery.abfs.account import Access

T = TypeVar("T")

_PIECE = 4 << 20  # of a bigger object's upload, and of a download
_COPIED_AT_ONCE = 256 << 20  # the most that Copy Blob From URL takes


class AbfsStore:
    """A folder of a container, `abfs://container@account/folder/`.

    A create is exclusive by `If-None-Match: *`, also at the commit of a bigger object's blocks. Azure verifies the MD5
    of each request's body; size, MD5, sha256 and crc32c of the whole are kept with the object. Needed are the rights of
    Storage Blob Data Contributor, or of a SAS token `racwdl`. Memory: 8 pieces of 4 MiB, however many are written.

    Blocks of an object that will not be finished are seen by nobody, and Azure alone drops them, after a week.
    """

    concurrency = 32

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
        self._writer = BlockWriter(self.patience, asyncio.Semaphore(8), _PIECE)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.access.close()

    def blob(self, key: str) -> "BlobClient":
        """Client of one blob; raises as `checked_key` does."""
        return self.container.get_blob_client(self.root.name(key))

    async def ask(self, where: str, call: Callable[[], Awaitable[T]], body_bytes: int = 0) -> T:
        """One request, tried again while its fault may pass."""
        async for attempt in self.patience.retrying():
            with attempt:
                return await asked(self.patience.whole(body_bytes), where, call)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def stat(self, key: str) -> StoredObject | None:
        blob = self.blob(key)
        try:
            return self._object(await self.ask(self.root.address(key), blob.get_blob_properties))
        except NoSuchObject:
            return None

    async def create(self, key: str, content: Content) -> StoredObject:
        return await self._write(key, content, only_new=True)

    async def replace(self, key: str, content: Content) -> StoredObject:
        try:
            return await self._write(key, content, only_new=False)
        except CredentialsRefused:
            raise
        except AccessDenied as refusal:
            if isinstance(refusal, OverwriteRefused) or await self.stat(key) is None:
                raise
            raise OverwriteRefused(f"{refusal}; it may create, not replace: or set if_exists to revision") from None

    async def _write(self, key: str, content: Content, only_new: bool) -> StoredObject:
        blob, where = self.blob(key), self.root.address(key)

        async def landed() -> StoredObject | None:
            found = await self.stat(key)
            return found if found and found.digests.matches(content.digests) else None

        if content.size <= _PIECE:
            data, digests = await whole(content, where)
            put = headers_of(content, digests)

            async def write() -> StoredObject:
                answer = await asked(
                    self.patience.whole(len(data)),
                    where,
                    lambda: blob.upload_blob(data, overwrite=not only_new, validate_content=True, **put),
                )
                confirmed = answer.get("content_md5")
                if confirmed and bytes(confirmed) != put["content_settings"].content_md5:
                    raise VerificationFailed(f"{where}: Azure confirms another MD5 than was sent")
                return StoredObject(key, digests, answer.get("last_modified"))

            return await persist(self.patience, landed, write)
        if only_new and await self.stat(key) is not None:
            raise ObjectExists(f"{where}: there is a blob of that name")
        await self._writer.write(blob, where, content, only_new, landed)
        return await self._confirmed(key, content)

    async def _confirmed(self, key: str, content: Content) -> StoredObject:
        found = await self.stat(key)
        if found is None or not found.digests.matches(content.digests):
            raise VerificationFailed(
                f"{self.root.address(key)}: {found and found.digests} where {content.digests} was sent"
            )
        return found

    async def read(self, key: str) -> AsyncIterator[bytes]:
        blob, where, start, etag, size = self.blob(key), self.root.address(key), 0, None, 1
        while start < size:
            try:
                piece, etag, size = await self.ask(where, partial(_piece, blob, start, etag), _PIECE)
            except PreconditionFailed:
                raise TargetUnavailable(f"{where}: it was replaced while it was read: read it again") from None
            if len(piece) != min(_PIECE, size - start):
                raise VerificationFailed(f"{where}: {len(piece)} bytes at {start} of {size}")
            if piece:
                yield piece
            start += _PIECE

    async def delete(self, key: str) -> None:
        blob = self.blob(key)
        try:
            await self.ask(self.root.address(key), lambda: blob.delete_blob(delete_snapshots="include"))
        except NoSuchObject:
            return

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        name, token = self.root.prefix + checked_prefix(prefix), None
        while True:
            found, token = await self.ask(self.uri, partial(_page, self.container, name, token, self._object))
            for one in found:
                yield one
            if not token:
                return

    async def sign(self, key: str, lifetime: timedelta, file_name: str) -> str:
        return await self._signer.link(self.blob(key), self.ask, self.root.address(key), lifetime, file_name)

    def can_copy_from(self, source: Destination) -> bool:
        return isinstance(source, AbfsStore) and source.can_sign()

    def can_sign(self) -> bool:
        """Whether its identity can make links, by which another account's server reads."""
        return self.access.delegates or self.access.key is not None

    async def copy_from(self, source: Destination, source_key: str, key: str) -> StoredObject:
        source, blob = cast("AbfsStore", source), self.blob(key)  # `can_copy_from` was asked
        where, origin = self.root.address(key), source.root.address(source_key)
        original = await self.ask(origin, source.blob(source_key).get_blob_properties)
        there, settings = source._object(original), original.content_settings
        if there.digests.size > _COPIED_AT_ONCE:
            raise AccessDenied(f"{where}: Azure copies at most {_COPIED_AT_ONCE >> 20} MiB at once")
        if settings.cache_control or settings.content_disposition or settings.content_language:
            raise AccessDenied(f"{origin} has headers of the platform's own, which Azure would copy along")
        # What is named here takes the place of the source's own metadata, which are not for customers.
        only = to_metadata(there.digests) | {"data_export_size": str(there.digests.size)}
        link = await source.sign(source_key, timedelta(hours=1), "copy")

        async def landed() -> StoredObject | None:
            found = await self.stat(key)
            return found if found and found.digests.matches(there.digests) else None

        async def copy() -> StoredObject:
            from azure.core import MatchConditions

            await asked(
                self.patience.whole(there.digests.size),
                f"{where}: copy of {origin}",
                lambda: blob.start_copy_from_url(
                    link,
                    metadata=only,
                    requires_sync=True,
                    source_etag=original.etag or "*",
                    source_match_condition=MatchConditions.IfNotModified,
                    match_condition=MatchConditions.IfMissing,
                ),
            )
            found = await self.stat(key)
            if found is None or found.digests.matches(there.digests) is False:
                raise VerificationFailed(f"{where}: {found and found.digests} where {there.digests} was copied")
            return found

        return await persist(self.patience, landed, copy)

    def _object(self, blob: Any) -> StoredObject:
        key, settings = self.root.key(blob.name), blob.content_settings
        if _is_folder(blob):
            raise ObjectRefused(f"{self.root.address(key)}: a folder has the name (hierarchical namespace): remove it")
        if not isinstance(blob.size, int):
            raise TargetUnavailable(f"{self.root.address(key)}: the answer of Azure has no size: is there a proxy?")
        md5 = base64.b64encode(settings.content_md5).decode() if settings.content_md5 else None
        digests = Digests(blob.size, md5=md5, **from_metadata(blob.metadata))
        return StoredObject(key, digests, blob.last_modified, encoding_of(settings.content_encoding))


async def _page(
    container: "ContainerClient", prefix: str, token: str | None, made: Any
) -> tuple[list[Any], str | None]:
    pages: Any = container.list_blobs(name_starts_with=prefix or None, include=["metadata"]).by_page(token)
    async for page in pages:
        return [made(blob) async for blob in page if not _is_folder(blob)], pages.continuation_token
    return [], None


async def _piece(blob: "BlobClient", start: int, etag: str | None) -> tuple[bytes, str, int]:
    """At most `_PIECE` bytes from `start`, of the object that had this etag; with its etag and size."""
    from azure.core import MatchConditions
    from azure.core.exceptions import HttpResponseError

    same: dict[str, Any] = {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag else {}
    try:
        download = await blob.download_blob(start, _PIECE, max_concurrency=1, decompress=False, **same)
    except HttpResponseError as error:
        if error.status_code == 416 and start == 0:  # an empty blob has no first byte
            return b"", "", 0
        raise
    size = int((download.properties.content_range or "/0").partition("/")[2])
    return await download.readall(), download.properties.etag, size


def _is_folder(blob: Any) -> bool:
    return (blob.metadata or {}).get("hdi_isfolder") == "true"
