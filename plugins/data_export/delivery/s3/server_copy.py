"""Has S3 copy an object by itself, without the source's own metadata."""

import mimetypes
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from data_export.content import Digests
from data_export.delivery.base import StoredObject
from data_export.delivery.retry import PreconditionFailed, persist
from data_export.delivery.s3.dialect import Dialect
from data_export.delivery.s3.errors import Lacking
from data_export.delivery.s3.objects import md5_of, to_metadata
from data_export.errors import AccessDenied, DataExportError, ObjectExists, ObjectRefused, TargetRefused

if TYPE_CHECKING:
    from data_export.delivery.s3.store import S3Store


def _bare_copy(name: str, digests: Digests | None) -> dict[str, Any]:
    """How S3 copies by itself and hands over the content type and our digests only.

    Else it copies the platform's own metadata, tags and cache headers too, which are not for customers.
    """
    kept = None if digests is None else replace(digests, md5=None)  # S3 itself says the md5 of what it copied
    return {
        "ContentType": mimetypes.guess_type(name)[0] or "application/octet-stream",
        "Metadata": to_metadata(kept) if kept else {},
        "MetadataDirective": "REPLACE",
        "TaggingDirective": "REPLACE",
    }


# S3 copies up to 5 GiB by itself, and takes larger objects in parts.
_TOO_LARGE_TO_COPY = re.compile("maximum allowable size|EntityTooLarge")


def _streamed(error: TargetRefused, dialect: Dialect) -> DataExportError:
    """AccessDenied, which has the object streamed, where it may be the copy that the server refuses."""
    if _TOO_LARGE_TO_COPY.search(str(error)):
        return AccessDenied(f"{error}: it is too large to be copied by itself")
    if isinstance(error, ObjectRefused) or (dialect.complete and not isinstance(error, Lacking)):
        return error
    return AccessDenied(f"{error}: it does not copy by itself")


def _confirmed(answer: Mapping[str, Any], key: str, digests: Digests | None) -> StoredObject | None:
    """The copy, where S3 answers with the MD5 of its source; else only a look says what is there."""
    result = answer.get("CopyObjectResult") or {}
    md5 = md5_of(result.get("ETag", ""))
    if digests is None or md5 is None or md5 != digests.md5:
        return None
    return StoredObject(key, Digests(digests.size, md5=md5), result.get("LastModified"))


async def copy_by_server(target: "S3Store", source: "S3Store", source_key: str, key: str) -> StoredObject:
    """See `ServerSideCopy.copy_from`."""
    named = {"Bucket": target.root.bucket, "Key": target.root.name(key)}
    origin = {"Bucket": source.root.bucket, "Key": source.root.name(source_key)}
    needed = f"s3:GetObject on {source.uri} or s3:PutObject"
    if source_key not in source.seen:
        await source.stat(source_key)
    digests, etag = source.seen.pop(source_key, (None, None))
    # The digests that go along are those of this content only.
    only = _bare_copy(source_key, digests) | target.grants.to_request() | ({"CopySourceIfMatch": etag} if etag else {})

    before = target.dialect.known()

    async def copy() -> StoredObject:
        known = target.dialect.known()
        options = named | only
        if target.dialect.has("conditions"):
            options["IfNoneMatch"] = "*"
        elif await target.stat(key) is not None:
            raise ObjectExists(f"{target.root.address(key)} is there already")
        if not target.dialect.has("tags"):
            del options["TaggingDirective"]
        try:
            answer = await target.once(
                source.root.address(source_key),
                needed,
                target.in_thread(lambda client: client.copy_object(**options, CopySource=origin)),
                ("tags", "conditions"),
            )
        except PreconditionFailed:  # or the source is another by now: in both cases the caller looks again
            raise ObjectExists(f"{target.root.address(key)} is there already, or its source was replaced") from None
        except TargetRefused as error:
            if target.dialect.known() != known:
                return await copy()
            target.dialect.forget(before)
            raise _streamed(error, target.dialect) from None
        sure = target.dialect.has("conditions")
        return (sure and _confirmed(answer, key, digests)) or await target.there(key)

    async def look() -> StoredObject | None:
        here, there = await source.stat(source_key), await target.stat(key)
        return there if here and there and there.digests.matches(here.digests) else None

    return await persist(target.patience, look, copy)
