"""What credentials do: they go with each request, and sign links for as long as their kind can promise them."""

import asyncio
import os
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from data_export.delivery.base import attachment, check_lifetime, hours
from data_export.delivery.gcs.errors import is_silent
from data_export.delivery.threads import run_blocking
from data_export.errors import AccessDenied, PermanentError, TargetUnavailable
from data_export.wording import harmless

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
    from gcloud.aio.storage import Storage
    from google.cloud.storage import Blob

# What its signer refuses comes as an error of transport too, with the answer in its text.
_DENIED = re.compile(r"\b40[0-4]\b|denied|NOT_FOUND|has not been used|disabled", re.IGNORECASE)
# Google signs with keys of its own for service accounts without a key file, and promises about 12 hours of each:
# https://cloud.google.com/storage/docs/access-control/signed-urls and googleapis/google-cloud-node issue 7773.
_IAM_SIGNED = timedelta(hours=12)

# The library knows one cloud of Google's only.
_OF_THE_LIBRARY = "https://www.googleapis.com"
# A machine's token server may hand out the same token, with minutes left, for as long as it has it.
_RENEWED_AT_MOST_EVERY = 5.0


class Login:
    """Sends with each request what Google's own libraries would: a token that still lasts, and who pays for it.

    The provider's token takes each for one of an hour, while a machine's may end in minutes, and names no project.
    """

    def __init__(self) -> None:
        self._credentials: Any = None
        self._renewed = -_RENEWED_AT_MOST_EVERY
        self._one_asks = asyncio.Lock()

    def serves(self, storage: "Storage") -> None:
        """Takes over the credentials of a client that has some, and leads it to the cloud that they are of."""
        self._credentials = getattr(storage.token, "credentials", None)
        if storage._api_is_dev or self._credentials is None:
            return
        client: Any = storage
        client._headers = self.headers
        if client._api_root != _OF_THE_LIBRARY:
            return
        client._api_root = f"https://storage.{os.environ.get('GOOGLE_CLOUD_UNIVERSE_DOMAIN') or 'googleapis.com'}"
        client._api_root_read = f"{client._api_root}/storage/v1/b"
        client._api_root_write = f"{client._api_root}/upload/storage/v1/b"

    async def headers(self) -> dict[str, str]:
        if not self._credentials.valid:
            await self._renew(self._credentials.token)
        headers: dict[str, str] = {}
        self._credentials.apply(headers)
        return headers

    async def once_more(self, request: "ClientRequest", handler: "ClientHandlerType") -> "ClientResponse":
        """Sends a request again with a new token where the server says that its token has ended or was withdrawn."""
        answer = await handler(request)
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if answer.status != 401 or not sent or self._credentials is None:
            return answer
        await self._renew(sent)
        if self._credentials.token == sent:
            return answer
        answer.release()
        self._credentials.apply(request.headers)
        return await handler(request)

    async def _renew(self, old: str | None) -> None:
        """Has Google give another token than `old`, once for all who ask at the same time."""
        from google.auth.transport.requests import Request

        async with self._one_asks:
            soon = time.monotonic() - self._renewed < _RENEWED_AT_MOST_EVERY
            if self._credentials.token != old or (old and soon):
                return
            await run_blocking(lambda _: self._credentials.refresh(Request()))
            self._renewed = time.monotonic()


def signed_link(blob: "Blob", credentials: Callable[[], Any], lifetime: timedelta, file_name: str) -> str:
    """A V4 link to the object that works for `lifetime`. Blocks: asks Google for a signature where there is no key.

    Raises:
        PermanentError: the credentials cannot sign, or not for that long.
        AccessDenied: they may not sign in the name of their account.
    """
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    address = f"gs://{blob.bucket.name}/{blob.name}"
    check_lifetime(address, lifetime)
    holder = credentials()
    signer = {"credentials": holder}
    if not _has_key(holder):
        if lifetime > _IAM_SIGNED:
            raise PermanentError(
                f"{address}: a link of {hours(lifetime)} cannot be promised: the account has no key of its own, and "
                "what Google signs for it works for 12 hours: set link_ttl_hours to at most 12, or give the Airflow "
                "connection a service-account key"
            )
        signer |= _iam_signer(holder, address)
    try:
        link: str = blob.generate_signed_url(
            version="v4", expiration=lifetime, response_disposition=attachment(file_name), **signer
        )
    except GoogleAuthError as error:
        if is_silent(error) and not _DENIED.search(str(error)):
            raise TargetUnavailable(
                f"{address}: Google's signer does not answer ({type(error).__name__}): try again"
            ) from None
        account = account_of(holder) or "the account"
        raise AccessDenied(
            f"{address}: Google does not sign for {account} ({harmless(error)}): grant it "
            "roles/iam.serviceAccountTokenCreator on itself, and enable the IAM Credentials API"
        ) from None
    except (RequestException, LookupError, ValueError) as error:  # no JSON: a proxy or a sign-in page answers
        raise TargetUnavailable(f"{address}: no proper answer from Google's signer ({type(error).__name__})") from None
    return link


def _has_key(credentials: Any) -> bool:
    from google.oauth2.service_account import Credentials

    return isinstance(credentials, Credentials)


def _iam_signer(credentials: Any, address: str) -> dict[str, str]:
    """What lets the storage library ask Google for a signature: account and token."""
    from google.auth.credentials import AnonymousCredentials, Signing
    from google.auth.transport.requests import Request

    if isinstance(credentials, Signing):  # impersonation: signs by itself, through Google
        return {}
    if not isinstance(credentials, AnonymousCredentials):
        credentials.refresh(Request())  # on Google's machines the account is known only then
        account = getattr(credentials, "service_account_email", None)
        if account:
            return {"service_account_email": account, "access_token": credentials.token}
    raise PermanentError(
        f"{address}: {type(credentials).__name__} cannot sign links: give the Airflow connection of staging a "
        "service-account key, or an account to impersonate"
    )


def account_of(credentials: Any) -> str | None:
    """The service account that acts by these credentials, where they name it."""
    found = getattr(credentials, "service_account_email", None)
    return None if found == "default" else found  # what Google's machines say before they have asked
