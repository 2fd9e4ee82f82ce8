"""What every connector promises, as tests: a connector's own test class inherits them and says only how to connect.

A sub-class provides two fixtures for one fresh, empty root:

- `connect`: a function that makes a new `Destination` on that root each time, not yet entered, with nothing shared
  between two of them;
- `stored`: a function from a key to the bytes that lie on the server, or None, by another way than the connector.

A `Store` inherits `StoreContract`, which adds listing and links.
"""

import asyncio
import random
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from data_export.content import Content
from data_export.delivery.base import Destination, Store, StoredObject
from data_export.delivery.deliver import deliver
from data_export.errors import ObjectExists, TargetNotFound, TargetRefused, TransientError, VerificationFailed
from data_export.layout import data_key, image_key
from data_export.window import ExportWindow

Connect = Callable[[], Any]
Stored = Callable[[str], bytes | None]

SITE = UUID("433a60f6-9756-473e-b1e9-9e89e24bb787")
WINDOW = ExportWindow(datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC))
DATA_KEY = data_key(SITE, "work-orders-timeline", WINDOW)
IMAGE_KEY = image_key(SITE, "0b0c1bb4-7e5c-4a5c-9a49-3b1a8f1d8a01", ".png")
ODD_NAMES = [
    DATA_KEY,
    data_key(SITE, "work-orders-states", WINDOW, 2),
    IMAGE_KEY,
    image_key(SITE, "0b0c1bb4-7e5c-4a5c-9a49-3b1a8f1d8a01", None),
    "links/tök en/été ¡日本!.json",
    "odd/a+b c%20d#e&f=g~(h)[i]{j}'k*l,m@o!p$q^r|s.json",
]
OUTSIDE = ["../above", "a/../../above", "/absolute", "a//b", "a/./b", "", "folder/", "nul\0", "line\nbreak", "a\\..\\b"]


@lru_cache(8)
def random_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


async def read_all(destination: Destination, key: str) -> bytes:
    return b"".join([chunk async for chunk in destination.read(key)])


class DestinationContract:
    """The promises of `data_export.delivery.base.Destination`."""

    big_bytes = 17 << 20
    many = 300
    #: What a reader may meet while a file is replaced.
    while_replaced: tuple[type[Exception], ...] = (TransientError,)
    #: What the second of two creators of one file is told.
    second: tuple[type[Exception], ...] = (ObjectExists,)

    @pytest.fixture
    def connect(self) -> Connect:
        raise NotImplementedError("a sub-class says how to connect")

    @pytest.fixture
    def stored(self) -> Stored:
        raise NotImplementedError("a sub-class says how to see the server's bytes")

    @pytest.fixture
    async def destination(self, connect: Connect) -> AsyncIterator[Destination]:
        async with connect() as destination:
            yield destination

    @pytest.fixture
    async def reader(self, connect: Connect) -> AsyncIterator[Destination]:
        async with connect() as destination:
            yield destination

    @pytest.fixture
    def big(self, tmp_path: Path) -> Content:
        path = tmp_path / "big"
        path.write_bytes(random_bytes(self.big_bytes))
        return Content.of_file(path)

    async def test_create_stores_exactly_the_bytes(self, destination: Destination, stored: Stored) -> None:
        content = Content.of_bytes(b'{"id":"\xc3\xa9"}\n', "application/json")
        assert stored(DATA_KEY) is None
        made = await destination.create(DATA_KEY, content)
        assert (made.key, made.digests.size) == (DATA_KEY, content.size)
        assert made.digests.matches(content.digests) is not False
        assert stored(DATA_KEY) == content.source

    async def test_create_over_an_object_changes_nothing(self, destination: Destination, stored: Stored) -> None:
        await destination.create(DATA_KEY, Content.of_bytes(b"first"))
        for other in (b"other", b"first"):
            with pytest.raises(ObjectExists, match="timeline"):
                await destination.create(DATA_KEY, Content.of_bytes(other))
        assert stored(DATA_KEY) == b"first"

    async def test_create_of_a_big_file_over_an_object_changes_nothing(
        self, destination: Destination, stored: Stored, big: Content
    ) -> None:
        await destination.create(DATA_KEY, Content.of_bytes(b"first"))
        with pytest.raises(ObjectExists):
            await destination.create(DATA_KEY, big)
        assert stored(DATA_KEY) == b"first"

    async def test_replace_with_and_without_an_object(self, destination: Destination, stored: Stored) -> None:
        for data in (b"new", b"replaced", b""):
            made = await destination.replace(DATA_KEY, Content.of_bytes(data))
            assert made.digests.size == len(data)
            assert stored(DATA_KEY) == data

    async def test_stat_says_size_and_digests(self, destination: Destination) -> None:
        assert await destination.stat(DATA_KEY) is None
        content = Content.of_bytes(b"x" * 1000)
        await destination.create(DATA_KEY, content)
        found = await destination.stat(DATA_KEY)
        assert isinstance(found, StoredObject)
        assert found.key == DATA_KEY
        assert found.digests.size == 1000
        assert found.digests.matches(content.digests) is not False
        assert found.digests.matches(Content.of_bytes(b"y" * 1000).digests) is not True
        assert found.modified is None or abs(datetime.now(UTC) - found.modified) < timedelta(minutes=5)

    @pytest.mark.parametrize("replaces", [False, True], ids=["created", "replaced"])
    async def test_a_store_that_keeps_the_digest_of_records_says_it(
        self, destination: Destination, big: Content, replaces: bool
    ) -> None:
        """In one request and in parts. A store without metadata says nothing, and is read."""
        moment = "2025-03-17T02:00:00+00:00"
        for content in (Content.of_bytes(b"packed"), big):
            packed = replace(content, digests=replace(content.digests, records_sha256="ab" * 32, moment=moment))
            key = f"{DATA_KEY}-{content.size}.gz"
            if replaces:
                await destination.create(key, Content.of_bytes(b"older"))
            await (destination.replace if replaces else destination.create)(key, packed)
            found = await destination.stat(key)
            assert found is not None
            assert found.encoding is None
            assert found.digests.records_sha256 in (None, "ab" * 32)
            assert found.digests.matches(content.digests) is not False
            if destination.uri.startswith(("gs://", "s3://", "abfs://")):
                assert found.digests.records_sha256
                assert found.digests.sha256 == content.digests.sha256
                assert found.digests.moment == moment
                plain = replace(content, digests=replace(content.digests, moment=moment))
                await destination.replace(key, plain)
                found = await destination.stat(key)
                assert found is not None
                assert (found.digests.records_sha256, found.digests.moment) == (None, moment)

    async def test_empty_object(self, destination: Destination, stored: Stored) -> None:
        await destination.create(DATA_KEY, Content.of_bytes(b""))
        found = await destination.stat(DATA_KEY)
        assert found is not None
        assert found.digests.size == 0
        assert stored(DATA_KEY) == b""
        assert await read_all(destination, DATA_KEY) == b""

    async def test_big_file_arrives_and_is_read_in_chunks(
        self, destination: Destination, stored: Stored, big: Content
    ) -> None:
        made = await destination.create(DATA_KEY, big)
        assert made.digests.size == big.size
        assert isinstance(big.source, Path)
        data = big.source.read_bytes()
        assert stored(DATA_KEY) == data
        chunks = [chunk async for chunk in destination.read(DATA_KEY)]
        assert max(map(len, chunks)) <= 8 << 20
        assert b"".join(chunks) == data
        replaced = await destination.replace(DATA_KEY, big)
        assert replaced.digests.size == big.size
        assert stored(DATA_KEY) == data

    @pytest.mark.parametrize("key", ODD_NAMES)
    async def test_names_arrive_as_they_are(self, destination: Destination, stored: Stored, key: str) -> None:
        await destination.create(key, Content.of_bytes(key.encode()))
        assert stored(key) == key.encode()
        found = await destination.stat(key)
        assert found is not None
        assert found.key == key
        assert await read_all(destination, key) == key.encode()
        await destination.delete(key)
        assert stored(key) is None

    @pytest.mark.parametrize("key", OUTSIDE)
    async def test_a_key_that_leaves_the_root_is_refused(self, destination: Destination, key: str) -> None:
        content = Content.of_bytes(b"x")
        for operation in (
            destination.create(key, content),
            destination.replace(key, content),
            destination.stat(key),
            destination.delete(key),
            read_all(destination, key),
        ):
            with pytest.raises(TargetRefused):
                await operation

    async def test_many_at_once(self, destination: Destination, stored: Stored) -> None:
        keys = [f"{SITE}/inputs/{number:08}.png" for number in range(self.many)]
        made = await asyncio.gather(*(destination.create(key, Content.of_bytes(key.encode())) for key in keys))
        assert [one.key for one in made] == keys
        found = await asyncio.gather(*map(destination.stat, keys))
        assert all(one is not None and one.digests.size == len(key) for one, key in zip(found, keys, strict=True))
        assert all(stored(key) == key.encode() for key in keys[:: self.many // 10])

    @pytest.mark.parametrize("size", [1_000, 9 << 20])
    async def test_one_of_two_creators_wins(
        self, destination: Destination, reader: Destination, stored: Stored, tmp_path: Path, size: int
    ) -> None:
        contents = []
        for seed in (1, 2):
            path = tmp_path / str(seed)
            path.write_bytes(random_bytes(size, seed))
            contents.append(Content.of_file(path))
        results = await asyncio.gather(
            destination.create(DATA_KEY, contents[0]), reader.create(DATA_KEY, contents[1]), return_exceptions=True
        )
        won = [isinstance(result, StoredObject) for result in results]
        assert sorted(won) == [False, True], results
        assert isinstance(results[won.index(False)], self.second)
        assert stored(DATA_KEY) == random_bytes(size, 1 if won[0] else 2)

    async def test_a_write_broken_off_leaves_nothing_or_all(self, connect: Connect, tmp_path: Path) -> None:
        path = tmp_path / "broken-off"
        path.write_bytes(random_bytes(9 << 20))
        big = Content.of_file(path)
        async with connect() as reader:
            began = time.monotonic()
            async with connect() as writer:
                await writer.create("probe", big)
            whole = time.monotonic() - began
            for step in range(6):
                key = f"{SITE}/data/killed-{step}.json"
                writing = asyncio.create_task(self._write(connect, key, big))
                deadline = time.monotonic() + whole * step / 6
                while time.monotonic() < deadline:
                    await self._absent_or_complete(reader, key, big)
                    await asyncio.sleep(0.005)
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
                await self._absent_or_complete(reader, key, big)
                if await reader.stat(key) is None:
                    await self._write(connect, key, big)
                found = await reader.stat(key)
                assert found is not None
                assert found.digests.size == big.size

    async def test_a_reader_sees_the_old_bytes_or_the_new(self, destination: Destination, reader: Destination) -> None:
        versions = [random_bytes(1 << 20, seed) for seed in range(6)]
        await destination.create(DATA_KEY, Content.of_bytes(versions[0]))

        async def write() -> None:
            for version in versions[1:]:
                await destination.replace(DATA_KEY, Content.of_bytes(version))

        writing = asyncio.create_task(write())
        seen = set()
        while not writing.done():
            try:
                seen.add(versions.index(await read_all(reader, DATA_KEY)))
            except self.while_replaced:  # replaced while it was being read: nothing wrong was handed over as whole
                continue
        await writing
        assert seen
        assert await read_all(reader, DATA_KEY) == versions[-1]

    @pytest.mark.parametrize("size", [1_000, 9 << 20])
    async def test_bytes_that_are_not_the_announced_ones_never_appear(
        self, destination: Destination, stored: Stored, tmp_path: Path, size: int
    ) -> None:
        path = tmp_path / "damaged"
        path.write_bytes(random_bytes(size, 1))
        announced = Content.of_file(path)
        path.write_bytes(random_bytes(size, 2))
        with pytest.raises(VerificationFailed):
            await destination.create(DATA_KEY, announced)
        assert stored(DATA_KEY) is None

    async def test_read_of_nothing(self, destination: Destination) -> None:
        with pytest.raises(TargetNotFound, match=DATA_KEY):
            await read_all(destination, DATA_KEY)

    async def test_delete_is_idempotent(self, destination: Destination, stored: Stored) -> None:
        await destination.create(DATA_KEY, Content.of_bytes(b"x"))
        for _ in range(2):
            await destination.delete(DATA_KEY)
            assert stored(DATA_KEY) is None

    async def test_uri_names_the_root(self, destination: Destination) -> None:
        assert destination.uri.endswith("/")
        assert "://" in destination.uri
        assert destination.concurrency >= 1

    async def _write(self, connect: Connect, key: str, content: Content) -> None:
        async with connect() as writer:
            await writer.create(key, content)

    async def _absent_or_complete(self, reader: Destination, key: str, content: Content) -> None:
        found = await reader.stat(key)
        assert found is None or found.digests.size == content.size
        assert found is None or found.digests.matches(content.digests) is not False


class StoreContract(DestinationContract):
    """The promises of `data_export.delivery.base.Store`."""

    @pytest.fixture
    async def store(self, destination: Store) -> Store:
        return destination

    @pytest.mark.parametrize("size", ["small", "big"])
    async def test_the_same_again_is_known_by_its_digest(self, store: Store, big: Content, size: str) -> None:
        content = big if size == "big" else Content.of_bytes(b"x" * 1000)

        async def never(*_: object) -> Any:
            raise AssertionError("nothing is sent or read again")

        assert (await deliver(store, lambda _: DATA_KEY, content, "replace")).outcome == "created"
        again = await deliver(store, lambda _: DATA_KEY, content, "replace", before_write=never, read=never)
        assert again.outcome == "unchanged"

    async def test_list_goes_by_the_beginning_of_the_key(self, store: Store) -> None:
        keys = ["runs/a/1", "runs/a/2", "runs/ab/3", "runs/b/4", "other"]
        for key in keys:
            await store.create(key, Content.of_bytes(key.encode()))
        for prefix in ("runs/a/", "runs/a", "runs/", "", "runs/a/1", "nothing/"):
            found = [one async for one in store.list(prefix)]
            assert sorted(one.key for one in found) == sorted(key for key in keys if key.startswith(prefix)), prefix
            assert all(one.digests.size == len(one.key) for one in found)

    @pytest.mark.parametrize("prefix", ["../", "/", "a/../b", "runs//"])
    async def test_list_stays_below_the_root(self, store: Store, prefix: str) -> None:
        with pytest.raises(TargetRefused):
            [one async for one in store.list(prefix)]

    @pytest.mark.parametrize("key", ["links/token/report.json", "links/token/été 日本.json"])
    async def test_link_downloads_the_object(self, store: Store, key: str) -> None:
        await store.create(key, Content.of_bytes(b"the data"))
        link = await store.sign(key, timedelta(hours=1), key.rpartition("/")[2])
        with await asyncio.to_thread(urllib.request.urlopen, link) as answer:
            assert answer.read() == b"the data"
