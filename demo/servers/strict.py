"""What the emulators of the clouds do not do and the real services do: rules for a `FaultProxy` before them."""

import asyncio
import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

from multidict import CIMultiDict
from yarl import URL

from demo.servers.abfs import ACCOUNT, KEY
from demo.servers.faults import Answer, Exchange, Forward

_OBJECT = re.compile(r"(?:/storage/v1)?/b/([^/]+)/o/([^/]+)")
_REWRITE = re.compile(_OBJECT.pattern + r"/rewriteTo/b/([^/]+)/o/([^/]+)")
_UPLOAD = re.compile(r"/upload/storage/v1/b/([^/]+)/o")


def gcs_error(status: int, message: str, reason: str = "") -> Answer:
    """An error as Cloud Storage words it."""
    body = {"error": {"code": status, "message": message, "errors": [{"message": message, "reason": reason}]}}
    return Answer(status, CIMultiDict({"Content-Type": "application/json"}), json.dumps(body).encode())


@dataclass
class StrictGcs:
    """Generations and preconditions, permissions, rewrites in several calls, and the texts of a 404.

    A precondition of a resumable upload is answered where Cloud Storage answers it: at the last chunk.
    """

    #: Permissions that the caller lacks on a bucket, e.g. `{"target": {"storage.objects.delete"}}`.
    denied: dict[str, set[str]] = field(default_factory=dict)
    #: How many calls a rewrite takes.
    rewrite_calls: int = 1
    caller: str = "exporter@platform.iam.gserviceaccount.com"
    _sessions: dict[str, tuple[str, str, str | None]] = field(default_factory=dict)
    _one_writer: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self, request: Exchange, forward: Forward) -> Answer:
        if request.method in ("GET", "HEAD"):
            return await self._read(request, forward)
        async with self._one_writer:
            answer = await self._write(request, forward)
        return await self._explained(answer, request, forward)

    async def _read(self, request: Exchange, forward: Forward) -> Answer:
        found = _OBJECT.fullmatch(request.url.raw_path) or re.fullmatch(r"/([^/]+)/(.+)", request.url.raw_path)
        if found and (refused := self._refused(found[1], "storage.objects.get")):
            return refused
        listed = re.fullmatch(r"/storage/v1/b/([^/]+)/o", request.url.raw_path)
        if listed and (refused := self._refused(listed[1], "storage.objects.list")):
            return refused
        return await self._explained(await forward(request), request, forward)

    async def _write(self, request: Exchange, forward: Forward) -> Answer:
        if found := _REWRITE.fullmatch(request.url.raw_path):
            return await self._rewrite(request, forward, *map(unquote, found.groups()))
        if found := _UPLOAD.fullmatch(request.url.raw_path):
            return await self._upload(request, forward, found[1])
        if (found := _OBJECT.fullmatch(request.url.raw_path)) and request.method == "DELETE":
            return self._refused(found[1], "storage.objects.delete") or await forward(request)
        return await forward(request)

    async def _upload(self, request: Exchange, forward: Forward, bucket: str) -> Answer:
        query = request.url.query
        if session := self._sessions.get(query.get("upload_id", "")):
            begin, last, total = _content_range(request)
            if last + 1 < total or begin > last:
                return await forward(request)
            return await self._condition(forward, *session) or await forward(request)
        named = query.get("name") or _first_json(request.body)["name"]
        condition = query.get("ifGenerationMatch")
        if query.get("uploadType") != "resumable":
            return await self._condition(forward, bucket, named, condition) or await forward(request)
        answer = self._refused(bucket, "storage.objects.create") or await forward(request)
        if location := answer.headers.get("Location"):
            self._sessions[URL(location).query["upload_id"]] = bucket, named, condition
        return answer

    async def _rewrite(
        self, request: Exchange, forward: Forward, source: str, name: str, bucket: str, target: str
    ) -> Answer:
        refused = self._refused(source, "storage.objects.get")
        refused = refused or await self._condition(forward, bucket, target, request.url.query.get("ifGenerationMatch"))
        seen = request.url.query.get("ifSourceGenerationMatch")
        if not refused and seen and seen != await self._generation(forward, source, name):
            refused = gcs_error(412, "Source pre-condition failed", "conditionNotMet")
        if refused:
            return refused
        call = int(request.url.query.get("rewriteToken", "call-0").removeprefix("call-")) + 1
        if call < self.rewrite_calls:
            body = {"kind": "storage#rewriteResponse", "done": False, "rewriteToken": f"call-{call}"}
            return Answer(200, CIMultiDict({"Content-Type": "application/json"}), json.dumps(body).encode())
        return await forward(request)

    async def _condition(self, forward: Forward, bucket: str, name: str, wanted: str | None) -> Answer | None:
        """The refusal of a write, if any: precondition first, then permissions."""
        generation = await self._generation(forward, bucket, name)
        if wanted is not None and wanted != generation:
            return gcs_error(412, "At least one of the pre-conditions you specified did not hold.", "conditionNotMet")
        refused = self._refused(bucket, "storage.objects.create")
        return refused or (self._refused(bucket, "storage.objects.delete") if generation != "0" else None)

    def _refused(self, bucket: str, permission: str) -> Answer | None:
        if permission not in self.denied.get(bucket, ()):
            return None
        noun = "bucket" if permission.endswith("list") else "object"
        return gcs_error(
            403,
            f"{self.caller} does not have {permission} access to the Google Cloud Storage {noun}. Permission "
            f"'{permission}' denied on resource (or it may not exist).",
            "forbidden",
        )

    async def _generation(self, forward: Forward, bucket: str, name: str) -> str:
        answer = await forward(_get(f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}"))
        return str(json.loads(answer.body)["generation"]) if answer.status == 200 else "0"

    async def _explained(self, answer: Answer, request: Exchange, forward: Forward) -> Answer:
        """The emulator answers 404 without a word."""
        if answer.status != 404 or not (bucket := re.search(r"/b/([^/]+)", request.url.raw_path)):
            return answer
        if (await forward(_get(f"/storage/v1/b/{bucket[1]}"))).status == 404:
            return gcs_error(404, "The specified bucket does not exist.", "notFound")
        return gcs_error(404, f"No such object: {request.url.path.partition('/b/')[2].replace('/o/', '/')}", "notFound")


def _first_json(body: bytes) -> dict[str, str]:
    """The first part of a multipart upload, or all of a resumable one's first request."""
    text = body[body.index(b"{") :][:8192].decode("utf-8", "replace")
    found: dict[str, str] = json.JSONDecoder().raw_decode(text)[0]
    return found


def _get(path: str) -> Exchange:
    return Exchange("GET", URL(path, encoded=True), CIMultiDict())


def _content_range(request: Exchange) -> tuple[int, int, float]:
    found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", request.headers.get("Content-Range", ""))
    if found is None:
        return 0, len(request.body) - 1, len(request.body)
    total = float("inf") if found[3] == "*" else int(found[3])
    return int(found[1] or 0), int(found[2] or -1), total


@dataclass
class StrictS3:
    """Writes one after the other (moto's create-only check is a race), create-only copies, checksums that count, and
    rights."""

    #: Rights that the caller lacks, e.g. `{"s3:PutObject"}`.
    denied: set[str] = field(default_factory=set)
    _one_writer: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self, request: Exchange, forward: Forward) -> Answer:
        if (right := _right(request)) in self.denied:
            return _lacking(right, request)
        if request.method in ("GET", "HEAD"):
            answer = await forward(request)
            hidden = answer.status == 404 and right == "s3:GetObject" and "s3:ListBucket" in self.denied
            return _lacking("s3:ListBucket", request) if hidden else answer
        actual = base64.b64encode(hashlib.sha256(request.body).digest()).decode()
        if request.method == "PUT" and request.headers.get("x-amz-checksum-sha256", actual) != actual:
            return s3_error(400, "BadDigest", "The SHA256 you specified did not match the calculated checksum.")
        async with self._one_writer:
            if "x-amz-copy-source" in request.headers and request.headers.get("If-None-Match") == "*":
                there = await forward(Exchange("HEAD", request.url.with_query(None), _identity(request)))
                if there.status == 200:
                    return s3_error(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")
            return await forward(request)


def _identity(request: Exchange) -> CIMultiDict[str]:
    return CIMultiDict({"Authorization": request.headers.get("Authorization", "")})


def _right(request: Exchange) -> str:
    """What S3 wants for the request: docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html"""
    query = request.url.query
    if "/" not in request.url.path.strip("/"):
        return "s3:ListBucketMultipartUploads" if "uploads" in query else "s3:ListBucket"
    if request.method in ("GET", "HEAD"):
        return "s3:GetObject"
    if request.method == "DELETE":
        return "s3:AbortMultipartUpload" if "uploadId" in query else "s3:DeleteObject"
    return "s3:PutObject"


def _lacking(right: str, request: Exchange) -> Answer:
    denied = s3_error(403, "AccessDenied", f"User: arn:aws:iam::1:user/exporter is not authorized to perform: {right}")
    return Answer(403) if request.method == "HEAD" else denied


def s3_error(status: int, code: str, message: str) -> Answer:
    """An error as S3 words it."""
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Answer(status, CIMultiDict({"Content-Type": "application/xml"}), body.encode())


class PutsFromUrl:
    """Put Blob From URL, which Azurite does not know: learn.microsoft.com/rest/api/storageservices/put-blob-from-url

    Bytes come by the link that is named; what else comes along from the source is up to the request.
    """

    async def __call__(self, request: Exchange, forward: Forward) -> Answer:
        source = request.headers.get("x-ms-copy-source")
        if request.method != "PUT" or not source or "x-ms-requires-sync" in request.headers:
            return await forward(request)
        if request.headers.get("x-ms-blob-type") != "BlockBlob" or request.body:
            return azure_refusal(400, "InvalidHeaderValue")
        condition = {"If-Match": etag} if (etag := request.headers.get("x-ms-source-if-match")) else {}
        read = await forward(Exchange("GET", URL(source, encoded=True), CIMultiDict(condition)))
        if read.status != 200 or not read.body:
            code = "SourceConditionNotMet" if read.status == 412 else "CannotVerifyCopySource"
            return azure_refusal(max(read.status, 400), code)
        md5 = base64.b64encode(hashlib.md5(read.body, usedforsecurity=False).digest()).decode()
        if request.headers.get("x-ms-source-content-md5", md5) != md5:
            return azure_refusal(400, "Md5Mismatch")
        return await forward(self._put(request, read))

    def _put(self, request: Exchange, read: Answer) -> Exchange:
        """The same blob by its bytes; signed anew, because a signature is of all headers."""
        left_out = ("authorization", "x-ms-copy", "x-ms-source", "content-", "x-ms-date", "host")
        headers = CIMultiDict((k, v) for k, v in request.headers.items() if not k.lower().startswith(left_out))
        if request.headers.get("x-ms-copy-source-blob-properties", "true") == "true":
            for name in (
                "Cache-Control",
                "Content-Disposition",
                "Content-Language",
                "Content-Encoding",
                "Content-Type",
            ):
                if name in read.headers:
                    headers.setdefault(f"x-ms-blob-{name.lower()}", read.headers[name])
        if not any(name.lower().startswith("x-ms-meta-") for name in headers):
            headers.extend((k, v) for k, v in read.headers.items() if k.lower().startswith("x-ms-meta-"))
        url = request.url if "sig" in request.url.query else URL(f"{request.url}?{azure_sas()}", encoded=True)
        return Exchange("PUT", url, headers, read.body)


def azure_refusal(status: int, code: str) -> Answer:
    """An error as Azure words it; its header has the code for answers without a body."""
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>No.</Message></Error>'
    return Answer(status, CIMultiDict({"Content-Type": "application/xml", "x-ms-error-code": code}), body.encode())


def azure_sas() -> str:
    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    ends = datetime.now(UTC) + timedelta(hours=1)
    rights = AccountSasPermissions(read=True, write=True, create=True)
    return str(generate_account_sas(ACCOUNT, KEY, ResourceTypes(object=True), rights, ends))
