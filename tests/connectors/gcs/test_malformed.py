"""Answers that Cloud Storage does not give: of sign-in pages, broken proxies and servers that leave fields out."""

from contextlib import suppress
from typing import Any

import pytest

from data_export.content import Content
from data_export.delivery.gcs.store import GcsStore
from data_export.errors import DataExportError, TargetUnavailable
from demo.servers.faults import FaultProxy
from tests.connectors.contract import read_all
from tests.connectors.gcs.stores import UPLOAD

ANSWERS = [
    b"",
    b"<html>please sign in</html>",
    b'{"name": "exports/a", "si',
    b"[]",
    b"null",
    b'"text"',
    b"{}",
    b'{"items": [{}]}',
    b'{"items": 7}',
    b'{"name": "a", "size": "many", "updated": 7, "generation": "x"}',
    b"\xff\xfe",
]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("operation", ["stat", "list", "small", "big", "replace", "copy"])
async def test_no_bare_error_reaches_anybody(
    store: GcsStore, proxy: FaultProxy, big: Content, answer: bytes, operation: str
) -> None:
    await store.create("there", Content.of_bytes(b"x"))
    operations: dict[str, Any] = {
        "stat": lambda: store.stat("a"),
        "list": lambda: anext(store.list(""), None),
        "small": lambda: store.create("a", Content.of_bytes(b"x")),
        "big": lambda: store.create("a", big),
        "replace": lambda: store.replace("there", Content.of_bytes(b"y")),
        "copy": lambda: store.copy_from(store, "there", "a"),
    }
    writes = {"small": UPLOAD, "big": UPLOAD, "copy": "rewriteTo"}
    proxy.answer(200, answer, path=writes.get(operation, ""), times=99)
    with suppress(DataExportError):
        await operations[operation]()


async def test_an_object_without_size_or_date(store: GcsStore, proxy: FaultProxy) -> None:
    proxy.answer(200, b'{"name": "a", "crc32c": "AAAAAA=="}')
    found = await store.stat("a")
    assert found is not None
    assert (found.digests.size, found.modified) == (0, None)


async def test_an_object_of_unknown_length(store: GcsStore, proxy: FaultProxy) -> None:
    proxy.answer(200, b"abc", method="GET")
    assert await read_all(store, "a") == b"abc"


@pytest.mark.parametrize("answer", ANSWERS)
async def test_what_is_no_answer_does_not_mean_that_there_is_no_object(
    store: GcsStore, proxy: FaultProxy, answer: bytes
) -> None:
    proxy.answer(200, answer, times=99)
    with pytest.raises(TargetUnavailable, match="not one of Cloud Storage"):
        await store.stat("a")


@pytest.mark.parametrize("answer", [b"{}", b'{"size": "0"}'])
@pytest.mark.parametrize("operation", ["create", "copy"])
async def test_an_answer_that_confirms_no_bytes_is_no_delivery(
    store: GcsStore, proxy: FaultProxy, answer: bytes, operation: str
) -> None:
    await store.create("there", Content.of_bytes(b""))
    if operation == "copy":
        proxy.answer(200, b'{"done": true, "resource": %s}' % answer, path="rewriteTo", times=99)
        write = store.copy_from(store, "there", "a")
    else:
        proxy.answer(200, answer, path=UPLOAD, times=99)
        write = store.create("a", Content.of_bytes(b""))
    with pytest.raises(TargetUnavailable, match=r"no crc32c"):
        await write
    assert await store.stat("a") is None


@pytest.mark.parametrize("tokens", [["again"], ["one", "two"]])
async def test_a_list_that_goes_in_a_circle_ends(store: GcsStore, proxy: FaultProxy, tokens: list[str]) -> None:
    for token in tokens * 9:
        proxy.answer(200, b'{"items": [], "nextPageToken": "%s"}' % token.encode(), path=r"/o\?")
    with pytest.raises(TargetUnavailable, match="same page of a list again"):
        [one async for one in store.list("")]
