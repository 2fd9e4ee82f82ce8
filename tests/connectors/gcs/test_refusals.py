"""What a retry cannot mend is told at once, with its fix."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from gcloud.aio.storage import Storage
from google.auth.transport.requests import Request

from data_export.content import Content
from data_export.delivery.gcs.store import GcsStore
from data_export.errors import (
    AccessDenied,
    ObjectExists,
    ObjectRefused,
    OverwriteRefused,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
)
from demo.servers.faults import FaultProxy
from demo.servers.gcs import GcsServer
from demo.servers.strict import StrictGcs, gcs_error
from tests.connectors.contract import DATA_KEY, Stored, read_all
from tests.connectors.gcs.stores import QUICK, UPLOAD, gcs_store, key_credentials


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


async def test_a_policy_of_the_organisation_is_no_object_that_is_there(store: GcsStore, proxy: FaultProxy) -> None:
    said = "'us-east1' violates constraint 'constraints/gcp.resourceLocations' on 'projects/1'"
    for body in (gcs_error(412, said, "conditionNotMet").body, gcs_error(412, "no", "orgPolicyViolated").body):
        proxy.answer(412, body, method="POST", path=UPLOAD)
        with pytest.raises(TargetRefused, match="a policy of the organisation of bucket"):
            await store.create("a", Content.of_bytes(b"x"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (gcs_error(412, "Key k1 is not enabled, current state is: DISABLED", "").body, "not enabled, current state"),
        (gcs_error(412, "Bucket is being deleted", "failedPrecondition").body, "the state of bucket"),
        (b"<Error><Code>OrgPolicy</Code><Message>Constraint x violated</Message></Error>", "a policy of the organ"),
        (b'{"error": {"code": 412, "message": "Request violates a deny policy"}}', "a policy of the organisation"),
    ],
)
async def test_another_412_is_no_object_that_is_there(
    store: GcsStore, proxy: FaultProxy, body: bytes, words: str
) -> None:
    proxy.answer(412, body, method="POST", path=UPLOAD)
    with pytest.raises(TargetRefused, match=words):
        await store.create("a", Content.of_bytes(b"x"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Precondition Failed",
        b'{"error": {"message": "At least one of the pre-conditions you specified did not hold."}}',
    ],
)
async def test_our_own_condition_is_known_in_any_words(store: GcsStore, proxy: FaultProxy, body: bytes) -> None:
    proxy.answer(412, body, method="POST", path=UPLOAD)
    with pytest.raises(ObjectExists):
        await store.create("a", Content.of_bytes(b"x"))


async def test_an_object_over_the_size_limit(store: GcsStore, proxy: FaultProxy) -> None:
    proxy.answer(413, b"too large", method="POST", path=UPLOAD)
    with pytest.raises(ObjectRefused, match="larger than the server takes"):
        await store.create("a", Content.of_bytes(b"x"))


async def test_a_creator_who_may_not_replace_hears_that_somebody_was_quicker(
    store: GcsStore, proxy: FaultProxy, stored: Stored
) -> None:
    """Cloud Storage may look at rights first, and only what replaces an object needs the one to delete."""
    lacking = "me@x does not have storage.objects.delete access to the Google Cloud Storage object."
    await store.create("other", Content.of_bytes(b"x"))
    for said, reason in (
        (lacking, "forbidden"),
        ("until 2030", "retentionPolicyNotMet"),
        ("", "objectUnderActiveHold"),
    ):
        for path, write in (
            (UPLOAD, lambda: store.create(DATA_KEY, Content.of_bytes(b"x"))),
            ("rewriteTo", lambda: store.copy_from(store, "other", DATA_KEY)),
        ):
            proxy.answer(403, gcs_error(403, said, reason).body, path=path)
            with pytest.raises(ObjectExists, match="is there already"):
                await write()
    assert stored(DATA_KEY) is None
