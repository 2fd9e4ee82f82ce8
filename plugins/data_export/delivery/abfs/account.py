"""An account as one identity sees it: the client that the Azure provider's hook made of a connection, and its links."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from data_export.config.fields import quoted
from data_export.delivery.abfs.write import BODY_AT_ONCE, Slices
from data_export.delivery.base import attachment, check_lifetime, hours
from data_export.delivery.retry import Patience, trusted
from data_export.delivery.threads import waited_for_by_none
from data_export.errors import AccessDenied, ConfigError, PermanentError

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential
    from azure.storage.blob import BlobServiceClient as Blocking
    from azure.storage.blob.aio import BlobClient, BlobServiceClient

Ask = Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Any]]

#: A host of Azure's, in any of its clouds. In a zone of its DNS an account says nothing of where others are.
_HOST = re.compile(r"(?P<account>[A-Za-z0-9]+)(?:-secondary)?\.(?P<zone>z[0-9]+\.)?(?:blob|dfs)\.(?P<cloud>.+)")
_SILENT_SECONDS = 20.0  # then a token is asked for anew: the server may have forgotten the first request
_SKEW, _LONGEST_KEY = timedelta(minutes=5), timedelta(days=7)
#: Keys of a connection's extra that the hook hands to its client, and that ours takes too. With `connection_verify` or
#: `connection_cert` the transport would make a TLS context, and so a connection, for each request.
_PASSED_ON = ("api_version", "audience", "proxies")


@dataclass(frozen=True, slots=True)
class Access:
    """One account as one identity sees it; not yet connected."""

    conn_id: str
    service: "BlobServiceClient"
    transport: Any
    account: str
    #: The account's key, which signs links; None with a SAS token or an identity of Microsoft Entra ID.
    key: str | None = field(default=None, repr=False)
    #: Whether an identity asks, for which Azure makes keys that sign links.
    delegates: bool = False
    #: A file of the only authorities to trust.
    verify: str | None = None
    #: Files of the certificate that it shows and of its key, and the key's password, as far as there are any.
    shown: tuple[str, ...] = field(default=(), repr=False)

    async def open(self) -> None:
        """Connects, so that each request is sent once and a lost answer is ours to judge.

        By itself aiohttp sends a PUT again where a kept connection drops, and a create then finds its own object.
        """
        import aiohttp

        self.transport.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trusted(self.conn_id, self.verify, self.shown)),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        await self.service.__aenter__()
        self.transport.session._retry_connection = False

    async def close(self) -> None:
        await self.service.close()
        if self.delegates:
            await self.service.credential.close()


class _Threaded:
    """A blocking credential, asked in a thread."""

    def __init__(self, credential: "TokenCredential") -> None:
        self._credential = credential
        self._asking: dict[str, tuple[float, asyncio.Future[AccessToken]]] = {}

    async def get_token(self, *scopes: str, **options: Any) -> "AccessToken":
        """The token; of all who ask for the same within some seconds one does."""
        asked_for, now = f"{scopes} {options}", asyncio.get_running_loop().time()
        since, asking = self._asking.get(asked_for, (0.0, None))
        if asking is None or asking.done() or now - since > _SILENT_SECONDS:
            asking = waited_for_by_none(partial(self._credential.get_token, *scopes, **options))
            self._asking[asked_for] = now, asking
        return await asyncio.shield(asking)

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
        ConfigError: the connection has no credentials, those of another account, or switches TLS off.
    """
    account = urlsplit(uri).netloc.partition("@")[2]
    credential, key = hooked.credential, getattr(hooked.credential, "account_key", None)
    named = _HOST.fullmatch(urlsplit(hooked.url).netloc)
    connected = hooked.account_name or (named and named["account"])
    delegates = hasattr(credential, "get_token")
    given: Any = {"account_name": connected, "account_key": key} if key else credential
    if not given and "sig=" not in hooked.url:
        raise ConfigError(
            f"Airflow connection {conn_id!r} has no credentials: give a key (password), a SAS token (sas_token in "
            "its extra), a service principal (login, password, tenant_id) or a managed identity"
        )
    reaches_others = delegates and not (named and named["zone"])
    if connected and connected != account and not reaches_others:
        raise ConfigError(
            f"Airflow connection {conn_id!r} is for storage account {connected!r}, but {uri} names "
            f"{account!r}: set conn_id to a connection with this account's host and key or SAS token, or correct the "
            "address"
        )
    if delegates:
        given = _Threaded(credential)
    url, verify = _of_account(hooked.url, named, account), _authorities(conn_id, extra)
    service, transport = _client_of(url, given, extra, patience or Patience())
    return Access(conn_id, service, transport, account, key, delegates, verify, _shown(conn_id, extra))


def _authorities(conn_id: str, extra: Mapping[str, Any]) -> str | None:
    """The file of the only authorities to trust, where the connection names one.

    Raises:
        ConfigError: it would have no certificate verified.
    """
    verify = extra.get("connection_verify")
    if verify in (None, True) or isinstance(verify, str):
        return verify if isinstance(verify, str) else None
    raise ConfigError(
        f"Airflow connection {conn_id!r} has connection_verify: {quoted(verify)}: certificates are always "
        "verified: remove it, or name a file of authorities"
    )


def _shown(conn_id: str, extra: Mapping[str, Any]) -> tuple[str, ...]:
    """What the connection shows to its server; a path, or as the Azure library has it, up to three texts.

    Raises:
        ConfigError: it is neither.
    """
    shown = extra.get("connection_cert") or ()
    parts = (shown,) if isinstance(shown, str) else shown
    if isinstance(parts, list | tuple) and len(parts) <= 3 and all(isinstance(part, str) for part in parts):
        return tuple(parts)
    raise ConfigError(
        f"Airflow connection {conn_id!r} has a connection_cert that is no path: name the file of the certificate, or "
        "a list of that file, its key's and the key's password"
    )


def _client_of(url: str, given: Any, extra: Mapping[str, Any], patience: Patience) -> tuple["BlobServiceClient", Any]:
    from azure.core.pipeline.transport import AioHttpTransport
    from azure.storage.blob.aio import BlobServiceClient

    passed = {"proxies": _proxies_to(url)} | {name: extra[name] for name in _PASSED_ON if name in extra}
    transport = AioHttpTransport(
        connection_timeout=patience.connect,
        read_timeout=patience.answer,
        use_env_settings=False,  # else aiohttp has a thread read ~/.netrc for each request, and sends what it finds
        **passed,
    )
    service = BlobServiceClient(
        url,
        given,
        retry_total=0,  # `Patience` tries again
        transport=transport,
        raw_request_hook=_in_slices,
        **passed,
    )
    return service, transport


def _proxies_to(url: str) -> dict[str, str]:
    """What the environment names as proxies, unless the account is to be reached without."""
    return {} if proxy_bypass(urlsplit(url).hostname or "") else getproxies()


def _in_slices(request: Any) -> None:
    """aiohttp sends bytes in one go, which holds up the event loop where they are many, and has a thread read files."""
    body = request.http_request.data
    if isinstance(body, bytes) and len(body) > BODY_AT_ONCE:
        request.http_request.data = Slices(memoryview(body))


def _of_account(url: str, named: re.Match[str] | None, account: str) -> str:
    """The URL of the account that the address names, of its Blob service; a host of one's own stays as it is."""
    if named is None:
        return url
    netloc = f"{account}.{named['zone'] or ''}blob.{named['cloud']}"
    return urlunsplit(urlsplit(url)._replace(netloc=netloc))


class LinkSigner:
    """Signs links; asks Azure for one user-delegation key, and again only for links that would outlive it."""

    def __init__(self, access: "Access", container: str) -> None:
        self._access, self._container = access, container
        self._key: tuple[datetime, Any] | None = None
        self._one_asks = asyncio.Lock()

    async def link(self, blob: "BlobClient", ask: Ask, where: str, lifetime: timedelta, file_name: str) -> str:
        """
        Raises:
            PermanentError: a SAS token cannot sign, or no link works so long.
            AccessDenied: the identity may not ask for a key that signs.
        """
        from azure.storage.blob import BlobSasPermissions, generate_blob_sas

        check_lifetime(where, lifetime)
        expiry = datetime.now(UTC) + lifetime
        signs: dict[str, Any] = {"account_key": self._access.key}
        if self._access.delegates:
            signs = {"user_delegation_key": await self._delegated(ask, where, expiry)}
        elif self._access.key is None:
            raise PermanentError(
                f"{where}: a SAS token cannot sign a link for {hours(lifetime)}: put the account's key, a service "
                "principal or a managed identity into the Airflow connection"
            )
        token = generate_blob_sas(
            self._access.account,
            self._container,
            blob.blob_name,
            permission=BlobSasPermissions(read=True),
            expiry=expiry,
            content_disposition=attachment(file_name),
            **signs,
        )
        return f"{blob.url}?{token}"

    async def _delegated(self, ask: Ask, where: str, expiry: datetime) -> Any:
        async with self._one_asks:
            if self._key is None or self._key[0] < expiry:
                now = datetime.now(UTC)
                ends = min(expiry + timedelta(hours=1), now + _LONGEST_KEY)
                start = max(now - _SKEW, ends - _LONGEST_KEY)
                try:
                    key = await ask(where, lambda: self._access.service.get_user_delegation_key(start, ends))
                except AccessDenied as error:
                    raise AccessDenied(
                        f"{error}; links need the role Storage Blob Delegator on the storage account"
                    ) from None
                self._key = ends, key
            return self._key[1]
