"""What S3 knows of an object: small ones and pieces of larger ones through obstore, digests, lists."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from data_export.content import Content, Digests, Hasher, digests_in, metadata_of
from data_export.delivery.base import StoredObject
from data_export.delivery.keys import checked_prefix
from data_export.delivery.retry import NoSuchObject
from data_export.delivery.s3.connect import instant
from data_export.delivery.s3.dialect import Dialect
from data_export.delivery.s3.errors import status_of
from data_export.errors import AccessDenied, TargetRefused, TargetUnavailable, VerificationFailed

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import S3Store as ObjectStore

    from data_export.delivery.s3.store import S3Store

PIECE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an object from some offset, and what S3 says of the whole."""

    data: bytes
    size: int
    etag: str | None
    kept: Digests | None


async def put(objects: "ObjectStore", name: str, content: Content, *, create_only: bool) -> tuple[Digests, str | None]:
    """Sends the content in one request, whose sha256 S3 compares before the object appears; returns its ETag too.

    Raises:
        VerificationFailed: a local file is not what was announced.
    """
    import obstore

    data = b"".join(content.chunks())
    digests = content.digests_of(data, sha256=True)
    if content.digests.matches(digests) is False:
        raise VerificationFailed(f"{name}: {digests} is to be sent where {content.digests} was announced")
    answer = await obstore.put_async(
        objects,
        name,
        data,
        mode="create" if create_only else "overwrite",
        attributes={"Content-Type": content.content_type, **to_metadata(digests)},
        use_multipart=False,
    )
    return digests, answer["e_tag"]


def checksum(dialect: Dialect, data: bytes) -> dict[str, Any]:
    """What the server compares the bytes of a request with."""
    if dialect.has("checksums"):
        return {"ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode()}
    return {"ContentMD5": base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()}


def is_md5(etag: str | None, data: bytes) -> bool:
    """Whether the server has computed the md5 of these bytes; it does not where it encrypts by a key of its own."""
    return (etag or "").strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()


async def get(objects: "ObjectStore", name: str, offset: int, etag: str | None) -> Piece:
    """At most 8 MiB from `offset`, of the object as it was when S3 gave that etag."""
    import obstore

    options: GetOptions = {"range": (offset, offset + PIECE_BYTES)}
    if etag is not None:
        options["if_match"] = etag
    try:
        found = await obstore.get_async(objects, name, options=options)
        data = (await found.bytes_async()).to_bytes()
    except obstore.exceptions.BaseError as error:
        if status_of(error) == 416 and not offset:  # an empty object has no first byte to ask for
            return Piece(b"", 0, None, None)
        raise
    size, said = found.meta["size"], found.attributes
    # Digests without their size may be of what was there before: then nothing could ever be read.
    return Piece(data, size, found.meta["e_tag"], from_metadata(size, said) if _named("size") in said else None)


async def read_pieces(piece_at: Callable[[int, str | None], Awaitable[Piece]], address: str) -> AsyncIterator[bytes]:
    """The whole object, piece by piece, compared in the end with what S3 said of it.

    Raises:
        VerificationFailed: other bytes were read than S3 holds.
    """
    hasher, offset = Hasher(), 0
    piece = first = await piece_at(0, None)
    while piece.data:
        hasher.update(piece.data)
        offset += len(piece.data)
        yield piece.data
        if offset >= first.size:
            break
        piece = await piece_at(offset, first.etag)
    if (first.kept or Digests(first.size)).matches(hasher.digests()) is False:
        raise VerificationFailed(f"{address} reads as {hasher.digests()}, but S3 holds {first.kept or first.size}")


async def head(store: "S3Store", name: str, address: str) -> Any:
    """obstore's answer. A refusal has no body, so no code: it is asked for once by GET."""
    import obstore

    try:
        return await store.asked(
            address, "s3:GetObject", lambda: obstore.get_async(store.objects, name, options={"head": True})
        )
    except (AccessDenied, TargetRefused):
        with suppress(NoSuchObject):
            await store.called(address, "s3:GetObject", lambda client: _ask_by_get(client, store.root.bucket, name))
        raise


async def full_head(store: "S3Store", name: str, address: str) -> Any:
    """The answer with S3's own checksums where the server lets us have them."""
    target = {"Bucket": store.root.bucket, "Key": name}
    try:
        return await store.called(
            address, "s3:GetObject", lambda client: client.head_object(**target, ChecksumMode="ENABLED")
        )
    except (AccessDenied, TargetRefused):  # with no word why; Amazon wants kms:Decrypt for checksums
        return await store.called(address, "s3:GetObject", lambda client: client.head_object(**target))


def _ask_by_get(client: Any, bucket: str, name: str) -> None:
    """Asks for the first byte, for the code of a refusal that an answer to HEAD, which has no body, does not give."""
    client.get_object(Bucket=bucket, Key=name, Range="bytes=0-0")["Body"].close()


# A prefix of our own: image stores and copying tools keep checksums too, under names and in spellings of theirs.
_PREFIX = "data-export-"
_CRC32C = re.compile(r"[A-Za-z0-9+/]{6}==")
_SHA256 = re.compile(r"[A-Za-z0-9+/]{43}=")
_MD5 = re.compile(r"[0-9a-f]{32}")


def _named(name: str) -> str:
    return _PREFIX + name.replace("_", "-")  # proxies drop headers with an underscore


def to_metadata(digests: Digests) -> dict[str, str]:
    """Digests to keep in the object's metadata; the server compares the bytes with one of them as they arrive."""
    return metadata_of(digests, _named)


def from_metadata(size: int, metadata: Mapping[str, Any]) -> Digests | None:
    """The digests that `to_metadata` kept of just these bytes; None for an object that somebody else made."""
    return digests_in(size, metadata, _named)


_OF_PLATFORM = ("Cache-Control", "Content-Disposition", "Content-Language", "Expires", "Website-Redirect-Location")


def bears(said: Mapping[str, Any]) -> set[str]:
    """The names of what an object carries besides its type and our digests, as obstore says it or `head_object`."""
    fields = {name for name in _OF_PLATFORM if name in said or name.replace("-", "") in said}
    metadata = said.get("Metadata", {} if "ResponseMetadata" in said else said)
    own = {name for name in metadata if not name.startswith((_PREFIX, "Content-"))}
    return fields | own | ({"tags"} if said.get("TagCount") else set())


def from_head(head: Mapping[str, Any]) -> Digests:
    """From the answer to `head_object(ChecksumMode="ENABLED")`.

    An ETag is the md5 only of an object sent in one piece and not encrypted with a key of KMS or the customer:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    if "ContentLength" not in head:
        raise TargetUnavailable("S3 says an object without its size: is there a proxy in between?")
    size = int(head["ContentLength"])
    if kept := from_metadata(size, head.get("Metadata", {})):
        return kept
    etag = head.get("ETag", "").strip('"')
    plain = head.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in head
    whole = head.get("ChecksumType", "" if "-" in etag else "FULL_OBJECT") == "FULL_OBJECT"
    sha256, crc32c = head.get("ChecksumSHA256", ""), head.get("ChecksumCRC32C", "")
    return Digests(
        size,
        sha256=base64.b64decode(sha256).hex() if whole and _SHA256.fullmatch(sha256) else None,
        md5=md5_of(etag) if plain else None,
        crc32c=crc32c if whole and _CRC32C.fullmatch(crc32c) else None,
    )


def md5_of(etag: str) -> str | None:
    """The MD5 that an ETag has the form of."""
    etag = etag.strip('"')
    return base64.b64encode(bytes.fromhex(etag)).decode() if _MD5.fullmatch(etag) else None


def listed(found: Mapping[str, Any], key: str) -> StoredObject:
    """From an entry of `list_objects_v2`, whose ETag has the form of an MD5 unless the object was sent in parts.

    It is another number where the object is encrypted with a key of KMS or the customer, and then equals no MD5.
    """
    return StoredObject(
        key, Digests(found["Size"], md5=md5_of(found.get("ETag", ""))), found.get("LastModified"), partial=True
    )


def of_copy(body: bytes) -> Mapping[str, Any] | None:
    """The answer to `copy_object`, where it is as S3 says it; botocore reads the same in four times the time."""
    with suppress(ElementTree.ParseError, KeyError, ValueError):
        root = ElementTree.fromstring(body)  # noqa: S314 - as botocore does: expat itself bounds what entities make
        said = {child.tag.rpartition("}")[2]: child.text or "" for child in root}
        if root.tag.rpartition("}")[2] == "CopyObjectResult":
            return {"CopyObjectResult": {"ETag": said["ETag"], "LastModified": instant(said["LastModified"])}}
    return None


_OF_LISTINGS = {"Name", "IsTruncated", "KeyCount", "Contents", "CommonPrefixes"}


async def pages(store: "S3Store", prefix: str, **options: str) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    """What `list_objects_v2` says of all whose key begins so, by the page.

    Raises:
        TargetUnavailable: what answers is no listing, or one that goes on without saying where, or in a circle.
    """
    options |= {"Bucket": store.root.bucket, "Prefix": store.root.prefix + checked_prefix(prefix)}
    address, tokens = store.root.address(prefix), set[str]()
    while True:
        page = await store.called(address, "s3:ListBucket", lambda client: client.list_objects_v2(**options))
        if not page.keys() & _OF_LISTINGS:
            raise TargetUnavailable(
                f"{address}: the answer is no listing: is there a proxy or a sign-in page in between?"
            )
        # A name that ends in `/` is what consoles make to show an empty folder.
        yield [found for found in page.get("Contents", ()) if not found.get("Key", "/").endswith("/")]
        token = page.get("NextContinuationToken", "")
        if not token and not page.get("IsTruncated"):
            return
        if not token or token in tokens:
            fault = "says the same again and again" if token else "breaks off, without a token for the rest"
            raise TargetUnavailable(f"{address}: the server's listing {fault}: it must know list-type=2")
        tokens.add(token)
        options["ContinuationToken"] = token
