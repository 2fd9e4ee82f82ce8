"""Answers that S3 does not give: of sign-in pages, broken proxies and servers that leave fields out."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from data_export.content import Content
from data_export.delivery.s3.store import S3Store
from data_export.errors import DataExportError, TargetUnavailable
from demo.servers.faults import FaultProxy
from tests.connectors.contract import read_all

ANSWERS = [
    b"",
    b"<html>please sign in</html>",
    b"<html><br>please sign in",
    b'<?xml version="1.0"?><ListBucketResult><Contents><Key>a</Ke',
    b"<ListBucketResult><Contents><Size>many</Size></Contents></ListBucketResult>",
    b"<ListBucketResult><Contents><Key>a</Key><LastModified>then</LastModified></Contents></ListBucketResult>",
    b"<ListBucketResult><Contents></Contents></ListBucketResult>",
    b"<InitiateMultipartUploadResult></InitiateMultipartUploadResult>",
    b"{}",
    b"\xff\xfe",
]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("operation", ["stat", "list", "read", "small", "big", "copy", "delete"])
async def test_no_bare_error_reaches_anybody(
    store: S3Store, proxy: FaultProxy, big: Content, answer: bytes, operation: str
) -> None:
    await store.create("there", Content.of_bytes(b"x"))
    operations: dict[str, Any] = {
        "stat": lambda: store.stat("a"),
        "list": lambda: anext(store.list(""), None),
        "read": lambda: read_all(store, "there"),
        "small": lambda: store.create("a", Content.of_bytes(b"x")),
        "big": lambda: store.create("a", big),
        "copy": lambda: store.copy_from(store, "there", "a"),
        "delete": lambda: store.delete("there"),
    }
    for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
        if method != "HEAD" or operation == "stat":
            proxy.answer(200, answer, method=method, times=99)
    with suppress(DataExportError):
        await operations[operation]()


_PAGE = (
    "<ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated><Contents><Key>exports/ü/a</Key><Size>1</Size>"
    "</Contents>{}</ListBucketResult>"
)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (_PAGE.format("<NextContinuationToken>t</NextContinuationToken>"), "says the same again and again"),
        (_PAGE.format("<NextMarker>exports/ü/a</NextMarker>"), "breaks off, without a token for the rest"),
        ("<html><body>please sign in</body></html>", "is there a proxy or a sign-in page in between"),
    ],
)
async def test_a_listing_without_its_end_is_not_taken_for_the_whole(
    store: S3Store, proxy: FaultProxy, answer: str, says: str
) -> None:
    proxy.answer(200, answer.encode(), method="GET", times=99)
    with pytest.raises(TargetUnavailable, match=says):
        async with asyncio.timeout(10):
            assert [found.key async for found in store.list("")] == []


async def test_uploads_listed_in_a_circle_do_not_hold_the_tidying_up(store: S3Store, proxy: FaultProxy) -> None:
    page = (
        "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker>"
        "<NextUploadIdMarker>1</NextUploadIdMarker></ListMultipartUploadsResult>"
    )
    proxy.answer(200, page.encode(), method="GET", times=99)
    async with asyncio.timeout(10):
        assert await store.tidy(["inputs"]) == 0
    assert len(proxy.requests("GET", "uploads")) == 2
