"""Objects sent to S3 in parts: what killed runs began goes, what others do meanwhile is noticed."""

from datetime import timedelta
from typing import Any

import pytest

from data_export.content import Content
from data_export.delivery.s3 import store as s3_store_module
from data_export.delivery.s3.store import S3Store
from data_export.errors import AccessDenied, VerificationFailed
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.s3 import S3Server
from demo.servers.strict import StrictS3, s3_error
from tests.connectors.contract import DATA_KEY, Stored, random_bytes
from tests.connectors.s3.stores import s3_store, unfinished

BIG = Content.of_bytes(random_bytes(9 << 20))


def begin(raw: Any, bucket: str, key: str) -> str:
    """What a killed run leaves: an upload with a part."""
    target = {"Bucket": bucket, "Key": f"exports/ü/{key}"}
    upload: str = raw.create_multipart_upload(**target)["UploadId"]
    raw.upload_part(**target, UploadId=upload, PartNumber=1, Body=b"part")
    return upload


async def test_what_killed_runs_began_goes_once_the_object_is_there(store: S3Store, raw: Any, bucket: str) -> None:
    for _ in range(3):
        begin(raw, bucket, DATA_KEY)
    other = begin(raw, bucket, DATA_KEY + ".r2")
    await store.create(DATA_KEY, BIG)
    assert [upload["UploadId"] for upload in unfinished(raw, bucket)] == [other]


async def test_an_upload_that_began_after_ours_is_left_alone(server: S3Server, raw: Any, bucket: str) -> None:
    class Another(StrictS3):
        async def __call__(self, request: Exchange, forward: Forward) -> Answer:
            if request.url.query.get("partNumber") == "2":
                begin(raw, bucket, DATA_KEY)
            return await super().__call__(request, forward)

    with FaultProxy(server.url, Another()) as proxy:
        async with s3_store(proxy.url, f"s3://{bucket}/exports/ü/") as store:
            await store.create(DATA_KEY, BIG)
    assert len(unfinished(raw, bucket)) == 1


@pytest.mark.parametrize(
    ("method", "path", "left"), [("GET", r"\?(.*&)?uploads", 1), ("DELETE", "uploadId=", 1), ("DELETE", "none", 0)]
)
async def test_who_may_not_look_or_abort_may_still_deliver(
    store: S3Store, proxy: FaultProxy, raw: Any, bucket: str, stored: Stored, method: str, path: str, left: int
) -> None:
    begin(raw, bucket, DATA_KEY)
    proxy.answer(403, s3_error(403, "AccessDenied", "no").body, method=method, path=path, times=9)
    await store.create(DATA_KEY, BIG)
    assert stored(DATA_KEY) == BIG.source
    assert len(unfinished(raw, bucket)) == left


@pytest.mark.parametrize("times", [1, 99])
async def test_an_object_that_somebody_else_wrote_is_not_taken_for_ours(
    server: S3Server, raw: Any, bucket: str, stored: Stored, times: int
) -> None:
    class Another(StrictS3):
        left = times

        async def __call__(self, request: Exchange, forward: Forward) -> Answer:
            answer = await super().__call__(request, forward)
            if request.method == "POST" and "uploadId" in request.url.query and self.left:
                self.left -= 1
                raw.put_object(Bucket=bucket, Key=f"exports/ü/{DATA_KEY}", Body=b"theirs")
            return answer

    with FaultProxy(server.url, Another()) as proxy:
        async with s3_store(proxy.url, f"s3://{bucket}/exports/ü/") as store:
            if times == 1:
                await store.replace(DATA_KEY, BIG)
                assert stored(DATA_KEY) == BIG.source
            else:
                with pytest.raises(VerificationFailed, match="holds"):
                    await store.replace(DATA_KEY, BIG)


async def test_what_killed_runs_began_a_day_ago_goes_with_the_tidying(
    store: S3Store, raw: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the folders that are named, and no younger ones: their runs may be alive."""
    for key in (DATA_KEY, DATA_KEY + ".r2", "elsewhere/data"):
        begin(raw, bucket, key)
    folder = DATA_KEY.rpartition("/")[0]
    with monkeypatch.context() as patched:  # the server says of each that it was begun in 2010
        patched.setattr(s3_store_module, "_ABANDONED", timedelta(days=36_500))
        assert await store.tidy([folder]) == 0
    assert await store.tidy([folder]) == 2
    assert [upload["Key"].rpartition("/ü/")[2] for upload in unfinished(raw, bucket)] == ["elsewhere/data"]
    assert await store.tidy([""]) == 1


async def test_uploads_beside_our_folders_are_their_owners_own(store: S3Store, raw: Any, bucket: str) -> None:
    begin(raw, bucket, "site/inputs-archive/big.tar")
    begin(raw, bucket, "site/inputs/a.png")
    assert await store.tidy(["site/inputs"]) == 1
    assert [upload["Key"] for upload in unfinished(raw, bucket)] == ["exports/ü/site/inputs-archive/big.tar"]


async def test_who_may_not_give_up_uploads_is_asked_for_one_and_counts_none(
    store: S3Store, raw: Any, bucket: str, proxy: FaultProxy
) -> None:
    for key in ("site/inputs/a", "site/inputs/b"):
        begin(raw, bucket, key)
    proxy.answer(403, s3_error(403, "AccessDenied", "no").body, method="DELETE", times=99)
    proxy.seen.clear()
    assert await store.tidy(["site/inputs"]) == 0
    assert len(proxy.requests("DELETE")) == 1


async def test_who_may_not_list_uploads_is_told_the_right(store: S3Store, proxy: FaultProxy) -> None:
    proxy.answer(403, s3_error(403, "AccessDenied", "no").body, method="GET", path=r"\?(.*&)?uploads", times=9)
    with pytest.raises(AccessDenied, match="s3:ListBucketMultipartUploads"):
        await store.tidy([""])
