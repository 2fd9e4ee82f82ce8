"""What `copy_images` copies, counts and names, also again and at once."""

import asyncio

import pytest

from data_export.errors import (
    AccessDenied,
    InvalidRecord,
    TargetNotFound,
)
from data_export.receipt import ImagesCopied
from tests.unit.images.world import SITE, SOURCE_KEY, World, input_id, source_key, target_key, write_list
from tests.unit.memory_store import MemoryStore


async def test_every_image_arrives_and_a_repeat_sends_no_byte(world):
    copied = await world.copy()
    assert copied == ImagesCopied(site_id=SITE, copied=40, bytes=sum(map(len, world.expected.values())))
    assert world.target.objects == world.expected

    sent = world.target.sent
    assert await world.copy() == ImagesCopied(site_id=SITE, already_there=40)
    assert world.target.sent == sent
    assert world.source.calls["read"] == world.target.calls["create"] == 40
    assert world.target.calls["replace"] == world.target.calls["delete"] == 0


async def test_a_target_without_checksums_recognises_by_size(sizes_only):
    await sizes_only.copy()
    assert (await sizes_only.copy()).already_there == 40


async def test_extensions_are_part_of_the_name(world, tmp_path):
    ids, extensions = [input_id(n) for n in range(4)], [".jpeg", None, "", ".tar.gz"]
    for one, extension in zip(ids, extensions, strict=True):
        world.source.objects[SOURCE_KEY(one, extension)] = b"data"
    await world.copy(images=write_list(tmp_path / "few", ids, extensions))
    assert sorted(key.rpartition("/")[2] for key in world.target.objects) == [
        f"{ids[0]}.jpeg",
        ids[1],
        ids[2],
        f"{ids[3]}.tar.gz",
    ]


async def test_an_empty_list_is_done_at_once(world, tmp_path):
    told = []
    copied = await world.copy(images=write_list(tmp_path / "none", [], []), progress=told.append)
    assert copied == ImagesCopied(site_id=SITE)
    assert (told[-1].done, told[-1].total) == (0, 0)


async def test_images_missing_at_the_source_are_counted_named_and_block_nothing(tmp_path, caplog):
    world = World(tmp_path, MemoryStore("memory://source/"), MemoryStore("memory://target/"), count=150)
    for n in range(0, 150):
        if n % 50:
            del world.source.objects[source_key(n)]
    copied = await world.copy(missing_list=tmp_path / "missing")
    assert (copied.copied, copied.missing_at_source, copied.already_there) == (3, 147, 0)
    assert copied.missing == [f"{input_id(n)}.png" for n in range(150) if n % 50][:100]
    listed = (tmp_path / "missing").read_text().splitlines()
    assert listed == [f"{input_id(n)}.png" for n in range(150) if n % 50]
    assert "147 of 150 images are missing at memory://source/" in caplog.text

    world.source.objects[source_key(7)] = b"turned up"
    later = await world.copy()
    assert (later.copied, later.missing_at_source, later.already_there) == (1, 146, 3)


async def test_an_image_gone_from_the_source_but_delivered_before_is_there(world):
    await world.copy()
    world.source.objects.clear()
    assert await world.copy() == ImagesCopied(site_id=SITE, already_there=40)


async def test_an_image_removed_between_look_and_read_is_missing(world):
    def remove(call: str, key: str) -> None:
        if call == "read" and key == source_key(3):
            world.source.objects.pop(key, None)

    world.source.fault = remove
    copied = await world.copy()
    assert (copied.copied, copied.missing) == (39, [f"{input_id(3)}.png"])


@pytest.mark.parametrize("kind", ["world", "copying"])
async def test_a_missing_bucket_is_not_mistaken_for_missing_images(kind, request):
    world: World = request.getfixturevalue(kind)

    def no_bucket(call: str, key: str) -> None:
        if call in ("create", "copy_from"):
            raise TargetNotFound("bucket b does not exist")

    world.target.fault = no_bucket
    with pytest.raises(TargetNotFound, match="bucket b"):
        await world.copy()


@pytest.mark.parametrize("kind", ["world", "copying", "sizes_only"])
async def test_two_copies_at_once_end_in_one_set_of_images(kind, request):
    world: World = request.getfixturevalue(kind)
    first, second = await asyncio.gather(world.copy(), world.copy())
    assert world.target.objects == world.expected
    assert first.copied + second.copied == 40
    assert first.already_there + second.already_there == 40
    assert world.target.calls["replace"] == 0


async def test_the_server_copies_by_itself_where_it_can(copying):
    copied = await copying.copy()
    assert copied == ImagesCopied(site_id=SITE, copied=40, bytes=sum(map(len, copying.expected.values())))
    assert copying.target.objects == copying.expected
    assert copying.source.calls["read"] == copying.target.calls["create"] == 0
    again = await copying.copy()
    assert again.already_there == 40
    assert copying.target.calls["copy_from"] == 40


async def test_a_server_that_may_not_read_the_source_is_fed_by_streaming(copying, caplog):
    def refuse(call: str, key: str) -> None:
        if call == "copy_from":
            raise AccessDenied("customer-sa may not read platform-images")

    copying.target.fault = refuse
    assert (await copying.copy()).copied == 40
    assert copying.target.objects == copying.expected
    assert copying.target.calls["copy_from"] <= copying.target.concurrency
    assert caplog.text.count("customer-sa may not read platform-images") == 1


async def test_a_difference_is_replaced_by_streaming_since_servers_only_create(copying):
    copying.target.objects[target_key(5)] = b"truncated"
    assert (await copying.copy()).copied == 40
    assert copying.target.objects == copying.expected
    assert (copying.target.calls["copy_from"], copying.target.calls["replace"]) == (39, 1)


@pytest.mark.parametrize("bad", ["../../etc/passwd", "433A60F6-9756-473E-B1E9-9E89E24BB787", "x\n", ""])
async def test_an_id_that_is_no_uuid_writes_nothing(world, tmp_path, bad):
    with pytest.raises(InvalidRecord, match="not a uuid"):
        await world.copy(images=write_list(tmp_path / "bad", [bad], [".png"]))
    assert not world.target.objects


@pytest.mark.parametrize("bad", ["/../../x", ".png/..", "..", ".p\0ng", ".png\n", "\u202egnp.", ".pñg"])
async def test_an_extension_that_could_leave_the_folder_writes_nothing(world, tmp_path, bad):
    with pytest.raises(InvalidRecord, match="file_extension"):
        await world.copy(images=write_list(tmp_path / "bad", [input_id(1)], [bad]))
    assert not world.target.objects
