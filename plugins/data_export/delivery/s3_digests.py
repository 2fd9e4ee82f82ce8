"""What S3 knows of an object's bytes."""

import base64
from collections.abc import Mapping
from typing import Any

from data_export.content import Digests

_KEPT = ("sha256", "crc32c", "md5")


def to_metadata(digests: Digests) -> dict[str, str]:
    """Digests to keep in the object's metadata; the server compares the bytes with one of them as they arrive."""
    return {name: value for name in _KEPT if (value := getattr(digests, name)) is not None}


def from_metadata(size: int, metadata: Mapping[str, Any]) -> Digests | None:
    """The digests that `to_metadata` kept; None for an object that somebody else made."""
    kept = {name: str(metadata[name]) for name in _KEPT if name in metadata}
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
    in_one_piece = "-" not in etag
    plain = head.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in head
    whole = head.get("ChecksumType", "FULL_OBJECT" if in_one_piece else "") == "FULL_OBJECT"
    sha256 = head.get("ChecksumSHA256") if whole else None
    return Digests(
        size,
        sha256=base64.b64decode(sha256).hex() if sha256 else None,
        md5=base64.b64encode(bytes.fromhex(etag)).decode() if in_one_piece and plain and len(etag) == 32 else None,
        crc32c=head.get("ChecksumCRC32C") if whole else None,
    )
