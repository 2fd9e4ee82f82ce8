"""Answers that Cloud Storage does not give: of sign-in pages, broken proxies and servers that leave fields out."""

from contextlib import suppress
from typing import Any

import pytest

from data_export.content import Content
from data_export.delivery.gcs.store import GcsStore
from data_export.errors import DataExportError
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
