"""Answers that S3 does not give: of sign-in pages, broken proxies and servers that leave fields out."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from multidict import CIMultiDict

from data_export.content import Content
from data_export.delivery.s3 import multipart
from data_export.delivery.s3.check import check_s3
from data_export.delivery.s3.store import S3Store
from data_export.errors import DataExportError, TargetUnavailable, VerificationFailed
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.s3 import S3Server
from tests.connectors.contract import read_all
from tests.connectors.s3.stores import s3_store

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


async def test_uploads_without_an_end_are_listed_for_a_while_only(
    server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart, "_GIVING_UP_SECONDS", 0.3)
    asked: list[int] = []

    async def on_and_on(request: Exchange, forward: Forward) -> Answer:
        if request.method != "GET" or "uploads" not in request.url.query:
            return await forward(request)
        asked.append(1)
        page = (
            f"<IsTruncated>true</IsTruncated><NextKeyMarker>{len(asked)}</NextKeyMarker>"
            "<NextUploadIdMarker>1</NextUploadIdMarker>"
        )
        return Answer(200, body=f"<ListMultipartUploadsResult>{page}</ListMultipartUploadsResult>".encode())

    with FaultProxy(server.url, on_and_on) as proxy:
        async with s3_store(proxy.url, f"s3://{bucket}/") as store:
            async with asyncio.timeout(10):
                assert await store.tidy(["inputs"]) == 0
            monkeypatch.setattr(multipart, "_GIVING_UP_SECONDS", 999)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await store.tidy(["inputs"])
    assert len(asked) > 2


async def test_the_check_says_what_answers_without_being_s3(server: S3Server, bucket: str) -> None:
    async def sign_in_page(request: Exchange, forward: Forward) -> Answer:
        return await forward(request) if request.method == "HEAD" else Answer(200)

    with FaultProxy(server.url, sign_in_page) as proxy:
        async with s3_store(proxy.url, f"s3://{bucket}/") as store:
            results = await check_s3(store)
    (put,) = (result for result in results if "PutObject" in result.step)
    assert (put.ok, "not one of S3" in put.detail) == (False, True)


@pytest.mark.parametrize("circle", ["a", "ab", "abcb"])
async def test_uploads_listed_in_a_circle_do_not_hold_the_tidying_up(
    server: S3Server, bucket: str, circle: str
) -> None:
    asked: list[str] = []

    async def round_and_round(request: Exchange, forward: Forward) -> Answer:
        if request.method != "GET" or "uploads" not in request.url.query:
            return await forward(request)
        marker = circle[len(asked) % len(circle)]
        asked.append(marker)
        goes_on = "true" if len(asked) < 20 else "false"  # else a thread would never end
        page = (
            f"<IsTruncated>{goes_on}</IsTruncated><NextKeyMarker>{marker}</NextKeyMarker>"
            "<NextUploadIdMarker>1</NextUploadIdMarker>"
        )
        return Answer(200, body=f"<ListMultipartUploadsResult>{page}</ListMultipartUploadsResult>".encode())

    with FaultProxy(server.url, round_and_round) as proxy:
        async with s3_store(proxy.url, f"s3://{bucket}/") as store, asyncio.timeout(10):
            assert await store.tidy(["inputs"]) == 0
    assert len(asked) == len(set(circle)) + 1


@pytest.mark.parametrize("etag", ['"x"', 'W/"1f-aWQ"'])
@pytest.mark.parametrize("status", [200, 303])
async def test_a_sign_in_page_with_an_etag_is_no_proof_that_anything_was_stored(
    server: S3Server, bucket: str, raw: Any, status: int, etag: str
) -> None:
    """obstore follows a 303, by GET."""
    page = Answer(200, CIMultiDict({"ETag": etag, "Last-Modified": "Sun, 01 Mar 2026 09:30:00 GMT"}), b"<html/>")

    async def gateway(request: Exchange, forward: Forward) -> Answer:
        if request.path == "/login" or (request.method == "PUT" and status == 200):
            return page
        return Answer(303, CIMultiDict({"Location": "/login"})) if request.method == "PUT" else await forward(request)

    with FaultProxy(server.url, gateway) as proxy:
        async with s3_store(proxy.url, f"s3://{bucket}/") as store:
            with pytest.raises(VerificationFailed, match="is not there after it was stored"):
                await store.replace("a", Content.of_bytes(b"x"))
    assert raw.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


async def test_an_etag_of_a_servers_own_costs_a_look(server: S3Server, bucket: str, stored: Any) -> None:
    async def own(request: Exchange, forward: Forward) -> Answer:
        answer = await forward(request)
        if request.method == "PUT":
            answer.headers["ETag"] = '"version-7"'
        return answer

    with FaultProxy(server.url, own) as proxy:
        async with s3_store(proxy.url, f"s3://{bucket}/exports/ü/") as store:
            await store.replace("a", Content.of_bytes(b"x"))
        assert len(proxy.requests("HEAD", "/a$")) == 1
    assert stored("a") == b"x"
