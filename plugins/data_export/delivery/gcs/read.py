"""Reads one object of Cloud Storage as a stream that survives broken connections, and lists of them by the page."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from data_export.content import CHUNK_BYTES, Digests, Hasher
from data_export.delivery.base import StoredObject
from data_export.delivery.gcs.errors import explain, malformed
from data_export.delivery.gcs.write import listed, stored_object
from data_export.delivery.keys import BucketRoot, checked_prefix
from data_export.delivery.retry import Patience
from data_export.errors import DataExportError, VerificationFailed

if TYPE_CHECKING:
    import aiohttp
    from gcloud.aio.storage import Storage, StreamResponse


class ObjectReader:
    """`await next_chunk()` until it is empty; then `check()`, and `close()` in any case.

    Args:
        open_at: begins the answer at that byte of the object.
        explain: makes the service's error of any other.
    """

    def __init__(
        self,
        address: str,
        open_at: "Callable[[int], Awaitable[StreamResponse]]",
        explain: Callable[[Exception], DataExportError],
        patience: Patience,
    ) -> None:
        self._address = address
        self._open_at = open_at
        self._explain = explain
        self._patience = patience
        self._hasher = Hasher()
        self._offset = 0
        self._announced: Digests | None = None
        self._answer: aiohttp.ClientResponse | None = None
        self._opened = AsyncExitStack()

    async def next_chunk(self) -> bytes:
        """At most 1 MiB; nothing at the end. A connection that breaks goes on at the byte where it broke."""
        chunk = await self._patience.retry(self._explained)
        self._hasher.update(chunk)
        self._offset += len(chunk)
        return chunk

    async def _explained(self) -> bytes:
        try:
            return await self._read()
        except Exception as error:
            await self.close()
            raise self._explain(error) from None

    async def _read(self) -> bytes:
        if self._answer is None:
            if self._announced is not None and self._offset == self._announced.size:
                return b""
            answer: aiohttp.ClientResponse = await self._opened.enter_async_context(await self._open_at(self._offset))
            self._answer = answer
            self._announced = self._announced or _announced(answer)
        return await self._answer.content.read(CHUNK_BYTES)

    def check(self) -> None:
        """
        Raises:
            VerificationFailed: what was read is not what Cloud Storage said it would send.
        """
        digests = self._hasher.digests()
        if self._announced is not None and self._announced.matches(digests) is False:
            raise VerificationFailed(f"{self._address} reads as {digests}, but Cloud Storage holds {self._announced}")

    async def close(self) -> None:
        self._answer = None
        await self._opened.aclose()


def object_reader(
    storage: "Storage", session: Any, root: BucketRoot, key: str, timeout: Any, patience: Patience
) -> ObjectReader:
    """
    Args:
        session: what unpacks nothing: the bytes are wanted as they are stored.
    """
    name, address = root.name(key), root.address(key)

    async def open_at(offset: int) -> "StreamResponse":
        headers = {"Accept-Encoding": "gzip"}  # else Cloud Storage unpacks them too
        headers |= {"Range": f"bytes={offset}-"} if offset else {}
        return await storage.download_stream(root.bucket, name, headers=headers, timeout=timeout, session=session)

    return ObjectReader(address, open_at, partial(explain, bucket=root.bucket, address=address, reads=True), patience)


async def pages(
    ask: Callable[[str, dict[str, str]], Awaitable[Any]], root: BucketRoot, prefix: str, **options: str
) -> AsyncIterator[Sequence[StoredObject]]:
    """The objects whose key begins so, by the page; raises as `stored_object` does.

    Args:
        ask: gets the page of an address with these parameters.
    """
    fields = "items(name,size,crc32c,md5Hash,updated,contentEncoding,generation),nextPageToken"
    params, tokens = {"prefix": root.prefix + checked_prefix(prefix), "fields": fields, **options}, set[str]()
    while True:
        named, following = listed(await ask(root.address(prefix), params), root.address(prefix))
        # A name that ends in `/` is what consoles make to show an empty folder.
        yield [stored_object(root.key(name), said) for name, said in named if not name.endswith("/")]
        if not following:
            return
        if following in tokens:
            raise malformed(root.address(prefix), "the same page of a list again")
        tokens.add(following)
        params["pageToken"] = following


def _announced(answer: "aiohttp.ClientResponse") -> Digests | None:
    """None where the server does not say how long it is."""
    parts = [part.strip() for line in answer.headers.getall("X-Goog-Hash", []) for part in line.split(",")]
    hashes = {name: value for name, _, value in (part.partition("=") for part in parts)}
    size = answer.headers.get("X-Goog-Stored-Content-Length") or answer.headers.get("Content-Length")
    return Digests(int(size), crc32c=hashes.get("crc32c"), md5=hashes.get("md5")) if size else None
