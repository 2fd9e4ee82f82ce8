"""A busy server that says for how long is left alone that long, wherever a library tells us what it says."""

import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from data_export.content import Content
from data_export.delivery.base import Store
from demo.servers.abfs import AbfsServer
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.gcs import GcsServer
from demo.servers.s3 import S3Server
from tests.connectors.abfs.stores import store_at
from tests.connectors.gcs.stores import gcs_store
from tests.connectors.s3.stores import s3_store

BUCKET = "busy-bucket"
STORES: dict[str, tuple[Any, Callable[[str], Any]]] = {
    "abfs": (AbfsServer, lambda url: store_at(url, BUCKET, "")),
    "gs": (GcsServer, lambda url: gcs_store(url, f"gs://{BUCKET}/")),
    "s3": (S3Server, lambda url: s3_store(url, f"s3://{BUCKET}/")),
}


@dataclass
class Busy:
    """Refuses the next request of the method for so long as it says, and notes when requests of it come."""

    method: str = ""
    status: int = 503
    after: str = ""
    met: list[float] = field(default_factory=list)

    def next(self, method: str, status: int, after: str) -> None:
        self.method, self.status, self.after, self.met = method, status, after, []

    async def __call__(self, request: Exchange, forward: Forward) -> Answer:
        if request.method != self.method:
            return await forward(request)
        self.met.append(time.monotonic())
        if len(self.met) > 1:
            return await forward(request)
        return Answer(self.status, CIMultiDict({"Retry-After": self.after} if self.after else {}))

    @property
    def pause(self) -> float:
        return self.met[1] - self.met[0]


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def busy() -> Busy:
    return Busy()


@pytest.fixture
def url(kind: str, busy: Busy, tmp_path: Path) -> Iterator[str]:
    server_kind = STORES[kind][0]
    if not getattr(server_kind, "installed", lambda: True)():
        pytest.skip(f"no server of {kind} on this machine")
    with server_kind(tmp_path) as server, FaultProxy(server.url, busy) as proxy:
        server.create_bucket(BUCKET)
        yield proxy.url


async def _list(store: Store) -> None:
    assert [found.key async for found in store.list("")] == ["a"]


async def _copy(store: Any) -> None:
    await store.copy_from(store, "a", f"copy {time.monotonic_ns()}", await store.look_to_copy(store, "a"))


async def test_it_is_waited_for_as_long_as_the_server_says(kind: str, url: str, busy: Busy) -> None:
    """By small requests and by lists; obstore keeps to itself what S3 says besides its words, so not by those."""
    asks: dict[str, tuple[str, Callable[[Any], Awaitable[Any]]]] = {"list": ("GET", _list)}
    if kind == "s3":
        asks["copy"] = "PUT", _copy
    else:
        asks["stat"] = "GET" if kind == "gs" else "HEAD", lambda store: store.stat("a")
    async with STORES[kind][1](url) as store:
        await store.create("a", Content.of_bytes(b"x"))
        for name, (method, ask) in asks.items():
            for status in (503, 429):
                busy.next(method, status, "1")
                await ask(store)
                assert busy.pause >= 1, (name, status)


@pytest.mark.parametrize(("kind", "method"), [("gs", "POST"), ("gs", "PUT"), ("s3", "POST")])
async def test_by_a_big_file_too(url: str, kind: str, method: str, busy: Busy) -> None:
    """Whether it is refused at its beginning, or at a piece in between."""
    async with STORES[kind][1](url) as store:
        busy.next(method, 503, "1")
        await store.create("big", Content.of_bytes(bytes(9 << 20)))
        assert busy.pause >= 1


@pytest.mark.parametrize("after", ["", "Fri, 27 Nov 2026 13:00:00 GMT", "-5", "1e3", "soon", "9" * 40])
async def test_what_is_no_number_of_seconds_changes_nothing(kind: str, url: str, busy: Busy, after: str) -> None:
    async with STORES[kind][1](url) as store:
        await store.create("a", Content.of_bytes(b"x"))
        busy.next("GET", 503, after)
        await _list(store)
        assert busy.pause < 1.9
