"""Azure Blob Storage keeps the promises of every connector, on Azurite."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobServiceClient

from demo.servers.abfs import ACCOUNT, KEY, AbfsServer
from tests.connectors.abfs.stores import usual_store
from tests.connectors.contract import Connect, StoreContract, Stored
from tests.connectors.memory import growth


class TestAbfs(StoreContract):
    @pytest.fixture
    def connect(self, server: AbfsServer, container: str) -> Connect:
        return lambda: usual_store(server.url, container)

    @pytest.fixture
    def stored(self, server: AbfsServer, container: str) -> Iterator[Stored]:
        with BlobServiceClient(f"{server.url}/{ACCOUNT}", KEY) as service:

            def read(key: str) -> bytes | None:
                try:
                    return service.get_blob_client(container, f"exports/{key}").download_blob().readall()
                except ResourceNotFoundError:
                    return None

            yield read


async def test_memory_is_bounded(server: AbfsServer, container: str, tmp_path: Path) -> None:
    grown = await growth(tmp_path / "big", 192, "tests.connectors.abfs.stores", "usual_store", server.url, container)
    assert grown < 24
