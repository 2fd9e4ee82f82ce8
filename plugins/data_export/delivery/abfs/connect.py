"""An asynchronous client with the identity that the Azure provider's hook made of a connection."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit, urlunsplit

from data_export.delivery.retry import Patience
from data_export.delivery.threads import run_blocking
from data_export.errors import ConfigError

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential
    from azure.storage.blob import BlobServiceClient as Blocking
    from azure.storage.blob.aio import BlobServiceClient

#: Keys of a connection's extra that the hook hands to its client, and that ours takes too.
_PASSED_ON = ("api_version", "audience", "connection_cert", "connection_verify", "proxies")


@dataclass(frozen=True, slots=True)
class Access:
    """One account as one identity sees it; not yet connected."""

    service: "BlobServiceClient"
    account: str
    #: The account's key, which signs links; None with a SAS token or an identity of Microsoft Entra ID.
    key: str | None = None
    #: Whether an identity asks, for which Azure makes keys that sign links.
    delegates: bool = False


class _Threaded:
    """A blocking credential, asked in a thread."""

    def __init__(self, credential: "TokenCredential") -> None:
        self._credential = credential

    async def get_token(self, *scopes: str, **options: Any) -> "AccessToken":
        return await run_blocking(lambda _: self._credential.get_token(*scopes, **options))

    async def close(self) -> None:
        if close := getattr(self._credential, "close", None):
            close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def access_of(
    hooked: "Blocking", uri: str, conn_id: str, extra: Mapping[str, Any], patience: Patience | None = None
) -> Access:
    """What `hooked` may do in the account of the address.

    A key or a SAS token belongs to one account. An identity may have roles in many: it reaches the account that the
    address names, in the cloud of the connection's host.

    Raises:
        ConfigError: the connection has no credentials, or those of another account.
    """
    from azure.storage.blob.aio import BlobServiceClient

    patience = patience or Patience()
    account = urlsplit(uri).netloc.partition("@")[2]
    credential, url, key = hooked.credential, hooked.url, getattr(hooked.credential, "account_key", None)
    delegates = hasattr(credential, "get_token")
    given: Any
    if delegates:
        url, given = _of_account(url, hooked.account_name, account), _Threaded(credential)
    else:
        given = {"account_name": hooked.account_name, "account_key": key} if key else credential
        if not given and "sig=" not in url:
            raise ConfigError(
                f"Airflow connection {conn_id!r} has no credentials: give a key (password), a SAS token (sas_token in "
                "its extra), a service principal (login, password, tenant_id) or a managed identity"
            )
        if hooked.account_name and hooked.account_name != account:
            raise ConfigError(
                f"Airflow connection {conn_id!r} is for storage account {hooked.account_name!r}, but {uri} names "
                f"{account!r}: set conn_id to a connection with this account's key or SAS token, or correct the address"
            )
    service = BlobServiceClient(
        url,
        given,
        retry_total=0,  # `Patience` tries again
        connection_timeout=patience.connect,
        read_timeout=patience.answer,
        raw_request_hook=_as_file,
        **{name: extra[name] for name in _PASSED_ON if name in extra},
    )
    return Access(service, account, key, delegates)


def _as_file(request: Any) -> None:
    """aiohttp sends a file piece by piece, but bytes in one go that holds up the event loop."""
    if isinstance(request.http_request.data, bytes):
        request.http_request.data = io.BytesIO(request.http_request.data)


def _of_account(url: str, connected: str | None, account: str) -> str:
    """The URL with the account of the address in place of the connection's; a host of one's own stays as it is."""
    parts = urlsplit(url)
    rest = parts.netloc.partition(".")[2]
    if not connected or not rest.startswith("blob."):
        return url
    return urlunsplit(parts._replace(netloc=f"{account}.{rest}"))
