import asyncio
import base64
import dataclasses
import functools
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import RefreshableCredentials

from data_export.content import Content
from data_export.delivery.cloud_retry import Patience
from data_export.delivery.local import LocalStore
from data_export.delivery.s3 import S3Store
from data_export.delivery.s3_connect import endpoint_of
from data_export.errors import (
    AccessDenied,
    ConfigError,
    ObjectExists,
    OverwriteRefused,
    PermanentError,
    TargetFull,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
    VerificationFailed,
)
from demo.servers.faults import FaultProxy
from demo.servers.s3 import S3Server
from demo.servers.strict import StrictS3, s3_error
from tests.connectors.contract import DATA_KEY, Connect, StoreContract, Stored, random_bytes, read_all
from tests.connectors.memory import growth

QUICK = Patience(tries=3, first_pause=0.01, longest_pause=0.02, connect=5, answer=20)
HASTY = dataclasses.replace(QUICK, tries=2, answer=0.7)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.url, StrictS3()) as proxy:
        yield proxy


@pytest.fixture
def bucket(server: S3Server) -> str:
    name = f"customer-{uuid4().hex}"
    server.create_bucket(name)
    return name


@functools.cache
def key_session() -> Any:
    return boto3.Session("key", "secret", region_name="eu-west-3")


def client_of(url: str, session: Any, patience: Patience = QUICK) -> Any:
    config = Config(
        s3={"addressing_style": "path"},
        connect_timeout=patience.connect,
        read_timeout=patience.answer,
        retries={"max_attempts": 0},
    )
    return session.client("s3", endpoint_url=url, config=config)


def s3_store(url: str, uri: str, session: Any = None, patience: Patience = QUICK) -> S3Store:
    session = session or key_session()
    return S3Store(uri, client=lambda: client_of(url, session, patience), session=lambda: session, patience=patience)


@pytest.fixture
def connect(proxy: FaultProxy, bucket: str) -> Connect:
    return lambda: s3_store(proxy.url, f"s3://{bucket}/exports/ü/")


@pytest.fixture
def raw(server: S3Server) -> Iterator[Any]:
    client = client_of(server.url, key_session())
    yield client
    client.close()


@pytest.fixture
def stored(raw: Any, bucket: str) -> Stored:
    def read(key: str) -> bytes | None:
        try:
            with raw.get_object(Bucket=bucket, Key=f"exports/ü/{key}")["Body"] as body:
                return body.read()
        except raw.exceptions.NoSuchKey:
            return None

    return read


class TestS3(StoreContract):
    @pytest.fixture
    def connect(self, connect: Connect) -> Connect:
        return connect

    @pytest.fixture
    def stored(self, stored: Stored) -> Stored:
        return stored


@pytest.fixture
async def store(connect: Connect) -> AsyncIterator[S3Store]:
    async with connect() as store:
        yield store


@pytest.fixture
def big(tmp_path: Path) -> Content:
    path = tmp_path / "big"
    path.write_bytes(random_bytes(17 << 20))
    return Content.of_file(path)


def unfinished(raw: Any, bucket: str) -> list[Any]:
    return raw.list_multipart_uploads(Bucket=bucket).get("Uploads", [])


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


DENIED = "User: arn:aws:iam::1:user/exporter is not authorized to perform: s3:PutObject"


@pytest.mark.parametrize(
    ("method", "operation", "permission"),
    [
        ("PUT", lambda store: store.create("a", Content.of_bytes(b"x")), "s3:PutObject"),
        ("POST", lambda store: store.create("a", Content.of_bytes(b"x" * (9 << 20))), "s3:PutObject"),
        ("HEAD", lambda store: store.stat("a"), "s3:GetObject"),
        ("GET", lambda store: read_all(store, "a"), "s3:GetObject"),
        ("GET", lambda store: anext(store.list("")), "s3:ListBucket"),
        ("DELETE", lambda store: store.delete("a"), "s3:DeleteObject"),
    ],
)
async def test_a_missing_permission_is_named_at_once(
    store: S3Store, proxy: FaultProxy, bucket: str, method: str, operation: Callable[..., Any], permission: str
) -> None:
    proxy.answer(403, b"" if method == "HEAD" else s3_error(403, "AccessDenied", DENIED).body, method=method, times=9)
    with pytest.raises(AccessDenied, match=rf"lacks {permission} on bucket {bucket} \(.*\): grant it"):
        await operation(store)
    assert len([one for one in proxy.seen if one.status == 403]) == 1


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
async def test_refused_credentials(store: S3Store, proxy: FaultProxy, code: str) -> None:
    proxy.answer(403, s3_error(403, code, "no").body, method="PUT", times=9)
    with pytest.raises(AccessDenied, match=f"refuses the credentials of the Airflow connection .{code} no.: correct"):
        await store.create("a", Content.of_bytes(b"x"))
    assert len(proxy.requests("PUT")) == 1


async def test_no_credentials(proxy: FaultProxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AccessDenied, match="fill in"):
        await s3_store(proxy.url, f"s3://{bucket}/", boto3.Session(region_name="eu-west-3")).__aenter__()


async def test_replacing_where_it_is_forbidden(store: S3Store, proxy: FaultProxy, stored: Stored) -> None:
    await store.replace("a", Content.of_bytes(b"first"))
    proxy.answer(403, s3_error(403, "AccessDenied", DENIED).body, method="PUT", times=9)
    with pytest.raises(OverwriteRefused, match="set if_exists to keep or revision"):
        await store.replace("a", Content.of_bytes(b"second"))
    assert stored("a") == b"first"
    with pytest.raises(AccessDenied) as refusal:
        await store.replace("b", Content.of_bytes(b"x"))
    assert not isinstance(refusal.value, OverwriteRefused)


async def test_missing_bucket(proxy: FaultProxy) -> None:
    with pytest.raises(TargetNotFound, match="there is no bucket nowhere: create it"):
        await s3_store(proxy.url, "s3://nowhere/folder/").__aenter__()


async def test_bucket_removed_meanwhile(store: S3Store, raw: Any, bucket: str, big: Content) -> None:
    raw.delete_bucket(Bucket=bucket)
    for operation in (
        store.create("a", Content.of_bytes(b"x")),
        store.create("a", big),
        read_all(store, "a"),
        store.delete("a"),
        anext(store.list("")),
    ):
        with pytest.raises(TargetNotFound, match=f"there is no bucket {bucket}: create it"):
            await operation


async def test_who_may_not_list_the_bucket_may_still_deliver(proxy: FaultProxy, bucket: str, stored: Stored) -> None:
    proxy.answer(403, method="HEAD")
    async with s3_store(proxy.url, f"s3://{bucket}/exports/ü/") as store:
        await store.create("a", Content.of_bytes(b"x"))
    assert stored("a") == b"x"


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (400, "RequestTimeout", TargetUnavailable, "try again"),
        (400, "BadDigest", VerificationFailed, "other bytes arrived"),
        (403, "QuotaExceeded", TargetFull, "make room or raise the quota"),
        (507, "XMinioStorageFull", TargetFull, "make room or raise the quota"),
        (501, "NotImplemented", TargetRefused, "If-None-Match"),
        (301, "PermanentRedirect", TargetRefused, "set region_name"),
        (400, "EntityTooLarge", TargetRefused, "EntityTooLarge"),
    ],
)
async def test_other_refusals(
    store: S3Store, proxy: FaultProxy, status: int, code: str, error: type[Exception], words: str
) -> None:
    proxy.answer(status, s3_error(status, code, "sorry").body, method="PUT", times=9)
    with pytest.raises(error, match=words):
        await store.create("a", Content.of_bytes(b"x"))


class TestDigestsOfForeignObjects:
    async def test_their_own_checksums_do_not_stop_a_reader(self, store: S3Store, raw: Any, bucket: str) -> None:
        metadata = {"sha256": hashlib.sha256(b"theirs").hexdigest().upper(), "md5": hashlib.md5(b"theirs").hexdigest()}
        raw.put_object(Bucket=bucket, Key="exports/ü/a", Body=b"theirs", Metadata=metadata)
        assert await read_all(store, "a") == b"theirs"

    async def test_md5_of_one_piece(self, store: S3Store, raw: Any, bucket: str) -> None:
        raw.put_object(Bucket=bucket, Key="exports/ü/a", Body=b"theirs")
        found = await store.stat("a")
        assert found is not None
        assert found.digests.md5 == base64.b64encode(hashlib.md5(b"theirs").digest()).decode()
        assert found.digests.matches(Content.of_bytes(b"theirs", md5=True).digests)

    async def test_etag_of_an_encrypted_object_is_no_md5(self, store: S3Store, raw: Any, bucket: str) -> None:
        raw.put_object(Bucket=bucket, Key="exports/ü/a", Body=b"theirs", ServerSideEncryption="aws:kms")
        found = await store.stat("a")
        assert found is not None
        assert found.digests.md5 is None

    async def test_checksums_of_an_object_in_parts_are_not_of_the_whole(
        self, store: S3Store, raw: Any, bucket: str
    ) -> None:
        target = {"Bucket": bucket, "Key": "exports/ü/a"}
        upload = raw.create_multipart_upload(**target, ChecksumAlgorithm="SHA256")["UploadId"]
        part = raw.upload_part(**target, UploadId=upload, PartNumber=1, Body=b"theirs")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        raw.complete_multipart_upload(**target, UploadId=upload, MultipartUpload=parts)
        found = await store.stat("a")
        assert found is not None
        assert (found.digests.size, found.digests.md5, found.digests.sha256) == (6, None, None)


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


class TestLinks:
    async def test_link_names_file_and_lifetime(self, store: S3Store) -> None:
        query = parse_qs(urlsplit(await store.sign("a b", timedelta(days=7), "été.json")).query)
        assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
        assert query["X-Amz-Expires"] == [str(7 * 24 * 3600)]
        assert query["response-content-disposition"] == ["attachment; filename*=UTF-8''%C3%A9t%C3%A9.json"]

    async def test_more_than_seven_days_are_refused(self, store: S3Store) -> None:
        with pytest.raises(PermanentError, match="169 hours: set link_ttl_hours to at most 168"):
            await store.sign("a", timedelta(hours=169), "a")

    async def test_temporary_credentials_limit_the_link(self, proxy: FaultProxy, bucket: str) -> None:
        fixed = boto3.Session("key", "secret", "token", region_name="eu-west-3")
        async with s3_store(proxy.url, f"s3://{bucket}/", fixed) as store:
            with pytest.raises(PermanentError, match="dies with the temporary credentials"):
                await store.sign("a", timedelta(minutes=1), "a")
        async with s3_store(proxy.url, f"s3://{bucket}/", role_session(timedelta(hours=6))) as store:
            assert "X-Amz-Security-Token=token" in await store.sign("a", timedelta(hours=5), "a")
            with pytest.raises(PermanentError, match="set a shorter link_ttl_hours, or give"):
                await store.sign("a", timedelta(hours=7), "a")


def role_session(lifetime: timedelta) -> Any:
    """A session as an assumed role makes it."""
    session = boto3.Session(region_name="eu-west-3")
    session._session._credentials = RefreshableCredentials.create_from_metadata(
        {
            "access_key": "key",
            "secret_key": "secret",
            "token": "token",
            "expiry_time": (datetime.now(UTC) + lifetime).isoformat(),
        },
        refresh_using=lambda: pytest.fail("these credentials are still good"),
        method="sts-assume-role",
    )
    return session


class TestAddresses:
    @pytest.mark.parametrize(
        ("options", "bucket", "region", "expected"),
        [
            ({}, "customer", "eu-west-3", ("https://customer.s3.eu-west-3.amazonaws.com", True)),
            ({}, "customer", "us-west-2", ("https://customer.s3.us-west-2.amazonaws.com", True)),
            ({}, "a.b", "eu-west-3", ("https://s3.eu-west-3.amazonaws.com", False)),
            ({"endpoint_url": "https://minio:9000"}, "customer", "us-east-1", ("https://minio:9000", False)),
            (
                {"config": Config(s3={"addressing_style": "path"})},
                "c",
                None,
                ("https://s3.eu-west-3.amazonaws.com", False),
            ),
            (
                {"endpoint_url": "https://store", "config": Config(s3={"addressing_style": "virtual"})},
                "customer",
                None,
                ("https://customer.store", True),
            ),
        ],
    )
    def test_obstore_goes_where_boto3_goes(
        self, options: dict[str, Any], bucket: str, region: str | None, expected: tuple[str, bool]
    ) -> None:
        client = key_session().client("s3", **options)
        assert endpoint_of(client, bucket, region) == expected
        client.close()


async def test_memory_does_not_grow_with_the_object(server: S3Server, bucket: str, tmp_path: Path) -> None:
    grown = await growth(
        tmp_path / "big", 80, "tests.connectors.test_s3", "s3_store", server.url, f"s3://{bucket}/memory/"
    )
    assert grown < 64, f"{grown} MiB"


def test_nothing_connects_before_it_is_entered() -> None:
    assert s3_store("http://127.0.0.1:1", "s3://bucket/folder").uri == "s3://bucket/folder/"
    for wrong in ("gs://bucket/", "s3:///folder", "s3://bucket/../x"):
        with pytest.raises(ConfigError):
            s3_store("http://127.0.0.1:1", wrong)
