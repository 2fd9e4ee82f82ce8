"""What a retry cannot mend is told at once, with its fix."""

from collections.abc import Callable
from typing import Any

import boto3
import pytest

from data_export.content import Content
from data_export.delivery.s3.store import S3Store
from data_export.errors import (
    AccessDenied,
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
