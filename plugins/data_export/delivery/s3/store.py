"""S3: many small objects at once through obstore, big ones in parts through boto3."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self, TypeVar, cast

from data_export.content import Content, Digests
from data_export.delivery.base import Destination, StoredObject, encoding_of
from data_export.delivery.keys import BucketRoot, checked_prefix
from data_export.delivery.retry import NoSuchObject, Patience, PreconditionFailed
from data_export.delivery.s3.connect import bucket_region, object_store, signed_link
from data_export.delivery.s3.dialect import Dialect, Grants, OneFirst, dialect_of, is_amazon, patience_of, same_server
from data_export.delivery.s3.errors import Lacking, explain, status_of
from data_export.delivery.s3.multipart import give_up_older, watch
from data_export.delivery.s3.objects import (
    PIECE_BYTES,
    Piece,
    bears,
    from_head,
    from_metadata,
    full_head,
    get,
    head,
    listed,
    pages,
    read_pieces,
)
from data_export.delivery.s3.server_copy import Copies, copy_by_server
from data_export.delivery.s3.write import write
from data_export.delivery.threads import run_blocking
from data_export.errors import AccessDenied, ObjectExists, OverwriteRefused, VerificationFailed

T = TypeVar("T")
_ABANDONED, _MOST_TIDIED = timedelta(days=1), 1_000


class S3Store:
    """A folder of a bucket, `s3://bucket/folder/`.

    Creating is `If-None-Match: *`, so S3 itself refuses a second creator; it compares a sha256 of what arrives and
    shows an object only when it is whole. S3 has no checksum over a whole object that was sent in parts, so sha256 and
    crc32c are kept in the object's metadata. Needs `s3:PutObject`, `s3:GetObject` and `s3:ListBucket`.

    Memory: twice an object of up to 8 MiB, else 40 MiB, which malloc may double; of more than 1 MiB 2 are sent at once.

    Args:
        client: makes the boto3 client; its own time-outs and retries are those of big objects, copies and lists.
        session: makes the boto3 session of the same connection, for credentials that renew themselves; before `client`.
        grants: what each written object carries.
    """

    concurrency = 96

    def __init__(
        self,
        uri: str,
        *,
        client: Callable[[], Any],
        session: Callable[[], Any],
        patience: Patience | None = None,
        grants: Grants | None = None,
    ) -> None:
        self.root = BucketRoot.parse(uri, "s3")
        self._make_client, self._make_session = client, session
        self.session: Any = None
        self.patience = patience or Patience()
        self.grants = grants or Grants()
        self.dialect = Dialect(complete=True)
        self.bears = False  # until an object was seen that carries what a copy must not

    @property
    def uri(self) -> str:
        return self.root.uri

    async def __aenter__(self) -> Self:
        """Also asks for the bucket's region, which obstore must be told.

        Raises:
            TargetNotFound: no such bucket.
        """
        self.large, self.first_copy = asyncio.Semaphore(2), OneFirst()
        bucket = self.root.bucket

        def connect() -> None:
            self.session, self.client = self._make_session(), self._make_client()
            watch(self.client)
            self.patience = patience_of(self.client, self.patience)
            self._region = bucket_region(self.client, bucket)
            self.objects = object_store(
                self.client, self.session, bucket, self._region, self.patience, self.grants.to_store()
            )
            self.copies = Copies(self.client, self.session, bucket, self._region, self.patience)
            self.dialect = dialect_of(self.client, bucket, complete=is_amazon(self.client))
            self._adapt()

        await self.asked(self.uri, "s3:ListBucket", lambda: asyncio.to_thread(connect))
        self.threads = ThreadPoolExecutor(self.client.meta.config.max_pool_connections, "s3")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.copies.close()
        await asyncio.to_thread(self.threads.shutdown)
        self.client.close()

    async def stat(self, key: str) -> StoredObject | None:
        found = await self.look(key)
        if found is None or not found.partial:
            return found
        # Somebody else's: obstore does not pass on what S3 itself knows of its checksums.
        with suppress(NoSuchObject):
            head = await full_head(self, self.root.name(key), self.root.address(key))
            encoding = encoding_of(head.get("ContentEncoding"))  # of the same moment as the digests
            return StoredObject(key, from_head(head), head.get("LastModified"), encoding, version=head.get("ETag"))
        return None

    async def look(self, key: str) -> StoredObject | None:
        """As `stat`, but partial where only the object's checksums at S3 are its digests."""
        with suppress(NoSuchObject):
            found = await head(self, self.root.name(key), self.root.address(key))
            size, encoding = found.meta["size"], encoding_of(found.attributes.get("Content-Encoding"))
            kept = from_metadata(size, found.attributes)
            self.bears = self.bears or bool(bears(found.attributes))
            return StoredObject(
                key, kept or Digests(size), found.meta["last_modified"], encoding, kept is None, found.meta["e_tag"]
            )
        return None

    async def create(self, key: str, content: Content) -> StoredObject:
        if content.size > PIECE_BYTES and await self.stat(key) is not None:  # else refused after the last part only
            raise ObjectExists(f"{self.root.address(key)} is there already")
        return await write(self, key, content, create_only=True)

    async def replace(self, key: str, content: Content) -> StoredObject:
        try:
            return await write(self, key, content, create_only=False)
        except AccessDenied as error:
            if await self.stat(key) is None:
                raise
            raise OverwriteRefused(
                f"{error}; other content is there: allow its replacement, or set if_exists to keep or revision"
            ) from None

    async def read(self, key: str) -> AsyncIterator[bytes]:
        name, address = self.root.name(key), self.root.address(key)

        async def piece_at(offset: int, etag: str | None) -> Piece:
            try:
                return await self.asked(address, "s3:GetObject", lambda: get(self.objects, name, offset, etag))
            except PreconditionFailed:
                raise VerificationFailed(f"{address} was replaced while it was read: read it again") from None

        async for data in read_pieces(piece_at, address):
            yield data

    async def delete(self, key: str) -> None:
        target = {"Bucket": self.root.bucket, "Key": self.root.name(key)}
        await self.called(self.root.address(key), "s3:DeleteObject", lambda client: client.delete_object(**target))

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        async for page in pages(self, prefix):
            for found in page:
                size, modified = found.get("Size", 0), found.get("LastModified")
                yield StoredObject(self.root.key(found["Key"]), Digests(size), modified)

    async def files_in(self, folder: str) -> AsyncIterator[Sequence[StoredObject]]:
        async for page in pages(self, f"{folder}/", Delimiter="/"):
            named = [(self.root.key(found["Key"]), found) for found in page if "Size" in found]
            yield [listed(found, key) for key, found in named if "/" not in key[len(folder) + 1 :]]

    async def tidy(self, folders: Sequence[str]) -> int:
        limit, bucket = datetime.now(UTC) - _ABANDONED, self.root.bucket

        async def tidied(folder: str) -> int:
            prefix = self.root.prefix + checked_prefix(folder and f"{folder}/")  # no neighbour whose name begins so
            return await run_blocking(
                lambda stop: give_up_older(self.client, bucket, prefix, limit, _MOST_TIDIED, stop), self.threads
            )

        right = "s3:ListBucketMultipartUploads"
        return sum([await self.asked(self.uri, right, partial(tidied, folder)) for folder in folders])

    async def sign(self, key: str, lifetime: timedelta, file_name: str) -> str:
        name = self.root.name(key)
        return await self.called(
            self.root.address(key),
            "s3:GetObject",
            lambda client: signed_link(client, self.session, self.root.bucket, self._region, name, lifetime, file_name),
        )

    def can_copy_from(self, source: Destination) -> bool:
        return isinstance(source, S3Store) and same_server(self.client, source.client)

    async def look_to_copy(self, source: Destination, source_key: str) -> StoredObject | None:
        return await cast("S3Store", source).look(source_key)  # `can_copy_from` was asked

    async def copy_from(
        self, source: Destination, source_key: str, key: str, here: StoredObject | None = None
    ) -> StoredObject:
        if not isinstance(source, S3Store):
            raise TypeError(f"{source.uri} is not on S3: ask can_copy_from first")
        return await copy_by_server(self, source, source_key, key, here)

    async def there(self, key: str) -> StoredObject:
        """What S3 holds after it said that it does."""
        if found := await self.stat(key):
            return found
        raise VerificationFailed(f"{self.root.address(key)} is not there after it was stored")

    async def called(self, address: str, permission: str, function: Callable[[Any], T]) -> T:
        """What the function gets from the boto3 client, in a thread."""
        return await self.asked(address, permission, self.in_thread(function))

    def in_thread(self, function: Callable[[Any], T]) -> Callable[[], Awaitable[T]]:
        return lambda: run_blocking(lambda _: function(self.client), self.threads)

    async def asked(self, address: str, permission: str, request: Callable[[], Awaitable[T]]) -> T:
        """The answer to a request that may be repeated without harm."""
        return await self.patience.retry(lambda: self.once(address, permission, request))

    async def once(
        self, address: str, permission: str, request: Callable[[], Awaitable[T]], suspects: Sequence[str] = ()
    ) -> T:
        """The answer to a request, with what the server may not know of it (`Dialect.learn`)."""
        known = self.dialect.known()
        try:
            return await request()
        except Exception as error:
            cause = await asyncio.to_thread(_cause_of, error, self.session)
            problem = explain(cause, self.root.bucket, address, permission)
            if self.dialect.learn(error, known, suspects):
                self._adapt()
                problem = Lacking(str(problem))
            raise problem from None

    def _adapt(self) -> None:
        """boto3 adds checksums of its own too, and has no other way to change that of a client that is there."""
        if not self.dialect.has("checksums"):
            config = self.client.meta.config
            config.request_checksum_calculation = config.response_checksum_validation = "when_required"


def _cause_of(error: Exception, session: Any) -> Exception:
    """What keeps credentials from being renewed, of which obstore says only that it is so; else the error itself.

    Blocks: asks for them once more.
    """
    from obstore.exceptions import UnauthenticatedError

    if session is None or not isinstance(error, UnauthenticatedError) or status_of(error):
        return error
    try:
        session.get_credentials().get_frozen_credentials()
    except Exception as cause:
        return cause
    return error
