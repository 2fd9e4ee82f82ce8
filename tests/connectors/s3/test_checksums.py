"""Servers of S3 that compare no checksums: the bytes are proven in another way, and nothing is lost silently."""

import asyncio
from typing import Any

import pytest

from data_export.content import Content
from data_export.errors import ObjectExists, TargetRefused, TargetUnavailable, VerificationFailed
from demo.servers.faults import Answer, Exchange, Forward
from demo.servers.strict import s3_error
from tests.connectors.contract import DATA_KEY, Connect, StoreContract, Stored, read_all
from tests.connectors.s3.poor import BIG, CHECKSUM, SMALL, WORDINGS, Place, Poor, named
from tests.connectors.s3.stores import unfinished


@pytest.mark.usefixtures("alone")
class TestWithoutChecksums:
    @pytest.fixture(params=WORDINGS)
    def place(self, place: Place, request: pytest.FixtureRequest) -> Place:
        place.rules.refused[CHECKSUM] = WORDINGS[request.param]
        return place

    async def test_whatever_its_size_it_arrives_and_is_proven(self, place: Place, stored: Stored, raw: Any) -> None:
        async with place.store() as store:
            for key, content in (("small", SMALL), (DATA_KEY, BIG)):
                await store.create(key, content)
                assert stored(key) == content.source
                with pytest.raises(ObjectExists):
                    await store.create(key, Content.of_bytes(b"other"))
                await store.replace(key, content)
                assert await read_all(store, key) == content.source
        assert unfinished(raw, place.bucket) == []
        assert any("Content-MD5" in request.headers for request in place.proxy.requests("PUT", "partNumber"))

    async def test_what_is_learnt_is_remembered(self, place: Place) -> None:
        async with place.store() as store:
            await store.create("a", BIG)
        seen = len(place.proxy.seen)
        async with place.store() as store:
            await store.create("b", BIG)
        assert all(request.status < 400 or request.method == "HEAD" for request in place.proxy.seen[seen:])

    def test_check_says_so(self, place: Place, raw: Any) -> None:
        assert "does not compare x-amz-checksum-sha256" in place.checked()["target: checksums"]
        assert raw.list_objects_v2(Bucket=place.bucket)["KeyCount"] == 0


@pytest.mark.parametrize(("content", "hides_etags"), [(SMALL, False), (SMALL, True), (BIG, False)])
@pytest.mark.usefixtures("alone")
async def test_damaged_bytes_are_found_without_checksums(place: Place, content: Content, hides_etags: bool) -> None:
    place.rules.refused[CHECKSUM] = WORDINGS["R2"]
    place.rules.ignored = "Content-MD5"
    place.rules.damage = lambda body: body.replace(body[-5:], b"12345") if body and not body.startswith(b"<") else body
    place.rules.hides_etags = hides_etags
    async with place.store() as store:
        with pytest.raises((VerificationFailed, TargetUnavailable)):
            await store.create("a", content)


@pytest.mark.usefixtures("alone")
async def test_what_another_writes_before_ours_is_read_back_stays(place: Place, raw: Any, stored: Stored) -> None:
    class Overtaken(Poor):
        async def __call__(self, request: Exchange, forward: Forward) -> Answer:
            answer = await super().__call__(request, forward)
            if request.method == "PUT" and answer.status == 200:
                options = {"Bucket": place.bucket, "Key": "exports/ü/a", "Body": b"theirs"}
                await asyncio.to_thread(raw.put_object, **options)
            return answer

    place.proxy._rules = Overtaken(refused={CHECKSUM: WORDINGS["R2"]}, hides_etags=True)
    async with place.store() as store:
        with pytest.raises(ObjectExists, match="by another run at the same moment"):
            await store.create("a", SMALL)
    assert stored("a") == b"theirs"


@pytest.mark.usefixtures("alone")
async def test_an_etag_that_is_no_md5_costs_reading_back(place: Place, stored: Stored) -> None:
    place.rules.refused[CHECKSUM], place.rules.hides_etags = WORDINGS["R2"], True
    async with place.store() as store:
        await store.create("a", SMALL)
    assert stored("a") == SMALL.source
    assert place.proxy.requests("GET", "/a$")


async def test_amazon_s_own_refusals_are_not_learnt_from(place: Place) -> None:
    async with place.store() as store:
        store.dialect.complete = True
        place.rules.refused[CHECKSUM] = WORDINGS["R2"]
        with pytest.raises(TargetRefused, match="not implemented"):
            await store.create("a", SMALL)


@pytest.mark.parametrize("status", [400, 403, 501])
async def test_a_look_that_asks_for_checksums_in_vain_asks_without(
    place: Place, raw: Any, bucket: str, status: int
) -> None:
    raw.put_object(Bucket=bucket, Key="exports/ü/a", Body=b"somebody else's")

    class Looks(Poor):
        async def __call__(self, request: Exchange, forward: Forward) -> Answer:
            return (
                Answer(status) if "x-amz-checksum-mode" in request.headers else await super().__call__(request, forward)
            )

    place.proxy._rules = Looks()
    async with place.store() as store:
        found = await store.stat("a")
    assert found is not None
    assert found.digests.md5 is not None


async def test_a_body_that_is_cut_on_its_way_is_sent_again_and_teaches_nothing(place: Place, stored: Stored) -> None:
    words = "You did not provide the number of bytes specified by the Content-Length HTTP header"
    place.proxy.answer(400, s3_error(400, "IncompleteBody", words).body, method="PUT")
    async with place.store() as store:
        await store.create("a", SMALL)
        assert store.dialect.lacking == {}
    assert stored("a") == SMALL.source


async def test_bytes_that_a_server_finds_damaged_are_no_checksum_that_it_lacks(place: Place) -> None:
    place.rules.refused[CHECKSUM] = named(
        400, "XAmzContentChecksumMismatch", "The provided 'x-amz-checksum' header does not match what was computed."
    )
    async with place.store() as store:
        with pytest.raises(VerificationFailed, match="other bytes arrived"):
            await store.create("a", SMALL)
        assert store.dialect.lacking == {}


class TestContractWithoutChecksums(StoreContract):
    many = 60

    @pytest.fixture
    def connect(self, place: Place) -> Connect:
        place.rules.refused[CHECKSUM] = WORDINGS["unnamed"]
        return place.store

    @pytest.fixture
    def stored(self, stored: Stored) -> Stored:
        return stored
