"""Rights on a customer's S3 bucket, tried without leaving an object that we could not remove."""

from data_export.check.results import CheckResult, Results
from data_export.delivery.s3.store import S3Store

_PROBE = "data-export-check"


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
