"""What S3 knows of an object's bytes."""

import base64
import re
from collections.abc import Mapping
from typing import Any

from data_export.content import Digests

# A prefix of our own: image stores and copying tools keep checksums too, under names and in spellings of theirs.
_PREFIX = "data-export-"
_WELL_FORMED = {
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "crc32c": re.compile(r"[A-Za-z0-9+/]{6}=="),
    "md5": re.compile(r"[A-Za-z0-9+/]{22}=="),
}
_SHA256 = re.compile(r"[A-Za-z0-9+/]{43}=")
_MD5 = re.compile(r"[0-9a-f]{32}")


def to_metadata(digests: Digests) -> dict[str, str]:
    """Digests to keep in the object's metadata; the server compares the bytes with one of them as they arrive."""
    return {_PREFIX + name: value for name in _WELL_FORMED if (value := getattr(digests, name)) is not None}


def from_metadata(size: int, metadata: Mapping[str, Any]) -> Digests | None:
    """The digests that `to_metadata` kept; None for an object that somebody else made."""
    kept = {
        name: str(metadata[_PREFIX + name])
        for name, form in _WELL_FORMED.items()
        if form.fullmatch(str(metadata.get(_PREFIX + name, "")))
    }
    return Digests(size, **kept) if kept else None


def from_head(head: Mapping[str, Any]) -> Digests:
    """From the answer to `head_object(ChecksumMode="ENABLED")`.

    An ETag is the md5 only of an object sent in one piece and not encrypted with a key of KMS or the customer:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
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
        md5=base64.b64encode(bytes.fromhex(etag)).decode() if plain and _MD5.fullmatch(etag) else None,
        crc32c=crc32c if whole and _WELL_FORMED["crc32c"].fullmatch(crc32c) else None,
    )
