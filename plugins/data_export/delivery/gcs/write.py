"""Sends bytes to Cloud Storage: in one request, or in pieces that a broken connection costs no more than one of."""

import mimetypes
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from data_export.content import CHUNK_BYTES, Content, Digests, Hasher, digests_in, metadata_of
from data_export.delivery.base import StoredObject, encoding_of
from data_export.delivery.gcs.errors import NO_ANSWER, malformed
from data_export.delivery.retry import Patience, asked_to_wait
from data_export.delivery.threads import opened
from data_export.errors import VerificationFailed

if TYPE_CHECKING:
    from gcloud.aio.storage import Storage
    from google.cloud.storage import Client

# Up to this size the storage library would send one request too.
PIECE_BYTES = 8 << 20
#: Bytes that one request of a bigger upload carries: each costs a round trip in which nothing else is sent.
_REQUEST_BYTES = 32 << 20


def stored_object(key: str, resource: dict[str, Any]) -> StoredObject:
    """From the JSON of an object: https://cloud.google.com/storage/docs/json_api/v1/objects#resource

    Raises:
        TargetUnavailable: it is not what Cloud Storage says of an object.
    """
    try:
        size = int(resource.get("size", 0))  # some servers leave it out where it is 0
        digests = _digests(size, resource.get("md5Hash"), resource.get("crc32c"), resource.get("metadata") or {})
        changed = datetime.fromisoformat(resource["updated"]) if resource.get("updated") else None
        version = str(resource["generation"]) if resource.get("generation") else None
        return StoredObject(key, digests, changed, encoding_of(resource.get("contentEncoding")), version=version)
    except NO_ANSWER as error:
        raise malformed(key, type(error).__name__) from None


def of_an_object(answer: Any, address: str) -> dict[str, Any]:
    """The answer, if it is about an object: without this, what a proxy says instead would mean that there is none.

    Raises:
        TargetUnavailable: it is not.
    """
    if not isinstance(answer, dict) or not answer.get("name"):
        raise malformed(address, "no object")
    return answer


def written(key: str, resource: dict[str, Any]) -> StoredObject:
    """What the answer to a write says; raises as `stored_object` does, and where no checksum confirms the bytes."""
    stored = stored_object(key, resource)
    if stored.digests.crc32c is None:
        raise malformed(key, "no crc32c of what was written")
    return stored


def _named(name: str) -> str:
    return "data-export-" + name.replace("_", "-")


def _digests(size: int, md5: str | None, crc32c: str | None, metadata: dict[str, Any]) -> Digests:
    """With what is kept of a data file, whose sha256 Cloud Storage itself does not know, if it is of its bytes.

    Earlier versions kept no crc32c along with it, which says that: of theirs nothing is taken.
    """
    kept = digests_in(size, metadata, _named)
    said = Digests(size, md5=md5, crc32c=crc32c)
    return replace(kept, md5=md5) if kept and crc32c and kept.crc32c == crc32c else said


def _to_keep(content: Content) -> dict[str, str]:
    digests = content.digests
    if digests.records_sha256 is None and digests.moment is None:
        return {}
    return metadata_of(replace(digests, md5=None, crc32c=_crc32c(content)), _named)


def listed(page: Any, address: str) -> tuple[list[tuple[str, dict[str, Any]]], str | None]:
    """Names and resources of a page of a list, and the token of the next one; raises as `stored_object` does."""
    try:
        return [(str(resource["name"]), resource) for resource in page.get("items", ())], page.get("nextPageToken")
    except NO_ANSWER as error:
        raise malformed(address, type(error).__name__) from None


def generation_of(resource: dict[str, Any] | None, address: str) -> int:
    """Of the object that a write expects to replace; 0 where there is none. Raises as `stored_object` does."""
    try:
        return int(resource["generation"]) if resource else 0
    except NO_ANSWER as error:
        raise malformed(address, type(error).__name__) from None


async def upload_small(
    storage: "Storage", bucket: str, name: str, content: Content, generation: int, timeout: Any
) -> dict[str, Any]:
    """One request with bytes and crc32c, which Cloud Storage compares before the object appears."""
    data = b"".join(content.chunks())
    if len(data) != content.size:
        raise VerificationFailed(f"gs://{bucket}/{name}: {len(data)} bytes to send where {content.size} were announced")
    return await storage.upload(
        bucket,
        name,
        data,
        content_type=content.content_type,
        parameters={"ifGenerationMatch": str(generation)},
        metadata={"crc32c": _crc32c(content)} | ({"metadata": kept} if (kept := _to_keep(content)) else {}),
        force_resumable_upload=False,
        timeout=timeout,
    )


def conditions(here: StoredObject | None) -> dict[str, str]:
    """Of a copy: nothing has the name yet, and the source is what was seen."""
    return {"ifGenerationMatch": "0"} | ({"ifSourceGenerationMatch": here.version} if here and here.version else {})


async def rewrite_bare(
    storage: "Storage", source: tuple[str, str], target: tuple[str, str], params: dict[str, str], timeout: Any
) -> dict[str, Any]:
    """Has Cloud Storage copy an object, each a bucket and a name, without the source's own metadata.

    Without a word about the new object its metadata, cache headers and dispositions come along, which are the
    platform's and not for customers; naming its content type keeps all others back.
    """
    only = {"content-type": mimetypes.guess_type(target[1])[0] or "application/octet-stream"}
    answer = await storage.copy(*source, target[0], new_name=target[1], metadata=only, params=params, timeout=timeout)
    resource: dict[str, Any] = answer["resource"]
    return resource


def upload_big(
    client: "Client",
    bucket: str,
    name: str,
    content: Content,
    generation: int,
    patience: Patience,
    stop: threading.Event,
) -> dict[str, Any]:
    """A resumable upload, each piece of it retried by the storage library.

    The crc32c goes with the first request, so that Cloud Storage compares it before the object appears. The library's
    own `checksum` would compare afterwards and then delete what may be another's, which also needs a permission.
    """
    blob = client.bucket(bucket).blob(name, chunk_size=_REQUEST_BYTES)
    if kept := _to_keep(content):
        blob.metadata = kept
    with opened(content, stop) as file:
        bodies = _Bodies(file, content.size)
        blob.upload_from_file(
            cast("BinaryIO", bodies),
            size=content.size,
            content_type=content.content_type,
            if_generation_match=generation,
            checksum=None,
            crc32c_checksum_value=_crc32c(content),
            timeout=(patience.connect, patience.answer),
            retry=_retry(bodies, patience, stop),
        )
    return {
        "size": blob.size,
        "md5Hash": blob.md5_hash,
        "crc32c": blob.crc32c,
        "metadata": blob.metadata,
        "updated": blob.updated and blob.updated.isoformat(),
    }


def _retry(bodies: "_Bodies", patience: Patience, stop: threading.Event) -> Any:
    """How often each piece is sent: by itself the library asks how long ago the first try was, and nothing else."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    failed: Counter[int] = Counter()

    def again(error: Exception) -> bool:
        failed[bodies.tell()] += 1
        if failed[bodies.tell()] >= patience.tries or not DEFAULT_RETRY._predicate(error):
            return False
        answer = getattr(error, "response", None)
        stop.wait(min(asked_to_wait(getattr(answer, "headers", None)), patience.answer))
        return True

    retry = DEFAULT_RETRY.with_delay(patience.first_pause, patience.longest_pause, 2)
    return retry.with_predicate(again).with_timeout(patience.tries * patience.whole(_REQUEST_BYTES))


class _Bodies:
    """A file whose reads are bodies of requests, which take its bytes from it as they are sent.

    The library asks for a request's bytes in one read; here they are never in memory together.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._at = file, size, 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int) -> None:
        self._at = offset

    def read(self, size: int) -> "_Body":
        start, self._at = self._at, min(self._at + size, self._size)
        return _Body(self._file, start, self._at)


class _Body:
    """Bytes of the file from `start` to `end`, as often as they are asked for."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._end = file, start, end

    def __len__(self) -> int:
        return self._end - self._start

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        for at in range(self._start, self._end, CHUNK_BYTES):
            chunk = self._file.read(min(CHUNK_BYTES, self._end - at))
            if at + len(chunk) < min(at + CHUNK_BYTES, self._end):
                raise VerificationFailed(f"{self._file.name} became shorter while it was sent")
            yield chunk


def _crc32c(content: Content) -> str:
    if content.digests.crc32c:
        return content.digests.crc32c
    hasher = Hasher()
    for chunk in content.chunks():
        hasher.update(chunk)
    return str(hasher.digests().crc32c)
