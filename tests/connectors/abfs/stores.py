"""Stores of Azurite, by way of the provider's hook as in a run."""

from typing import Any

from azure.storage.blob import BlobServiceClient

from data_export.delivery.abfs.account import access_of
from data_export.delivery.abfs.store import AbfsStore
from data_export.delivery.retry import Patience
from demo.servers.abfs import ACCOUNT, KEY

QUICK = Patience(tries=3, first_pause=0.01, longest_pause=0.05, connect=2, answer=2)


def store_at(
    url: str,
    container: str,
    folder: str = "exports/",
    credential: Any = KEY,
    patience: Patience = QUICK,
    **extra: Any,
) -> AbfsStore:
    """A store of the server at `url`, which is quick to give up."""
    uri = f"abfs://{container}@{ACCOUNT}/{folder}"
    hooked = BlobServiceClient(f"{url}/{ACCOUNT}", credential)
    return AbfsStore(uri, connect=lambda: access_of(hooked, uri, "export_abfs", extra, patience), patience=patience)


def usual_store(url: str, container: str) -> AbfsStore:
    """The same with a run's patience."""
    uri = f"abfs://{container}@{ACCOUNT}/exports/"
    hooked = BlobServiceClient(f"{url}/{ACCOUNT}", KEY)
    return AbfsStore(uri, connect=lambda: access_of(hooked, uri, "export_abfs", {}))
