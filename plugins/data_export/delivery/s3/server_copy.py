"""Has S3 copy an object by itself, without the source's own metadata."""

import asyncio
import mimetypes
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from data_export.content import Digests
from data_export.delivery.base import StoredObject
from data_export.delivery.retry import NoSuchObject, Patience, PreconditionFailed, persist
from data_export.delivery.s3.connect import endpoint_of, parser_of, proxy_to, signed, signing_key, trusted_by
from data_export.delivery.s3.dialect import SUSPECTS_OF_COPIES, signed_for
from data_export.delivery.s3.objects import md5_of, of_copy, to_metadata
from data_export.delivery.s3.write import require_bare
from data_export.errors import (
    AccessDenied,
    DataExportError,
    ObjectExists,
    TargetNotFound,
    TargetRefused,
    VerificationFailed,
)

if TYPE_CHECKING:
    from data_export.delivery.s3.store import S3Store

#: What the HTTP client of boto3 takes, where aiohttp's own limit is an eighth of it.
_LONGEST_HEADER = 1 << 16
_ERROR = re.compile(rb"<(\w+:)?Error[\s>]")


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


def _confirmed(answer: Mapping[str, Any], key: str, here: StoredObject | None) -> StoredObject | None:
    """The copy, where S3 answers with the MD5 that the source has as its ETag; else only a look says what is there."""
    result = answer.get("CopyObjectResult") or {}
    md5 = md5_of(result.get("ETag", ""))
    if here is None or md5 is None or md5 != md5_of(here.version or ""):
        return None
    return StoredObject(key, replace(here.digests, md5=md5), result.get("LastModified"))


async def _compared(target: "S3Store", source: "S3Store", source_key: str, key: str) -> StoredObject:
    there, original = await target.there(key), await source.stat(source_key)
    if original and there.digests.matches(original.digests) is False:
        raise VerificationFailed(f"{target.root.address(key)} holds {there.digests}: {original} was copied")
    return there


def _what(source: "S3Store", source_key: str, key: str, here: StoredObject | None) -> dict[str, Any]:
    """What is copied, under the condition that it is what was looked at, and what goes along."""
    named = _bare_copy(key, None if here is None or here.partial else here.digests)
    named["CopySource"] = f"{source.root.bucket}/{quote(source.root.name(source_key))}"
    return named | ({"CopySourceIfMatch": here.version} if here and here.version else {})


async def copy_by_server(
    target: "S3Store", source: "S3Store", source_key: str, key: str, here: StoredObject | None
) -> StoredObject:
    """See `ServerSideCopy.copy_from`."""
    here = here or await source.look(source_key)
    only, before = _what(source, source_key, key, here) | target.grants.to_request(), target.dialect.known()

    async def copy() -> StoredObject:
        async with nullcontext() if target.dialect.complete else target.first_copy:
            answer = await _copied(target, source, source_key, key, only, before)
            await require_bare(target, source, source_key, key)
        sure = target.dialect.has("conditions of copies") and _confirmed(answer, key, here)
        return sure or await _compared(target, source, source_key, key)

    async def look() -> StoredObject | None:
        original, there = await source.stat(source_key), await target.stat(key)
        if same := bool(original and there and there.digests.matches(original.digests)):
            await require_bare(target, source, source_key, key, learns=False)  # its answer was lost, or it is another's
        return there if same else None

    return await persist(target.patience, look, copy)


async def _copied(
    target: "S3Store", source: "S3Store", source_key: str, key: str, only: Mapping[str, Any], before: frozenset[str]
) -> Any:
    """The answer to a copy that replaces nothing. A feature that the server is found to lack is done without.

    Args:
        before: what was known to lack when the first try began.
    """
    address, needed = source.root.address(source_key), f"s3:GetObject on {source.uri} or s3:PutObject"
    while True:
        known = target.dialect.known()
        if target.dialect.copies_bare is False:
            raise AccessDenied(f"{source.uri}: the server's copies carry the source's own metadata")
        if not target.dialect.guards_copies() and await target.look(key) is not None:
            raise ObjectExists(f"{target.root.address(key)} is there already")
        options = target.dialect.of_copy(only)
        try:
            answer = await _asked(target, address, needed, key, options)
        except PreconditionFailed:  # or the source is another by now: in both cases the caller looks again
            raise ObjectExists(f"{target.root.address(key)} is there already, or its source was replaced") from None
        except TargetRefused as error:
            if target.dialect.known() != known:
                continue
            target.dialect.forget(before)
            raise target.dialect.streamed(error) from None
        if target.dialect.asks_for_second_copy():
            return await _ask_second(target, key, options, answer)
        return answer


async def _asked(target: "S3Store", address: str, needed: str, key: str, options: Mapping[str, Any]) -> Any:
    """The answer to one copy.

    Raises:
        AccessDenied: whoever writes the target sees no such bucket, which may be another tenant's: it is streamed.
    """
    name = target.root.name(key)
    try:
        return await target.once(address, needed, lambda: target.copies.ask(name, options), SUSPECTS_OF_COPIES)
    except NoSuchObject:
        raise
    except TargetNotFound as error:
        raise AccessDenied(f"{error}: the source's bucket may be another tenant's") from None


async def _ask_second(target: "S3Store", key: str, options: Mapping[str, Any], first: Any) -> Any:
    """Learns whether the server refuses a copy where something is, by asking once more for what it has just made.

    Several that refuse a second writer heed the condition in uploads only, and copies by them replace what is there.

    Returns:
        The answer that says what is there by now: the first where this one was refused; an empty one says nothing.
    """
    again = {name: value for name, value in options.items() if name != "CopySourceIfMatch"}  # the other cause of a 412
    target.dialect.refuses_copy = False  # meanwhile others look before they copy
    try:
        made, there = (first.get("CopyObjectResult") or {}).get("ETag", ""), await target.look(key)
        if made and there and there.version and made.strip('"') != there.version.strip('"'):
            target.dialect.refuses_copy = None  # another's took its place meanwhile, and is not to be copied over
            return {}
        return await _asked(target, target.root.address(key), "s3:PutObject", key, again)
    except PreconditionFailed:
        target.dialect.refuses_copy = True
        return first
    except DataExportError:  # another copy will learn it
        target.dialect.refuses_copy = None
        return {}


class Copies:
    """Requests of copies, with more headers than obstore can send, as many at once as are asked: boto3 needs a thread
    for each, and five times the CPU."""

    def __init__(self, client: Any, session: Any, bucket: str, region: str | None, patience: Patience) -> None:
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest

        self._client, self._session = client, session
        endpoint, virtual = endpoint_of(client, bucket, region)
        self._base = f"{endpoint}/" if virtual else f"{endpoint}/{bucket}/"
        self._region, self._patience = signed_for(client, region), patience
        self._host = S3SigV4Auth(None, "s3", self._region).headers_to_sign(AWSRequest("PUT", self._base))["host"]
        self._parser, self._model = parser_of(client), client.meta.service_model.operation_model("CopyObject")
        options = self._model.input_shape.members.items()
        self._headers = {name: said["name"] for name, option in options if "name" in (said := option.serialization)}
        self._key_of = lru_cache(2)(signing_key)
        self._credentials: Any = None
        self._http: Any = None

    async def ask(self, name: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer to a copy to that name, as boto3 has it.

        Raises:
            botocore.exceptions.BotoCoreError, ClientError, OSError: as `explain` knows them.
        """
        import aiohttp
        from yarl import URL

        url = URL(self._base + quote(name, safe="/~"), encoded=True)
        said, known = self._as_headers(options), await self._known()
        headers = signed(known, self._key_of, self._region, self._host, url.raw_path, said)
        if self._http is None:
            self._http = self._connect()
        try:
            async with self._http.put(url, headers=headers, allow_redirects=False) as answer:
                return self._parsed(answer.status, answer.headers, await answer.read())
        except aiohttp.ClientError as error:
            raise ConnectionError(type(error).__name__) from error

    def _as_headers(self, options: Mapping[str, Any]) -> dict[str, str]:
        """botocore's own spelling of them, without its walk over the hundred that a copy may have."""
        headers = {self._headers[name]: value for name, value in options.items() if name != "Metadata"}
        return headers | {self._headers["Metadata"] + name: value for name, value in options["Metadata"].items()}

    def _connect(self) -> Any:
        """As boto3 does: by its proxy, with its authorities, and without cookies and ~/.netrc."""
        import aiohttp

        config, verify = self._client.meta.config, self._client._endpoint.http_session._verify
        http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=trusted_by(verify) if self._base.startswith("https:") else True
            ),
            headers={"User-Agent": config.user_agent, "Accept-Encoding": "identity"},
            skip_auto_headers=["Accept"],
            proxy=proxy_to(self._client, self._base),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(None, sock_connect=self._patience.connect, sock_read=self._patience.answer),
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
        )
        http._retry_connection = False  # else a lost answer to a copy looks as if another had made it
        return http

    async def _known(self) -> Any:
        """The credentials of now. boto3 renews what ends soon, which blocks; else it only looks at the clock."""
        if self._credentials is None:
            self._credentials = await asyncio.to_thread(self._session.get_credentials)
        renews = getattr(self._credentials, "refresh_needed", None)
        if renews and renews():
            return await asyncio.to_thread(self._credentials.get_frozen_credentials)
        return self._credentials.get_frozen_credentials()

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    def _parsed(self, status: int, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
        """
        Raises:
            botocore.exceptions.ClientError: a refusal, or a copy that broke off after S3 had begun to answer 200.
        """
        from botocore.exceptions import ClientError

        body = body.strip()  # of what kept the connection alive
        if status < 300 and (result := of_copy(body)):
            return result
        if status < 300 and _ERROR.search(body):
            status = 500
        said = {"status_code": status, "headers": headers, "body": body}
        answer: dict[str, Any] = self._parser.parse(said, self._model.output_shape)
        if status >= 300:
            raise ClientError(answer, self._model.name)
        return answer
