"""Sends a big object to S3 in parts, which appear together or not at all."""

import base64
import hashlib
import logging
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from data_export.content import Content
from data_export.delivery.s3.objects import to_metadata
from data_export.delivery.threads import chunks_until, go_on
from data_export.errors import TargetRefused, VerificationFailed
from data_export.wording import harmless

PART_BYTES = 8 << 20
_MOST_PARTS = 10_000  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_PARTS_AT_ONCE = 4
_ABORTS = 3
_log = logging.getLogger(__name__)


def upload_parts(
    client: Any,
    bucket: str,
    name: str,
    content: Content,
    stop: threading.Event,
    *,
    create_only: bool,
) -> None:
    """Blocks until the object is there. Holds at most 5 parts of 8 MiB; S3 compares the sha256 of each.

    Whatever goes wrong, cancellation included, the parts sent so far are given up, since S3 keeps and bills them else.
    A killed process cannot do that: what was begun earlier under this name is given up once the object is there. Should
    another run be alive behind it, that run's next try finds the object and compares.

    Raises:
        TargetRefused: more than 78 GiB.
        VerificationFailed: the local file is not what was announced.
    """
    if content.size > _MOST_PARTS * PART_BYTES:
        raise TargetRefused(f"s3://{bucket}/{name}: {content.size} bytes are more than 78 GiB: shorten the window")
    target = {"Bucket": bucket, "Key": name}
    earlier = _begun(client, target)
    target["UploadId"] = client.create_multipart_upload(
        **target, ContentType=content.content_type, Metadata=to_metadata(content.digests), ChecksumAlgorithm="SHA256"
    )["UploadId"]
    try:
        parts = _send(client, target, content, stop)
        condition = {"IfNoneMatch": "*"} if create_only else {}
        client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts}, **condition)
    except BaseException:
        _give_up(client, target)
        raise
    for upload in earlier:
        _give_up(client, target | {"UploadId": upload})


def _begun(client: Any, target: dict[str, str]) -> list[str]:
    """Uploads of this very name; none where we may not ask, which is no reason not to deliver."""
    from botocore.exceptions import ClientError

    try:
        found = client.list_multipart_uploads(Bucket=target["Bucket"], Prefix=target["Key"])
    except ClientError as error:
        _log.debug("uploads under way are not listed: %s", harmless(error))
        return []
    return [upload["UploadId"] for upload in found.get("Uploads", ()) if upload["Key"] == target["Key"]]


def _give_up(client: Any, target: dict[str, str]) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    for _ in range(_ABORTS):
        try:
            client.abort_multipart_upload(**target)
        except client.exceptions.NoSuchUpload:
            return  # it was completed after all
        except (BotoCoreError, ClientError) as error:
            problem = harmless(error, 200)
        else:
            return
    _log.warning(
        "s3://%s/%s: an unfinished upload could not be given up (%s): grant s3:AbortMultipartUpload, or let a "
        "lifecycle rule of the bucket remove such uploads",
        target["Bucket"],
        target["Key"],
        problem,
    )


def _send(client: Any, target: dict[str, str], content: Content, stop: threading.Event) -> list[dict[str, Any]]:
    whole = hashlib.sha256()
    parts: list[dict[str, Any]] = []
    under_way: deque[Future[dict[str, Any]]] = deque()
    with ThreadPoolExecutor(_PARTS_AT_ONCE, "s3-part") as pool:
        try:
            for number, data in enumerate(chunks_until(stop, content, PART_BYTES), 1):
                whole.update(data)
                if len(under_way) == _PARTS_AT_ONCE:
                    parts.append(under_way.popleft().result())
                under_way.append(pool.submit(_send_part, client, target, number, data))
            parts += [part.result() for part in under_way]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    go_on(stop)
    if content.digests.sha256 not in (None, whole.hexdigest()):
        raise VerificationFailed(
            f"{content.source!r:.80} reads as sha256 {whole.hexdigest()} where {content.digests.sha256} was announced"
        )
    return parts


def _send_part(client: Any, target: dict[str, str], number: int, data: bytes) -> dict[str, Any]:
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    answer = client.upload_part(**target, PartNumber=number, Body=data, ChecksumSHA256=checksum)
    return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}
