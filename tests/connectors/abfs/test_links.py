"""Links, copies by the server, listing and check."""

import asyncio
import urllib.request
from datetime import UTC, datetime, timedelta
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.core.credentials import AzureSasCredential
from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

from data_export.content import Content
from data_export.delivery.abfs.check import check_abfs
from data_export.errors import AccessDenied, ObjectExists, PermanentError, TargetNotFound
from demo.servers.abfs import ACCOUNT, KEY, AbfsServer
from demo.servers.faults import FaultProxy
from demo.servers.strict import PutsFromUrl
from tests.connectors.abfs.refusals import Refuses
from tests.connectors.abfs.stores import store_at
from tests.connectors.announced import config_of, not_announced
from tests.connectors.contract import DATA_KEY, IMAGE_KEY


def sas(permission: str) -> AzureSasCredential:
    return AzureSasCredential(
        generate_account_sas(
            ACCOUNT,
            KEY,
            ResourceTypes(container=True, object=True),
            AccountSasPermissions.from_string(permission),
            datetime.now(UTC) + timedelta(hours=1),
        )
    )


async def test_a_link_is_named_and_ends_when_it_says(server: AbfsServer, container: str) -> None:
    async with store_at(server.url, container) as store:
        await store.create(DATA_KEY, Content.of_bytes(b"data"))
        link = await store.sign(DATA_KEY, timedelta(hours=168), "été.json")
        ends = datetime.fromisoformat(parse_qs(urlsplit(link).query)["se"][0])
        assert abs(ends - datetime.now(UTC) - timedelta(hours=168)) < timedelta(minutes=1)
        with await asyncio.to_thread(urllib.request.urlopen, link) as answer:
            assert "%C3%A9t%C3%A9.json" in answer.headers["Content-Disposition"]
        with pytest.raises(PermanentError, match="no link works for 169 hours"):
            await store.sign(DATA_KEY, timedelta(hours=169), "a.json")
        link = await store.sign(DATA_KEY, timedelta(seconds=-5), "a.json")
        with pytest.raises(HTTPError, match="403"):
            await asyncio.to_thread(urllib.request.urlopen, link)


async def test_a_sas_token_stores_and_cannot_sign(server: AbfsServer, container: str) -> None:
    async with store_at(server.url, container, credential=sas("racwdl")) as store:
        await store.create(DATA_KEY, Content.of_bytes(b"data"))
        with pytest.raises(PermanentError, match="a SAS token cannot sign"):
            await store.sign(DATA_KEY, timedelta(hours=1), "a.json")
        results = await check_abfs(store)
        assert all(result.ok for result in results), results
    async with store_at(server.url, container, credential=sas("rl")) as store:
        with pytest.raises(AccessDenied):
            await store.replace(IMAGE_KEY, Content.of_bytes(b"data"))
        assert not store.can_sign()


async def test_the_server_copies(server: AbfsServer, container: str) -> None:
    async with (
        store_at(server.url, container, "images/") as images,
        store_at(server.url, container) as store,
        FaultProxyStore(server, container) as watched,
    ):
        await images.create("a b.png", Content.of_bytes(b"image", "image/png"))
        made = await watched.store.copy_from(images, "a b.png", IMAGE_KEY)
        there = await images.stat("a b.png")
        assert there is not None
        assert made.digests == there.digests
        assert watched.proxy.body_bytes() == 0
        with pytest.raises(ObjectExists):
            await watched.store.copy_from(images, "a b.png", IMAGE_KEY)
        with pytest.raises(TargetNotFound):
            await watched.store.copy_from(images, "missing.png", DATA_KEY)
        assert store.can_copy_from(images)


class FaultProxyStore:
    """A store behind a proxy that counts."""

    def __init__(self, server: AbfsServer, container: str) -> None:
        self.proxy = FaultProxy(server.url, PutsFromUrl())
        self._container = container

    async def __aenter__(self) -> "FaultProxyStore":
        self.proxy.__enter__()
        self.store = await store_at(self.proxy.url, self._container).__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.store.__aexit__()
        self.proxy.__exit__()


async def test_a_source_that_may_not_be_read_is_streamed(server: AbfsServer, container: str) -> None:
    with FaultProxy(server.url, Refuses(403, "CannotVerifyCopySource", method="PUT")) as proxy:
        async with store_at(server.url, container) as images, store_at(proxy.url, container) as store:
            await images.create("a.png", Content.of_bytes(b"image"))
            with pytest.raises(AccessDenied):
                await store.copy_from(images, "a.png", IMAGE_KEY)


async def test_check_leaves_nothing(server: AbfsServer, container: str) -> None:
    async with store_at(server.url, container) as store:
        results = await check_abfs(store)
        assert all(result.ok for result in results), results
        config = config_of("cloud_storage", storage_uri="abfs://exports@account/", export_images=True)
        assert not_announced(results, config) == set()
        assert {"target: container", "target: list", "target: remove"} <= {result.step for result in results}
        assert [one async for one in store.list("")] == []


@pytest.mark.parametrize(
    ("refused", "step", "words"),
    [
        (Refuses(403, "AuthorizationPermissionMismatch", method="GET", path="comp=list"), "target: list", "lacks"),
        (Refuses(403, "AuthorizationPermissionMismatch", method="PUT"), "target: write and check", "lacks"),
        (Refuses(404, "ContainerNotFound"), "target: container", "no such container"),
        (Refuses(403, "AccountIsDisabled"), "target: container", "disabled"),
        (Refuses(403, "AuthenticationFailed", "Request date header too old"), "target: container", "clock"),
    ],
)
async def test_check_says_which_right_is_lacking(
    server: AbfsServer, container: str, refused: Refuses, step: str, words: str
) -> None:
    with FaultProxy(server.url, refused) as proxy:
        async with store_at(proxy.url, container) as store:
            failed = {result.step: result.detail for result in await check_abfs(store) if not result.ok}
    assert [*failed] == [step]
    assert words in failed[step]


async def test_check_writes_nothing_that_it_may_not_remove(server: AbfsServer, container: str) -> None:
    with FaultProxy(server.url, Refuses(403, "AuthorizationPermissionMismatch", method="DELETE")) as proxy:
        async with store_at(proxy.url, container) as store:
            results = await check_abfs(store)
            assert all(result.ok for result in results)
            assert [one async for one in store.list("")] == []
