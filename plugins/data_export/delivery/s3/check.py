"""Rights on a customer's S3 bucket, and whether its server does all that an export asks of it."""

import asyncio
from collections.abc import Sequence
from typing import Any

from data_export.check.results import CheckResult, Results
from data_export.check.shared_steps import REMOVE, WRITE, Step
from data_export.content import Content
from data_export.delivery.retry import PreconditionFailed
from data_export.delivery.s3.dialect import is_amazon
from data_export.delivery.s3.store import S3Store
from data_export.delivery.s3.write import send_parts
from data_export.errors import AccessDenied, DataExportError, ObjectExists, TargetRefused

_PROBE = "data-export-check"
_IDENTITY = Step("identity", "asks AWS who we are")
_LIST = Step("s3:ListBucket", "lists the folder")
_GET = Step("s3:GetObject", "looks at one object")
_PUT = Step("s3:PutObject", "begins an upload in each folder of the export; nothing is shown or kept")
_ABORT = Step("s3:AbortMultipartUpload", "gives that upload up")
_PARTS = Step("write in parts", "writes that file once more, in parts")
#: What the sheet for the customer announces; `OTHER_STEPS` only where the server is not Amazon's.
STEPS = (_IDENTITY, _LIST, _GET, _PUT, _ABORT)
OTHER_STEPS = (
    WRITE._replace(tries=f"writes a small file, `{_PROBE}`"),
    _PARTS,
    Step("checksums", "says if the server does not compare checksums"),
    Step("conditions", "says if the server lets a second writer replace a file"),
    REMOVE,
)
_DATA = Content.of_bytes(b"{}\n", "application/json", md5=True)
_WAY_OUT = {
    "checksums": "does not compare x-amz-checksum-sha256 ({said}): an md5 goes along, and bytes that its ETag does not "
    "prove are read back",
    "conditions": "does not refuse a second writer ({said}): exports look before and after they write, so two runs of "
    "one window at the same moment may still replace each other's file",
}


def identity_of(client: Any, session: Any) -> str | None:
    """ARN of the user or role behind the session, which STS tells every caller; None where it does not. Blocks.

    Another server than AWS is asked only if the environment names its STS (AWS_ENDPOINT_URL_STS): its keys are not for
    AWS to see.
    """
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    brief = Config(connect_timeout=5, read_timeout=5, retries={"max_attempts": 0})
    try:
        sts = session.client("sts", region_name=client.meta.region_name, config=brief)
        try:
            if is_amazon(sts) is not is_amazon(client):
                return None
            arn: str | None = sts.get_caller_identity().get("Arn")
            return arn
        finally:
            sts.close()
    except (BotoCoreError, ClientError):
        return None


async def check_s3(target: S3Store, folders: Sequence[str] = ()) -> Results:
    """Listing, reading, and writing by an upload in parts that is given up at once.

    S3 tells nobody their own rights; a multipart upload needs `s3:PutObject` and shows no object until it is completed
    (docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html). It carries what every object of an export does, so
    that policies about encryption, keys and owners speak here. Reading is not tried where listing is refused: S3 then
    answers as if it were refused too. Another server than AWS is written to as an export writes.

    Args:
        folders: what an export will write to, since a policy may differ from one to the other; none: the root.
    """
    results, keys = Results(), [_PROBE]

    async def list_one() -> None:
        async for found in target.list(""):
            keys.insert(0, found.key)
            return

    if identity := await asyncio.to_thread(identity_of, target.client, target.session):
        results.append(CheckResult(_IDENTITY.of("target"), True, identity))
    if await results.tried(_LIST.of("target"), "granted", list_one()):
        await results.tried(_GET.of("target"), "granted", target.stat(keys[0]))
    for folder in folders or ("",):
        await _check_s3_writing(target, results, folder)
    if not target.dialect.complete and all(result.ok for result in results):
        await _check_server(target, results)
    return results


async def _check_s3_writing(target: S3Store, results: Results, folder: str) -> None:
    key, place = (f"{folder}/{_PROBE}", f" in {folder}") if folder else (_PROBE, "")
    address, name = target.root.address(key), {"Bucket": target.root.bucket, "Key": target.root.name(key)}
    options = name | target.grants.to_request()
    with results.step(f"{_PUT.of('target')}{place}", "granted"):
        begun = await target.called(
            address, _PUT.name, lambda client: client.create_multipart_upload(**options)["UploadId"]
        )
    if results[-1].ok:
        upload = name | {"UploadId": begun}
        with results.step(f"{_ABORT.of('target')}{place}", "granted"):
            await target.called(address, _ABORT.name, lambda client: client.abort_multipart_upload(**upload))


async def _check_server(target: S3Store, results: Results) -> None:
    """Writes a small file as an export does, whole and in parts, twice, and says what the server does not do.

    The name is always the same, so that at most one file is left where nobody lets us remove it.
    """
    await _create(target, results)
    if not results[-1].ok:
        return
    with results.step(_PARTS.of("target"), "granted"):
        await _second_in_parts(target)
    for feature, said in target.dialect.lacking.items():
        if (kind := feature.split()[0]) in _WAY_OUT:
            words = f"the server {_WAY_OUT[kind].format(said=said)}"
            results.append(CheckResult(f"target: {kind}", True, words))
    try:
        await target.delete(_PROBE)
    except DataExportError as error:
        left = f"remove {target.root.address(_PROBE)} there: we may not ({error})"
        results.append(CheckResult(REMOVE.of("target"), isinstance(error, AccessDenied), left))


async def _create(target: S3Store, results: Results) -> None:
    with results.step(WRITE.of("target"), target.root.address(_PROBE)):
        try:
            await target.create(_PROBE, _DATA)
        except ObjectExists:
            if (found := await target.stat(_PROBE)) and found.digests.matches(_DATA.digests) is False:
                raise ObjectExists(
                    f"{target.root.address(_PROBE)} is none of ours, and a check writes a file of that name: rename it"
                ) from None
            await target.replace(_PROBE, _DATA)  # of an earlier check, which was not let to remove it


async def _second_in_parts(target: S3Store) -> None:
    """The second writer, in one part, which may be small."""
    while True:
        known = target.dialect.known()
        try:
            await send_parts(target, _PROBE, _DATA, create_only=True, looks=False)
        except PreconditionFailed:
            return
        except TargetRefused:
            if target.dialect.known() == known:
                raise
        else:
            if target.dialect.has("conditions in parts"):
                target.dialect.lacking["conditions in parts"] = (
                    "it completes an upload in parts in spite of If-None-Match"
                )
            return
