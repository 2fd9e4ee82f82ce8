from collections.abc import Iterator
from uuid import uuid4

import pytest

from demo.servers.abfs import AbfsServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AbfsServer]:
    if not AbfsServer.installed():
        pytest.skip("no azurite-blob on this machine: npm install -g azurite, or set AZURITE, to run these")
    with AbfsServer(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture
def container(server: AbfsServer) -> str:
    name = f"c-{uuid4().hex}"
    server.create_bucket(name)
    return name
