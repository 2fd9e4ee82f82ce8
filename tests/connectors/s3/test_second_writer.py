"""Two writers of one name at servers that heed `If-None-Match` here and there: nothing is lost without a word."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.config import Config

from data_export.content import Content
from data_export.delivery.s3.connect import instant
from data_export.delivery.s3.store import S3Store
from data_export.errors import ObjectExists, TargetRefused
from demo.servers.faults import Answer, Exchange, Forward
from demo.servers.strict import s3_error
from tests.connectors.contract import Stored
from tests.connectors.s3.poor import BIG, CHECKSUM, IMPLIES, SMALL, WORDINGS, Place, Poor, named
from tests.connectors.s3.stores import QUICK, key_session

HEADER = "If-None-Match"
LACKING = named(501, "NotImplemented", IMPLIES, Header=HEADER)


@dataclass
class Met(Poor):
    """Lets somebody write at a moment of ours."""

    #: Of a request and the server's answer to it; gives another answer, or none.
    after: Callable[[Exchange, Answer], Awaitable[Answer | None]] | None = None

    async def __call__(self, request: Exchange, forward: Forward) -> Answer:
        answer = await super().__call__(request, forward)
        return (self.after and await self.after(request, answer)) or answer


@dataclass
class Theirs:
    """Another run, which looked before we wrote."""

    raw: Any
    bucket: str
    times: int = 0
    written: list[asyncio.Task[Any]] = field(default_factory=list)

    async def write(self, key: str = "a") -> None:
        self.times += 1
        await asyncio.to_thread(self.raw.put_object, Bucket=self.bucket, Key=f"exports/ü/{key}", Body=b"theirs")

    def write_soon(self) -> None:
        async def later() -> None:
            await asyncio.sleep(0.2)
            await self.write()

        if not self.written:
            self.written.append(asyncio.create_task(later()))


@pytest.fixture
def theirs(raw: Any, bucket: str) -> Theirs:
    return Theirs(raw, bucket)


def completes(request: Exchange) -> bool:
    return request.method == "POST" and "uploadId" in request.url.query


async def test_a_big_file_waits_where_only_small_ones_are_refused(place: Place, theirs: Theirs, stored: Stored) -> None:
    async def after(request: Exchange, _answer: Answer) -> None:
        if completes(request):
            theirs.write_soon()

    async with place.store() as store:
        await store.create("small", SMALL)
        assert store.dialect.refuses_second
        place.proxy._rules = Met(after=after)
        with pytest.raises(ObjectExists, match="by another run at the same moment"):
            await store.create("a", BIG)
    assert stored("a") == b"theirs"


async def test_what_a_look_finds_after_a_lost_answer_waits_too(place: Place, theirs: Theirs, stored: Stored) -> None:
    async def after(request: Exchange, _answer: Answer) -> Answer | None:
        if request.method == "PUT" and not theirs.written:
            theirs.write_soon()
            return s3_error(503, "SlowDown", "after it was stored")
        return None

    place.proxy._rules = Met(ignored=HEADER, after=after)
    async with place.store() as store:
        with pytest.raises(ObjectExists, match="by another run at the same moment"):
            await store.create("a", SMALL)
    assert stored("a") == b"theirs"


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.usefixtures("alone")
async def test_what_took_the_place_of_ours_that_was_damaged_stays(
    place: Place, theirs: Theirs, stored: Stored, removed: bool
) -> None:
    async def after(request: Exchange, answer: Answer) -> Answer | None:
        if request.method == "PUT" and answer.status == 200:
            place.proxy._rules.damage = bytes  # type: ignore[union-attr]
        if request.method == "DELETE":
            await theirs.write()
            return None if removed else s3_error(403, "AccessDenied", "no")
        return None

    place.proxy._rules = Met(
        refused={CHECKSUM: WORDINGS["R2"]},
        ignored="Content-MD5",
        hides_etags=True,
        damage=lambda body: body.replace(b"1", b"2"),
        after=after,
    )
    async with place.store() as store:
        with pytest.raises(ObjectExists):
            await store.create("a", SMALL)
    assert stored("a") == b"theirs"


@pytest.mark.usefixtures("alone")
async def test_what_is_asked_of_the_server_replaces_nothing(place: Place, theirs: Theirs, stored: Stored) -> None:
    async def after(request: Exchange, _answer: Answer) -> None:
        if request.method == "PUT" and len(place.proxy.requests("PUT")) == 1:
            await theirs.write()

    place.proxy._rules = Met(ignored=HEADER, after=after)
    async with place.store() as store:
        with pytest.raises(ObjectExists, match="by another run at the same moment"):
            await store.create("a", SMALL)
    assert stored("a") == b"theirs"


@pytest.mark.usefixtures("alone")
async def test_a_server_that_shows_new_objects_after_a_moment_is_asked_all_the_same(place: Place) -> None:
    class Late(Poor):
        async def __call__(self, request: Exchange, forward: Forward) -> Answer:
            late = request.method == "HEAD" and "/a" in request.path and len(place.proxy.requests("HEAD", "/a")) < 3
            return Answer(404) if late else await super().__call__(request, forward)

    place.proxy._rules = Late()
    async with place.store() as store:
        await store.create("a", SMALL)
        assert store.dialect.refuses_second
    assert len(place.proxy.requests("PUT", "/a")) == 2


async def test_what_a_copy_asks_of_the_server_replaces_nothing(place: Place, theirs: Theirs, stored: Stored) -> None:
    async def after(request: Exchange, _answer: Answer) -> None:
        if "x-amz-copy-source" in request.headers and not theirs.times:
            await theirs.write()

    async with place.store() as store:
        await store.create("image", SMALL)
        place.proxy._rules = Met(ignored=HEADER, after=after)
        with pytest.raises(ObjectExists):
            await store.copy_from(store, "image", "a")
        await store.copy_from(store, "image", "b")
        assert store.dialect.refuses_copy is False
    assert stored("a") == b"theirs"


@pytest.mark.usefixtures("alone")
async def test_small_files_keep_a_condition_that_is_refused_in_completions_and_copies(place: Place) -> None:
    """Another run, which writes small files only, does not wait for ours."""

    class Whole(Poor):
        async def __call__(self, request: Exchange, forward: Forward) -> Answer:
            refuses = completes(request) or "x-amz-copy-source" in request.headers
            return LACKING if refuses and HEADER in request.headers else await super().__call__(request, forward)

    place.proxy._rules = Whole()
    async with place.store() as store:
        await store.create("small", SMALL)
        await store.create("big", BIG)
        await store.copy_from(store, "small", "copy")
        await store.create("last", SMALL)
        assert not store.dialect.has("conditions in parts")
        assert not store.dialect.has("conditions of copies")
    assert all(HEADER in request.headers for request in place.proxy.requests("PUT", "/last"))


@pytest.mark.usefixtures("alone")
async def test_a_condition_that_was_heeded_is_not_given_up_for_vague_words(place: Place) -> None:
    async with place.store() as store:
        await store.create("a", SMALL)
        place.proxy.answer(400, s3_error(400, "InvalidArgument", "no").body, method="PUT", path="/b", times=99)
        with pytest.raises(TargetRefused):
            await store.create("b", SMALL)
    assert all(HEADER in request.headers for request in place.proxy.requests("PUT", "/b"))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("content", "tried"), [(BIG, True), (BIG, False), (SMALL, True), (SMALL, False)])
async def test_boto3_looks_before_it_asks_once_more(
    place: Place, theirs: Theirs, stored: Stored, content: Content, tried: bool
) -> None:
    """It waits for up to 20 seconds, and up to four times."""

    class Failing(Poor):
        async def __call__(self, request: Exchange, forward: Forward) -> Answer:
            whole = request.path.endswith("/a") and "Content-MD5" in request.headers and not request.url.query
            if (completes(request) or whole) and not theirs.times:
                await theirs.write()
                return s3_error(503, "SlowDown", "later")
            return await super().__call__(request, forward)

    place.proxy._rules = Failing(ignored=HEADER, refused={CHECKSUM: WORDINGS["R2"]})
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2})

    def client() -> Any:
        return key_session().client("s3", endpoint_url=place.proxy.url, config=config)

    uri = f"s3://{place.bucket}/exports/ü/"
    async with S3Store(uri, client=client, session=key_session, patience=QUICK) as store:
        if tried:
            await store.create("small", SMALL)
            assert not store.dialect.has("conditions")
        with pytest.raises(ObjectExists):
            await store.create("a", content)
    assert stored("a") == b"theirs"


REFUSALS = {
    "in a 200": Answer(200, body=s3_error(412, "PreconditionFailed", "At least one").body.replace(b"?><", b"?>\n  <")),
    "as a read": Answer(304),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.usefixtures("alone")
async def test_a_second_writer_is_refused_in_other_words(place: Place, theirs: Theirs, refusal: Answer) -> None:
    class Refusing(Poor):
        async def __call__(self, request: Exchange, forward: Forward) -> Answer:
            if completes(request):
                await theirs.write("big")
                return refusal
            answer = await super().__call__(request, forward)
            return refusal if (answer.status, refusal.status) == (412, 304) else answer

    place.proxy._rules = Refusing()
    async with place.store() as store:
        await store.create("a", SMALL)
        assert store.dialect.refuses_second
        with pytest.raises(ObjectExists, match="big is there already"):
            await store.create("big", BIG)
    assert len(place.proxy.requests("PUT", "partNumber=1")) == 1


@pytest.mark.parametrize("said", ["99999999999999999", "1255369830000", "yesterday", ""])
def test_no_time_is_a_wrong_value(said: str) -> None:
    with pytest.raises(ValueError, match="time"):
        instant(said)


def test_a_time_without_a_zone_is_one_of_utc() -> None:
    assert instant("2009-10-12T17:50:30").isoformat() == "2009-10-12T17:50:30+00:00"
