"""What a server of S3's protocol was found to lack, so that writes do without it and prove themselves another way."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_export.delivery.s3.errors import said_by
from data_export.wording import harmless

# How servers say it: 501, 411 (they want no chunks), or 400 with one of many codes that names the header.
_UNNAMED = ("NotImplemented", "MissingContentLength")
_NAMED = {
    "checksums": re.compile(r"checksum|trailer|x-amz-sdk|content-length|aws-chunked", re.IGNORECASE),
    "tags": re.compile(r"tagging", re.IGNORECASE),
    "conditions": re.compile(r"if-none-match|condition", re.IGNORECASE),
}


@dataclass
class Dialect:
    """By feature, the words with which the server refused it, or what was seen; empty where nothing is known to lack.

    - `checksums`: `x-amz-checksum-*`. An md5 goes along instead, which older servers compare too; the ETag proves it,
      or the bytes are read back.
    - `conditions`: `If-None-Match`. A look comes before each write and another one after it.
    - `tags`: `x-amz-tagging-directive` of copies; a server without it keeps no tags.
    """

    #: AWS itself, whose refusals are about us.
    complete: bool = False
    lacking: dict[str, str] = field(default_factory=dict)
    #: Whether a second writer of one name was seen to be refused; None where nobody has tried.
    refuses_second: bool | None = None

    def has(self, feature: str) -> bool:
        return feature not in self.lacking

    def known(self) -> frozenset[str]:
        """What is known to lack, as a request begins."""
        return frozenset(self.lacking)

    def learn(
        self, error: Exception, known: frozenset[str], suspects: Sequence[str] = ("checksums", "conditions")
    ) -> bool:
        """Whether the refusal is about a feature that this server lacks, which no request asks for from now on.

        Args:
            known: what was, when the request began; what another has learnt since explains this refusal too.
            suspects: where the server does not say which, in the order in which they are given up.
        """
        status, code, said = said_by(error)
        named = [feature for feature, words in _NAMED.items() if words.search(said)]
        unnamed = status in (411, 501) or code in _UNNAMED
        if self.complete or status not in (400, 405, 411, 501) or not (named or unnamed) or code == "BadDigest":
            return False
        for feature in named or suspects:
            if feature not in known:
                self.lacking.setdefault(feature, harmless(said) or f"status {status}")
                return True
        return False


_FOUND: dict[tuple[str, str], Dialect] = {}


def dialect_of(client: Any, bucket: str, *, complete: bool) -> Dialect:
    """What this process has found of the server so far."""
    return _FOUND.setdefault((str(client.meta.endpoint_url), bucket), Dialect(complete))


@dataclass(frozen=True, slots=True)
class Grants:
    """What the customer's bucket demands of each object that is written: encryption, and who owns it."""

    sse: str | None = None
    sse_kms_key_id: str | None = None
    acl: str | None = None

    @classmethod
    def of(cls, keys: Mapping[str, Any]) -> "Grants":
        return cls(*(keys.get(name) or None for name in ("sse", "sse_kms_key_id", "acl")))

    def to_request(self) -> dict[str, str]:
        """As boto3 takes them with a put, a copy and the beginning of an upload in parts."""
        named = {"ServerSideEncryption": self.sse, "SSEKMSKeyId": self.sse_kms_key_id, "ACL": self.acl}
        return {name: value for name, value in named.items() if value}

    def to_store(self) -> dict[str, str]:
        """As obstore takes them, which knows nothing of an ACL."""
        named = {"server_side_encryption": self.sse, "sse_kms_key_id": self.sse_kms_key_id}
        return {name: value for name, value in named.items() if value}
