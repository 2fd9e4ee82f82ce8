"""What S3 and its libraries raise, as errors of the service that say what to change."""

import re

from data_export.delivery.retry import NoSuchObject, PreconditionFailed
from data_export.errors import (
    AccessDenied,
    ConfigError,
    DataExportError,
    TargetFull,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
    VerificationFailed,
)

_PASSING = {
    "ConditionalRequestConflict",
    "InternalError",
    "NoSuchUpload",
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
}
_DAMAGED = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
_ELSEWHERE = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")


def explain(error: Exception, bucket: str, address: str, permission: str) -> DataExportError:
    """The error to raise instead of `error`; an error that no server or network caused is raised as it is.

    Args:
        address: what the operation was about, e.g. `s3://bucket/folder/name`.
        permission: what the operation needs, e.g. `s3:PutObject`.
    """
    if isinstance(error, DataExportError):
        return error
    answer = _of_botocore(error) or _of_obstore(error)
    if answer is not None:
        return _of_status(*answer, bucket, address, permission)
    return _without_answer(error, address)


def status_of(error: Exception) -> int:
    """The HTTP status behind an error of obstore; 0 where there was no answer."""
    return (_of_obstore(error) or (0,))[0]


def _of_botocore(error: Exception) -> tuple[int, str, str] | None:
    """Status, code and words of the server's refusal, if it was one."""
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        return None
    said = error.response.get("Error", {})
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(said.get("Code", ""))
    return status, "" if code.isdigit() else code, str(said.get("Message", ""))


def _of_obstore(error: Exception) -> tuple[int, str, str] | None:
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    if not isinstance(error, BaseError | FileNotFoundError):
        return None
    text = str(error)
    known = 412 if isinstance(error, AlreadyExistsError | PreconditionError) else 301 if "BareRedirect" in text else 0
    status = int(found[1]) if (found := _STATUS.search(text)) else known
    code, message = _CODE.search(text), _MESSAGE.search(text)
    return (status, code[1] if code else "", message[1] if message else "") if status else None


def _of_status(status: int, code: str, message: str, bucket: str, address: str, permission: str) -> DataExportError:
    said = " ".join(f"{code} {message}".split())[:300] or f"status {status}"
    if code == "NoSuchBucket":
        return TargetNotFound(f"{address}: there is no bucket {bucket}: create it or correct the address")
    if code in _ELSEWHERE or status == 301:
        return TargetRefused(
            f"{address}: bucket {bucket} is in another region ({said}): set region_name in the Airflow connection"
        )
    if code in _DAMAGED:
        return VerificationFailed(f"{address}: other bytes arrived than were announced ({said})")
    if code in _FULL or status == 507:
        return TargetFull(f"{address}: S3 has no room ({said}): make room or raise the quota")
    if code == "NotImplemented" or status == 501:
        return TargetRefused(f"{address}: the server lacks what a safe write needs, such as If-None-Match ({said})")
    if code in _PASSING or status in (408, 409, 429) or status >= 500:
        return TargetUnavailable(f"{address}: S3 answers {said}: try again")
    if status in (401, 403):
        return _denied(code, said, bucket, address, permission)
    if status == 404:
        return NoSuchObject(f"{address}: no such object")
    if status == 412:
        return PreconditionFailed(f"{address} is there already")
    return TargetRefused(f"{address}: S3 refuses the request ({said})")


def _denied(code: str, said: str, bucket: str, address: str, permission: str) -> AccessDenied:
    if code in ("", "AccessDenied"):
        hidden = " with s3:ListBucket, without which S3 hides whether an object exists" if "Get" in permission else ""
        return AccessDenied(
            f"{address}: the identity of the Airflow connection lacks {permission} on bucket {bucket} ({said}): "
            f"grant it{hidden}"
        )
    return AccessDenied(
        f"{address}: S3 refuses the credentials of the Airflow connection ({said}): correct or renew its key"
    )


def _without_answer(error: Exception, address: str) -> DataExportError:
    from botocore.exceptions import (
        BotoCoreError,
        ConnectionError,
        EndpointResolutionError,
        HTTPClientError,
        ParamValidationError,
    )
    from obstore.exceptions import BaseError

    kind = type(error).__name__
    if isinstance(error, HTTPClientError | ConnectionError | BaseError | OSError):
        return TargetUnavailable(f"{address}: no proper answer from S3 ({kind}): try again")
    if isinstance(error, ParamValidationError):
        return TargetRefused(f"{address} is no name that S3 takes: {' '.join(str(error).split())[:300]}")
    if isinstance(error, EndpointResolutionError):
        return ConfigError(f"{address}: no server at this address: correct endpoint_url in the Airflow connection")
    if isinstance(error, BotoCoreError):
        return AccessDenied(f"{address}: AWS credentials cannot be had ({kind}): fill in the Airflow connection")
    raise error
