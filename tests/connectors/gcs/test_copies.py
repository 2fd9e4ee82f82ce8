"""Copies that Cloud Storage makes by itself, from one bucket to another."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from data_export.content import Content
from data_export.delivery.gcs.store import GcsStore
from data_export.delivery.local.store import LocalStore
from data_export.errors import (
    AccessDenied,
    ObjectExists,
    TargetNotFound,
)
from demo.servers.faults import FaultProxy
from demo.servers.gcs import GcsServer
from demo.servers.strict import StrictGcs
from tests.connectors.contract import Stored
from tests.connectors.gcs.stores import gcs_store


class TestServerSideCopy:
    @pytest.fixture
    async def source(self, proxy: FaultProxy, server: GcsServer) -> AsyncIterator[GcsStore]:
        name = f"images-{uuid4().hex}"
        server.create_bucket(name)
        async with gcs_store(proxy.url, f"gs://{name}/all/") as source:
            await source.create("image", Content.of_bytes(b"pixels", "image/png"))
            yield source

    async def test_copies_without_moving_bytes(
        self, store: GcsStore, source: GcsStore, proxy: FaultProxy, rules: StrictGcs, stored: Stored
    ) -> None:
        assert store.can_copy_from(source)
        rules.rewrite_calls = 4
        proxy.seen.clear()
        copied = await store.copy_from(source, "image", "site/inputs/image")
        assert (copied.key, copied.digests.size) == ("site/inputs/image", 6)
        assert copied.digests.matches(Content.of_bytes(b"pixels").digests)
        assert stored("site/inputs/image") == b"pixels"
        assert len(proxy.requests("POST", "/rewriteTo/")) == 4
        bodies = {one.body for one in proxy.requests("POST", "/rewriteTo/")}
        assert bodies == {b'{"contentType": "application/octet-stream"}'}  # any body keeps the source's metadata back

    async def test_a_broken_rewrite_goes_on_with_its_token(
        self, store: GcsStore, source: GcsStore, proxy: FaultProxy, rules: StrictGcs
    ) -> None:
        rules.rewrite_calls = 4
        proxy.answer(503, path="rewriteToken=call-2")
        await store.copy_from(source, "image", "image")
        tokens = [one.url.query.get("rewriteToken") for one in proxy.requests("POST", "/rewriteTo/")]
        assert tokens == [None, "call-1", "call-2", "call-2", "call-3"]

    async def test_existing_object_stays(self, store: GcsStore, source: GcsStore, stored: Stored) -> None:
        await store.create("image", Content.of_bytes(b"other"))
        with pytest.raises(ObjectExists, match=r"/ü/image is there already"):
            await store.copy_from(source, "image", "image")
        assert stored("image") == b"other"

    async def test_a_lost_answer_is_recognised(self, store: GcsStore, source: GcsStore, proxy: FaultProxy) -> None:
        proxy.lose_answer(path="/rewriteTo/")
        assert (await store.copy_from(source, "image", "image")).digests.size == 6
        assert len(proxy.requests("POST", "/rewriteTo/")) == 1

    async def test_an_image_that_has_changed_since_it_was_listed_is_not_copied(
        self, store: GcsStore, source: GcsStore, stored: Stored
    ) -> None:
        await source.create("folder/image", Content.of_bytes(b"pixels"))
        ((listed,),) = [page async for page in source.files_in("folder")]
        await source.replace("folder/image", Content.of_bytes(b"others"))
        with pytest.raises(ObjectExists):
            await store.copy_from(source, "folder/image", "image", listed)
        assert stored("image") is None
        await store.copy_from(source, "folder/image", "image", await source.stat("folder/image"))
        assert stored("image") == b"others"

    async def test_missing_source(self, store: GcsStore, source: GcsStore) -> None:
        with pytest.raises(TargetNotFound, match="all/absent: no such object"):
            await store.copy_from(source, "absent", "image")

    async def test_source_that_may_not_be_read(self, store: GcsStore, source: GcsStore, rules: StrictGcs) -> None:
        rules.denied[source.root.bucket] = {"storage.objects.get"}
        with pytest.raises(AccessDenied, match=r"lacks storage\.objects\.get"):
            await store.copy_from(source, "image", "image")

    async def test_only_from_cloud_storage(self, store: GcsStore, tmp_path: Path) -> None:
        assert not store.can_copy_from(LocalStore(tmp_path))
        with pytest.raises(TypeError, match="can_copy_from"):
            await store.copy_from(LocalStore(tmp_path), "a", "a")
