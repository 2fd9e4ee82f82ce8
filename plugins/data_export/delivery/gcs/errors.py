"""What Cloud Storage and its libraries raise, as errors of the service that say what to change.

Texts of libraries are not passed on: they hold addresses of upload sessions, which are secrets. The server's own are.
"""

import json
import re
from collections.abc import Mapping

from data_export.delivery.retry import NoSuchObject, PreconditionFailed, heeding, why_unanswered
from data_export.errors import (
    AccessDenied,
    CredentialsRefused,
    DataExportError,
    ObjectRefused,
    OverwriteRefused,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
    VerificationFailed,
)
from data_export.wording import harmless

_LACKING = re.compile(r"(?P<who>\S+|Anonymous caller) does not have (?P<permission>storage\.[\w.]+) access")
ROLES = {
    "storage.objects.create": "roles/storage.objectCreator",
    "storage.objects.get": "roles/storage.objectViewer",
    "storage.objects.list": "roles/storage.objectViewer",
    "storage.objects.delete": "roles/storage.objectUser",
    "storage.buckets.get": "roles/storage.legacyBucketReader",
}
_THROTTLED = ("rateLimitExceeded", "userRateLimitExceeded")
_DELETE = "storage.objects.delete"
# Reasons of a 403: https://cloud.google.com/storage/docs/json_api/v1/status-codes#403-forbidden
_MAY_BE_RIGHTS = ("", "forbidden", "insufficientPermissions")
# What says 412 of our own conditions: the JSON interface, the XML one, and servers in between without a word.
_OURS = re.compile(r"^no reason given$|pre-?condition|conditions? (you specified|did not|not met)", re.IGNORECASE)
_POLICY = re.compile(r"constraint|polic(y|ies)|\bkms\b|cryptokey", re.IGNORECASE)
_IMPERSONATING = "Unable to acquire impersonated credentials"  # google.auth.impersonated_credentials
_PROTECTED = ("retentionPolicyNotMet", "objectUnderActiveHold")


def explain(
    error: Exception, bucket: str, address: str, *, reads: bool = False, overwrites: bool | None = None
) -> DataExportError:
    """The error to raise instead of `error`; an error that no server or network caused is raised as it is.

    Args:
        address: what the operation was about, e.g. `gs://bucket/folder/name`.
        reads: whether a 404 may be about the object itself.
        overwrites: whether a write would have taken the place of an object; None where it was no write.
    """
    if isinstance(error, DataExportError):
        return error
    answer = _answer(error)
    if answer is not None:
        status, body, headers = answer
        return heeding(_of_status(status, body, bucket, address, reads, overwrites), headers)
    if problem := _credentials_problem(error, address):
        return problem
    if _is_network(error):
        why = why_unanswered(error)
        if "certificate" in why:
            return TargetRefused(
                f"{address}: {why}: name a file of all authorities in REQUESTS_CA_BUNDLE on the workers"
            )
        return TargetUnavailable(f"{address}: no proper answer from Cloud Storage: {why}")
    if isinstance(error, NO_ANSWER):
        return malformed(address, type(error).__name__)
    raise error


#: What reading an answer raises that is not what Cloud Storage says: no JSON, other fields, other types.
NO_ANSWER = (LookupError, ValueError, TypeError, AttributeError)


def malformed(address: str, what: str) -> TargetUnavailable:
    return TargetUnavailable(
        f"{address}: the answer is not one of Cloud Storage ({what}): is there a proxy or a sign-in page in between?"
    )


def _answer(error: BaseException | None) -> tuple[int, str, Mapping[str, str] | None] | None:
    """Status, body and headers of the server's refusal, if it was one."""
    import aiohttp
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.cloud.storage.exceptions import InvalidResponse

    if isinstance(error, aiohttp.ClientResponseError):
        return error.status, error.message, error.headers
    if isinstance(error, RetryError):
        return _answer(error.cause)
    if isinstance(error, GoogleAPICallError | InvalidResponse) and error.response is not None:
        return int(error.response.status_code), str(error.response.text), error.response.headers
    return None


def _is_network(error: BaseException) -> bool:
    import aiohttp
    import requests
    import urllib3
    from google.api_core.exceptions import RetryError

    return isinstance(
        error, aiohttp.ClientError | OSError | RetryError | requests.RequestException | urllib3.exceptions.HTTPError
    )


def is_silent(error: Exception) -> bool:
    """Whether a server of Google's tokens or signatures did not answer, or may answer later."""
    from google.auth.exceptions import GoogleAuthError, TransportError

    inner = error.args[0] if error.args else None  # a machine's token server fails so when a token is renewed
    passes = isinstance(error, GoogleAuthError) and error.retryable
    return passes or isinstance(error, TransportError) or isinstance(inner, TransportError)


def _of_iam(body: str) -> tuple[int, str]:
    """Status and words of what came in place of a token, whatever its status; no other words: it may be a token."""
    try:
        answer = json.loads(body)
    except ValueError:
        return 502, "no proper answer"
    try:
        return int(answer["error"]["code"]), harmless(str(answer["error"].get("message", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0, ""


def _credentials_problem(error: Exception, address: str) -> DataExportError | None:
    from google.auth.exceptions import GoogleAuthError

    if is_silent(error):
        return TargetUnavailable(f"{address}: the token server of Google does not answer ({type(error).__name__})")
    if isinstance(error, GoogleAuthError):
        first, body = (*error.args, None, None)[:2]
        said = harmless(str(first or ""))
        if isinstance(body, str) and said.startswith(_IMPERSONATING):
            code, words = _of_iam(body)
            if code == 429 or code >= 500:
                return TargetUnavailable(f"{address}: IAM Credentials answers {code} ({words}): try again")
            said += f": {words}" * bool(words)
        return CredentialsRefused(
            f"{address}: Google refuses the credentials of the Airflow connection ({said}): check its key, and for "
            "`impersonate` that it has roles/iam.serviceAccountTokenCreator on that account"
        )
    return None


def _of_status(
    status: int, body: str, bucket: str, address: str, reads: bool, overwrites: bool | None
) -> DataExportError:
    said, reason = _said(body)
    if status < 400:  # also a 308 without what has arrived: then nothing has, and the upload begins anew
        return malformed(address, f"{status}, {said}")
    if status in (408, 409, 410, 429) or status >= 500 or (status == 403 and reason in _THROTTLED):
        return TargetUnavailable(f"{address}: Cloud Storage answers {status} ({said}): try again")
    if status == 401:
        return CredentialsRefused(
            f"{address}: Cloud Storage refuses the credentials of the Airflow connection ({said}): renew its key"
        )
    if status == 403:
        return _denied(said, reason, bucket, address, overwrites)
    if status == 404:
        return _missing(said, bucket, address, reads)
    if status == 412:
        return _condition(said, reason, bucket, address)
    if status == 413:
        return ObjectRefused(f"{address} is larger than the server takes ({said}): have its limit raised")
    if status == 400 and ("crc32c" in said.lower() or "hash" in said.lower()):
        return VerificationFailed(f"{address}: other bytes arrived than were announced ({said})")
    return TargetRefused(f"{address}: Cloud Storage refuses the request with {status} ({said})")


def _condition(said: str, reason: str, bucket: str, address: str) -> DataExportError:
    """Organisation policies, and keys that are not enabled, answer with the status of our own preconditions."""
    ours = reason == "conditionNotMet" or (not reason and _OURS.search(said))
    if ours and not _POLICY.search(said):
        return PreconditionFailed(f"{address} is there already")
    who = "a policy of the organisation of bucket" if _POLICY.search(f"{reason} {said}") else "the state of bucket"
    return TargetRefused(
        f"{address}: {who} {bucket} forbids it ({said}): have its administrator change that, or name a bucket that it "
        "does not concern"
    )


def _missing(said: str, bucket: str, address: str, reads: bool) -> DataExportError:
    if reads and "bucket does not exist" not in said:
        return NoSuchObject(f"{address}: no such object")
    if "No such" in said:  # apart from the bucket, a write can only miss its upload session
        return TargetUnavailable(f"{address}: Cloud Storage has lost the upload ({said}): try again")
    return TargetNotFound(f"{address}: there is no bucket {bucket}: create it or correct the address")


def _denied(said: str, reason: str, bucket: str, address: str, overwrites: bool | None) -> DataExportError:
    if overwrites and reason in _PROTECTED:
        return OverwriteRefused(
            f"{address}: other content is there and is protected against replacement ({said}): end its hold or "
            "retention, or set if_exists to keep or revision"
        )
    found = _LACKING.search(said)
    who = found["who"] if found else "the identity of the Airflow connection"
    may_be_rights = reason in _MAY_BE_RIGHTS
    permission = found["permission"] if found else (_DELETE if overwrites and may_be_rights else "")
    if overwrites is False and (permission == _DELETE or reason in _PROTECTED):  # somebody was quicker to create it
        return PreconditionFailed(f"{address} is there already")
    if not permission:
        fix = f"check the rights on {bucket}" if may_be_rights else "its administrator must change that"
        return AccessDenied(f"{address}: Cloud Storage denies access to {who} ({said}): {fix}")
    role = f" (for instance with {ROLES[permission]})" if permission in ROLES else ""
    if overwrites and permission == _DELETE:
        return OverwriteRefused(
            f"{address}: other content is there and may not be replaced: {who} lacks {_DELETE} on bucket {bucket} "
            f"({said}): grant it{role}, or set if_exists to keep or revision"
        )
    return AccessDenied(f"{address}: {who} lacks {permission} on bucket {bucket} ({said}): grant it{role}")


def _said(body: str) -> tuple[str, str]:
    """The server's own words on one line, and its reason code."""
    try:
        error = json.loads(body[body.index("{") :])["error"]
        reason = str((error.get("errors") or [{}])[0].get("reason", ""))
        return harmless(str(error["message"])), reason
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return harmless(re.sub(r"<[^>]*>", " ", body)) or "no reason given", ""
