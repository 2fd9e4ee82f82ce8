import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from uuid import uuid4

import pytest

from demo.servers.faults import FaultProxy
from demo.servers.gcs import GcsServer
from demo.servers.strict import StrictGcs
from tests.connectors.contract import Connect, Stored
from tests.connectors.gcs.stores import gcs_store


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    with GcsServer(tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture
def rules() -> StrictGcs:
    return StrictGcs()


@pytest.fixture
def proxy(server: GcsServer, rules: StrictGcs) -> Iterator[FaultProxy]:
    with FaultProxy(server.url, rules) as proxy:
        yield proxy


@pytest.fixture
def bucket(server: GcsServer) -> str:
    name = f"customer-{uuid4().hex}"
    server.create_bucket(name)
    return name


@pytest.fixture
def connect(proxy: FaultProxy, bucket: str) -> Connect:
    return lambda: gcs_store(proxy.url, f"gs://{bucket}/exports/ü/")


@pytest.fixture
def stored(server: GcsServer, bucket: str) -> Stored:
    def read(key: str) -> bytes | None:
        name = urllib.parse.quote(f"exports/ü/{key}", safe="")
        try:
            with urllib.request.urlopen(f"{server.url}/storage/v1/b/{bucket}/o/{name}?alt=media") as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            error.close()
            return None

    return read
