"""Whole small objects and pieces of larger ones, through obstore."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_export.content import Content, Digests, Hasher
from data_export.delivery.s3_digests import from_metadata, to_metadata
from data_export.delivery.s3_errors import status_of
from data_export.errors import VerificationFailed

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import S3Store as ObjectStore

PIECE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an object from some offset, and what S3 says of the whole."""

    data: bytes
    size: int
    etag: str | None
    kept: Digests | None


async def put(objects: "ObjectStore", name: str, content: Content, *, create_only: bool) -> Digests:
    """Sends the content in one request, whose sha256 S3 compares before the object appears.

    Raises:
        VerificationFailed: a local file is not what was announced.
    """
    import obstore

    data = b"".join(content.chunks())
    hasher = Hasher(md5=content.digests.md5 is not None)
    hasher.update(data)
    digests = hasher.digests()
    if content.digests.matches(digests) is False:
        raise VerificationFailed(f"{name}: {digests} is to be sent where {content.digests} was announced")
    await obstore.put_async(
        objects,
        name,
        data,
        mode="create" if create_only else "overwrite",
        attributes={"Content-Type": content.content_type, **to_metadata(digests)},
        use_multipart=False,
    )
    return digests


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
    return Piece(data, found.meta["size"], found.meta["e_tag"], from_metadata(found.meta["size"], found.attributes))
