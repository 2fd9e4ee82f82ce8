"""Copies by servers that make less of them than S3 does: nothing of others is lost, nothing of the platform leaks."""

import asyncio
from typing import Any

import pytest

from data_export.content import Content
from data_export.delivery.s3.dialect import Dialect
from data_export.delivery.s3.store import S3Store
from data_export.errors import AccessDenied, ObjectExists, TargetRefused
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.s3 import S3Server
from demo.servers.strict import s3_error
from tests.connectors.contract import Stored
from tests.connectors.s3.poor import SMALL, Place
from tests.connectors.s3.stores import s3_store


async def test_where_the_server_replaces_by_copies_nothing_of_others_is_lost(
    server: S3Server, bucket: str, raw: Any, stored: Stored
) -> None:
    """As several do that refuse a second upload; this one is the emulator as it is."""
    with FaultProxy(server.url) as proxy:
        async with s3_store(proxy.url, f"s3://{bucket}/exports/ü/") as store:
            await store.create("image", SMALL)
            for name in ("first", "second"):
                raw.put_object(Bucket=bucket, Key=f"exports/ü/{name}", Body=b"theirs")
                with pytest.raises(ObjectExists, match=f"ü/{name} is there already"):
                    await store.copy_from(store, "image", name, await store.look_to_copy(store, "image"))
                assert stored(name) == b"theirs"
                await store.copy_from(store, "image", f"copy of the {name}")
            assert len(proxy.requests("PUT", "copy%20of")) == 3, "the first copy is asked for twice, to learn it"


async def test_an_image_replaced_while_the_server_is_learnt_is_not_said_to_be_the_old_one(
    server: S3Server, bucket: str, raw: Any
) -> None:
    class Replaced:
        copies = 0

        async def __call__(self, request: Exchange, forward: Forward) -> Answer:
            answer = await forward(request)
            if "x-amz-copy-source" in request.headers and not self.copies:
                self.copies += 1
                await asyncio.to_thread(raw.put_object, Bucket=bucket, Key="image", Body=b"newer")
            return answer

    with FaultProxy(server.url, Replaced()) as proxy:
        async with s3_store(proxy.url, f"s3://{bucket}/") as store:
            raw.put_object(Bucket=bucket, Key="image", Body=b"older")
            copied = await store.copy_from(store, "image", "copy", await store.look_to_copy(store, "image"))
    assert raw.get_object(Bucket=bucket, Key="copy")["Body"].read() == b"newer"
    assert copied.digests.matches(Content.of_bytes(b"newer", md5=True).digests)


async def test_an_image_in_another_tenants_bucket_is_streamed(store: S3Store, proxy: FaultProxy, bucket: str) -> None:
    """Where each tenant has a namespace of its own, the target's server knows not of the source's bucket."""
    await store.create("image", SMALL)
    proxy.answer(404, s3_error(404, "NoSuchBucket", "The specified bucket does not exist").body, method="PUT")
    with pytest.raises(AccessDenied, match="may be another tenant's"):
        await store.copy_from(store, "image", "copy")


@pytest.mark.parametrize("granted", [True, False])
@pytest.mark.usefixtures("alone")
async def test_a_copy_that_carries_the_sources_metadata_does_not_stay(
    place: Place, raw: Any, stored: Stored, granted: bool
) -> None:
    """As servers make it that merge both, or know no directive."""
    place.rules.ignored = "x-amz-metadata-directive"
    place.rules.denied = set() if granted else {"s3:DeleteObject"}
    for name in ("a", "b"):
        raw.put_object(
            Bucket=place.bucket,
            Key=f"exports/ü/{name}",
            Body=b"pixels",
            Metadata={"operator": "secret"},
            CacheControl="x",
        )
    async with place.store() as store:
        with pytest.raises(AccessDenied if granted else TargetRefused, match="own Cache-Control, operator") as refused:
            await store.copy_from(store, "a", "copy", await store.look_to_copy(store, "a"))
        assert granted or "may not be removed: remove it, or let us" in str(refused.value)
        assert (stored("copy") is None) is granted
        with pytest.raises(AccessDenied, match="copies carry the source's own"):
            await store.copy_from(store, "b", "copy of b", await store.look_to_copy(store, "b"))
    assert stored("copy of b") is None


@pytest.mark.usefixtures("alone")
async def test_copies_that_were_under_way_when_the_server_was_learnt_do_not_stay_either(
    place: Place, raw: Any, stored: Stored
) -> None:
    """The first copy was of an image that bears nothing, so that nothing was learnt by it."""
    place.rules.ignored = "x-amz-metadata-directive"
    raw.put_object(Bucket=place.bucket, Key="exports/ü/plain", Body=b"pixels")
    raw.put_object(Bucket=place.bucket, Key="exports/ü/theirs", Body=b"pixels", Metadata={"operator": "secret"})
    async with place.store() as store:
        await store.copy_from(store, "plain", "copy of plain", await store.look_to_copy(store, "plain"))
        here = await store.look_to_copy(store, "theirs")
        copies = [store.copy_from(store, "theirs", f"copy {number}", here) for number in range(12)]
        results = await asyncio.gather(*copies, return_exceptions=True)
    assert {type(result) for result in results} == {AccessDenied}
    assert [stored(f"copy {number}") for number in range(12)] == [None] * 12


@pytest.mark.usefixtures("alone")
async def test_a_copy_whose_answer_was_lost_does_not_stay_with_the_sources_metadata(
    place: Place, raw: Any, stored: Stored
) -> None:
    place.rules.ignored = "x-amz-metadata-directive"
    raw.put_object(Bucket=place.bucket, Key="exports/ü/theirs", Body=b"pixels", Metadata={"operator": "secret"})
    async with place.store() as store:
        here = await store.look_to_copy(store, "theirs")
        place.proxy.lose_answer(method="PUT", path="copy")
        with pytest.raises(AccessDenied, match="own operator"):
            await store.copy_from(store, "theirs", "copy", here)
    assert stored("copy") is None


async def test_that_copies_are_bare_is_looked_at_once_and_only_where_it_matters(
    store: S3Store, proxy: FaultProxy, raw: Any, bucket: str
) -> None:
    raw.put_object(Bucket=bucket, Key="exports/ü/theirs", Body=b"pixels", Metadata={"operator": "secret"})
    await store.create("ours", SMALL)
    looks = []
    for number, name in enumerate(("ours", "ours", "theirs", "theirs")):
        proxy.seen.clear()
        await store.copy_from(store, name, f"copy {number}", await store.look_to_copy(store, name))
        looks.append(len(proxy.requests("HEAD")))
    assert looks == [3, 1, 3, 1]


async def test_of_copies_that_begin_at_once_one_alone_learns_the_server(
    store: S3Store, proxy: FaultProxy, raw: Any, bucket: str
) -> None:
    """Else each asks for itself, which is four requests more a copy: most of what a short list of images costs."""
    raw.put_object(Bucket=bucket, Key="exports/ü/theirs", Body=b"pixels", Metadata={"operator": "secret"})
    here = await store.look_to_copy(store, "theirs")
    proxy.seen.clear()
    await asyncio.gather(*[store.copy_from(store, "theirs", f"copy {number}", here) for number in range(20)])
    assert len(proxy.requests("HEAD")) == 4
    assert len(proxy.requests("PUT")) == 21


async def test_a_first_copy_that_fails_holds_up_nobody_else(store: S3Store, proxy: FaultProxy, stored: Stored) -> None:
    await store.create("image", SMALL)
    here = await store.look_to_copy(store, "image")
    proxy.answer(403, s3_error(403, "AccessDenied", "no").body, method="PUT", path="first")
    copies = [store.copy_from(store, "image", name, here) for name in ("first", "second", "third")]
    results = await asyncio.gather(*copies, return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["AccessDenied", "StoredObject", "StoredObject"]
    assert stored("second") == stored("third") == SMALL.source


async def test_nobody_waits_for_the_first_copy_at_amazon_of_which_nothing_is_to_be_learnt(
    store: S3Store, proxy: FaultProxy, stored: Stored
) -> None:
    store.dialect = Dialect(complete=True)
    await store.create("image", SMALL)
    here = await store.look_to_copy(store, "image")
    proxy.stall(method="PUT", path="first")
    first = asyncio.create_task(store.copy_from(store, "image", "first", here))
    while not proxy.requests("PUT", "first"):
        await asyncio.sleep(0.01)
    await asyncio.wait_for(store.copy_from(store, "image", "second", here), 5)
    assert stored("second") == SMALL.source
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
