"""Copies that S3 makes by itself, from one bucket to another."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from data_export.content import Content
from data_export.delivery.local.store import LocalStore
from data_export.delivery.s3.dialect import Dialect, same_server
from data_export.delivery.s3.store import S3Store
from data_export.errors import AccessDenied, ObjectExists, TargetNotFound
from demo.servers.faults import Answer, FaultProxy
from demo.servers.s3 import S3Server
from demo.servers.strict import s3_error
from tests.connectors.contract import Stored
from tests.connectors.s3.poor import IMPLIES, SMALL, Place, named
from tests.connectors.s3.stores import key_session, s3_store


class TestServerSideCopy:
    @pytest.fixture
    async def source(self, proxy: FaultProxy, server: S3Server) -> AsyncIterator[S3Store]:
        name = f"images-{uuid4().hex}"
        server.create_bucket(name)
        async with s3_store(proxy.url, f"s3://{name}/all/") as source:
            await source.create("image ü", Content.of_bytes(b"pixels", "image/png"))
            yield source

    async def test_copies_without_moving_bytes(
        self, store: S3Store, source: S3Store, proxy: FaultProxy, stored: Stored
    ) -> None:
        assert store.can_copy_from(source)
        proxy.seen.clear()
        copied = await store.copy_from(source, "image ü", "site/inputs/image")
        assert copied.digests.matches(Content.of_bytes(b"pixels").digests)
        assert stored("site/inputs/image") == b"pixels"
        assert proxy.body_bytes() == 0

    async def test_a_copy_costs_one_look_and_one_request(
        self, store: S3Store, source: S3Store, proxy: FaultProxy, raw: Any
    ) -> None:
        raw.put_object(Bucket=source.root.bucket, Key=source.root.name("theirs"), Body=b"pixels")
        await store.copy_from(source, "theirs", "first, by which the server is known to refuse a second")
        for name in ("image ü", "theirs"):
            proxy.seen.clear()
            here = await store.look_to_copy(source, name)
            copied = await store.copy_from(source, name, f"{name} copied", here)
            assert [request.method for request in proxy.seen] == ["HEAD", "PUT"]
            assert copied.digests.md5 == Content.of_bytes(b"pixels", md5=True).digests.md5

    @pytest.mark.parametrize(
        "said", ["2026-03-01T09:30:00.000Z", "2026-03-01T09:30:00Z", "2026-03-01T10:30:00+01:00", "1772357400"]
    )
    async def test_the_time_of_a_copy_is_known_in_each_spelling(
        self, store: S3Store, source: S3Store, proxy: FaultProxy, said: str
    ) -> None:
        await store.copy_from(source, "image ü", "first, by which the server is known to refuse a second")
        here = await store.look_to_copy(source, "image ü")
        assert here is not None
        answer = f"<CopyObjectResult><ETag>{here.version}</ETag><LastModified>{said}</LastModified></CopyObjectResult>"
        proxy.answer(200, b"  \n<?xml version='1.0' encoding='UTF-8'?>" + answer.encode(), method="PUT")
        copied = await store.copy_from(source, "image ü", "image", here)
        assert copied.modified == datetime(2026, 3, 1, 9, 30, tzinfo=UTC)

    @pytest.mark.parametrize("root", [b"<Error", b'<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'])
    async def test_a_copy_that_breaks_off_after_200_is_made_again(
        self, store: S3Store, source: S3Store, proxy: FaultProxy, stored: Stored, root: bytes
    ) -> None:
        await store.copy_from(source, "image ü", "first, by which the server is known to refuse a second")
        body = s3_error(200, "InternalError", "We encountered an internal error.").body
        proxy.answer(200, body.replace(b"<Error", root), method="PUT")
        proxy.seen.clear()
        await store.copy_from(source, "image ü", "image")
        assert stored("image") == b"pixels"
        assert len(proxy.requests("HEAD", "image$")) == 1, "a refusal leaves nothing to be compared at once"

    async def test_a_source_that_changed_since_the_look_is_noticed(self, store: S3Store, source: S3Store) -> None:
        """Also where the server pays no heed to the condition, as this one does: whoever asked looks again."""
        here = await store.look_to_copy(source, "image ü")
        await source.replace("image ü", Content.of_bytes(b"others"))
        with pytest.raises(ObjectExists):
            await store.copy_from(source, "image ü", "image", here)

    async def test_hands_over_nothing_of_the_platform(
        self, store: S3Store, source: S3Store, raw: Any, bucket: str
    ) -> None:
        target = {"Bucket": source.root.bucket, "Key": source.root.name("private.png")}
        raw.put_object(
            **target,
            Body=b"x",
            Metadata={"operator": "secret"},
            Tagging="cost=secret",
            CacheControl="no-store",
            ContentDisposition="inline; filename=secret",
            ContentType="text/secret",
        )
        await store.copy_from(source, "private.png", "image.png")
        copied = {"Bucket": bucket, "Key": "exports/ü/image.png"}
        head = raw.head_object(**copied)
        assert head["ContentType"] == "image/png"
        assert head["Metadata"] == {}
        assert not {"CacheControl", "ContentDisposition"} & head.keys()
        assert raw.get_object_tagging(**copied)["TagSet"] == []

    async def test_existing_object_stays(self, store: S3Store, source: S3Store, stored: Stored) -> None:
        await store.create("image", Content.of_bytes(b"other"))
        with pytest.raises(ObjectExists, match=r"/ü/image is there already"):
            await store.copy_from(source, "image ü", "image")
        assert stored("image") == b"other"

    async def test_a_lost_answer_is_recognised(self, store: S3Store, source: S3Store, proxy: FaultProxy) -> None:
        proxy.lose_answer(method="PUT", path="exports")
        assert (await store.copy_from(source, "image ü", "image")).digests.size == 6
        assert len(proxy.requests("PUT", "exports")) == 1

    async def test_missing_source(self, store: S3Store, source: S3Store) -> None:
        with pytest.raises(TargetNotFound, match="all/absent: no such object"):
            await store.copy_from(source, "absent", "image")

    async def test_source_that_may_not_be_read(self, store: S3Store, source: S3Store, proxy: FaultProxy) -> None:
        proxy.answer(403, s3_error(403, "AccessDenied", "no").body, method="PUT")
        with pytest.raises(AccessDenied, match=r"lacks s3:GetObject on s3://images-.* or s3:PutObject"):
            await store.copy_from(source, "image ü", "image")

    async def test_only_between_the_same_server(self, store: S3Store, server: S3Server, bucket: str) -> None:
        async with s3_store(server.url, f"s3://{bucket}/") as elsewhere:
            assert not store.can_copy_from(elsewhere)
        local = LocalStore(Path("/nonexistent"))
        assert not store.can_copy_from(local)
        with pytest.raises(TypeError, match="can_copy_from"):
            await store.copy_from(local, "a", "a")


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


def test_no_copies_between_partitions_of_amazon() -> None:
    paris, virginia, china = (
        key_session().client("s3", region_name=name) for name in ("eu-west-3", "us-east-1", "cn-north-1")
    )
    assert same_server(paris, virginia)
    assert not same_server(paris, china)
