"""Cloud Storage: many small objects at once in one event loop, big ones by resumable upload."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, nullcontext, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from urllib.request import getproxies

from data_export.content import Content
from data_export.delivery.base import Destination, StoredObject
from data_export.delivery.gcs import write
from data_export.delivery.gcs.errors import explain
from data_export.delivery.gcs.read import object_reader, pages
from data_export.delivery.gcs.sign import Login, account_of, signed_link
from data_export.delivery.keys import BucketRoot
from data_export.delivery.retry import NoSuchObject, Patience, PreconditionFailed, persist, trusted
from data_export.delivery.threads import run_blocking
from data_export.errors import ObjectExists, TargetUnavailable, VerificationFailed

if TYPE_CHECKING:
    import aiohttp
    from gcloud.aio.storage import Storage
    from google.cloud.storage import Client

T = TypeVar("T")
_LARGE_BYTES = 1 << 20


class GcsStore:
    """A folder of a bucket, `gs://bucket/folder/`.

    Every write names the generation that it expects to replace (0: none) and the crc32c of its bytes, so that Cloud
    Storage itself refuses a second creator and damaged bytes; it shows an object only when it is whole. Creating needs
    `storage.objects.create`, `.get` and `.list` on the bucket, replacing `storage.objects.delete` too.

    Memory: twice the size of an object up to 8 MiB, else 1 MiB; at most 4 objects above 1 MiB are sent at once.

    Args:
        client: makes the blocking client, for big objects and links.
        aio_client: makes the client of everything else inside the event loop.
        credentials: what signs links.
    """

    concurrency = 96
    lists_in_full: Literal[True] = True

    def __init__(
        self,
        uri: str,
        *,
        client: "Callable[[], Client]",
        aio_client: "Callable[[aiohttp.ClientSession], Awaitable[Storage]]",
        credentials: Callable[[], Any],
        patience: Patience | None = None,
    ) -> None:
        self.root = BucketRoot.parse(uri, "gs")
        self._make_client = client
        self._make_storage = aio_client
        self._credentials = credentials
        self._patience = patience or Patience()
        self._client: Client | None = None
        self._client_lock = threading.Lock()

    @property
    def uri(self) -> str:
        return self.root.uri

    def account(self) -> str | None:
        return account_of(self._credentials())

    async def __aenter__(self) -> Self:
        import aiohttp

        self._large = asyncio.Semaphore(4)
        async with AsyncExitStack() as opened:
            # Where the environment is asked, aiohttp has a thread read ~/.netrc for each request too.
            connector, login = aiohttp.TCPConnector(limit=self.concurrency, ssl=trusted()), Login()
            options: Any = {
                "connector": connector,
                "trust_env": bool(getproxies()),
                "middlewares": (login.once_more,),
            }
            session = await opened.enter_async_context(aiohttp.ClientSession(**options))
            raw = aiohttp.ClientSession(**options, connector_owner=False, auto_decompress=False)
            self._as_stored: Any = await opened.enter_async_context(raw)
            self._storage = await self._asked(self.uri, lambda: self._make_storage(session))
            login.serves(self._storage)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._opened.aclose()
        if self._client is not None:
            await asyncio.to_thread(self._client.close)
        self._client = None

    async def stat(self, key: str) -> StoredObject | None:
        found = await self._resource(key)
        return None if found is None else write.stored_object(key, found)

    async def create(self, key: str, content: Content) -> StoredObject:
        if content.size > write.PIECE_BYTES and await self.stat(key) is not None:  # else refused at the last piece only
            raise ObjectExists(f"{self.root.address(key)} is there already")
        return await self._write(key, content, replace=False)

    async def replace(self, key: str, content: Content) -> StoredObject:
        return await self._write(key, content, replace=True)

    async def read(self, key: str) -> AsyncIterator[bytes]:
        reader = object_reader(self._storage, self._as_stored, self.root, key, self._timeout(None), self._patience)
        try:
            while chunk := await reader.next_chunk():
                yield chunk
            reader.check()
        finally:
            await reader.close()

    async def delete(self, key: str) -> None:
        with suppress(NoSuchObject):
            await self._asked(
                self.root.address(key),
                lambda: self._storage.delete(self.root.bucket, self.root.name(key), timeout=self._timeout(0)),
                reads=True,
            )

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        async for found in pages(self._asked_for_page, self.root, prefix):
            for one in found:
                yield one

    async def files_in(self, folder: str) -> AsyncIterator[Sequence[StoredObject]]:
        async for found in pages(self._asked_for_page, self.root, f"{folder}/", delimiter="/"):
            yield [one for one in found if "/" not in one.key[len(folder) + 1 :]]

    async def _asked_for_page(self, address: str, params: dict[str, str]) -> Any:
        timeout = self._timeout(0)
        return await self._asked(
            address, lambda: self._storage.list_objects(self.root.bucket, params=params, timeout=timeout)
        )

    async def sign(self, key: str, lifetime: timedelta, file_name: str) -> str:
        name = self.root.name(key)

        def signed(_: threading.Event) -> str:
            blob = self.blocking_client().bucket(self.root.bucket).blob(name)
            return signed_link(blob, self._credentials, lifetime, file_name)

        return await self._asked(self.root.address(key), lambda: run_blocking(signed))

    def can_copy_from(self, source: Destination) -> bool:
        return isinstance(source, GcsStore)

    async def look_to_copy(self, source: Destination, source_key: str) -> StoredObject | None:
        return await source.stat(source_key)

    async def copy_from(
        self, source: Destination, source_key: str, key: str, here: StoredObject | None = None
    ) -> StoredObject:
        if not isinstance(source, GcsStore):
            raise TypeError(f"{source.uri} is not on Cloud Storage: ask can_copy_from first")
        both = (source.root.bucket, source.root.name(source_key)), (self.root.bucket, self.root.name(key))
        buckets = f"{source.root.bucket} (source) or {self.root.bucket} (target)"
        params = write.conditions(here)  # the client adds the token of a rewrite under way: a retry goes on from it

        async def rewrite() -> StoredObject:
            try:
                resource = await write.rewrite_bare(self._storage, *both, params, self._timeout(0))
            except Exception as error:
                problem = explain(error, buckets, source.root.address(source_key), reads=True, overwrites=False)
                if isinstance(problem, PreconditionFailed):
                    problem = PreconditionFailed(f"{self.root.address(key)} is there already")
                raise problem from None
            return write.written(key, resource)

        async def look() -> StoredObject | None:
            here, there = await source.stat(source_key), await self.stat(key)
            return there if here and there and there.digests.matches(here.digests) else None

        return await persist(self._patience, look, rewrite)

    async def _write(self, key: str, content: Content, *, replace: bool) -> StoredObject:
        async def send() -> StoredObject:
            resource = await self._resource(key) if replace else None
            try:
                stored = await self._send(key, content, write.generation_of(resource, self.root.address(key)))
            except PreconditionFailed:
                if replace:
                    raise TargetUnavailable(f"{self.root.address(key)} is replaced by somebody else too") from None
                raise
            if stored.digests.matches(content.digests) is False:
                raise VerificationFailed(f"{self.root.address(key)} holds {stored.digests}, sent was {content.digests}")
            return stored

        async with self._large if content.size > _LARGE_BYTES else nullcontext():
            return await persist(self._patience, lambda: self._holding(key, content), send)

    async def _holding(self, key: str, content: Content) -> StoredObject | None:
        """The object, if it is there and holds these bytes."""
        found = await self.stat(key)
        return found if found and found.digests.matches(content.digests) else None

    async def _send(self, key: str, content: Content, generation: int) -> StoredObject:
        name, bucket = self.root.name(key), self.root.bucket
        try:
            if content.size <= write.PIECE_BYTES:
                timeout = self._timeout(content.size)
                resource = await write.upload_small(self._storage, bucket, name, content, generation, timeout)
            else:
                resource = await run_blocking(
                    lambda stop: write.upload_big(
                        self.blocking_client(), bucket, name, content, generation, self._patience, stop
                    )
                )
        except Exception as error:
            problem = explain(error, bucket, self.root.address(key), overwrites=generation != 0)
            # The library retries a piece by itself, so the refusal may be about a success whose answer was lost.
            by_pieces = isinstance(problem, PreconditionFailed) and content.size > write.PIECE_BYTES
            if by_pieces and (found := await self._holding(key, content)):
                return found
            raise problem from None
        return write.written(key, resource)

    async def _resource(self, key: str) -> dict[str, Any] | None:
        name, address = self.root.name(key), self.root.address(key)

        async def metadata() -> dict[str, Any]:
            found = await self._storage.download_metadata(self.root.bucket, name, timeout=self._timeout(0))
            return write.of_an_object(found, address)

        with suppress(NoSuchObject):
            return await self._asked(address, metadata, reads=True)
        return None

    async def _asked(self, address: str, request: Callable[[], Awaitable[T]], *, reads: bool = False) -> T:
        """The answer to a request that may be repeated without harm."""

        async def once() -> T:
            try:
                return await request()
            except Exception as error:
                raise explain(error, self.root.bucket, address, reads=reads) from None

        return await self._patience.retry(once)

    def _timeout(self, body_bytes: int | None) -> Any:
        """For a request with such a body; None: for an answer that may take as long as it likes if it never pauses."""
        import aiohttp

        whole = None if body_bytes is None else self._patience.whole(body_bytes)
        return aiohttp.ClientTimeout(whole, sock_connect=self._patience.connect, sock_read=self._patience.answer)

    def blocking_client(self) -> "Client":
        """The client of big objects, links and questions about rights; to be used in a thread."""
        with self._client_lock:
            if self._client is None:
                self._client = self._make_client()
            return self._client
