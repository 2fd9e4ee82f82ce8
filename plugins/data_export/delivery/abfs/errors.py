"""What Azure Blob Storage and Microsoft Entra ID say, as errors of the service.

Codes: learn.microsoft.com/rest/api/storageservices/blob-service-error-codes. Their texts are looked at, never passed
on: they repeat signatures.
"""

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from data_export.delivery.connector import in_a_cloud
from data_export.delivery.retry import NoSuchObject, PreconditionFailed, heeding, why_unanswered
from data_export.errors import (
    AccessDenied,
    CredentialsRefused,
    CredentialsUnavailable,
    DataExportError,
    ObjectExists,
    ObjectRefused,
    OverwriteRefused,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
    VerificationFailed,
)

T = TypeVar("T")


class BlobArchived(ObjectRefused):
    """It is in the archive tier, or on its way out of it: Azure neither reads nor replaces it."""


class BlocksGone(TargetUnavailable):
    """Another writer of the name committed first, and Azure dropped our blocks."""


_CONNECTION = "correct its Airflow connection"
_CLOCK = "the worker's clock is wrong: set it by NTP"
_ROLE = "grant the identity the role Storage Blob Data Contributor on the container, or the SAS token rights racwdl"
_HELD = "remove it, or set if_exists to keep or revision"
_Meaning = tuple[type[DataExportError], str]

#: What the details of a refused login mean, in the order in which they are looked for.
_LOGIN: tuple[tuple[str, str], ...] = (
    (r"Request date header too old|date header", _CLOCK),
    (r"Signature not valid in the specified time frame|Signed expiry|Signed ?start",
     f"the SAS token is expired or not yet valid: put a new one into its Airflow connection (or {_CLOCK})"),
    (r"Issuer validation failed|not configured to acquire tokens for tenant|AADSTS(500011|50020|90072)",
     "the identity belongs to another tenant than the storage account: set tenant_id of its Airflow connection to the "
     "account's tenant, where the application must be registered too"),
    (r"AADSTS(90002|900021|900023)|tenant.* not found",
     "there is no such tenant: correct tenant_id of its Airflow connection"),
    (r"AADSTS700016", "the tenant knows no such application: correct login (the client id) and tenant_id of its "
     "Airflow connection"),
    (r"AADSTS7000222", "the application's secret is expired: make a new one and put it into password of its Airflow "
     "connection"),
    (r"AADSTS(7000215|7000218|50012)", "the application's secret is wrong: put its value, not its id, into password of "
     "its Airflow connection"),
    (r"AADSTS(700024|500133)|clock|not within its valid time range", _CLOCK),
    (r"AADSTS(53003|530003|53000)", "a policy of conditional access keeps this machine out: have the tenant's "
     "administrators admit its address"),
    (r"AADSTS(7000112|700082|50057)", "the application is disabled in its tenant: have its administrators enable it"),
    (r"Audience validation failed", "the token is for another service: remove audience from the connection's extra"),
    (r"Signature did not match|signature fields", "the SAS token is damaged or its key was rotated: put a new one into "
     "its Airflow connection"),
    (r"MAC signature|not the same as any computed|shared key|base64|Incorrect padding",
     "the account's key is wrong or was rotated: put a current one into password of its Airflow connection"),
)  # fmt: skip

_CODES: dict[str, _Meaning] = {
    "AccountIsDisabled": (CredentialsRefused, "the storage account is disabled: have its owner enable it"),
    "AuthorizationFailure": (
        AccessDenied,
        "its firewall keeps this network out, or the SAS token lacks the right: have its owner admit our addresses "
        "under Networking",
    ),
    "AuthorizationPermissionMismatch": (AccessDenied, f"the identity lacks the right: {_ROLE}"),
    "AuthorizationProtocolMismatch": (CredentialsRefused, "the SAS token is for https only: correct the host"),
    "AuthorizationResourceTypeMismatch": (AccessDenied, "the SAS token must cover containers and objects (srt=co)"),
    "AuthorizationServiceMismatch": (CredentialsRefused, "the SAS token must cover the Blob service (ss=b)"),
    "AuthorizationSourceIPMismatch": (CredentialsRefused, "the SAS token admits other addresses than ours only"),
    "InsufficientAccountPermissions": (AccessDenied, f"the account does not permit it: {_ROLE}"),
    "KeyBasedAuthenticationNotPermitted": (
        CredentialsRefused,
        "the account takes no shared keys: use a service principal or managed identity in its Airflow connection",
    ),
    "PublicAccessNotPermitted": (CredentialsRefused, f"nothing can be done there without credentials: {_CONNECTION}"),
    "NoAuthenticationInformation": (CredentialsRefused, f"no credentials were sent: {_CONNECTION}"),
    "UnauthorizedBlobOverwrite": (OverwriteRefused, f"the SAS token may create, not replace: give it w, or {_HELD}"),
    "BlobImmutableDueToPolicy": (OverwriteRefused, f"an immutability policy or legal hold protects it: {_HELD}"),
    "LeaseIdMissing": (OverwriteRefused, f"somebody holds a lease on it: break it, or {_HELD}"),
    "BlobArchived": (BlobArchived, "it is in the archive tier: rehydrate it first"),
    "BlobBeingRehydrated": (BlobArchived, "it is being rehydrated from the archive tier: wait some hours"),
    "InvalidBlobType": (OverwriteRefused, f"it is an append or page blob, which cannot be replaced: {_HELD}"),
    "ContainerNotFound": (TargetNotFound, "there is no such container: create it, or correct the address"),
    "ContainerDisabled": (AccessDenied, "the container is disabled: have its owner enable it"),
    "BlobNotFound": (NoSuchObject, "there is no such blob"),
    "ResourceNotFound": (TargetNotFound, "there is no such container or blob: create it, or correct the address"),
    "BlobAlreadyExists": (ObjectExists, "there is a blob of that name"),
    "ConditionNotMet": (PreconditionFailed, "it has changed meanwhile"),
    "TargetConditionNotMet": (ObjectExists, "there is a blob of that name"),
    "InvalidBlockList": (BlocksGone, "another writer of the same name was quicker"),
    "InvalidBlobOrBlock": (BlocksGone, "another writer of the same name was quicker"),
    "InvalidBlockId": (BlocksGone, "another writer of the same name left blocks of its own"),
    "Md5Mismatch": (VerificationFailed, "other bytes arrived than were sent"),
    "Crc64Mismatch": (VerificationFailed, "other bytes arrived than were sent"),
    "AccountRequiresHttps": (TargetRefused, "the account takes https only: correct host of its Airflow connection"),
    "AccountBeingCreated": (TargetUnavailable, "the storage account is still being made"),
    "ContainerBeingDeleted": (TargetUnavailable, "the container is being deleted: create it again in a minute"),
    "PathConflict": (TargetRefused, "a file stands where a folder is needed, or a folder where the file is"),
    "ResourceTypeMismatch": (TargetRefused, "a file stands where a folder is needed, or a folder where the file is"),
    "LeaseIdMismatchWithBlobOperation": (OverwriteRefused, f"somebody holds a lease on it: break it, or {_HELD}"),
    "CannotVerifyCopySource": (AccessDenied, "it may not read what is to be copied"),
    "NoPendingCopyOperation": (TargetUnavailable, "the copy was broken off"),
    "PendingCopyOperation": (TargetUnavailable, "somebody copies to the name"),
}  # fmt: skip
_PASSING = ("ServerBusy", "OperationTimedOut", "InternalError", "OverAccountLimit", "TooManyRequests", "Throttl")


async def asked(seconds: float, where: str, call: Callable[[], Awaitable[T]], *, creates: bool = False) -> T:
    """The answer of one request, which ends after so many seconds at the latest.

    Args:
        creates: it replaces nothing. Azure may look at rights, leases and policies first: then what it refuses to have
            replaced is there.

    Raises:
        ObjectExists: there is a blob of that name.
        DataExportError: as `translated` says.
    """
    import asyncio

    from azure.core.exceptions import AzureError

    try:
        async with asyncio.timeout(seconds):
            return await call()
    except TimeoutError:
        raise TargetUnavailable(f"{where}: no answer within {seconds:g} s") from None
    except DataExportError:  # some are ValueErrors and OSErrors too
        raise
    except (AzureError, OSError) as error:
        problem = heeding(translated(error, where), getattr(getattr(error, "response", None), "headers", None))
        raise (ObjectExists(str(problem)) if creates and isinstance(problem, OverwriteRefused) else problem) from None
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise TargetUnavailable(
            f"{where}: the answer is not one of Azure ({type(error).__name__}): is there a proxy or a sign-in page in "
            "between?"
        ) from None


def translated(error: Exception, where: str) -> DataExportError:
    """The error in the service's words."""
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

    answer = getattr(error, "response", None)
    code, status = _code(error), getattr(error, "status_code", None) or getattr(answer, "status_code", None)
    if code in _CODES and not _of_entra(error):
        kind, words = _CODES[code]
        return kind(f"{where}: {words} ({code})")
    if code in ("AuthenticationFailed", "InvalidAuthenticationInfo") or isinstance(error, ClientAuthenticationError):
        return _entra_is_silent(error, where, status or 0) or _login(error, where, code)
    if not isinstance(error, HttpResponseError) or status is None:
        return _unreached(error, where)
    if status == 501:
        return AccessDenied(f"{where}: this server cannot do that ({code or status})")
    if status in (408, 429) or status >= 500 or any(word in code for word in _PASSING):
        return TargetUnavailable(f"{where}: Azure answers {status} {code}, which passes")
    if status < 400:
        return TargetUnavailable(f"{where}: the answer ({status}) ended early or is not Azure's")
    return _by_status(status, where, code)


def _code(error: Exception) -> str:
    """The code of the answer, which one without a body (HEAD) has in its header."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    code = headers.get("x-ms-error-code") or getattr(error, "error_code", None) or ""
    code = str(getattr(code, "value", code))
    return code if code.isalnum() else ""


def _of_entra(error: Exception) -> bool:
    return "AADSTS" in str(error)


def _entra_is_silent(error: Exception, where: str, status: int) -> DataExportError | None:
    """Of a login that nobody refused: azure-identity calls every fault on the way to it a failed authentication."""
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError
    from azure.identity import CredentialUnavailableError

    if isinstance(error, CredentialUnavailableError):  # this machine has no such credential
        return None
    cause = error.__cause__
    if isinstance(cause, ServiceRequestError | ServiceResponseError | OSError):
        why = why_unanswered(cause)
        if "certificate" in why:
            return TargetRefused(
                f"{where}: the certificate of Microsoft Entra ID is not trusted: name a file of all authorities in "
                "REQUESTS_CA_BUNDLE on the workers"
            )
        return CredentialsUnavailable(f"{where}: Microsoft Entra ID does not answer: {why}")
    if status == 429 or status >= 500 or "Unexpected response from Microsoft Entra" in str(error):
        return CredentialsUnavailable(f"{where}: Microsoft Entra ID does not answer now")
    return None


def _login(error: Exception, where: str, code: str) -> DataExportError:
    text = str(error)
    for pattern, words in _LOGIN:
        if re.search(pattern, text, re.IGNORECASE):
            return CredentialsRefused(f"{where}: {words}")
    if "AADSTS90033" in text or "AADSTS50196" in text or "temporarily" in text:
        return CredentialsUnavailable(f"{where}: Microsoft Entra ID does not answer now")
    if not code and "AADSTS" not in text:  # no server refused: no credential was found
        kind = CredentialsUnavailable if in_a_cloud() else CredentialsRefused
        return kind(
            f"{where}: this machine has no identity that Azure knows: assign it a managed identity, or put a key, SAS "
            "token or service principal into its Airflow connection"
        )
    named = code or next(iter(re.findall(r"AADSTS\d+", text)), "")
    return CredentialsRefused(f"{where}: Azure refuses the login ({named}): {_CONNECTION}")


def _unreached(error: Exception, where: str) -> DataExportError:
    why = why_unanswered(error)
    if "certificate" in why:
        return TargetRefused(
            f"{where}: its certificate is not trusted: name its authority in connection_verify of the connection's "
            "extra, or add it to the file of all authorities that REQUESTS_CA_BUNDLE names, or correct the host"
        )
    if "name" in why:
        return TargetUnavailable(f"{where}: no server has the account's name: correct the account in the address")
    return TargetUnavailable(f"{where}: no proper answer from Azure: {why}")


def _by_status(status: int, where: str, code: str) -> DataExportError:
    named = f"Azure answers {status} {code}".rstrip()
    if status == 401:
        return CredentialsRefused(f"{where}: {named}: {_CONNECTION}")
    if status == 403:
        return AccessDenied(f"{where}: {named}: {_ROLE}")
    if status == 404:
        return TargetNotFound(f"{where}: {named}: correct the address, or host of its Airflow connection")
    if "Lease" in code:
        return OverwriteRefused(f"{where}: {named}: somebody holds a lease on it: break it, or {_HELD}")
    if status == 412 and (not code or "ConditionNotMet" in code):
        return PreconditionFailed(f"{where}: {named}: it has changed meanwhile")
    fix = "remove api_version from the connection's extra, or correct its host" if "Header" in code else "look it up"
    return TargetRefused(f"{where}: {named}: {fix}")
