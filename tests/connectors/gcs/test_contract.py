"""Cloud Storage keeps the contract of a store, with bounded memory."""

import json
from pathlib import Path

import pytest

from data_export.content import Content
from data_export.delivery.gcs.store import GcsStore
from data_export.errors import (
    ConfigError,
)
from demo.servers.faults import FaultProxy
from demo.servers.gcs import GcsServer
from tests.connectors.contract import Connect, StoreContract, Stored
from tests.connectors.gcs.stores import gcs_store
from tests.connectors.memory import growth


class TestGcs(StoreContract):
    @pytest.fixture
    def connect(self, connect: Connect) -> Connect:
        return connect

    @pytest.fixture
    def stored(self, stored: Stored) -> Stored:
        return stored


async def test_memory_does_not_grow_with_the_object(server: GcsServer, bucket: str, tmp_path: Path) -> None:
    grown = await growth(
        tmp_path / "big", 48, "tests.connectors.gcs.stores", "gcs_store", server.url, f"gs://{bucket}/memory/"
    )
    assert grown < 32, f"{grown} MiB"


async def test_many_pages_are_listed(store: GcsStore, proxy: FaultProxy) -> None:
    for number in range(3):
        await store.create(f"object-{number}", Content.of_bytes(b"x"))
    item = {"name": "exports/ü/first", "size": "1", "updated": "2025-03-16T00:00:00Z"}
    folder = item | {"name": "exports/ü/"}
    proxy.answer(200, json.dumps({"items": [folder, item], "nextPageToken": "next"}).encode(), path=r"/o\?")
    keys = [one.key async for one in store.list("")]
    assert keys == ["first", "object-0", "object-1", "object-2"]
    assert proxy.requests("GET", r"/o\?")[1].url.query["pageToken"] == "next"


def test_nothing_connects_before_it_is_entered() -> None:
    store = gcs_store("http://127.0.0.1:1", "gs://bucket/folder")
    assert store.uri == "gs://bucket/folder/"
    for wrong in ("s3://bucket/", "gs:///folder", "gs://bucket/../x"):
        with pytest.raises(ConfigError):
            gcs_store("http://127.0.0.1:1", wrong)
