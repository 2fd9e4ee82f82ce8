"""Images at the target that are not those of the source: found, and replaced or kept."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from data_export.content import Content, Digests
from data_export.delivery.base import Destination, StoredObject
from data_export.errors import (
    OverwriteRefused,
    VerificationFailed,
)
from data_export.images import CopyLimits, CopyRules, copy_images, source_key_of
from tests.unit.images.world import SITE, World, input_id, source_key, target_key
from tests.unit.memory_store import CopyingStore, MemoryStore


async def test_another_content_is_replaced_and_only_that(world):
    await world.copy()
    world.target.objects[target_key(5)] = bytes(len(world.target.objects[target_key(5)]))
    copied = await world.copy()
    assert (copied.copied, copied.already_there) == (1, 39)
    assert world.target.calls["replace"] == 1
    assert world.target.objects == world.expected


@pytest.mark.parametrize("if_exists", ["keep", "revision"])
async def test_another_content_is_kept_where_the_customer_wants_that(world, if_exists, caplog):
    world.target.objects[target_key(5)] = b"delivered before"
    copied = await world.copy(rules=CopyRules(if_exists))
    assert (copied.copied, copied.kept, copied.already_there) == (39, 1, 0)
    assert world.target.objects == world.expected | {target_key(5): b"delivered before"}
    assert world.target.calls["replace"] == 0
    assert "1 of 40 images at memory://target/ differ from their source and are kept, e.g. 0000" in caplog.text


async def test_a_target_that_refuses_replacements_keeps_its_images_and_blocks_nothing(world, caplog):
    for n in (5, 6):
        world.target.objects[target_key(n)] = b"delivered before"

    def refuse(call: str, key: str) -> None:
        if call == "replace":
            raise OverwriteRefused("grant storage.objects.delete")

    world.target.fault = refuse
    copied = await world.copy()
    assert (copied.copied, copied.kept) == (38, 2)
    assert world.target.calls["replace"] == 2
    assert caplog.text.count("grant storage.objects.delete") == 1


async def test_a_target_without_checksums_is_read_back_on_request(sizes_only):
    await sizes_only.copy()
    sizes_only.target.objects[target_key(5)] = bytes(len(sizes_only.target.objects[target_key(5)]))
    assert (await sizes_only.copy()).already_there == 40
    assert sizes_only.target.calls["read"] == 0
    assert (await sizes_only.copy(rules=CopyRules(read_back=True))).copied == 1
    assert sizes_only.target.objects == sizes_only.expected


@pytest.mark.parametrize("checksums", [True, False], ids=["source's checksum", "both read"])
async def test_a_file_older_than_its_source_is_read_to_compare(tmp_path, checksums):
    """Its source may have been replaced since by an image of equal size."""
    source, target = (MemoryStore(uri, checksums=known) for uri, known in (("a://", checksums), ("b://", False)))
    world = World(tmp_path, source, target)
    await world.copy()
    noon = datetime(2025, 3, 16, 12, tzinfo=UTC)
    source.modified = {source_key(n): noon + timedelta(milliseconds=999) for n in range(40)}
    target.modified = {target_key(n): noon for n in range(40)}  # the same second, as SFTP tells times
    source.objects[source_key(5)] = source.objects[source_key(5)][::-1]
    assert (await world.copy()).already_there == 40
    target.modified |= {target_key(n): noon - timedelta(seconds=1) for n in (5, 6)}
    copied = await world.copy()
    assert (copied.copied, copied.already_there) == (1, 39)
    assert target.calls["read"] == 2
    assert target.objects[target_key(5)] == source.objects[source_key(5)]


class PackedStore(MemoryStore):
    """Says of its objects that they are kept as gzip."""

    async def stat(self, key: str) -> StoredObject | None:
        found = await super().stat(key)
        return found and replace(found, encoding="gzip")


async def test_a_packed_image_that_was_replaced_by_one_of_equal_size_is_sent(tmp_path):
    """As two bitmaps are, which are worth packing: a target without checksums is read, as for other images."""
    world = World(tmp_path, PackedStore("a://"), MemoryStore("b://", checksums=False), count=3)
    key = source_key(1)
    old, new = b"old bitmap", b"new bitmap"
    world.source.objects[key] = gzip.compress(old)
    assert (await world.copy()).copied == 3
    world.source.objects[key] = gzip.compress(new)
    noon = datetime(2025, 3, 16, 12, tzinfo=UTC)
    world.source.modified = {key: noon}
    world.target.modified = {target_key(1): noon}
    assert (await world.copy()).already_there == 3
    copied = await world.copy(rules=CopyRules(read_back=True))
    assert (copied.copied, copied.already_there) == (1, 2)
    assert world.target.objects[target_key(1)] == new
    world.source.objects[key] = gzip.compress(old)
    world.target.modified = {target_key(1): noon - timedelta(seconds=1)}
    copied = await world.copy()
    assert (copied.copied, copied.already_there) == (1, 2)
    assert world.target.objects[target_key(1)] == old


async def test_a_packed_image_that_goes_between_look_and_read_is_missing(tmp_path):
    world = World(tmp_path, PackedStore("a://"), MemoryStore("b://"), count=3)

    def remove(call: str, key: str) -> None:
        if call == "read" and key == source_key(1):
            world.source.objects.pop(key, None)

    world.source.fault = remove
    copied = await world.copy()
    assert (copied.copied, copied.missing_at_source, copied.failed) == (2, 1, 0)


@pytest.mark.parametrize("store", [MemoryStore, PackedStore])
async def test_an_image_has_the_type_of_its_name_at_the_target(tmp_path, store):
    """At the platform it may have none: `images_uri` can name images by their id alone."""

    class Typed(MemoryStore):
        def _put(self, call: str, key: str, content: Content) -> StoredObject:
            assert content.content_type == "image/png"
            return super()._put(call, key, content)

    source = store("a://")
    world = World(tmp_path, source, Typed("b://"), count=3)
    by_id = source_key_of("{input_id}", SITE)
    for n in range(3):
        source.objects[by_id(input_id(n), ".png")] = b"%d" % n
    copied = await copy_images(world.list, site_id=SITE, source=source, source_key=by_id, destination=world.target)
    assert (copied.copied, copied.failed) == (3, 0)


class CorruptingStore(CopyingStore):
    """Its server copies each image wrongly."""

    async def copy_from(
        self, source: Destination, source_key: str, key: str, here: StoredObject | None = None
    ) -> StoredObject:
        stored = await super().copy_from(source, source_key, key, here)
        self.objects[key] = self.objects[key][::-1] + b"!"
        return replace(stored, digests=Content.of_bytes(self.objects[key]).digests)


async def test_a_wrong_copy_of_the_server_is_noticed_and_mended(tmp_path):
    world = World(tmp_path, MemoryStore("memory://source/"), CorruptingStore())
    assert (await world.copy()).copied == 40
    assert world.target.objects == world.expected


class EndlessStore(MemoryStore):
    async def read(self, key: str) -> AsyncIterator[bytes]:
        while True:
            yield b"more"
            await asyncio.sleep(0)


@pytest.mark.parametrize("in_memory_bytes", [0, 1 << 20], ids=["file", "memory"])
async def test_an_endless_answer_is_cut_off(tmp_path, in_memory_bytes):
    world = World(tmp_path, EndlessStore("memory://source/"), MemoryStore())
    async with asyncio.timeout(5):
        with pytest.raises(VerificationFailed, match="longer than"):
            await world.copy(CopyLimits(tries=1, in_memory_bytes=in_memory_bytes))


class LyingStore(MemoryStore):
    """Says another size or checksum than its bytes have."""

    lie: Digests

    async def stat(self, key: str) -> StoredObject | None:
        return StoredObject(key, self.lie)


@pytest.mark.parametrize(
    "lie", [Digests(2, crc32c="AAAAAA=="), Digests(2, md5="1B2M2Y8AsgTpgAmY7PhCfg=="), Digests(1), Digests(9)]
)
@pytest.mark.parametrize("in_memory_bytes", [0, 1 << 20], ids=["file", "memory"])
async def test_an_image_that_is_not_what_its_store_says_is_never_written(tmp_path, lie, in_memory_bytes):
    source = LyingStore("memory://source/")
    source.lie = lie
    world = World(tmp_path, source, MemoryStore(), count=1)
    copied = await world.copy(CopyLimits(tries=2, backoff_seconds=0, in_memory_bytes=in_memory_bytes))
    assert copied.failed == 1
    assert "memory://source/" in copied.failures[0]
    assert world.target.objects == {}
