import base64
import dataclasses
import functools
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import RefreshableCredentials

from data_export.content import Content
from data_export.delivery.cloud_retry import Patience
from data_export.delivery.local import LocalStore
from data_export.delivery.s3 import S3Store
from data_export.errors import (
    AccessDenied,
    ConfigError,
    ObjectExists,
    OverwriteRefused,
    PermanentError,
    TargetFull,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
    VerificationFailed,
)
from demo.servers.faults import FaultProxy
from demo.servers.s3 import S3Server
from demo.servers.strict import StrictS3, s3_error
from tests.connectors.contract import DATA_KEY, Connect, StoreContract, Stored, random_bytes, read_all
from tests.connectors.memory import growth

QUICK = Patience(tries=3, first_pause=0.01, longest_pause=0.02, connect=5, answer=20)
HASTY = dataclasses.replace(QUICK, answer=0.3)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.url, StrictS3()) as proxy:
        yield proxy


@pytest.fixture
def bucket(server: S3Server) -> str:
    name = f"customer-{uuid4().hex}"
    server.create_bucket(name)
    return name


@functools.cache
def key_session() -> Any:
    return boto3.Session("key", "secret", region_name="eu-west-3")


def client_of(url: str, session: Any, patience: Patience = QUICK) -> Any:
    config = Config(
        s3={"addressing_style": "path"},
        connect_timeout=patience.connect,
        read_timeout=patience.answer,
        retries={"max_attempts": 0},
    )
    return session.client("s3", endpoint_url=url, config=config)


def s3_store(url: str, uri: str, session: Any = None, patience: Patience = QUICK) -> S3Store:
    session = session or key_session()
    return S3Store(uri, client=lambda: client_of(url, session, patience), session=lambda: session, patience=patience)


@pytest.fixture
def connect(proxy: FaultProxy, bucket: str) -> Connect:
    return lambda: s3_store(proxy.url, f"s3://{bucket}/exports/ü/")


@pytest.fixture
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


class TestS3(StoreContract):
    @pytest.fixture
    def connect(self, connect: Connect) -> Connect:
        return connect

    @pytest.fixture
    def stored(self, stored: Stored) -> Stored:
        return stored
