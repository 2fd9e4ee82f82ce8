"""Links to one blob: service SAS by the account's key, or user-delegation SAS by an identity."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from data_export.delivery.base import attachment, check_lifetime, hours
from data_export.errors import AccessDenied, PermanentError

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobClient

    from data_export.delivery.abfs.connect import Access

Ask = Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Any]]

_SKEW = timedelta(minutes=5)
_LONGEST_KEY = timedelta(days=7)


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
