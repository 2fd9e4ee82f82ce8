"""Refusals as Azure words them: rules for a `FaultProxy`."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from multidict import CIMultiDict

from demo.servers.faults import Answer, Exchange, Forward


def azure_error(status: int, code: str, detail: str = "") -> Answer:
    """An error of the Blob service; its header has the code for answers without a body."""
    detail = f"<AuthenticationErrorDetail>{detail}</AuthenticationErrorDetail>" if detail else ""
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>No.</Message>{detail}</Error>'
    headers = CIMultiDict({"Content-Type": "application/xml"} | ({"x-ms-error-code": code} if code else {}))
    return Answer(status, headers, body.encode() if code else b"")


@dataclass
class Refuses:
    """Refuses what matches, at most `times` times."""

    status: int
    code: str
    detail: str = ""
    method: str = ""
    path: str = ""
    times: int = 1000
    before: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, request: Exchange, forward: Forward) -> Answer:
        if self.times and self.method in ("", request.method) and re.search(self.path, request.url.raw_path_qs):
            self.times -= 1
            if self.before:
                await self.before()
            return azure_error(self.status, self.code, self.detail)
        return await forward(request)
