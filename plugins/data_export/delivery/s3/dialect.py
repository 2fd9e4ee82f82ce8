"""Whose a server of S3's protocol is, and what it was found to lack: writes do without, and prove themselves anew."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from data_export.delivery.retry import Patience
from data_export.delivery.s3.errors import DAMAGED, PASSING, Lacking, said_by
from data_export.errors import AccessDenied, DataExportError, ObjectRefused, TargetRefused
from data_export.wording import harmless

# How servers say it: 501, 411 (they want no chunks), or 400, 403, 405 with one of many codes that names the header.
_STATUSES = (400, 403, 405, 411, 501)
_UNNAMED = ("NotImplemented", "MissingContentLength")
_VAGUE = ("", "BadRequest", "InvalidArgument", "InvalidRequest", "MethodNotAllowed")
# A header of ours by its whole name, and what an unnamed refusal is about that is none of ours to give up.
_ASKED = re.compile(r"x-amz-(sdk-)?checksum|x-amz-(trailer|tagging)|if-none-match", re.IGNORECASE)
_ELSE = re.compile(r"x-amz-[a-z]|if-[a-z]+-|content-md5|encrypt|\bkms\b|\bacls?\b|ownership", re.IGNORECASE)
_NAMED = {
    "checksums": re.compile(r"checksum|trailer|x-amz-sdk|content-length|aws-chunked", re.IGNORECASE),
    "tags": re.compile(r"tagging", re.IGNORECASE),
    "conditions": re.compile(r"if-none-match|condition", re.IGNORECASE),
}
# S3 copies up to 5 GiB by itself, and takes larger objects in parts.
_TOO_LARGE_TO_COPY = re.compile("maximum allowable size|EntityTooLarge")
_AMAZON = (
    *("amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "api.amazonwebservices.eu"),
    *("c2s.ic.gov", "sc2s.sgov.gov", "cloud.adc-e.uk", "csp.hci.ic.gov"),
)
#: What a write asks for, whole or in parts, and a copy.
SUSPECTS = ("checksums", "conditions")
SUSPECTS_IN_PARTS = ("checksums", "conditions in parts")
SUSPECTS_OF_COPIES = ("tags", "conditions of copies")


@dataclass
class Dialect:
    """By feature, the words with which the server refused it, or what was seen; empty where nothing is known to lack.

    - `checksums`: `x-amz-checksum-*`. An md5 goes along instead, which older servers compare too; the ETag proves it,
      or the bytes are read back.
    - `conditions`: `If-None-Match`. A look comes before each write and another one after it.
    - `conditions in parts`, `conditions of copies`: the same there alone. Small files must go on under their condition:
      another run, which has not learnt this, relies on it.
    - `tags`: `x-amz-tagging-directive` of copies; a server without it keeps no tags.
    """

    #: AWS itself, whose refusals are about us.
    complete: bool = False
    lacking: dict[str, str] = field(default_factory=dict)
    #: What of it no server has named.
    guessed: set[str] = field(default_factory=set)
    #: Whether a second writer of one name was seen to be refused; None where nobody has tried.
    refuses_second: bool | None = None
    #: The same of a copy that the server makes by itself, for which many know the condition not.
    refuses_copy: bool | None = None
    #: Whether its copies were seen to leave out what the source's object carries.
    copies_bare: bool | None = None

    def has(self, feature: str) -> bool:
        return not {feature, feature.split()[0]} & self.lacking.keys()

    def refuses(self, *, parts: bool = False) -> bool:
        """Whether a second writer is known to be refused; in parts by Amazon alone, since several heed no condition."""
        return self.complete or bool(self.refuses_second and self.has("conditions") and not parts)

    def guards_copies(self) -> bool:
        """Whether a copy replaces nothing that is there, so that no look need come before it."""
        return self.has("conditions of copies") and (self.complete or self.refuses_copy is True)

    def asks_for_second_copy(self) -> bool:
        return self.has("conditions of copies") and not self.complete and self.refuses_copy is None

    def of_copy(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a copy, on condition that nothing is there, as far as the server knows such things."""
        kept = {name: value for name, value in options.items() if name != "TaggingDirective" or self.has("tags")}
        return kept | ({"IfNoneMatch": "*"} if self.has("conditions of copies") else {})

    def streamed(self, error: TargetRefused) -> DataExportError:
        """AccessDenied, which has the object streamed, where it may be the copy that the server refuses."""
        if _TOO_LARGE_TO_COPY.search(str(error)):
            return AccessDenied(f"{error}: it is too large to be copied by itself")
        if isinstance(error, ObjectRefused) or (self.complete and not isinstance(error, Lacking)):
            return error
        return AccessDenied(f"{error}: it does not copy by itself")

    def known(self) -> frozenset[str]:
        """What is known to lack, as a request begins."""
        return frozenset(self.lacking)

    def learn(self, error: Exception, known: frozenset[str], suspects: Sequence[str] = ()) -> bool:
        """Whether the refusal is about a feature that this server lacks, which no request asks for from now on.

        Args:
            known: what was, when the request began; what another has learnt since explains this refusal too.
            suspects: what the request asked for, in the order in which it is given up where the server names none;
                it is to be asked for again, by `forget`, where that was of no use.
        """
        status, code, said = said_by(error)
        named = [feature for feature in suspects or _NAMED if _NAMED[feature.split()[0]].search(said)]
        vague = status in (411, 501) or code in _UNNAMED or (status in (400, 405) and code in _VAGUE)
        unnamed = vague and not named and not _ELSE.search(said)
        if self.complete or status not in _STATUSES or not (named or unnamed):
            return False
        if code in DAMAGED or PASSING.search(code):  # what went wrong on the way, in words that hold a header's name
            return False
        if status == 403 and ("explicit deny" in said or not _ASKED.search(said)):
            return False
        for feature in named or suspects:
            if feature not in known and not (unnamed and feature == "conditions" and self.refuses_second):
                self.lacking.setdefault(feature, harmless(said) or f"status {status}")
                if unnamed:
                    self.guessed.add(feature)
                return True
        return False

    def forget(self, known: frozenset[str]) -> None:
        """Asks again for what was given up since then without a word of it: the server refuses the request anyway."""
        for feature in self.guessed - known:
            self.lacking.pop(feature, None)
        self.guessed &= known


class OneFirst:
    """Lets one go in, and all the others as soon as that one is out, whatever came of it.

    What the first copy shows of the server, each of a hundred that begin at once would ask it for else.
    """

    def __init__(self) -> None:
        self._is_out: asyncio.Event | None = None

    async def __aenter__(self) -> None:
        if self._is_out is None:
            self._is_out = asyncio.Event()
        else:
            await self._is_out.wait()

    async def __aexit__(self, *exc_info: object) -> None:
        if self._is_out is not None:
            self._is_out.set()


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


def is_amazon(client: Any) -> bool:
    """Whether the client speaks to AWS itself, not to another server with the same protocol."""
    return amazon_domain(client) is not None


def amazon_domain(client: Any) -> str | None:
    """Domain of the partition of AWS (its own, China's, the European sovereign cloud's) that the client speaks to."""
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    return next((domain for domain in _AMAZON if host.endswith(f".{domain}")), None)


def same_server(one: Any, other: Any) -> bool:
    """Whether objects can be copied between what two clients speak to, as between AWS's regions."""
    if is_amazon(one) and is_amazon(other):
        return bool(one.meta.partition == other.meta.partition)
    return bool(one.meta.endpoint_url.rstrip("/") == other.meta.endpoint_url.rstrip("/"))


def signed_for(client: Any, region: str | None) -> str:
    """The region that requests about a bucket of that region are signed for, other than links."""
    return region if region and is_amazon(client) else client.meta.region_name or "us-east-1"


def patience_of(client: Any, patience: Patience) -> Patience:
    """With the time-outs of the connection's `config_kwargs`; what boto3 has without any is nobody's wish."""
    from botocore.endpoint import DEFAULT_TIMEOUT

    config = client.meta.config
    said = {"connect": config.connect_timeout, "answer": config.read_timeout}
    return replace(patience, **{name: said[name] for name in said if said[name] not in (None, DEFAULT_TIMEOUT)})


def bundle_of(client: Any) -> str | None:
    """The file of authorities that boto3 trusts: the connection's, else that of AWS_CA_BUNDLE or REQUESTS_CA_BUNDLE."""
    verify = client._endpoint.http_session._verify if client.meta.endpoint_url.startswith("https:") else None
    return verify if isinstance(verify, str) else None
