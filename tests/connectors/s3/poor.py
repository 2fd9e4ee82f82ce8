"""Servers that speak less of S3's protocol than S3, and stores on them."""

import asyncio
import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from multidict import CIMultiDict

from data_export.check.check import check_target
from data_export.content import Content
from data_export.delivery.registry import SCHEMES
from data_export.delivery.s3.dialect import Grants
from data_export.delivery.s3.store import S3Store
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.s3 import S3Server
from demo.servers.strict import StrictS3, s3_error
from tests.connectors.contract import random_bytes
from tests.connectors.s3.stores import QUICK, client_of, key_session

BIG = Content.of_bytes(random_bytes(9 << 20))
SMALL = Content.of_bytes(b'{"a":1}\n', "application/json")
CHECKSUM = r"x-amz-(sdk-)?checksum|x-amz-trailer"
ONE_MOMENT = 0.05


@dataclass
class Poor(StrictS3):
    """Refuses requests with some headers, or ignores these."""

    #: Regular expression of headers; what is answered to a request that has one of them.
    refused: dict[str, Answer] = field(default_factory=dict)
    ignored: str = "none"
    #: Changes a request's body where it is stored.
    damage: Callable[[bytes], bytes] = bytes
    hides_etags: bool = False

    async def __call__(self, request: Exchange, forward: Forward) -> Answer:
        if request.method != "HEAD":
            for header, answer in self.refused.items():
                if any(re.match(header, name, re.IGNORECASE) for name in request.headers):
                    return answer
        kept = [
            (name, value) for name, value in request.headers.items() if not re.match(self.ignored, name, re.IGNORECASE)
        ]
        if request.method == "PUT":
            await asyncio.sleep(ONE_MOMENT)  # so that two writers meet
        request = dataclasses.replace(request, headers=CIMultiDict(kept), body=self.damage(request.body))
        answer = await super().__call__(request, forward)
        if self.hides_etags and "ETag" in answer.headers:
            answer.headers["ETag"] = f'"{"0" * 32}"' if request.method == "PUT" else answer.headers["ETag"]
        return answer


def named(status: int, code: str, message: str, **more: str) -> Answer:
    answer = s3_error(status, code, message)
    extra = "".join(f"<{name}>{value}</{name}>" for name, value in more.items())
    answer.body = answer.body.replace(b"</Error>", f"{extra}</Error>".encode())
    return answer


IMPLIES = "A header you provided implies functionality that is not implemented"
WORDINGS = {
    "MinIO and older": named(501, "NotImplemented", IMPLIES, Header="x-amz-checksum-sha256"),
    "R2": named(501, "NotImplemented", "Header 'x-amz-checksum-sha256' with value 'x' not implemented"),
    "unnamed": named(501, "NotImplemented", IMPLIES),
    "without a body": Answer(501),
    "B2": named(400, "InvalidRequest", "Unsupported header 'x-amz-checksum-sha256' received for this API call."),
    "argument": named(400, "InvalidArgument", "Invalid argument.", ArgumentName="x-amz-checksum-sha256"),
    "trailers": named(400, "InvalidRequest", "STREAMING-UNSIGNED-PAYLOAD-TRAILER is not supported: x-amz-trailer"),
    "forbidden": named(403, "AccessDenied", "Header x-amz-checksum-sha256 is not allowed here"),
    "vague": named(400, "InvalidArgument", "Invalid Argument"),
    "method": named(405, "MethodNotAllowed", "The specified method is not allowed against this resource."),
    "length": named(411, "MissingContentLength", "You must provide the Content-Length HTTP header."),
}


class Place:
    """A bucket behind a server that lacks something."""

    def __init__(self, server: S3Server, bucket: str) -> None:
        self.rules = Poor()
        self.proxy = FaultProxy(server.url, self.rules)
        self.bucket = bucket

    def store(self, grants: Grants | None = None) -> S3Store:
        def client() -> Any:
            return client_of(self.proxy.url, key_session())

        return S3Store(
            f"s3://{self.bucket}/exports/ü/", client=client, session=key_session, patience=QUICK, grants=grants
        )

    def checked(self, grants: Grants | None = None) -> dict[str, str]:
        results = check_target(self.store(grants), check=SCHEMES["s3"].check)
        assert [result for result in results if not result.ok] == []
        return {result.step: result.detail for result in results}
