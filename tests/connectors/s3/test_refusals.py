"""What a retry cannot mend is told at once, with its fix."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.credentials import DeferredRefreshableCredentials
from botocore.exceptions import ClientError
from botocore.retries.standard import ThrottledRetryableChecker

from data_export.content import Content
from data_export.delivery.s3.errors import explain
from data_export.delivery.s3.store import S3Store
from data_export.errors import (
    AccessDenied,
    CredentialsRefused,
    CredentialsUnavailable,
    DataExportError,
    ObjectExists,
    ObjectRefused,
    OverwriteRefused,
    TargetFull,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
    VerificationFailed,
)
from demo.servers.faults import FaultProxy
from demo.servers.strict import s3_error
from tests.connectors.contract import Stored, read_all
from tests.connectors.s3.stores import s3_store
from tests.connectors.s3.test_links import role_session

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
    said = DENIED.replace("s3:PutObject", permission)
    proxy.answer(403, b"" if method == "HEAD" else s3_error(403, "AccessDenied", said).body, method=method, times=9)
    with pytest.raises(AccessDenied, match=rf"lacks {permission} on bucket {bucket} \(.*\): grant it"):
        await operation(store)
    assert len([one for one in proxy.seen if one.status == 403]) == 1


CODES = [
    (403, "InvalidAccessKeyId", "correct its login"),
    (403, "SignatureDoesNotMatch", "correct its password"),
    (400, "ExpiredToken", "its session token has expired"),
    (403, "RequestTimeTooSkewed", "the clock of this worker"),
    (403, "AllAccessDisabled", "the account is disabled"),
]


@pytest.mark.parametrize(("status", "code", "fix"), CODES)
async def test_refused_credentials(store: S3Store, proxy: FaultProxy, status: int, code: str, fix: str) -> None:
    proxy.answer(status, s3_error(status, code, "no").body, method="PUT", times=9)
    with pytest.raises(CredentialsRefused, match=f"credentials of the Airflow connection .{code} no.: {fix}"):
        await store.create("a", Content.of_bytes(b"x"))
    assert len(proxy.requests("PUT")) == 1


@pytest.mark.parametrize(("status", "code", "fix"), CODES)
async def test_an_answer_without_a_body_is_asked_for_its_code(
    store: S3Store, proxy: FaultProxy, bucket: str, status: int, code: str, fix: str
) -> None:
    proxy.answer(status, method="HEAD", times=9)
    proxy.answer(status, s3_error(status, code, "no").body, method="GET", times=9)
    with pytest.raises(CredentialsRefused, match=f"{code} no.: {fix}"):
        await store.stat("a")
    with pytest.raises(CredentialsRefused, match=f"{code} no.: {fix}"):
        await s3_store(proxy.url, f"s3://{bucket}/").__aenter__()
    assert len(proxy.requests("GET")) == 2


@pytest.mark.parametrize("code", sorted(set(ThrottledRetryableChecker._THROTTLED_ERROR_CODES)))
@pytest.mark.parametrize("status", [400, 403, 503])
async def test_throttling_passes_whatever_its_status(store: S3Store, proxy: FaultProxy, status: int, code: str) -> None:
    proxy.answer(status, s3_error(status, code, "slow down").body, method="PUT", times=2)
    await store.create("a", Content.of_bytes(b"x"))


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "InvalidObjectState", "is archived"),
        (409, "InvalidObjectState", "is archived"),
        (413, "", "larger than the server takes"),
        (400, "EntityTooLarge", "larger than the server takes"),
    ],
)
async def test_what_concerns_one_object(store: S3Store, proxy: FaultProxy, status: int, code: str, words: str) -> None:
    proxy.answer(status, s3_error(status, code, "no").body, method="PUT", times=9)
    with pytest.raises(ObjectRefused, match=words):
        await store.create("a", Content.of_bytes(b"x"))
    proxy.answer(status, s3_error(status, code, "no").body, method="GET", times=9)
    with pytest.raises(ObjectRefused, match=words):
        await read_all(store, "a")


async def test_an_explicit_deny_is_told_as_a_policy(store: S3Store, proxy: FaultProxy) -> None:
    words = "not authorized to perform: s3:PutObject with an explicit deny in a resource-based policy"
    proxy.answer(403, s3_error(403, "AccessDenied", words).body, method="PUT")
    with pytest.raises(AccessDenied, match=r"a policy forbids s3:PutObject .* ask the bucket's owner"):
        await store.create("a", Content.of_bytes(b"x"))


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
        (400, "MalformedXML", TargetRefused, "MalformedXML"),
    ],
)
async def test_other_refusals(
    store: S3Store, proxy: FaultProxy, status: int, code: str, error: type[Exception], words: str
) -> None:
    proxy.answer(status, s3_error(status, code, "sorry").body, method="PUT", times=9)
    with pytest.raises(error, match=words):
        await store.create("a", Content.of_bytes(b"x"))


@pytest.mark.parametrize(
    ("status", "code", "becomes"),
    [
        (403, "Throttled", TargetUnavailable),
        (403, "RateLimitExceeded", TargetUnavailable),
        (400, "XMinioServerNotInitialized", TargetUnavailable),
        (400, "TooManyConnections", TargetUnavailable),
        (401, "Unauthorized", CredentialsRefused),
        (403, "InvalidSignature", CredentialsRefused),
        (403, "AccountSuspended", CredentialsRefused),
        (403, "StorageCapExceeded", TargetFull),
        (400, "BucketQuotaExceeded", TargetFull),
        (400, "QpsLimitExceeded", TargetUnavailable),
        (403, "RequestQuotaExceeded", TargetUnavailable),
        (420, "EnhanceYourCalm", TargetUnavailable),
        (307, "TemporaryRedirect", TargetUnavailable),
        (403, "OptInRequired", CredentialsRefused),
        (400, "IncompleteSignature", CredentialsRefused),
        (403, "SecurityTokenExpired", CredentialsRefused),
        (403, "InactiveAccessKeyId", CredentialsRefused),
        (400, "ExpiredRequest", CredentialsRefused),
        (401, "AccessDenied", CredentialsRefused),
        (400, "AuthorizationHeaderMalformed", CredentialsRefused),
        (412, "PreconditionFailed", ObjectExists),
        (412, "OrgPolicyViolated", TargetRefused),
        (400, "VirusDetected", ObjectRefused),
        (451, "UnavailableForLegalReasons", ObjectRefused),
        (403, "ObjectLocked", AccessDenied),
    ],
)
def test_codes_of_other_servers(status: int, code: str, becomes: type[DataExportError]) -> None:
    answer: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    found = explain(ClientError(answer, "PutObject"), "b", "s3://b/k", "s3:PutObject")
    assert type(found) is becomes or (isinstance(found, becomes) and becomes is ObjectExists)


def test_a_condition_in_words_of_a_policy_is_one() -> None:
    words = {"Code": "PreconditionFailed", "Message": "'x' violates constraint 'constraints/gcp.resourceLocations'"}
    answer: Any = {"Error": words, "ResponseMetadata": {"HTTPStatusCode": 412}}
    found = explain(ClientError(answer, "PutObject"), "b", "s3://b/k", "s3:PutObject")
    assert isinstance(found, TargetRefused)
    assert "violates constraint" in str(found)


def test_the_right_that_s3_names_is_named() -> None:
    words = {"Code": "AccessDenied", "Message": "User: x is not authorized to perform: s3:PutObjectAcl on resource: y"}
    answer: Any = {"Error": words, "ResponseMetadata": {"HTTPStatusCode": 403}}
    found = explain(ClientError(answer, "PutObject"), "b", "s3://b/k", "s3:PutObject")
    assert "lacks s3:PutObjectAcl on bucket b" in str(found)


def test_a_refusal_for_another_reason_is_not_told_as_a_missing_right() -> None:
    answer: Any = {"Error": {"Code": "ObjectLocked", "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    said = str(explain(ClientError(answer, "PutObject"), "b", "s3://b/k", "s3:PutObject"))
    assert said == "s3://b/k: S3 denies s3:PutObject on bucket b (ObjectLocked): ask the bucket's owner why"


@pytest.mark.parametrize("size", [1, 9 << 20])
@pytest.mark.parametrize(
    ("status", "code", "becomes", "words"),
    [
        (403, "AccessDenied", CredentialsRefused, r"the role .* cannot be assumed \(AccessDenied not for you\)"),
        (400, "Throttling", CredentialsUnavailable, r"cannot be had now \(Throttling not for you\): try again"),
    ],
)
async def test_a_role_that_cannot_be_assumed(
    proxy: FaultProxy, bucket: str, status: int, code: str, becomes: type[DataExportError], words: str, size: int
) -> None:
    """From the beginning, and when its credentials are to be renewed in the middle."""
    answer: Any = {
        "Error": {"Code": code, "Message": "not for you"},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}},
    }

    def refuse() -> None:
        raise ClientError(answer, "AssumeRole")

    deferred = boto3.Session(region_name="eu-west-3")
    deferred._session._credentials = DeferredRefreshableCredentials(refuse, "sts-assume-role")
    with pytest.raises(becomes, match=words):
        await s3_store(proxy.url, f"s3://{bucket}/", deferred).__aenter__()
    session = role_session(timedelta(hours=1))
    async with s3_store(proxy.url, f"s3://{bucket}/", session) as store:
        lent = session._session._credentials
        lent._refresh_using, lent._expiry_time = refuse, datetime.now(UTC)
        with pytest.raises(becomes, match=words):
            await store.create("a", Content.of_bytes(bytes(size)))
