"""What Azure says of its blobs, one by one or by the page, and their bytes, piece by piece."""

import base64
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from data_export.delivery.abfs.write import from_metadata
from data_export.delivery.base import StoredObject, encoding_of
from data_export.delivery.keys import BucketRoot
from data_export.errors import ObjectRefused, TargetUnavailable

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobClient, ContainerClient

PIECE = 4 << 20


def stored_object(root: BucketRoot, blob: Any) -> StoredObject:
    """From the properties of one blob.

    Raises:
        ObjectRefused: it is a folder, or empty because somebody's copy to there failed.
        TargetUnavailable: the answer is not one of Azure, or somebody's copy to there goes on.
    """
    key, settings = root.key(blob.name), blob.content_settings
    if blob.copy.status == "pending":
        raise TargetUnavailable(f"{root.address(key)}: somebody's copy to there is not complete")
    if blob.copy.status in ("failed", "aborted"):
        raise ObjectRefused(f"{root.address(key)}: somebody's copy to there has {_ENDED[blob.copy.status]}: remove it")
    if _is_folder(blob.metadata or {}):
        raise ObjectRefused(f"{root.address(key)}: a folder has the name (hierarchical namespace): remove it")
    if not isinstance(blob.size, int):
        raise TargetUnavailable(f"{root.address(key)}: the answer of Azure has no size: is there a proxy?")
    md5 = base64.b64encode(settings.content_md5).decode() if settings.content_md5 else None
    digests = from_metadata(blob.size, md5, blob.metadata)
    encoding = encoding_of(settings.content_encoding)
    return StoredObject(key, digests, blob.last_modified, encoding, version=blob.etag)


_ENDED = {"failed": "failed, and left nothing", "aborted": "been aborted, and left nothing"}


def _is_folder(metadata: Mapping[str, str]) -> bool:
    """By what tools mark folders with; names of metadata have no case, and on the way a header may change it."""
    return any(name.lower() == "hdi_isfolder" and value.lower() == "true" for name, value in metadata.items())


async def page(
    container: "ContainerClient", root: BucketRoot, prefix: str, token: str | None
) -> tuple[list[StoredObject], list[str], str | None]:
    """The objects of one page, without folders; the keys of those that are not whole; the token of the next page.

    The library takes 200 microseconds to read one blob of an answer, and a tenth of that where it is asked for names
    only: what else the answer holds is read here.

    Raises:
        LookupError, ValueError, AttributeError: the answer is not one of Azure.
    """
    from azure.core.pipeline.policies import ContentDecodePolicy

    answers: list[Any] = []
    asked: dict[str, Any] = {"include": ["metadata", "copy"], "raw_response_hook": answers.append}
    pages: Any = container.list_blob_names(name_starts_with=prefix or None, **asked).by_page(token)
    async for _ in pages:
        answer = answers[-1].context[ContentDecodePolicy.CONTEXT_NAME]
        if answer.tag != "EnumerationResults":  # a sign-in page may be XML too, and must not pass for an empty folder
            raise ValueError(answer.tag)
        listed = [one for blob in answer.iterfind("Blobs/Blob") if (one := _listed(root, blob))]
        found = [one for one in listed if isinstance(one, StoredObject)]
        return found, [one for one in listed if isinstance(one, str)], pages.continuation_token
    return [], [], None


def _listed(root: BucketRoot, blob: Any) -> StoredObject | str | None:
    """None for a folder, and only the key where somebody's copy to there goes on, or has failed.

    From the XML of a list: https://learn.microsoft.com/rest/api/storageservices/list-blobs#response-body
    """
    named, metadata = blob.find("Name"), {one.tag: one.text or "" for one in blob.iterfind("Metadata/*")}
    said = {one.tag: one.text for one in blob.iterfind("Properties/*")}
    if _is_folder(metadata) or said.get("ResourceType") == "directory":
        return None
    name = unquote(named.text) if named.get("Encoded") == "true" else named.text
    if said.get("CopyStatus") not in (None, "success"):
        return root.key(name)
    digests = from_metadata(int(said["Content-Length"]), said.get("Content-MD5") or None, metadata)
    modified = parsedate_to_datetime(said["Last-Modified"])
    version = f'"{said["Etag"].strip(chr(34))}"' if said.get("Etag") else None
    encoding = encoding_of(said.get("Content-Encoding"))
    return StoredObject(root.key(name), digests, modified, encoding, version=version)


async def piece(blob: "BlobClient", start: int, etag: str | None) -> tuple[bytes, str, int]:
    """At most `PIECE` bytes from `start`, of the object that had this etag; with its etag and size."""
    from azure.core import MatchConditions
    from azure.core.exceptions import HttpResponseError

    same: dict[str, Any] = {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag else {}
    try:
        download = await blob.download_blob(start, PIECE, max_concurrency=1, decompress=False, **same)
    except HttpResponseError as error:
        if error.status_code == 416 and start == 0:  # an empty blob has no first byte
            return b"", "", 0
        raise
    size = int((download.properties.content_range or "/0").partition("/")[2])
    return await download.readall(), download.properties.etag, size
