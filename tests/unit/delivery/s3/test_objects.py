"""Only what S3 or we ourselves said of an object's bytes counts; what others wrote beside them does not."""

import base64
import hashlib
from typing import Any

import pytest

from data_export.content import Content, Digests
from data_export.delivery.s3.objects import from_head, from_metadata, to_metadata

BYTES = b"picture"
DIGESTS = Content.of_bytes(BYTES, md5=True).digests


def test_what_is_kept_comes_back() -> None:
    assert from_metadata(len(BYTES), to_metadata(DIGESTS)) == DIGESTS
    assert all(name.startswith("data-export-") for name in to_metadata(DIGESTS))


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"md5": hashlib.md5(BYTES).hexdigest()},
        {"sha256": hashlib.sha256(BYTES).hexdigest().upper(), "crc32c": "4b1e0d2a", "md5": "?"},
        {"data-export-sha256": hashlib.sha256(BYTES).hexdigest().upper()},
        {"data-export-crc32c": "4b1e0d2a", "data-export-md5": hashlib.md5(BYTES).hexdigest()},
    ],
)
def test_what_others_wrote_is_not_taken_for_ours(metadata: dict[str, str]) -> None:
    assert from_metadata(len(BYTES), metadata) is None
    head = {"ContentLength": len(BYTES), "ETag": f'"{hashlib.md5(BYTES).hexdigest()}"', "Metadata": metadata}
    assert from_head(head) == Digests(len(BYTES), md5=DIGESTS.md5)


def test_one_damaged_value_does_not_hide_the_others() -> None:
    kept = to_metadata(DIGESTS) | {"data-export-sha256": "none"}
    assert from_metadata(len(BYTES), kept) == Digests(len(BYTES), md5=DIGESTS.md5, crc32c=DIGESTS.crc32c)


@pytest.mark.parametrize(
    "said",
    [
        {"ETag": '"' + "z" * 32 + '"'},
        {"ETag": '"W/5d41402abc4b2a76b9719d911017c592"'},
        {},
        {"ETag": '"' + "0" * 30 + '-1"'},
        {"ChecksumSHA256": "not base64", "ChecksumCRC32C": "AAAA"},
        {"ChecksumSHA256": base64.b64encode(b"\0" * 32).decode() + "-3"},
    ],
)
def test_a_server_that_says_something_else_is_not_believed(said: dict[str, Any]) -> None:
    assert from_head({"ContentLength": 3, **said}) == Digests(3)
