"""Servers that speak less of S3's protocol than S3: what they lack is done without, and nothing is lost silently."""

import asyncio
import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from multidict import CIMultiDict

from data_export.check.check import check_target
from data_export.content import Content
from data_export.delivery.deliver import deliver
from data_export.delivery.registry import SCHEMES
from data_export.delivery.s3 import write
from data_export.delivery.s3.dialect import Dialect, Grants
from data_export.delivery.s3.store import S3Store
from data_export.errors import AccessDenied, ObjectExists, TargetRefused, TargetUnavailable, VerificationFailed
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.s3 import S3Server
from demo.servers.strict import StrictS3, s3_error
from tests.connectors.contract import DATA_KEY, Connect, StoreContract, Stored, random_bytes, read_all
from tests.connectors.s3.stores import QUICK, client_of, key_session, unfinished

BIG = Content.of_bytes(random_bytes(9 << 20))
SMALL = Content.of_bytes(b'{"a":1}\n', "application/json")
CHECKSUM = r"x-amz-(sdk-)?checksum|x-amz-trailer"
ONE_MOMENT = 0.05


@dataclass
class Poor(StrictS3):
    """Refuses requests with some headers, or ignores these."""

    #: Regular expression of headers; what is answered to a request that has one of them.
    refused: dict[str, Answer] = field(default_factory=dict)
    ignored: str = "none"
    #: Changes a request's body where it is stored.
    damage: Callable[[bytes], bytes] = bytes
    hides_etags: bool = False

    async def __call__(self, request: Exchange, forward: Forward) -> Answer:
        if request.method != "HEAD":
            for header, answer in self.refused.items():
                if any(re.match(header, name, re.IGNORECASE) for name in request.headers):
                    return answer
        kept = [
            (name, value) for name, value in request.headers.items() if not re.match(self.ignored, name, re.IGNORECASE)
        ]
        if request.method == "PUT":
            await asyncio.sleep(ONE_MOMENT)  # so that two writers meet
        request = dataclasses.replace(request, headers=CIMultiDict(kept), body=self.damage(request.body))
        answer = await super().__call__(request, forward)
        if self.hides_etags and "ETag" in answer.headers:
            answer.headers["ETag"] = f'"{"0" * 32}"' if request.method == "PUT" else answer.headers["ETag"]
        return answer


def named(status: int, code: str, message: str, **more: str) -> Answer:
    answer = s3_error(status, code, message)
    extra = "".join(f"<{name}>{value}</{name}>" for name, value in more.items())
    answer.body = answer.body.replace(b"</Error>", f"{extra}</Error>".encode())
    return answer


IMPLIES = "A header you provided implies functionality that is not implemented"
WORDINGS = {
    "MinIO and older": named(501, "NotImplemented", IMPLIES, Header="x-amz-checksum-sha256"),
    "R2": named(501, "NotImplemented", "Header 'x-amz-checksum-sha256' with value 'x' not implemented"),
    "unnamed": named(501, "NotImplemented", IMPLIES),
    "without a body": Answer(501),
    "B2": named(400, "InvalidRequest", "Unsupported header 'x-amz-checksum-sha256' received for this API call."),
    "argument": named(400, "InvalidArgument", "Invalid argument.", ArgumentName="x-amz-checksum-sha256"),
    "trailers": named(400, "InvalidRequest", "STREAMING-UNSIGNED-PAYLOAD-TRAILER is not supported: x-amz-trailer"),
    "forbidden": named(403, "AccessDenied", "Header x-amz-checksum-sha256 is not allowed here"),
    "vague": named(400, "InvalidArgument", "Invalid Argument"),
    "method": named(405, "MethodNotAllowed", "The specified method is not allowed against this resource."),
    "length": named(411, "MissingContentLength", "You must provide the Content-Length HTTP header."),
}


class Place:
    """A bucket behind a server that lacks something."""

    def __init__(self, server: S3Server, bucket: str) -> None:
        self.rules = Poor()
        self.proxy = FaultProxy(server.url, self.rules)
        self.bucket = bucket

    def store(self, grants: Grants | None = None) -> S3Store:
        def client() -> Any:
            return client_of(self.proxy.url, key_session())

        return S3Store(
            f"s3://{self.bucket}/exports/ü/", client=client, session=key_session, patience=QUICK, grants=grants
        )

    def checked(self, grants: Grants | None = None) -> dict[str, str]:
        results = check_target(self.store(grants), check=SCHEMES["s3"].check)
        assert [result for result in results if not result.ok] == []
        return {result.step: result.detail for result in results}


@pytest.fixture
def place(server: S3Server, bucket: str) -> Iterator[Place]:
    place = Place(server, bucket)
    with place.proxy:
        yield place


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests in which nobody else writes: to wait for him would prove nothing."""
    monkeypatch.setattr(write, "_SETTLES_AFTER", (0, 0))


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
        both = [Content.of_bytes(random_bytes(size, seed)) for seed in (1, 2)]

        def key_of(revision: int) -> str:
            return f"a.r{revision}"

        async with unconditional.store() as one, unconditional.store() as other:
            placed = await asyncio.gather(
                *(deliver(store, key_of, content, if_exists) for store, content in zip((one, other), both, strict=True))
            )
        outcomes = [place.outcome for place in placed]
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


def test_check_finds_a_condition_that_is_ignored_for_parts_only(place: Place) -> None:
    class OnlyWhole(Poor):
        async def __call__(self, request: Exchange, forward: Forward) -> Answer:
            self.ignored = "If-None-Match" if request.method == "POST" else "none"
            return await super().__call__(request, forward)

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
def test_check_leaves_one_file_at_most_where_nothing_may_be_removed(place: Place, raw: Any) -> None:
    place.rules.denied = {"s3:DeleteObject"}
    for _ in range(2):
        assert "we may not" in place.checked()["target: remove"]
    assert raw.list_objects_v2(Bucket=place.bucket)["KeyCount"] == 1


@pytest.mark.usefixtures("alone")
async def test_a_server_without_tags_copies_all_the_same(place: Place, stored: Stored) -> None:
    words = "Header 'x-amz-tagging-directive' with value 'REPLACE' not implemented"
    place.rules.refused["x-amz-tagging"] = named(501, "NotImplemented", words)
    async with place.store() as store:
        await store.create("a", SMALL)
        await store.copy_from(store, "a", "b")
    assert stored("b") == SMALL.source


@pytest.mark.parametrize(
    ("header", "refusal"),
    [
        ("x-amz-copy-source", named(501, "NotImplemented", "no copies here")),
        ("x-amz-copy-source", named(405, "MethodNotAllowed", "no")),
        ("x-amz-copy-source", named(400, "InvalidRequest", "no")),
        ("x-amz-copy-source-if", named(501, "NotImplemented", IMPLIES, Header="x-amz-copy-source-if-match")),
        ("x-amz-metadata-directive", named(400, "InvalidArgument", "no", ArgumentName="x-amz-metadata-directive")),
    ],
)
@pytest.mark.usefixtures("alone")
async def test_a_server_that_copies_nothing_has_images_streamed(place: Place, header: str, refusal: Answer) -> None:
    """And is asked for all the rest as before."""
    place.rules.refused[header] = refusal
    async with place.store() as store:
        await store.create("a", SMALL)
        with pytest.raises(AccessDenied, match="does not copy by itself"):
            await store.copy_from(store, "a", "b")
        assert store.dialect.lacking == {}


@pytest.mark.parametrize(
    "refusal",
    [
        named(400, "InvalidRequest", "The specified copy source is larger than the maximum allowable size: 5368709120"),
        named(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size."),
    ],
)
async def test_an_image_too_large_for_a_copy_by_amazon_is_streamed(place: Place, refusal: Answer) -> None:
    place.rules.refused["x-amz-copy-source"] = refusal
    async with place.store() as store:
        store.dialect = Dialect(complete=True)
        await store.create("a", SMALL)
        with pytest.raises(AccessDenied, match="too large to be copied by itself"):
            await store.copy_from(store, "a", "b")


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


@pytest.mark.parametrize(
    ("grants", "refusal", "words"),
    [
        (Grants(), named(400, "InvalidRequest", "the object is not one we like"), "not one we like"),
        (Grants(), named(501, "NotImplemented", IMPLIES), "implies functionality"),
        (Grants(acl="private"), named(501, "NotImplemented", IMPLIES, Header="x-amz-acl"), "remove acl"),
        (Grants(acl="private"), named(400, "InvalidArgument", "no", ArgumentName="x-amz-acl"), "remove acl"),
        (Grants(acl="private"), named(400, "InvalidBucketAclWithObjectOwnership", "BucketOwnerEnforced"), "remove acl"),
        (Grants("aws:kms"), named(501, "NotImplemented", "but KMS is not configured"), "remove sse"),
        (Grants("aws:kms"), named(501, "NotImplemented", IMPLIES, Header="x-amz-server-side-encryption"), "remove sse"),
        (Grants("aws:kms"), named(400, "InvalidArgument", "no", ArgumentName="x-amz-server-side-encryption"), "sse"),
        (Grants("aws:kms", "x"), named(400, "InvalidArgument", "Invalid KMS keyId"), "correct sse_kms_key_id"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("content", [SMALL, BIG], ids=["small", "big"])
async def test_what_no_header_of_ours_explains_is_not_done_without(
    place: Place, grants: Grants, refusal: Answer, words: str, content: Content
) -> None:
    """Else the next write would have a weaker promise for nothing."""
    place.rules.refused["x-amz-(acl|server-side)" if grants != Grants() else "Content-Type"] = refusal
    async with place.store(grants) as store:
        with pytest.raises(TargetRefused, match=words):
            await store.create("a", content)
        assert store.dialect.lacking == {}


async def test_a_body_that_is_cut_on_its_way_is_sent_again_and_teaches_nothing(place: Place, stored: Stored) -> None:
    words = "You did not provide the number of bytes specified by the Content-Length HTTP header"
    place.proxy.answer(400, s3_error(400, "IncompleteBody", words).body, method="PUT")
    async with place.store() as store:
        await store.create("a", SMALL)
        assert store.dialect.lacking == {}
    assert stored("a") == SMALL.source


async def test_a_policy_is_no_header_that_a_server_lacks(place: Place) -> None:
    words = "Policy Condition failed: x-amz-meta-owner"
    place.rules.refused["Content-Type"] = named(403, "AccessDenied", words)
    async with place.store() as store:
        with pytest.raises(AccessDenied, match="Condition failed"):
            await store.create("a", SMALL)
        assert store.dialect.lacking == {}


async def test_bytes_that_a_server_finds_damaged_are_no_checksum_that_it_lacks(place: Place) -> None:
    place.rules.refused[CHECKSUM] = named(
        400, "XAmzContentChecksumMismatch", "The provided 'x-amz-checksum' header does not match what was computed."
    )
    async with place.store() as store:
        with pytest.raises(VerificationFailed, match="other bytes arrived"):
            await store.create("a", SMALL)
        assert store.dialect.lacking == {}


class TestGrants:
    GRANTS = Grants("aws:kms", "alias/customer", "bucket-owner-full-control")
    HEADERS = (
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "alias/customer"),
        ("x-amz-acl", "bucket-owner-full-control"),
    )

    @pytest.mark.parametrize("acl", [None, "bucket-owner-full-control"])
    async def test_each_object_that_is_written_carries_them(
        self, place: Place, stored: Stored, acl: str | None
    ) -> None:
        async with place.store(dataclasses.replace(self.GRANTS, acl=acl)) as store:
            await store.create("a", SMALL)
            await store.replace("a", SMALL)
            await store.create("b", BIG)
            await store.copy_from(store, "a", "c")
            assert await read_all(store, "b") == BIG.source
        begun = place.proxy.requests("POST", r"\?uploads")
        puts = [one for one in place.proxy.requests("PUT") if "partNumber" not in one.url.query]
        assert len(begun) == 1
        assert len(puts) >= 3
        for request in (*begun, *puts):
            for name, value in self.HEADERS if acl else self.HEADERS[:2]:
                assert request.headers.get(name) == value
                assert name in request.headers["Authorization"], "not signed"
        for request in place.proxy.requests("GET"):
            assert not any(name.startswith(("x-amz-server-side", "x-amz-acl")) for name in request.headers)
        assert stored("a") == stored("c") == SMALL.source

    def test_check_writes_with_them(self, place: Place) -> None:
        place.checked(self.GRANTS)
        for request in (*place.proxy.requests("POST", r"\?uploads"), *place.proxy.requests("PUT", "check$")):
            assert all(request.headers.get(name) == value for name, value in self.HEADERS)

    @pytest.mark.parametrize(
        ("status", "code", "message", "error", "words"),
        [
            (403, "AccessDenied", "may not: kms:GenerateDataKey on arn:aws", AccessDenied, "lacks kms:GenerateDataKey"),
            (403, "AccessDenied", "may not: kms:Decrypt on arn:aws:kms:x", AccessDenied, "lacks kms:Decrypt"),
            (403, "AccessDenied", "with an explicit deny in a policy", AccessDenied, "a policy forbids s3:PutObject"),
            (403, "AccessDenied", "kms:Decrypt with an explicit deny", AccessDenied, "a policy forbids"),
            (400, "KMS.NotFoundException", "Key 'x' does not exist", TargetRefused, "correct sse_kms_key_id"),
            (400, "KMS.DisabledException", "arn:x is disabled.", TargetRefused, "enable"),
            (400, "KMS.KMSInvalidStateException", "arn:x is pending deletion.", TargetRefused, "enable"),
            (400, "KMS.AccessDeniedException", "no", AccessDenied, "kms:GenerateDataKey"),
            (400, "KMS.ThrottlingException", "rate", TargetUnavailable, "try again"),
            (503, "KMS.KMSServiceUnavailable", "sorry", TargetUnavailable, "try again"),
            (400, "KMSKeyNotFound", "no such key", TargetRefused, "correct sse_kms_key_id"),
            (400, "InvalidRequest", "Bucket does not take ACLs", TargetRefused, "remove acl"),
            (400, "InvalidArgument", "requires x-amz-server-side-encryption: aws:kms", TargetRefused, "correct or rem"),
            (400, "AccessControlListNotSupported", "The bucket does not allow ACLs", TargetRefused, "remove acl"),
            (501, "NotImplemented", "Server side encryption specified but KMS is not configured", TargetRefused, "sse"),
        ],
    )  # fmt: skip
    async def test_what_the_key_or_the_policy_says(
        self, place: Place, status: int, code: str, message: str, error: type[Exception], words: str
    ) -> None:
        place.proxy.answer(status, s3_error(status, code, message).body, method="PUT", times=99)
        async with place.store(self.GRANTS) as store:
            with pytest.raises(error, match=words) as refusal:
                await store.create("a", SMALL)
        assert message[:12] in str(refusal.value)


class TestContractWithoutChecksums(StoreContract):
    many = 60

    @pytest.fixture
    def connect(self, place: Place) -> Connect:
        place.rules.refused[CHECKSUM] = WORDINGS["unnamed"]
        return place.store

    @pytest.fixture
    def stored(self, stored: Stored) -> Stored:
        return stored
