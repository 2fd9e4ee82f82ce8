"""What a listing shows is held for as many images as memory allows, and is no proof where it is none."""

import tracemalloc
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from data_export.content import Digests
from data_export.delivery.base import StoredObject
from data_export.errors import AccessDenied, DataExportError, TargetUnavailable
from data_export.images.listing import ListedImage
from data_export.images.seen import Seen
from tests.unit.images.world import World, input_id
from tests.unit.memory_store import MemoryStore

IMAGE = ListedImage("site/a.png", "s/inputs/a.png")
THERE = Digests(5, md5="A" * 22 + "==", crc32c="AAAAAA==")


class Lists(MemoryStore):
    """A store with a listing of its folders that a test gives."""

    def __init__(self, pages: Sequence[Sequence[StoredObject]], error: DataExportError | None = None) -> None:
        super().__init__()
        self.pages, self.error, self.shown = pages, error, 0

    async def files_in(self, folder: str) -> AsyncIterator[Sequence[StoredObject]]:
        for page in self.pages:
            self.shown += 1
            yield [replace(one, key=f"{folder}/{one.key}") for one in page]
        if self.error:
            raise self.error

    list = None  # never asked where there is `files_in`


class ListsInFull(Lists):
    """A look says no more."""

    lists_in_full = True


def file(**said: object) -> StoredObject:
    return StoredObject(
        "a.png", replace(THERE, **{name: said.pop(name) for name in list(said) if name in DIGESTS}), **said
    )


DIGESTS = ("size", "md5", "crc32c", "sha256")
NO_DIGEST = {"md5": None, "crc32c": None}
EARLY, LATE = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("there", "here", "same"),
    [
        pytest.param(file(), file(), True, id="equal digests"),
        pytest.param(file(modified=EARLY), file(modified=LATE), True, id="equal digests, whatever their time"),
        pytest.param(file(crc32c=None), file(crc32c=None), True, id="equal md5"),
        pytest.param(file(), file(crc32c="BBBBBB=="), False, id="other bytes of the same size"),
        pytest.param(file(), file(size=6), False, id="another size"),
        pytest.param(file(size=0), file(size=0), True, id="both empty"),
        pytest.param(file(), file(**NO_DIGEST), False, id="a digest that the source's listing has not"),
        pytest.param(file(md5=None), file(crc32c=None), False, id="digests of different kinds"),
        pytest.param(file(**NO_DIGEST, partial=True), file(), False, id="a digest that only a look shows"),
        pytest.param(file(**NO_DIGEST), file(), True, id="a target without digests"),
        pytest.param(file(**NO_DIGEST, modified=EARLY), file(modified=LATE), False, id="an old file without digests"),
        pytest.param(file(), file(encoding="gzip"), False, id="an image that is stored compressed"),
    ],
)
async def test_what_two_listings_prove(there: StoredObject, here: StoredObject, same: bool) -> None:
    seen = Seen()
    await seen.look(Lists([[here]]), Lists([[there]]), IMAGE, total=2)
    assert seen.is_same(IMAGE) is same
    assert not seen.lacks(IMAGE)


async def test_what_a_broken_listing_did_not_show_is_not_taken_for_missing() -> None:
    seen = Seen()
    await seen.look(Lists([]), Lists([[file()]], AccessDenied("no")), replace(IMAGE), total=2)
    assert not seen.lacks(ListedImage("site/b.png", "s/inputs/b.png"))


async def test_a_folder_of_200_000_names_is_listed_no_further_than_memory_allows() -> None:
    def page(number: int) -> list[StoredObject]:
        digests = replace(THERE, sha256=f"{number:064}", md5=f"{number:022}==")
        return [StoredObject(f"{UUID(int=number * 1000 + n)}.png", digests, LATE) for n in range(1000)]

    class Pages(Sequence[Sequence[StoredObject]]):
        def __len__(self) -> int:
            return 200

        def __getitem__(self, number: int) -> list[StoredObject]:
            return page(number)

    target, seen = Lists(Pages()), Seen()
    tracemalloc.start()
    await seen.look(Lists([]), target, IMAGE, total=200_000)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (target.shown, most < 25 << 20) == (51, True), most
    assert not seen.lacks(IMAGE)


async def test_an_image_that_was_replaced_since_it_was_listed_is_copied_as_it_is(tmp_path: Path) -> None:
    world = World(tmp_path, ListsInFull([]), Lists([]))
    old = [StoredObject(f"{input_id(n)}.png", replace(THERE, size=(n + 1) * len(b"%d " % n))) for n in range(40)]
    world.source.pages = [old]
    assert (await world.copy()).copied == 40
    assert world.target.objects == world.expected


async def test_a_fault_that_passes_does_not_have_the_others_looked_at(tmp_path: Path) -> None:
    world = World(tmp_path, ListsInFull([]), Lists([]))
    faults = iter([TargetUnavailable("slow down")] * 3)

    def fault(call: str, key: str) -> None:
        if call == "create" and (error := next(faults, None)):
            raise error

    world.target.fault = fault
    assert (await world.copy()).copied == 40
    assert world.target.calls == {"create": 43}


@pytest.mark.parametrize(("source", "shown"), [(Lists, 0), (ListsInFull, 3)])
async def test_no_source_is_listed_that_must_be_looked_at_anyway(source: type[Lists], shown: int) -> None:
    listed = source([[file()]] * 3)
    await Seen().look(listed, Lists([]), IMAGE, total=100)
    assert listed.shown == shown


async def test_any_source_is_listed_to_compare_it_with_what_is_there() -> None:
    listed = Lists([[file()]])
    await Seen().look(listed, Lists([[file()]]), IMAGE, total=100)
    assert listed.shown == 1
