from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from botocore.config import Config

from data_export.delivery.retry import Patience
from data_export.delivery.s3 import write
from data_export.delivery.s3.store import S3Store
from demo.servers.faults import FaultProxy
from demo.servers.s3 import S3Server
from demo.servers.strict import StrictS3
from tests.connectors.contract import Connect, Stored
from tests.connectors.s3.poor import Place
from tests.connectors.s3.stores import QUICK, Open, client_of, key_session, s3_store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.url, StrictS3()) as proxy:
        yield proxy


@pytest.fixture
def bucket(server: S3Server) -> Iterator[str]:
    name = f"customer-{uuid4().hex}"
    server.create_bucket(name)
    yield name
    server.clear()  # gigabytes otherwise, all of which stay in this process


@pytest.fixture
def place(server: S3Server, bucket: str) -> Iterator[Place]:
    place = Place(server, bucket)
    with place.proxy:
        yield place


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests in which nobody else writes: to wait for him would prove nothing."""
    monkeypatch.setattr(write, "_SETTLES_AFTER", (0, 0))


@pytest.fixture
def connect(proxy: FaultProxy, bucket: str) -> Connect:
    return lambda: s3_store(proxy.url, f"s3://{bucket}/exports/ü/")


@pytest.fixture(scope="module")
def raw(server: S3Server) -> Iterator[Any]:
    client = client_of(server.url, key_session())
    yield client
    client.close()


@pytest.fixture
def stored(raw: Any, bucket: str) -> Stored:
    def read(key: str) -> bytes | None:
        try:
            with raw.get_object(Bucket=bucket, Key=f"exports/ü/{key}")["Body"] as body:
                return body.read()
        except raw.exceptions.NoSuchKey:
            return None

    return read


@pytest.fixture
def opened(bucket: str) -> Open:
    def store(url: str, session: Any = None, patience: Patience = QUICK, **settings: Any) -> S3Store:
        session = session or key_session()
        config = Config(**({"s3": {"addressing_style": "path"}, "retries": {"max_attempts": 0}} | settings))
        uri = f"s3://{bucket}/exports/"
        made = session.client("s3", endpoint_url=url, config=config)
        return S3Store(uri, client=lambda: made, session=lambda: session, patience=patience)

    return store
