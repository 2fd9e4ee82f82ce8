"""Servers of S3 that refuse no second writer: of two files at once none is lost without a word."""

import asyncio
from typing import Any

import pytest

from data_export.check.check import check_target
from data_export.content import Content
from data_export.delivery.deliver import Placed, deliver
from data_export.delivery.registry import SCHEMES
from data_export.errors import ObjectExists
from demo.servers.faults import Answer, Exchange, Forward
from tests.connectors.contract import DATA_KEY, Stored, random_bytes
from tests.connectors.s3.poor import BIG, IMPLIES, SMALL, Place, Poor, named
from tests.connectors.s3.stores import unfinished


@pytest.fixture(
    params=[
        named(501, "NotImplemented", IMPLIES, Header="If-None-Match"),
        named(501, "NotImplemented", IMPLIES),
        named(400, "InvalidArgument", "Unsupported header", ArgumentName="if-none-match"),
        Answer(400),
        None,
    ],
    ids=["named", "unnamed", "argument", "vague", "ignored"],
)
def unconditional(place: Place, request: pytest.FixtureRequest) -> Place:
    if request.param is None:
        place.rules.ignored = "If-None-Match"
    else:
        place.rules.refused["If-None-Match"] = request.param
    return place


class TestWithoutConditions:
    @pytest.mark.parametrize("content", [SMALL, BIG], ids=["small", "big"])
    @pytest.mark.usefixtures("alone")
    async def test_it_arrives_and_what_is_there_stays(
        self, unconditional: Place, stored: Stored, content: Content
    ) -> None:
        async with unconditional.store() as store:
            await store.create(DATA_KEY, content)
            with pytest.raises(ObjectExists):
                await store.create(DATA_KEY, Content.of_bytes(b"other"))
        assert stored(DATA_KEY) == content.source

    @pytest.mark.parametrize("size", [100, 9 << 20])
    @pytest.mark.parametrize("if_exists", ["keep", "revision", "replace"])
    async def test_of_two_runs_at_once_none_is_lost_without_a_word(
        self, unconditional: Place, stored: Stored, size: int, if_exists: Any
    ) -> None:
        """Such a server is waited for some seconds only: a machine that stalls for longer gets a second chance here."""
        both = [Content.of_bytes(random_bytes(size, seed)) for seed in (1, 2)]

        async def at_once(name: str) -> list[Placed]:
            def key_of(revision: int) -> str:
                return f"{name}.r{revision}"

            async with unconditional.store() as one, unconditional.store() as other:
                pairs = zip((one, other), both, strict=True)
                return await asyncio.gather(*(deliver(store, key_of, content, if_exists) for store, content in pairs))

        for name in ("a", "b"):
            placed = await at_once(name)
            outcomes = [place.outcome for place in placed]
            if outcomes.count("created") <= 1:
                break
        assert outcomes.count("created") <= 1
        for place, content in zip(placed, both, strict=True):
            if place.outcome == "revision" or (place.outcome == "created" and "replaced" not in outcomes):
                assert stored(place.key) == content.source

    @pytest.mark.usefixtures("alone")
    def test_check_says_so_and_leaves_nothing(self, unconditional: Place, raw: Any) -> None:
        assert "does not refuse a second writer" in unconditional.checked()["target: conditions"]
        assert raw.list_objects_v2(Bucket=unconditional.bucket)["KeyCount"] == 0

    @pytest.mark.usefixtures("alone")
    async def test_a_copy_by_the_server(self, unconditional: Place, stored: Stored) -> None:
        async with unconditional.store() as store:
            await store.create("a", SMALL)
            await store.copy_from(store, "a", "b")
            with pytest.raises(ObjectExists):
                await store.copy_from(store, "a", "b")
        assert stored("b") == SMALL.source


class OnlyWhole(Poor):
    async def __call__(self, request: Exchange, forward: Forward) -> Answer:
        self.ignored = "If-None-Match" if request.method == "POST" else "none"
        return await super().__call__(request, forward)


class Refusing(Poor):
    def __init__(self) -> None:
        super().__init__()
        self.refused["If-None-Match"] = named(501, "NotImplemented", IMPLIES, Header="If-None-Match")


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("rules", [OnlyWhole, Refusing])
async def test_a_big_file_replaces_none_that_came_while_its_parts_were_sent(
    place: Place, raw: Any, stored: Stored, rules: type[Poor]
) -> None:
    class Overtaken(rules):  # type: ignore[valid-type, misc]
        async def __call__(self, request: Exchange, forward: Forward) -> Answer:
            if request.url.query.get("partNumber") == "1":
                options = {"Bucket": place.bucket, "Key": "exports/ü/big", "Body": b"theirs"}
                await asyncio.to_thread(raw.put_object, **options)
            return await super().__call__(request, forward)

    place.proxy._rules = Overtaken()
    async with place.store() as store:
        await store.create("small", SMALL)
        assert store.dialect.refuses_second or not store.dialect.has("conditions")
        with pytest.raises(ObjectExists):
            await store.create("big", BIG)
    assert stored("big") == b"theirs"
    assert unfinished(raw, place.bucket) == []


def test_check_finds_a_condition_that_is_ignored_for_parts_only(place: Place) -> None:
    place.proxy._rules = OnlyWhole()
    assert "completes an upload in parts in spite" in place.checked()["target: conditions"]


@pytest.mark.usefixtures("alone")
def test_check_of_a_server_that_has_it_all(place: Place, raw: Any) -> None:
    steps = place.checked()
    assert "target: conditions" not in steps
    assert "target: checksums" not in steps
    assert raw.list_objects_v2(Bucket=place.bucket)["KeyCount"] == 0
    assert unfinished(raw, place.bucket) == []


@pytest.mark.usefixtures("alone")
def test_check_leaves_what_is_none_of_its_own(place: Place, raw: Any, stored: Stored) -> None:
    raw.put_object(Bucket=place.bucket, Key="exports/ü/data-export-check", Body=b"theirs")
    failed = [result for result in check_target(place.store(), check=SCHEMES["s3"].check) if not result.ok]
    assert "is none of ours, and a check writes a file of that name: rename it" in failed[0].detail
    assert stored("data-export-check") == b"theirs"


@pytest.mark.usefixtures("alone")
def test_check_leaves_one_file_at_most_where_nothing_may_be_removed(place: Place, raw: Any) -> None:
    place.rules.denied = {"s3:DeleteObject"}
    for _ in range(2):
        assert "we may not" in place.checked()["target: remove"]
    assert raw.list_objects_v2(Bucket=place.bucket)["KeyCount"] == 1
