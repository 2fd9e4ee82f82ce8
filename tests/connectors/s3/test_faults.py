"""What passes is tried again, what was sent is not sent again, and what is damaged is noticed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from data_export.content import Content
from data_export.delivery.deliver import deliver
from data_export.delivery.s3.dialect import Grants
from data_export.delivery.s3.store import S3Store
from data_export.errors import (
    ObjectExists,
    TargetUnavailable,
    VerificationFailed,
)
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.s3 import S3Server
from demo.servers.strict import s3_error
from tests.connectors.contract import DATA_KEY, Connect, Stored, random_bytes, read_all
from tests.connectors.s3.stores import HASTY, QUICK, key_session, s3_store, unfinished


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (409, "ConditionalRequestConflict")]
)
async def test_a_passing_refusal_is_tried_again(
    store: S3Store, proxy: FaultProxy, stored: Stored, big: Content, status: int, code: str
) -> None:
    body = s3_error(status, code, "later").body
    proxy.answer(status, body, method="PUT", times=2)
    await store.create(DATA_KEY, Content.of_bytes(b"x"))
    assert stored(DATA_KEY) == b"x"
    for method in ("HEAD", "GET"):
        proxy.answer(status, body if method == "GET" else b"", method=method, times=2)
    assert await store.stat(DATA_KEY)
    assert await read_all(store, DATA_KEY) == b"x"
    proxy.answer(status, body, method="GET", path="list-type", times=2)
    assert [one.key async for one in store.list("")] == [DATA_KEY]
    proxy.answer(status, body, method="DELETE", times=2)
    await store.delete(DATA_KEY)
    assert stored(DATA_KEY) is None


async def test_a_refused_part_gives_the_upload_up_and_begins_again(
    store: S3Store, proxy: FaultProxy, stored: Stored, raw: Any, bucket: str, big: Content
) -> None:
    proxy.answer(503, s3_error(503, "SlowDown", "later").body, method="PUT", path="partNumber=2")
    proxy.answer(409, s3_error(409, "ConditionalRequestConflict", "again").body, method="POST", path="uploadId=")
    await store.create(DATA_KEY, big)
    assert isinstance(big.source, Path)
    assert stored(DATA_KEY) == big.source.read_bytes()
    assert unfinished(raw, bucket) == []
    assert len(proxy.requests("DELETE", "uploadId=")) == 2


async def test_a_lasting_refusal_ends_after_the_tries(store: S3Store, proxy: FaultProxy) -> None:
    proxy.answer(503, s3_error(503, "SlowDown", "Reduce your request rate").body, method="PUT", times=99)
    with pytest.raises(TargetUnavailable, match="answers SlowDown Reduce your request rate: try again"):
        await store.create(DATA_KEY, Content.of_bytes(b"x"))
    assert len(proxy.requests("PUT")) == QUICK.tries


async def test_a_stalled_server_ends_as_unavailable(
    proxy: FaultProxy, bucket: str, raw: Any, big: Content, stored: Stored
) -> None:
    async with s3_store(proxy.url, f"s3://{bucket}/exports/ü/", patience=HASTY) as store:
        proxy.stall(method="PUT", times=99)
        for content in (Content.of_bytes(b"x"), big):
            with pytest.raises(TargetUnavailable, match="no proper answer from S3"):
                await store.create(DATA_KEY, content)
        proxy.stall(method="HEAD", times=99)
        with pytest.raises(TargetUnavailable, match="no proper answer from S3"):
            await store.stat(DATA_KEY)
    assert stored(DATA_KEY) is None
    assert unfinished(raw, bucket) == []


async def test_nobody_listens(bucket: str) -> None:
    with pytest.raises(TargetUnavailable, match="EndpointConnectionError"):
        await s3_store("http://127.0.0.1:1", f"s3://{bucket}/").__aenter__()


async def test_connection_broken_while_sending(store: S3Store, proxy: FaultProxy, stored: Stored, big: Content) -> None:
    proxy.reset_request(1000, method="PUT")
    await store.create("small", Content.of_bytes(b"x" * 100_000))
    assert stored("small") == b"x" * 100_000
    proxy.reset_request(3 << 20, method="PUT", path="partNumber=2")
    await store.create(DATA_KEY, big)
    assert isinstance(big.source, Path)
    assert stored(DATA_KEY) == big.source.read_bytes()


async def test_connection_broken_while_reading(store: S3Store, proxy: FaultProxy, big: Content) -> None:
    await store.create(DATA_KEY, big)
    proxy.cut_answer(3_000_000, method="GET", path="timeline")
    assert isinstance(big.source, Path)
    assert await read_all(store, DATA_KEY) == big.source.read_bytes()
    assert len(proxy.requests("GET", r"timeline/[^?]*$")) == 4, "one piece of three is asked for again"


async def test_an_object_replaced_while_it_is_read_is_not_mixed(store: S3Store, big: Content) -> None:
    await store.create(DATA_KEY, big)
    reading = store.read(DATA_KEY)
    await anext(reading)
    await store.replace(DATA_KEY, Content.of_bytes(b"x" * (17 << 20)))
    with pytest.raises(VerificationFailed, match="was replaced while it was read"):
        await anext(reading)


async def test_damaged_object_is_noticed(store: S3Store, raw: Any, bucket: str) -> None:
    await store.create(DATA_KEY, Content.of_bytes(b"right"))
    name = f"exports/ü/{DATA_KEY}"
    raw.put_object(
        Bucket=bucket, Key=name, Body=b"wrong", Metadata=raw.head_object(Bucket=bucket, Key=name)["Metadata"]
    )
    with pytest.raises(VerificationFailed, match="reads as"):
        await read_all(store, DATA_KEY)


@pytest.mark.parametrize("size", [1_000, 17 << 20])
async def test_a_lost_answer_is_recognised_and_nothing_sent_again(
    store: S3Store, proxy: FaultProxy, stored: Stored, raw: Any, bucket: str, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(random_bytes(size))
    content = Content.of_file(path)
    proxy.lose_answer(method="POST", path="uploadId=") if size > 8 << 20 else proxy.lose_answer(method="PUT")
    made = await store.create(DATA_KEY, content)
    assert made.digests.matches(content.digests)
    assert stored(DATA_KEY) == path.read_bytes()
    assert proxy.body_bytes("PUT") == size
    assert unfinished(raw, bucket) == []


async def test_an_object_of_somebody_else_is_not_taken_for_ours_after_a_fault(
    store: S3Store, proxy: FaultProxy, stored: Stored
) -> None:
    await store.create(DATA_KEY, Content.of_bytes(b"theirs"))
    proxy.answer(503, s3_error(503, "SlowDown", "").body, method="PUT")
    with pytest.raises(ObjectExists):
        await store.create(DATA_KEY, Content.of_bytes(b"ours"))
    assert stored(DATA_KEY) == b"theirs"


async def test_cancelled_upload_is_given_up(
    connect: Connect, proxy: FaultProxy, raw: Any, bucket: str, stored: Stored, big: Content
) -> None:
    proxy.stall(method="PUT", path="partNumber=3")
    async with s3_store(proxy.url, f"s3://{bucket}/exports/ü/", patience=HASTY) as store:
        writing = asyncio.create_task(store.create(DATA_KEY, big))
        while len(proxy.requests("PUT", "partNumber")) < 3:
            await asyncio.sleep(0.01)
        assert len(unfinished(raw, bucket)) == 1
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    assert unfinished(raw, bucket) == []
    assert stored(DATA_KEY) is None


@pytest.mark.parametrize("content", [b"small", bytes(9 << 20)], ids=["small", "big"])
@pytest.mark.parametrize("acl", [None, "private"])
async def test_what_a_library_sends_again_by_itself_counts_as_sent(
    proxy: FaultProxy, bucket: str, content: bytes, acl: Any
) -> None:
    """boto3 does, unless the connection says otherwise; the second request finds what the first has written."""
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 3, "mode": "standard"})
    made = key_session().client("s3", endpoint_url=proxy.url, config=config)
    store = S3Store(f"s3://{bucket}/", client=lambda: made, session=key_session, patience=QUICK, grants=Grants(acl=acl))
    async with store:
        for method in ("PUT", "POST"):
            proxy.lose_answer(method=method, path="/image")
        placed = await deliver(store, lambda _: "image", Content.of_bytes(content), "replace")
        assert placed.outcome == "created"
        again = await deliver(store, lambda _: "image", Content.of_bytes(content), "replace")
        assert again.outcome == "unchanged"
        with pytest.raises(ObjectExists):
            await store.create("image", Content.of_bytes(content))


async def test_a_look_is_of_one_moment(server: S3Server, bucket: str) -> None:
    """An image that somebody replaces between two requests has not the digests of one and the encoding of the other."""
    raw, looks = key_session().client("s3", endpoint_url=server.url), [0]
    raw.put_object(Bucket=bucket, Key="image", Body=b"plain")

    async def replace(request: Exchange, forward: Forward) -> Answer:
        if request.method == "HEAD" and request.path.endswith("/image"):
            looks[0] += 1
            if looks[0] == 2:
                raw.put_object(Bucket=bucket, Key="image", Body=b"packed", ContentEncoding="gzip")
        return await forward(request)

    with FaultProxy(server.url, replace) as proxy:
        async with s3_store(proxy.url, f"s3://{bucket}/") as store:
            found = await store.stat("image")
    assert found is not None
    assert (found.digests.size, found.encoding) == (6, "gzip")
    assert found.version == raw.head_object(Bucket=bucket, Key="image")["ETag"]
