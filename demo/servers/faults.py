"""A proxy that makes a server misbehave on demand, for tests of what happens then."""

import asyncio
import io
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self, TypedDict, Unpack

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from demo.servers.loop_thread import LoopThread, stop_accepting

_HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "expect", "content-length", "upgrade")
_LAST_ANSWERS_SECONDS = 1.0


@dataclass(slots=True)
class Answer:
    """What a server says; `body` is whole, so that it can be cut or lost."""

    status: int
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    body: bytes = b""


@dataclass(slots=True)
class Exchange:
    """A request as it came in, and in the end the status it was given (0: none)."""

    method: str
    url: URL
    headers: CIMultiDict[str]
    body: bytes = b""
    status: int = 0

    @property
    def path(self) -> str:
        return self.url.path


Forward = Callable[[Exchange], Awaitable[Answer]]


class Rules(Protocol):
    """Behaviour that the server behind the proxy lacks; called for every request, in one event loop."""

    async def __call__(self, request: Exchange, forward: Forward) -> Answer: ...


class Where(TypedDict, total=False):
    """Which requests a fault strikes: those of `method` (default: any) whose path with query matches the regular
    expression `path` (default: any), of which the first `skip` (0) pass and the next `times` (1) are struck."""

    method: str
    path: str
    skip: int
    times: int


@dataclass(slots=True)
class _Fault:
    kind: Literal["answer", "reset_request", "cut_answer", "lose_answer", "stall"]
    where: Where
    after: int = 0
    answer: Answer | None = None
    met: int = 0

    def strikes(self, method: str, target: str) -> bool:
        where = self.where
        if where.get("method", method) != method or not re.search(where.get("path", ""), target):
            return False
        self.met += 1
        return 0 < self.met - where.get("skip", 0) <= where.get("times", 1)


class FaultProxy:
    """Stands in front of the server at `upstream` while the `with` block lasts, and remembers all it sees in `seen`.

    Bodies are held in memory: for requests of a few MiB.
    """

    def __init__(self, upstream: str, rules: Rules | None = None) -> None:
        self._upstream = URL(upstream)
        self._rules = rules
        self._faults: list[_Fault] = []
        self.seen: list[Exchange] = []

    def answer(self, status: int, body: bytes = b"", **where: Unpack[Where]) -> None:
        """Answers so at once; the server behind sees nothing of it."""
        self._faults.append(_Fault("answer", where, answer=Answer(status, body=body)))

    def reset_request(self, after: int = 0, **where: Unpack[Where]) -> None:
        """Drops the connection once `after` bytes of the request's body have come in."""
        self._faults.append(_Fault("reset_request", where, after))

    def cut_answer(self, after: int = 0, **where: Unpack[Where]) -> None:
        """Drops the connection once `after` bytes of the answer's body have gone out."""
        self._faults.append(_Fault("cut_answer", where, after))

    def lose_answer(self, **where: Unpack[Where]) -> None:
        """Lets the server act, then drops the connection without a word."""
        self._faults.append(_Fault("lose_answer", where))

    def stall(self, **where: Unpack[Where]) -> None:
        """Takes the request and never answers."""
        self._faults.append(_Fault("stall", where))

    def body_bytes(self, method: str | None = None, path: str = "") -> int:
        """Bytes of all request bodies that came in."""
        return sum(len(one.body) for one in self.requests(method, path))

    def requests(self, method: str | None = None, path: str = "") -> list[Exchange]:
        return [
            one for one in self.seen if one.method == (method or one.method) and re.search(path, one.url.raw_path_qs)
        ]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread = LoopThread("faults")
        self._thread.run(self._start())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._thread.run(self._stop())
        self._thread.close()

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        self._ended = asyncio.Event()
        self._protocols = web.Server(self._handle)
        self._server = await asyncio.get_running_loop().create_server(self._protocols, "127.0.0.1", 0, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._ended.set()
        await stop_accepting(self._server)
        self._protocols.pre_shutdown()
        await self._protocols.shutdown(_LAST_ANSWERS_SECONDS)
        await self._session.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange = Exchange(request.method, URL(request.raw_path, encoded=True), CIMultiDict(request.headers))
        self.seen.append(exchange)
        fault = next((one for one in self._faults if one.strikes(request.method, request.raw_path)), None)
        limit = fault.after if fault and fault.kind == "reset_request" else None
        if "Expect" in request.headers and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if limit is not None and len(body) >= limit:
                break
        exchange.body = bytes(body)
        if fault and fault.kind == "stall":
            await self._ended.wait()
        if fault and fault.kind in ("reset_request", "stall"):
            return self._drop(request)
        answer = fault.answer if fault and fault.answer else await self._ask(exchange)
        if fault and fault.kind == "lose_answer":
            return self._drop(request)
        exchange.status = answer.status
        try:
            return await self._say(request, answer, fault.after if fault and fault.kind == "cut_answer" else None)
        except ConnectionError:  # the client went away, which is its right
            return self._drop(request)

    async def _ask(self, exchange: Exchange) -> Answer:
        return await (self._rules(exchange, self._forward) if self._rules else self._forward(exchange))

    async def _forward(self, exchange: Exchange) -> Answer:
        headers = CIMultiDict((k, v) for k, v in exchange.headers.items() if k.lower() not in _HOP_BY_HOP)
        url = self._upstream.join(exchange.url)
        body = io.BytesIO(exchange.body) if exchange.body else None  # aiohttp warns of large bytes
        async with self._session.request(
            exchange.method, url, headers=headers, data=body, allow_redirects=False, skip_auto_headers=("Content-Type",)
        ) as answer:
            return Answer(answer.status, CIMultiDict(answer.headers), await answer.read())

    async def _say(self, request: web.BaseRequest, answer: Answer, cut: int | None) -> web.StreamResponse:
        headers = CIMultiDict((k, v) for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP)
        response = web.StreamResponse(status=answer.status, headers=headers)
        if request.method == "HEAD":
            response.content_length = int(answer.headers.get("Content-Length", 0))
        elif answer.status not in (204, 304):
            response.content_length = len(answer.body)
        await response.prepare(request)
        if request.method != "HEAD":
            await response.write(answer.body if cut is None else answer.body[:cut])
        if cut is not None:
            return self._drop(request)
        await response.write_eof()
        return response

    def _drop(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
