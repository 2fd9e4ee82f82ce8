"""Rights on a customer's bucket, asked for without leaving an object that we could not remove."""

import threading

from data_export.check.results import CheckResult, Results
from data_export.delivery.gcs.errors import ROLES, explain
from data_export.delivery.gcs.store import GcsStore
from data_export.delivery.s3.store import S3Store
from data_export.delivery.threads import run_blocking
from data_export.errors import AccessDenied

_NEEDED = ("storage.objects.create", "storage.objects.list", "storage.objects.get", "storage.buckets.get")
_REPLACE = "storage.objects.delete"
_PROBE = "data-export-check"


async def check_gcs(target: GcsStore) -> Results:
    """Each permission by `buckets.testIamPermissions`, which Cloud Storage answers for the identity that asks.

    Source: cloud.google.com/storage/docs/json_api/v1/buckets/testIamPermissions. The right to replace is no fault where
    it is missing: only changed content needs it.
    """
    bucket, results = target.root.bucket, Results()

    def ask(_: threading.Event) -> tuple[list[str], str]:
        found: list[str] = target.blocking_client().bucket(bucket).test_iam_permissions([*_NEEDED, _REPLACE])
        return found, target.account() or "the account of the Airflow connection"

    with results.step("target: bucket is there", bucket):
        try:
            granted, account = await run_blocking(ask)
        except Exception as error:
            raise explain(error, bucket, target.uri) from None
    if not results[-1].ok:
        return results
    for permission in _NEEDED:
        with results.step(f"target: {permission}", "granted"):
            if permission not in granted:
                raise AccessDenied(f"grant {ROLES[permission]} on bucket {bucket} to {account}")
    replace = "granted" if _REPLACE in granted else "not granted: changed content then needs if_exists keep or revision"
    results.append(CheckResult(f"target: {_REPLACE}", True, replace))
    return results


async def check_s3(target: S3Store) -> Results:
    """Listing, reading, and writing by an upload in parts that is given up at once.

    S3 tells nobody their own rights; a multipart upload needs `s3:PutObject` and shows no object until it is completed
    (docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html). Reading is not tried where listing is refused: S3
    then answers as if it were refused too.
    """
    results, keys = Results(), [_PROBE]

    async def list_one() -> None:
        async for found in target.list(""):
            keys.insert(0, found.key)
            return

    if identity := await target.identity():
        results.append(CheckResult("target: identity", True, identity))
    if await results.tried("target: s3:ListBucket", "granted", list_one()):
        await results.tried("target: s3:GetObject", "granted", target.stat(keys[0]))
    await _check_s3_writing(target, results)
    return results


async def _check_s3_writing(target: S3Store, results: Results) -> None:
    address, name = target.root.address(_PROBE), {"Bucket": target.root.bucket, "Key": target.root.name(_PROBE)}
    with results.step("target: s3:PutObject", "granted"):
        begun = await target.called(address, "s3:PutObject", lambda client: client.create_multipart_upload(**name))
    if results[-1].ok:
        upload = name | {"UploadId": begun["UploadId"]}
        with results.step("target: s3:AbortMultipartUpload", "granted"):
            await target.called(
                address, "s3:AbortMultipartUpload", lambda client: client.abort_multipart_upload(**upload)
            )
