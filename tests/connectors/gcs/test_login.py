"""Each request carries what Google's own libraries would send: a token that lasts, and the project that pays."""

import asyncio
import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from gcloud.aio.storage import Storage
from google.auth.credentials import AnonymousCredentials
from multidict import CIMultiDict

from data_export.content import Content
from data_export.delivery.gcs.sign import Login
from data_export.delivery.gcs.store import GcsStore
from data_export.errors import CredentialsRefused
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.gcs import GcsServer
from demo.servers.strict import StrictGcs, gcs_error
from tests.connectors.contract import DATA_KEY, random_bytes, read_all
from tests.connectors.gcs.stores import QUICK, key_credentials


@dataclass
class Google:
    """Gives tokens, and takes the newest only."""

    strict: StrictGcs
    given: int = 0
    takes: str = "token-1"

    async def __call__(self, request: Exchange, forward: Forward) -> Answer:
        if request.path == "/token":
            self.given += 1
            said = {"access_token": f"token-{self.given}", "expires_in": 3600, "token_type": "Bearer"}
            return Answer(200, CIMultiDict({"Content-Type": "application/json"}), json.dumps(said).encode())
        if request.headers.get("Authorization", "") != f"Bearer {self.takes}":
            return gcs_error(401, "Invalid Credentials", "authError")
        return await self.strict(request, forward)


@pytest.fixture
def google(rules: StrictGcs) -> Google:
    return Google(rules)


@pytest.fixture
def guarded(server: GcsServer, google: Google) -> Iterator[FaultProxy]:
    with FaultProxy(server.url, google) as guarded:
        yield guarded


@pytest.fixture
def credentials(guarded: FaultProxy) -> Any:
    return key_credentials().with_token_uri(f"{guarded.url}/token").with_scopes(["storage"])


def store_of(url: str, bucket: str, credentials: Any) -> GcsStore:
    """As the provider's hook makes it: its token is a holder of credentials."""

    async def aio_client(session: aiohttp.ClientSession) -> Storage:
        held: Any = SimpleNamespace(credentials=credentials)
        return Storage(session=session, token=held, api_root=url, api_is_dev=False)

    return GcsStore(
        f"gs://{bucket}/exports/",
        client=lambda: None,
        aio_client=aio_client,
        credentials=lambda: credentials,
        patience=QUICK,
    )


async def test_a_token_that_is_withdrawn_is_renewed_once_for_all(
    guarded: FaultProxy, google: Google, bucket: str, credentials: Any
) -> None:
    data = random_bytes(300_000)
    async with store_of(guarded.url, bucket, credentials) as store:
        assert await store.stat(DATA_KEY) is None
        google.takes = "token-2"
        store_login_waits_no_longer(store)
        await asyncio.gather(*(store.create(f"image-{number}", Content.of_bytes(data)) for number in range(10)))
        assert await read_all(store, "image-7") == data
    assert google.given == 2


def store_login_waits_no_longer(store: GcsStore) -> None:
    login: Any = store._storage._headers.__self__  # type: ignore[attr-defined]
    login._renewed -= 60


async def test_a_token_that_has_ended_is_not_sent(
    guarded: FaultProxy, google: Google, bucket: str, credentials: Any
) -> None:
    """A machine's token server hands out tokens with minutes left, which the provider takes for those of an hour."""
    async with store_of(guarded.url, bucket, credentials) as store:
        await store.stat(DATA_KEY)
        google.takes = "token-2"
        store_login_waits_no_longer(store)
        credentials.expiry = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(minutes=1)
        await store.stat(DATA_KEY)
    assert [one.status for one in guarded.seen if one.path != "/token"] == [404, 404]


async def test_a_refusal_of_a_new_token_too_is_final(
    guarded: FaultProxy, google: Google, bucket: str, credentials: Any
) -> None:
    google.takes = "none of them"
    async with store_of(guarded.url, bucket, credentials) as store:
        for _ in range(3):
            with pytest.raises(CredentialsRefused, match=r"Invalid Credentials.*renew its key"):
                await store.stat(DATA_KEY)
    assert google.given == 1, "a token that was new a moment ago is not to blame"


async def test_the_project_that_pays_is_named(guarded: FaultProxy, bucket: str, credentials: Any) -> None:
    async with store_of(guarded.url, bucket, credentials.with_quota_project("payer")) as store:
        await store.create(DATA_KEY, Content.of_bytes(b"x"))
        await read_all(store, DATA_KEY)
    named = {one.headers.get("x-goog-user-project") for one in guarded.requests(path="storage")}
    assert named == {"payer"}


async def test_nobody_needs_no_token(proxy: FaultProxy, bucket: str) -> None:
    async with store_of(proxy.url, bucket, AnonymousCredentials()) as store:
        await store.create(DATA_KEY, Content.of_bytes(b"x"))
    assert not any("Authorization" in one.headers for one in proxy.seen)


@pytest.mark.parametrize(
    ("universe", "host"), [("", "storage.googleapis.com"), ("cloud.example", "storage.cloud.example")]
)
async def test_bytes_and_tokens_go_to_the_cloud_that_they_are_of(
    universe: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", universe)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    held: Any = SimpleNamespace(credentials=AnonymousCredentials())
    async with aiohttp.ClientSession() as session:
        storage = Storage(session=session, token=held)
        Login().serves(storage)
    assert storage._api_root_read == f"https://{host}/storage/v1/b"
    assert storage._api_root_write == f"https://{host}/upload/storage/v1/b"
