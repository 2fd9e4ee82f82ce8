"""Sends a big object to S3 in parts, which appear together or not at all."""

import hashlib
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from data_export.content import Content
from data_export.delivery.retry import PreconditionFailed
from data_export.delivery.s3.dialect import SUSPECTS_IN_PARTS, Dialect, Grants
from data_export.delivery.s3.errors import said_by
from data_export.delivery.s3.objects import checksum, is_md5, to_metadata
from data_export.delivery.threads import chunks_until, go_on
from data_export.errors import TargetRefused, TargetUnavailable, VerificationFailed
from data_export.wording import harmless

PART_BYTES = 8 << 20
_MOST_PARTS = 10_000  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_PARTS_AT_ONCE = 4
_ABORTS = 3
_GIVING_UP_SECONDS = 60.0
_log = logging.getLogger(__name__)


def upload_parts(
    client: Any,
    target: dict[str, str],
    content: Content,
    stop: threading.Event,
    dialect: Dialect,
    grants: Grants,
    *,
    create_only: bool,
    looks: bool = True,
) -> tuple[bool, float]:
    """Blocks until the object is there. Holds at most 5 parts of 8 MiB; S3 compares the sha256 of each.

    Whatever goes wrong, cancellation included, the parts sent so far are given up, since S3 keeps and bills them else.
    A killed process cannot do that: what was begun earlier under this name is given up once the object is there. Should
    another run be alive behind it, that run's next try finds the object and compares.

    Args:
        looks: whether a look goes along with the condition that nothing is there.

    Returns:
        Whether the server has proven each part by a checksum of its own, and the seconds from the look to the object.

    Raises:
        TargetRefused: more than 78 GiB.
        VerificationFailed: the local file is not what was announced.
    """
    if content.size > _MOST_PARTS * PART_BYTES:
        place = f"s3://{target['Bucket']}/{target['Key']}"
        raise TargetRefused(f"{place}: {content.size} bytes are more than 78 GiB: shorten the window")
    earlier = _begun(client, target)
    options = grants.to_request() | {"ContentType": content.content_type, "Metadata": to_metadata(content.digests)}
    if dialect.has("checksums"):
        options["ChecksumAlgorithm"] = "SHA256"
    target = target | {"UploadId": client.create_multipart_upload(**target, **options)["UploadId"]}
    try:
        proven, parts = _send(client, target, content, stop, dialect)
        begun = time.monotonic()
        _complete(client, target, parts, dialect, create_only=create_only, looks=looks and not dialect.complete)
    except BaseException:
        _give_up(client, target)
        raise
    seconds = time.monotonic() - begun
    for upload in earlier:
        _give_up(client, target | {"UploadId": upload})
    return proven, seconds


def _complete(
    client: Any,
    target: dict[str, str],
    parts: list[dict[str, Any]],
    dialect: Dialect,
    *,
    create_only: bool,
    looks: bool,
) -> None:
    """Makes the object appear; a server that knows no condition here is not sent all parts again, but looked at.

    Some heed the condition in small uploads only, and the parts take long enough for another's to be there.
    """
    from botocore.exceptions import ClientError

    whole: dict[str, Any] = target | {"MultipartUpload": {"Parts": parts}}
    known, conditional = dialect.known(), create_only and dialect.has("conditions in parts")
    guarded = create_only and (looks or not conditional)
    if guarded:
        _require_absent(client, target)
    with looking_again(target if guarded else None):
        if conditional:
            try:
                client.complete_multipart_upload(**whole, IfNoneMatch="*")
                return
            except ClientError as error:
                if not dialect.learn(error, known, SUSPECTS_IN_PARTS[::-1]) or dialect.has("conditions in parts"):
                    raise
                _require_absent(client, target)
        client.complete_multipart_upload(**whole)


_absent = threading.local()


@contextmanager
def looking_again(target: dict[str, str] | None) -> Iterator[None]:
    """Has boto3 look for the target before it asks once more by itself, which may be minutes after our own look."""
    _absent.target = target
    try:
        yield
    finally:
        _absent.target = None


def watch(client: Any) -> None:
    """Makes the client heed `looking_again`."""

    def look(request: Any, **_: Any) -> None:
        target = getattr(_absent, "target", None)
        if target and re.search(r"attempt=(?!1\b)", str(request.headers.get("amz-sdk-request"))):
            _require_absent(client, target, again=True)

    for operation in ("PutObject", "CompleteMultipartUpload"):
        client.meta.events.register(f"before-send.s3.{operation}", look)


def give_up_older(client: Any, bucket: str, prefix: str, limit: datetime, most: int, stop: threading.Event) -> int:
    """Gives up the uploads below a prefix that were begun before `limit`, at most so many; returns how many.

    Until the first that cannot be given up, and for a minute at most, whatever the server answers.
    """
    end = time.monotonic() + _GIVING_UP_SECONDS
    given_up, options, markers = 0, {"Bucket": bucket, "Prefix": prefix}, set[tuple[str, str]]()
    while True:
        page = client.list_multipart_uploads(**options)
        for upload in page.get("Uploads", ()):
            if upload["Initiated"] < limit and given_up < most:
                go_on(stop)
                one = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                if time.monotonic() > end or not _give_up(client, one):
                    return given_up
                given_up += 1
        marker = page.get("NextKeyMarker", ""), page.get("NextUploadIdMarker", "")
        if given_up == most or not page.get("IsTruncated") or not marker[0] or marker in markers:
            return given_up
        go_on(stop)
        if time.monotonic() > end:
            return given_up
        markers.add(marker)
        options |= {"KeyMarker": marker[0], "UploadIdMarker": marker[1]}


def _require_absent(client: Any, target: dict[str, str], *, again: bool = False) -> None:
    from botocore.exceptions import ClientError

    try:
        client.head_object(Bucket=target["Bucket"], Key=target["Key"])
    except ClientError as error:
        if said_by(error)[0] != 404:
            raise
        return
    found = PreconditionFailed(f"s3://{target['Bucket']}/{target['Key']} is there already")
    found.repeated = again
    raise found


def _begun(client: Any, target: dict[str, str]) -> list[str]:
    """Uploads of this very name; none where we may not ask, which is no reason not to deliver."""
    from botocore.exceptions import ClientError

    try:
        found = client.list_multipart_uploads(Bucket=target["Bucket"], Prefix=target["Key"])
    except ClientError as error:
        _log.debug("uploads under way are not listed: %s", harmless(error))
        return []
    return [upload["UploadId"] for upload in found.get("Uploads", ()) if upload.get("Key") == target["Key"]]


def _give_up(client: Any, target: dict[str, str]) -> bool:
    """Whether it is gone; one that was completed after all is."""
    from botocore.exceptions import BotoCoreError, ClientError

    for _ in range(_ABORTS):
        try:
            client.abort_multipart_upload(**target)
        except client.exceptions.NoSuchUpload:
            return True
        except (BotoCoreError, ClientError) as error:
            problem = harmless(error, 200)
            if said_by(error)[0] == 403:
                break
        else:
            return True
    _log.warning(
        "s3://%s/%s: an unfinished upload could not be given up (%s): grant s3:AbortMultipartUpload, or let a "
        "lifecycle rule of the bucket remove such uploads",
        target["Bucket"],
        target["Key"],
        problem,
    )
    return False


def _send(
    client: Any, target: dict[str, str], content: Content, stop: threading.Event, dialect: Dialect
) -> tuple[bool, list[dict[str, Any]]]:
    whole = hashlib.sha256()
    parts: list[tuple[bool, dict[str, Any]]] = []
    under_way: deque[Future[tuple[bool, dict[str, Any]]]] = deque()
    with ThreadPoolExecutor(_PARTS_AT_ONCE, "s3-part") as pool:
        try:
            for number, data in enumerate(chunks_until(stop, content, PART_BYTES), 1):
                whole.update(data)
                if len(under_way) == _PARTS_AT_ONCE:
                    parts.append(under_way.popleft().result())
                under_way.append(pool.submit(_send_part, client, target, number, data, dialect))
            parts += [part.result() for part in under_way]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    go_on(stop)
    if content.digests.sha256 not in (None, whole.hexdigest()):
        raise VerificationFailed(
            f"{content.source!r:.80} reads as sha256 {whole.hexdigest()} where {content.digests.sha256} was announced"
        )
    return all(proven for proven, _ in parts), [part for _, part in parts]


def _send_part(
    client: Any, target: dict[str, str], number: int, data: bytes, dialect: Dialect
) -> tuple[bool, dict[str, Any]]:
    compared = checksum(dialect, data)
    answer = client.upload_part(**target, PartNumber=number, Body=data, **compared)
    if not (etag := answer.get("ETag")):
        raise TargetUnavailable(f"s3://{target['Bucket']}/{target['Key']}: part {number} was stored without an ETag")
    sha256 = compared.get("ChecksumSHA256")
    part = {"PartNumber": number, "ETag": etag} | ({"ChecksumSHA256": sha256} if sha256 else {})
    return sha256 is not None or is_md5(etag, data), part
