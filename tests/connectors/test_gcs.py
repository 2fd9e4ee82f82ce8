import asyncio
import dataclasses
import functools
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from gcloud.aio.storage import Storage
from google.auth import compute_engine, impersonated_credentials
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import Request
from google.cloud.storage import Client
from google.oauth2 import service_account

from data_export.content import Content
from data_export.delivery.cloud_retry import Patience
from data_export.delivery.gcs import GcsStore
from data_export.delivery.local import LocalStore
from data_export.errors import (
    AccessDenied,
    ConfigError,
    ObjectExists,
    OverwriteRefused,
    PermanentError,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
    VerificationFailed,
)
from demo.servers.faults import FaultProxy
from demo.servers.gcs import GcsServer
from demo.servers.strict import StrictGcs, gcs_error
from tests.connectors.contract import DATA_KEY, Connect, StoreContract, Stored, random_bytes, read_all
from tests.connectors.memory import growth

QUICK = Patience(tries=3, first_pause=0.01, longest_pause=0.02, connect=5, answer=20)
HASTY = dataclasses.replace(QUICK, tries=2, answer=0.7)
UPLOAD = r"/upload/storage/v1/"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    with GcsServer(tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture
def rules() -> StrictGcs:
    return StrictGcs()


@pytest.fixture
def proxy(server: GcsServer, rules: StrictGcs) -> Iterator[FaultProxy]:
    with FaultProxy(server.url, rules) as proxy:
        yield proxy


@pytest.fixture
def bucket(server: GcsServer) -> str:
    name = f"customer-{uuid4().hex}"
    server.create_bucket(name)
    return name


@functools.cache
def key_credentials() -> Any:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = "exporter@platform.iam.gserviceaccount.com"
    info = {"client_email": account, "private_key": key.decode(), "token_uri": "https://token.invalid/"}
    return service_account.Credentials.from_service_account_info(info)


def gcs_store(url: str, uri: str, credentials: Any = None, patience: Patience = QUICK) -> GcsStore:
    async def aio_client(session: aiohttp.ClientSession) -> Storage:
        return Storage(session=session, api_root=url)

    return GcsStore(
        uri,
        client=lambda: Client("demo", AnonymousCredentials(), client_options={"api_endpoint": url}),
        aio_client=aio_client,
        credentials=lambda: credentials or key_credentials(),
        patience=patience,
    )


@pytest.fixture
def connect(proxy: FaultProxy, bucket: str) -> Connect:
    return lambda: gcs_store(proxy.url, f"gs://{bucket}/exports/ü/")


@pytest.fixture
def stored(server: GcsServer, bucket: str) -> Stored:
    def read(key: str) -> bytes | None:
        name = urllib.parse.quote(f"exports/ü/{key}", safe="")
        try:
            with urllib.request.urlopen(f"{server.url}/storage/v1/b/{bucket}/o/{name}?alt=media") as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            error.close()
            return None

    return read


class TestGcs(StoreContract):
    @pytest.fixture
    def connect(self, connect: Connect) -> Connect:
        return connect

    @pytest.fixture
    def stored(self, stored: Stored) -> Stored:
        return stored


@pytest.fixture
async def store(connect: Connect) -> AsyncIterator[GcsStore]:
    async with connect() as store:
        yield store


@pytest.fixture
def big(tmp_path: Path) -> Content:
    path = tmp_path / "big"
    path.write_bytes(random_bytes(17 << 20))
    return Content.of_file(path)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_passing_refusal_is_tried_again(
    store: GcsStore, proxy: FaultProxy, stored: Stored, status: int
) -> None:
    proxy.answer(status, path=UPLOAD, times=2)
    await store.create(DATA_KEY, Content.of_bytes(b"x"))
    assert stored(DATA_KEY) == b"x"
    proxy.answer(status, method="GET", path="alt=json", times=2)
    assert await store.stat(DATA_KEY)
    proxy.answer(status, method="GET", path="alt=media", times=2)
    assert await read_all(store, DATA_KEY) == b"x"
    proxy.answer(status, method="GET", path=r"/o\?", times=2)
    assert [one.key async for one in store.list("")] == [DATA_KEY]
    proxy.answer(status, method="DELETE", times=2)
    await store.delete(DATA_KEY)
    assert stored(DATA_KEY) is None


async def test_a_lasting_refusal_ends_after_the_tries(store: GcsStore, proxy: FaultProxy) -> None:
    proxy.answer(503, b"busy", path=UPLOAD, times=99)
    with pytest.raises(TargetUnavailable, match=r"answers 503 .*busy"):
        await store.create(DATA_KEY, Content.of_bytes(b"x"))
    assert len(proxy.requests("POST", UPLOAD)) == QUICK.tries


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_stalled_server_ends_as_unavailable(proxy: FaultProxy, bucket: str, method: str) -> None:
    proxy.stall(method=method, times=99)
    async with gcs_store(proxy.url, f"gs://{bucket}/", patience=HASTY) as store:
        with pytest.raises(TargetUnavailable, match="no proper answer"):
            await (store.stat("a") if method == "GET" else store.create("a", Content.of_bytes(b"x")))


async def test_a_stalled_upload_of_a_big_file_ends_as_unavailable(
    proxy: FaultProxy, bucket: str, big: Content, stored: Stored
) -> None:
    proxy.stall(method="PUT", times=99)
    async with gcs_store(proxy.url, f"gs://{bucket}/exports/ü/", patience=HASTY) as store:
        with pytest.raises(TargetUnavailable, match="no proper answer"):
            await store.create(DATA_KEY, big)
    assert stored(DATA_KEY) is None


async def test_nobody_listens(bucket: str) -> None:
    async with gcs_store("http://127.0.0.1:1", f"gs://{bucket}/") as store:
        with pytest.raises(TargetUnavailable):
            await store.stat("a")


async def test_connection_broken_while_sending(
    store: GcsStore, proxy: FaultProxy, stored: Stored, big: Content
) -> None:
    proxy.reset_request(1000, path=UPLOAD)
    await store.create("small", Content.of_bytes(b"x" * 100_000))
    assert stored("small") == b"x" * 100_000
    proxy.reset_request(3 << 20, method="PUT", skip=1)
    await store.create(DATA_KEY, big)
    assert isinstance(big.source, Path)
    assert stored(DATA_KEY) == big.source.read_bytes()
    assert proxy.body_bytes("PUT") < big.size + (8 << 20), "only the broken piece is sent again"


async def test_connection_broken_while_reading_goes_on_where_it_broke(
    store: GcsStore, proxy: FaultProxy, big: Content
) -> None:
    await store.create(DATA_KEY, big)
    proxy.cut_answer(3_000_000, method="GET", path="alt=media")
    proxy.cut_answer(2_000_000, method="GET", path="alt=media")
    assert isinstance(big.source, Path)
    assert await read_all(store, DATA_KEY) == big.source.read_bytes()
    first, *ranges = [one.headers.get("Range", "") for one in proxy.requests("GET", "alt=media")]
    offsets = [int(one.removeprefix("bytes=").removesuffix("-")) for one in ranges]
    assert first == ""
    assert 2_000_000 < offsets[0] <= 3_000_000
    assert offsets[0] + 1_000_000 < offsets[1] <= 5_000_000


async def test_damaged_answer_is_noticed(store: GcsStore, proxy: FaultProxy, server: GcsServer) -> None:
    await store.create(DATA_KEY, Content.of_bytes(b"right"))
    path = next(path for path in server.folder.rglob("*.json") if path.read_bytes() == b"right")
    path.write_bytes(b"wrong")
    with pytest.raises(VerificationFailed, match="reads as"):
        await read_all(store, DATA_KEY)


@pytest.mark.parametrize("size", [1_000, 17 << 20])
async def test_a_lost_answer_is_recognised_and_nothing_sent_again(
    store: GcsStore, proxy: FaultProxy, stored: Stored, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(random_bytes(size))
    content = Content.of_file(path)
    if size > 8 << 20:
        proxy.lose_answer(method="PUT", skip=2)
    else:
        proxy.lose_answer(path=UPLOAD)
    made = await store.create(DATA_KEY, content)
    assert made.digests.crc32c == content.digests.crc32c
    assert stored(DATA_KEY) == path.read_bytes()
    assert proxy.body_bytes(path=UPLOAD) < size + (2 << 20)


async def test_a_lost_answer_to_a_replacement(store: GcsStore, proxy: FaultProxy, stored: Stored) -> None:
    await store.create(DATA_KEY, Content.of_bytes(b"old"))
    proxy.lose_answer(path=UPLOAD)
    await store.replace(DATA_KEY, Content.of_bytes(b"new"))
    assert stored(DATA_KEY) == b"new"
    assert [one.url.query["ifGenerationMatch"] != "0" for one in proxy.requests("POST", UPLOAD)] == [False, True]


async def test_an_object_of_somebody_else_is_not_taken_for_ours_after_a_fault(
    store: GcsStore, proxy: FaultProxy, stored: Stored
) -> None:
    await store.create(DATA_KEY, Content.of_bytes(b"theirs"))
    proxy.answer(503, path=UPLOAD)
    with pytest.raises(ObjectExists):
        await store.create(DATA_KEY, Content.of_bytes(b"ours"))
    assert stored(DATA_KEY) == b"theirs"


async def test_replacing_without_the_right_to_delete(
    store: GcsStore, rules: StrictGcs, bucket: str, stored: Stored, big: Content
) -> None:
    rules.denied[bucket] = {"storage.objects.delete"}
    await store.replace(DATA_KEY, Content.of_bytes(b"first"))
    for content in (Content.of_bytes(b"second"), big):
        with pytest.raises(OverwriteRefused) as refusal:
            await store.replace(DATA_KEY, content)
        for word in ("exporter@platform", "lacks storage.objects.delete", bucket, "roles/storage.objectUser", DATA_KEY):
            assert word in str(refusal.value)
    assert stored(DATA_KEY) == b"first"


@pytest.mark.parametrize(
    ("reason", "said", "raised", "fix"),
    [
        ("retentionPolicyNotMet", "is subject to bucket's retention policy until 2030-05-01", OverwriteRefused, "hold"),
        ("objectUnderActiveHold", "is under active Temporary hold", OverwriteRefused, "if_exists to keep or revision"),
        ("accountDisabled", "The billing account for the owning project is disabled", AccessDenied, "administrator"),
        ("forbidden", "Access denied by a policy", OverwriteRefused, "grant it"),
    ],
)
async def test_a_refused_replacement_says_what_the_server_says(
    store: GcsStore, proxy: FaultProxy, reason: str, said: str, raised: type[AccessDenied], fix: str
) -> None:
    await store.create("a", Content.of_bytes(b"first"))
    proxy.answer(403, gcs_error(403, said, reason).body, method="POST", path=UPLOAD)
    with pytest.raises(AccessDenied) as refusal:
        await store.replace("a", Content.of_bytes(b"second"))
    assert type(refusal.value) is raised
    assert said in str(refusal.value)
    assert fix in str(refusal.value)
    assert ("lacks storage.objects.delete" in str(refusal.value)) is (reason == "forbidden")


@pytest.mark.parametrize(
    ("permission", "operation"),
    [
        ("storage.objects.create", lambda store: store.create("a", Content.of_bytes(b"x"))),
        ("storage.objects.create", lambda store: store.create("a", Content.of_bytes(b"x" * (9 << 20)))),
        ("storage.objects.get", lambda store: store.stat("a")),
        ("storage.objects.get", lambda store: read_all(store, "a")),
        ("storage.objects.list", lambda store: anext(store.list(""))),
        ("storage.objects.delete", lambda store: store.delete("a")),
    ],
)
async def test_a_missing_permission_is_named_at_once(
    store: GcsStore, rules: StrictGcs, proxy: FaultProxy, bucket: str, permission: str, operation: Callable[..., Any]
) -> None:
    rules.denied[bucket] = {permission}
    with pytest.raises(AccessDenied) as refusal:
        await operation(store)
    for word in ("exporter@platform", f"lacks {permission}", f"bucket {bucket}", "grant it", "roles/storage."):
        assert word in str(refusal.value)
    assert len([one for one in proxy.seen if one.status == 403]) == 1


async def test_refused_credentials(store: GcsStore, proxy: FaultProxy) -> None:
    proxy.answer(401, gcs_error(401, "Invalid Credentials", "authError").body, times=9)
    for operation in (store.stat("a"), store.create("a", Content.of_bytes(b"x"))):
        with pytest.raises(AccessDenied, match=r"Invalid Credentials.*renew its key"):
            await operation
    assert len(proxy.seen) == 2


async def test_credentials_that_google_refuses(proxy: FaultProxy, bucket: str) -> None:
    credentials = key_credentials().with_token_uri(f"{proxy.url}/token")

    async def aio_client(session: aiohttp.ClientSession) -> Storage:
        await asyncio.to_thread(credentials.refresh, Request())
        raise AssertionError("refreshing fails")

    store = GcsStore(
        f"gs://{bucket}/", client=lambda: None, aio_client=aio_client, credentials=lambda: None, patience=QUICK
    )
    proxy.answer(400, b'{"error":"invalid_grant","error_description":"Invalid JWT Signature."}', path="/token")
    with pytest.raises(AccessDenied, match=r"invalid_grant: Invalid JWT Signature\.\): check its key"):
        await store.__aenter__()
    credentials = credentials.with_token_uri("http://127.0.0.1:1/token")
    with pytest.raises(TargetUnavailable, match="token server"):
        await store.__aenter__()


async def test_memory_does_not_grow_with_the_object(server: GcsServer, bucket: str, tmp_path: Path) -> None:
    grown = await growth(
        tmp_path / "big", 48, "tests.connectors.test_gcs", "gcs_store", server.url, f"gs://{bucket}/memory/"
    )
    assert grown < 32, f"{grown} MiB"


async def test_throttling_by_403_is_tried_again(store: GcsStore, proxy: FaultProxy) -> None:
    proxy.answer(403, gcs_error(403, "slow down", "rateLimitExceeded").body, path=UPLOAD)
    await store.create("a", Content.of_bytes(b"x"))


async def test_missing_bucket(proxy: FaultProxy, big: Content) -> None:
    async with gcs_store(proxy.url, "gs://nowhere/") as store:
        for operation in (
            store.stat("a"),
            store.create("a", Content.of_bytes(b"x")),
            store.create("a", big),
            store.replace("a", Content.of_bytes(b"x")),
            read_all(store, "a"),
            store.delete("a"),
            anext(store.list("")),
        ):
            with pytest.raises(TargetNotFound, match="there is no bucket nowhere: create it"):
                await operation


async def test_missing_bucket_on_a_server_that_says_nothing(server: GcsServer, big: Content) -> None:
    async with gcs_store(server.url, "gs://nowhere/") as store:
        for content in (big, Content.of_bytes(b"x")):
            with pytest.raises(TargetNotFound, match="there is no bucket nowhere: create it"):
                await store.create("a", content)


async def test_a_request_that_the_server_calls_wrong(store: GcsStore, proxy: FaultProxy) -> None:
    proxy.answer(400, b"<html><body>Bad\n Request</body></html>", path=UPLOAD)
    with pytest.raises(TargetRefused, match=r"with 400 .*Bad Request\)"):
        await store.create("a", Content.of_bytes(b"x"))


class TestServerSideCopy:
    @pytest.fixture
    async def source(self, proxy: FaultProxy, server: GcsServer) -> AsyncIterator[GcsStore]:
        name = f"images-{uuid4().hex}"
        server.create_bucket(name)
        async with gcs_store(proxy.url, f"gs://{name}/all/") as source:
            await source.create("image", Content.of_bytes(b"pixels", "image/png"))
            yield source

    async def test_copies_without_moving_bytes(
        self, store: GcsStore, source: GcsStore, proxy: FaultProxy, rules: StrictGcs, stored: Stored
    ) -> None:
        assert store.can_copy_from(source)
        rules.rewrite_calls = 4
        proxy.seen.clear()
        copied = await store.copy_from(source, "image", "site/inputs/image")
        assert (copied.key, copied.digests.size) == ("site/inputs/image", 6)
        assert copied.digests.matches(Content.of_bytes(b"pixels").digests)
        assert stored("site/inputs/image") == b"pixels"
        assert len(proxy.requests("POST", "/rewriteTo/")) == 4
        assert proxy.body_bytes() == 4 * len("{}")

    async def test_a_broken_rewrite_goes_on_with_its_token(
        self, store: GcsStore, source: GcsStore, proxy: FaultProxy, rules: StrictGcs
    ) -> None:
        rules.rewrite_calls = 4
        proxy.answer(503, path="rewriteToken=call-2")
        await store.copy_from(source, "image", "image")
        tokens = [one.url.query.get("rewriteToken") for one in proxy.requests("POST", "/rewriteTo/")]
        assert tokens == [None, "call-1", "call-2", "call-2", "call-3"]

    async def test_existing_object_stays(self, store: GcsStore, source: GcsStore, stored: Stored) -> None:
        await store.create("image", Content.of_bytes(b"other"))
        with pytest.raises(ObjectExists, match=r"/ü/image is there already"):
            await store.copy_from(source, "image", "image")
        assert stored("image") == b"other"

    async def test_a_lost_answer_is_recognised(self, store: GcsStore, source: GcsStore, proxy: FaultProxy) -> None:
        proxy.lose_answer(path="/rewriteTo/")
        assert (await store.copy_from(source, "image", "image")).digests.size == 6
        assert len(proxy.requests("POST", "/rewriteTo/")) == 1

    async def test_missing_source(self, store: GcsStore, source: GcsStore) -> None:
        with pytest.raises(TargetNotFound, match="all/absent: no such object"):
            await store.copy_from(source, "absent", "image")

    async def test_source_that_may_not_be_read(self, store: GcsStore, source: GcsStore, rules: StrictGcs) -> None:
        rules.denied[source.root.bucket] = {"storage.objects.get"}
        with pytest.raises(AccessDenied, match=r"lacks storage\.objects\.get"):
            await store.copy_from(source, "image", "image")

    async def test_only_from_cloud_storage(self, store: GcsStore, tmp_path: Path) -> None:
        assert not store.can_copy_from(LocalStore(tmp_path))
        with pytest.raises(TypeError, match="can_copy_from"):
            await store.copy_from(LocalStore(tmp_path), "a", "a")


class TestLinks:
    async def test_link_of_a_key_names_file_and_lifetime(self, store: GcsStore) -> None:
        link = urllib.parse.urlsplit(await store.sign("a b", timedelta(days=7), "été.json"))
        query = urllib.parse.parse_qs(link.query)
        assert link.path.endswith("/a%20b")
        assert query["X-Goog-Algorithm"] == ["GOOG4-RSA-SHA256"]
        assert query["X-Goog-Expires"] == [str(7 * 24 * 3600)]
        assert query["response-content-disposition"] == ["attachment; filename*=UTF-8''%C3%A9t%C3%A9.json"]

    async def test_more_than_seven_days_are_refused(self, store: GcsStore) -> None:
        with pytest.raises(PermanentError, match="169 hours: set link_ttl_hours to at most 168"):
            await store.sign("a", timedelta(hours=169), "a")

    async def test_links_signed_by_google_are_limited(self, proxy: FaultProxy, bucket: str) -> None:
        impersonated = impersonated_credentials.Credentials(key_credentials(), "x@p.iam.gserviceaccount.com", [])
        for credentials in (impersonated, compute_engine.Credentials()):
            async with gcs_store(proxy.url, f"gs://{bucket}/", credentials) as store:
                with pytest.raises(PermanentError, match="works for 12 hours: set link_ttl_hours to at most 12"):
                    await store.sign("a", timedelta(hours=13), "a")

    async def test_credentials_that_cannot_sign(self, proxy: FaultProxy, bucket: str) -> None:
        async with gcs_store(proxy.url, f"gs://{bucket}/", AnonymousCredentials()) as store:
            with pytest.raises(PermanentError, match="AnonymousCredentials cannot sign links: give"):
                await store.sign("a", timedelta(hours=1), "a")


async def test_many_pages_are_listed(store: GcsStore, proxy: FaultProxy) -> None:
    for number in range(3):
        await store.create(f"object-{number}", Content.of_bytes(b"x"))
    item = {"name": "exports/ü/first", "size": "1", "updated": "2025-03-16T00:00:00Z"}
    folder = item | {"name": "exports/ü/"}
    proxy.answer(200, json.dumps({"items": [folder, item], "nextPageToken": "next"}).encode(), path=r"/o\?")
    keys = [one.key async for one in store.list("")]
    assert keys == ["first", "object-0", "object-1", "object-2"]
    assert proxy.requests("GET", r"/o\?")[1].url.query["pageToken"] == "next"


def test_nothing_connects_before_it_is_entered() -> None:
    store = gcs_store("http://127.0.0.1:1", "gs://bucket/folder")
    assert store.uri == "gs://bucket/folder/"
    for wrong in ("s3://bucket/", "gs:///folder", "gs://bucket/../x"):
        with pytest.raises(ConfigError):
            gcs_store("http://127.0.0.1:1", wrong)
