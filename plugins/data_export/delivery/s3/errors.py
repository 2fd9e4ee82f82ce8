"""What S3 and its libraries raise, as errors of the service that say what to change."""

import re

from data_export.delivery.connector import in_a_cloud
from data_export.delivery.retry import NoSuchObject, PreconditionFailed, heeding, why_unanswered
from data_export.errors import (
    AccessDenied,
    ConfigError,
    CredentialsRefused,
    CredentialsUnavailable,
    DataExportError,
    ObjectRefused,
    TargetFull,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
    VerificationFailed,
)
from data_export.wording import harmless


class Lacking(TargetRefused):
    """A server of S3's protocol does not know a header or an operation."""


# What passes, whatever its status: what the AWS libraries take for throttling (botocore's retries.standard), some of it
# with status 400, and what other servers call it.
PASSING = re.compile(
    "ConditionalRequestConflict|IncompleteBody|InternalError|NoSuchUpload|OperationAborted|RequestTimeout|ServiceUnavailable"
    "|BandwidthLimit|LimitExceeded|LimitReached|PriorRequestNotComplete|ThroughputExceeded|SlowDown|TooManyRequests"
    "|TransactionInProgress|Throttl|RateLimit|RateExceeded|RateTooHigh|Qps|RequestQuota|Busy|TooManyConnections"
    "|NotInitialized|RetryLater|TemporaryRedirect|Quorum"
)
# Codes about whoever asks, not about what is asked for, and what to do; AWS and others have more than anybody lists.
_LOGIN = (
    (re.compile("AccessKey|InvalidClientTokenId"), "correct its login, the id of the access key"),
    (re.compile("Signature"), "correct its password, the secret of the access key"),
    (re.compile("TimeTooSkewed|RequestExpired|ExpiredRequest"), "the clock of this worker is wrong: set it, by NTP"),
    (
        re.compile("Expired|TokenRefresh"),
        "its session token has expired: renew it, or use a role or an access key that does not expire",
    ),
    (re.compile("Account|Disable|Suspended|SignedUp|OptIn"), "the account is disabled or not signed up: ask its owner"),
    (
        re.compile(
            "AuthFailure|AuthorizationHeaderMalformed|Credential|Payer|(Invalid|Missing)Security|Token"
            "|Unauthorized(Access)?$|UnrecognizedClient"
        ),
        "correct its key, or renew it",
    ),
)
_ARCHIVED = {"BlobArchived", "InvalidObjectState", "ObjectNotInActiveTierError"}
_ROLE = ("AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "GetRoleCredentials", "GetSessionToken")
_TOO_LARGE = {"EntityTooLarge", "MaxMessageLengthExceeded"}
DAMAGED = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
_FULL = re.compile("CapExceeded|(?<!Request)QuotaExceeded|StorageFull|InsufficientStorage|DiskFull")
_OF_ONE = re.compile("KeyTooLong|InvalidObjectName|Virus|Malware|Infected|LegalReasons")
_ELSEWHERE = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
_DENIED = {"", "AccessDenied", "AccessForbidden", "Forbidden", "UnauthorizedOperation"}
# What a server says that has no ACLs, does not encrypt, or does not know the key, and what to do.
_GRANTS = (
    (re.compile(r"x-amz-acl|AccessControlListNot|AclWithObject|\bACLs?\b"), "remove acl: the bucket has no ACLs"),
    (re.compile("key-?id|KeyNotFound", re.IGNORECASE), "correct sse_kms_key_id"),
    (re.compile("x-amz-server-side|KMS|encrypt", re.IGNORECASE), "correct or remove sse, or have it set up there"),
)
_KEY_RIGHT = re.compile(r"kms:\w+")
_POLICY = re.compile("constraint|policy", re.IGNORECASE)
_RIGHT = re.compile(r"(?<=perform: )s3:\w+")
_GRANT_KEY = "grant kms:GenerateDataKey and kms:Decrypt on it, in its policy too where it is another account's"
_AUTHORITY = (
    "name its authority in verify of the connection's extra, or add it to the file of all authorities that "
    "AWS_CA_BUNDLE or REQUESTS_CA_BUNDLE names on the workers (a certificate that says CA:TRUE is no server's own)"
)
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]*)</Code>")
_WORDS = ("Message", "Header", "ArgumentName")
_MESSAGE = re.compile(rf"<(?:{'|'.join(_WORDS)})>([^<]*)</")


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
        if getattr(error, "operation_name", "") in _ROLE:
            return _of_role(*answer, address)
        said = getattr(error, "response", {}).get("ResponseMetadata", {})  # obstore's errors have no headers
        problem = heeding(_of_status(*answer, bucket, address, permission), said.get("HTTPHeaders"))
        if isinstance(problem, PreconditionFailed):
            problem.repeated = said.get("RetryAttempts", 0) > 0
        return problem
    return _without_answer(error, address)


def said_by(error: Exception) -> tuple[int, str, str]:
    """Status, code and words of a server's refusal, with the header that it names; zero and empty where it was none."""
    status, code, message = _of_botocore(error) or _of_obstore(error) or (0, "", "")
    return status, code, f"{code} {message}".strip()


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
    words = [str(said[name]) for name in _WORDS if said.get(name)]
    return status, "" if code.isdigit() else code, " ".join(words)


def _of_obstore(error: Exception) -> tuple[int, str, str] | None:
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    if not isinstance(error, BaseError | FileNotFoundError):
        return None
    text = str(error)
    known = 412 if isinstance(error, AlreadyExistsError | PreconditionError) else 301 if "BareRedirect" in text else 0
    status = int(found[1]) if (found := _STATUS.search(text)) else known
    code, words = _CODE.search(text), dict.fromkeys(found[1] for found in _MESSAGE.finditer(text))
    return (status, code[1] if code else "", " ".join(words)) if status else None


def _of_status(status: int, code: str, message: str, bucket: str, address: str, permission: str) -> DataExportError:
    said = harmless(f"{code} {message}") or f"status {status}"
    if code == "NoSuchBucket":
        return TargetNotFound(f"{address}: there is no bucket {bucket}: create it or correct the address")
    if (code in _ELSEWHERE and (code != "AuthorizationHeaderMalformed" or "region" in message)) or status == 301:
        return TargetRefused(
            f"{address}: bucket {bucket} is in another region ({said}): set region_name in the Airflow connection"
        )
    if problem := _of_code(status, code, said, address):
        return problem
    if status in (400, 405, 501) and (fixes := [fix for words, fix in _GRANTS if words.search(said)]):
        return TargetRefused(f"{address}: the server does not do what the customer file asks for ({said}): {fixes[0]}")
    if code == "NotImplemented" or status in (405, 411, 501):
        return Lacking(f"{address}: the server lacks what the request needs, such as If-None-Match ({said})")
    if (code == "PreconditionFailed" or (status in (304, 412) and not code)) and not _POLICY.search(message):
        return PreconditionFailed(f"{address} is there already")
    if PASSING.search(code) or status in (408, 409, 420, 429) or status >= 500:
        return TargetUnavailable(f"{address}: S3 answers {said}: try again")
    if status in (401, 403):
        return _denied(code, said, bucket, address, permission)
    if status == 404:
        return NoSuchObject(f"{address}: no such object")
    return TargetRefused(f"{address}: S3 refuses the request ({said})")


def _of_code(status: int, code: str, said: str, address: str) -> DataExportError | None:
    """What a code alone says, whatever its status."""
    if code.startswith("KMS."):
        return _of_key(code, said, address)
    if status in (400, 401, 403) and not PASSING.search(code):
        fixes = [fix for codes, fix in _LOGIN if codes.search(code) or (status == 401 and code in _DENIED)]
        if fixes:
            refused = f"{address}: S3 refuses the credentials of the Airflow connection ({said})"
            return CredentialsRefused(f"{refused}: {fixes[0 if code not in _DENIED else -1]}")
    if code in _ARCHIVED:
        return ObjectRefused(f"{address} is archived ({said}): restore it to a class that can be read at once")
    if code in _TOO_LARGE or status == 413:
        return ObjectRefused(f"{address} is larger than the server takes ({said}): have its limit raised")
    if _OF_ONE.search(code) or status == 451:
        return ObjectRefused(f"{address} is refused by the server for what it is ({said})")
    if code in DAMAGED:
        return VerificationFailed(f"{address}: other bytes arrived than were announced ({said})")
    if _FULL.search(code) or status == 507:
        return TargetFull(f"{address}: S3 has no room ({said}): make room or raise the quota")
    return None


def _of_key(code: str, said: str, address: str) -> DataExportError:
    """What S3 passes on from the key management service."""
    if re.search("Thrott|Limit|Internal|Timeout|Unavailable", code):
        return TargetUnavailable(f"{address}: the key service answers {said}: try again")
    if "AccessDenied" in code:
        return AccessDenied(f"{address}: the KMS key may not be used ({said}): {_GRANT_KEY}")
    if "Disabled" in code or "State" in code:
        return TargetRefused(f"{address}: the KMS key does not work now ({said}): have its owner enable it")
    return TargetRefused(f"{address}: the KMS key cannot be used ({said}): correct sse_kms_key_id, or the bucket's key")


def _of_role(status: int, code: str, message: str, address: str) -> DataExportError:
    """What the service that lends a role's credentials says."""
    said = harmless(f"{code} {message}") or f"status {status}"
    if PASSING.search(code) or code == "IDPCommunicationError" or status >= 500:
        return CredentialsUnavailable(f"{address}: the role's credentials cannot be had now ({said}): try again")
    return CredentialsRefused(
        f"{address}: the role of the Airflow connection cannot be assumed ({said}): correct role_arn and "
        "assume_role_kwargs in its extra, or let the role trust this identity"
    )


def _denied(code: str, said: str, bucket: str, address: str, permission: str) -> AccessDenied:
    if "explicit deny" in said:
        return AccessDenied(
            f"{address}: a policy forbids {permission} on bucket {bucket} ({said}), which no grant overrides: ask the "
            "bucket's owner what it demands, such as encryption (sse, sse_kms_key_id), an ACL (acl) or a network"
        )
    if right := _KEY_RIGHT.search(said):
        return AccessDenied(
            f"{address}: the identity of the Airflow connection lacks {right[0]} on the KMS key ({said}): {_GRANT_KEY}"
        )
    if right := _RIGHT.search(said):
        permission = right[0]
    if code not in _DENIED:
        return AccessDenied(
            f"{address}: S3 denies {permission} on bucket {bucket} ({said}): ask the bucket's owner why"
        )
    hidden = " with s3:ListBucket, without which S3 hides whether an object exists" if "Get" in permission else ""
    return AccessDenied(
        f"{address}: the identity of the Airflow connection lacks {permission} on bucket {bucket} ({said}): "
        f"grant it{hidden}"
    )


def _without_answer(error: Exception, address: str) -> DataExportError:
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError
    from obstore.exceptions import BaseError

    kind = type(error).__name__
    if isinstance(error, ResponseParserError | LookupError | ValueError | TypeError | AttributeError):
        return TargetUnavailable(
            f"{address}: the answer is not one of S3 ({kind}): is there a proxy or a sign-in page in between?"
        )
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError | BaseError | OSError):
        why = why_unanswered(error)
        if "certificate" in why:
            return TargetRefused(f"{address}: {why}: {_AUTHORITY}")
        return TargetUnavailable(f"{address}: no proper answer from S3: {why}")
    if isinstance(error, boto.ParamValidationError):
        return TargetRefused(f"{address} is no name that S3 takes: {harmless(error)}")
    if isinstance(error, boto.EndpointResolutionError):
        return ConfigError(f"{address}: no server at this address: correct endpoint_url in the Airflow connection")
    if isinstance(error, boto.BotoCoreError):
        kind_of = CredentialsUnavailable if in_a_cloud() else AccessDenied
        return kind_of(f"{address}: AWS credentials cannot be had ({kind}): fill in the Airflow connection")
    raise error
