"""Stores on the emulator of Cloud Storage, as its tests open them."""

import dataclasses
import functools
from typing import Any

import aiohttp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from gcloud.aio.storage import Storage
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
from google.oauth2 import service_account

from data_export.delivery.gcs.store import GcsStore
from data_export.delivery.retry import Patience

QUICK = Patience(tries=3, first_pause=0.01, longest_pause=0.02, connect=5, answer=20)
HASTY = dataclasses.replace(QUICK, tries=2, answer=0.7)
UPLOAD = r"/upload/storage/v1/"


@functools.cache
def key_credentials() -> Any:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = "exporter@platform.iam.gserviceaccount.com"
    info = {"client_email": account, "private_key": key.decode(), "token_uri": "https://token.invalid/"}
    return service_account.Credentials.from_service_account_info(info)


def gcs_store(url: str, uri: str, credentials: Any = None, patience: Patience = QUICK) -> GcsStore:
    async def aio_client(session: aiohttp.ClientSession) -> Storage:
        return Storage(session=session, api_root=url)

    return GcsStore(
        uri,
        client=lambda: Client("demo", AnonymousCredentials(), client_options={"api_endpoint": url}),
        aio_client=aio_client,
        credentials=lambda: credentials or key_credentials(),
        patience=patience,
    )
