"""Copies that S3 makes by itself."""

from typing import TYPE_CHECKING

from data_export.delivery.base import StoredObject
from data_export.delivery.retry import PreconditionFailed, persist
from data_export.delivery.s3.objects import bare_copy
from data_export.errors import ObjectExists

if TYPE_CHECKING:
    from data_export.delivery.s3.store import S3Store


async def copy_by_server(target: "S3Store", source: "S3Store", source_key: str, key: str) -> StoredObject:
    """See `ServerSideCopy.copy_from`."""
    named = {"Bucket": target.root.bucket, "Key": target.root.name(key), "IfNoneMatch": "*"}
    origin = {"Bucket": source.root.bucket, "Key": source.root.name(source_key)}
    needed = f"s3:GetObject on {source.uri} or s3:PutObject"
    digests = source.seen.pop(source_key, None)
    if digests is None and (found := await source.stat(source_key)):
        digests = found.digests
    only = bare_copy(source_key, digests)

    async def copy() -> StoredObject:
        try:
            await target.once(
                source.root.address(source_key),
                needed,
                target.in_thread(lambda client: client.copy_object(**named, **only, CopySource=origin)),
            )
        except PreconditionFailed:
            raise ObjectExists(f"{target.root.address(key)} is there already") from None
        return await target.there(key)

    async def look() -> StoredObject | None:
        here, there = await source.stat(source_key), await target.stat(key)
        return there if here and there and there.digests.matches(here.digests) else None

    return await persist(target.patience, look, copy)
