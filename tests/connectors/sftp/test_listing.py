"""Images are recognised by a listing of their folder where it pays, and by a look at each where it does not."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncssh
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_export.delivery.local.store import LocalStore
from data_export.images import CopyRules, copy_images
from data_export.receipt import ImagesCopied
from demo.servers.sftp import SftpServer
from tests.connectors.contract import SITE
from tests.connectors.kill_kit import SOURCE_KEY
from tests.connectors.sftp.unruly import Unruly, target

COUNT = 150


@pytest.fixture
def images(tmp_path: Path) -> Path:
    ids = [str(UUID(int=number)) for number in range(COUNT)]
    pq.write_table(pa.table({"input_id": ids, "file_extension": [".png"] * COUNT}), tmp_path / "images.parquet")
    for input_id in ids:
        path = tmp_path / "images" / SOURCE_KEY(input_id, ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(input_id.encode())
    return tmp_path


@pytest.fixture
def asked(unruly: type[Unruly]) -> dict[str, int]:
    """How many looks at images, and files opened to write, the server has seen."""
    count = {"looks": 0, "writes": 0}

    def stat(self: Unruly, path: bytes) -> asyncssh.SFTPAttrs:
        count["looks"] += path.endswith(b".png")
        return Unruly.stat(self, path)

    def opened(self: Unruly, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        count["writes"] += bool(pflags & asyncssh.FXF_WRITE)
        return Unruly.open(self, path, pflags, attrs)

    unruly.stat, unruly.open = stat, opened  # type: ignore[method-assign] # they count
    return count


async def copy(server: SftpServer, images: Path, rules: CopyRules | None = None) -> ImagesCopied:
    async with LocalStore(images / "images") as source, target(server) as destination:
        return await copy_images(
            *(images / "images.parquet",),
            site_id=SITE,
            source=source,
            source_key=SOURCE_KEY,
            destination=destination,
            rules=rules or CopyRules(),
        )


def at_target(server: SftpServer, number: int) -> Path:
    return server.root / "target" / str(SITE) / "inputs" / f"{UUID(int=number)}.png"


async def test_again_no_image_is_looked_at(server: SftpServer, images: Path, asked: dict[str, int]) -> None:
    assert (await copy(server, images)).copied == COUNT
    asked.update(looks=0, writes=0)
    assert (await copy(server, images)).already_there == COUNT
    assert asked == {"looks": 0, "writes": 0}


async def test_what_changed_or_went_is_sent(server: SftpServer, images: Path) -> None:
    await copy(server, images)
    at_target(server, 3).write_bytes(b"other")
    at_target(server, 4).unlink()
    at_target(server, 5).unlink()
    at_target(server, 5).symlink_to(at_target(server, 6).name)
    copied = await copy(server, images)
    assert (copied.copied, copied.already_there) == (2, COUNT - 2)
    assert at_target(server, 3).read_text() == str(UUID(int=3))
    kept = at_target(server, 7)
    kept.write_bytes(b"other")
    copied = await copy(server, images, CopyRules("keep"))
    assert (copied.kept, kept.read_bytes()) == (1, b"other")


async def test_read_back_reads_what_is_listed(server: SftpServer, images: Path) -> None:
    await copy(server, images)
    there = at_target(server, 3)
    there.write_bytes(bytes(len(there.read_bytes())))
    assert (await copy(server, images, CopyRules(read_back=True))).copied == 1


async def test_a_missing_source_does_not_hide_what_is_there(server: SftpServer, images: Path) -> None:
    await copy(server, images)
    (images / "images" / SOURCE_KEY(str(UUID(int=3)), ".png")).unlink()
    (images / "images" / SOURCE_KEY(str(UUID(int=4)), ".png")).unlink()
    at_target(server, 4).unlink()
    copied = await copy(server, images)
    assert (copied.missing_at_source, copied.already_there) == (1, COUNT - 1)


@pytest.mark.parametrize("listing", ["is refused", "is empty", "is partial"])
async def test_a_listing_that_does_not_show_what_is_there(
    server: SftpServer, unruly: type[Unruly], images: Path, asked: dict[str, int], listing: str
) -> None:
    await copy(server, images)
    asked.update(looks=0, writes=0)

    async def some(self: Unruly, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        if listing == "is refused":
            raise asyncssh.SFTPPermissionDenied("no")
        if listing == "is partial":
            yield asyncssh.SFTPName(b"x.png", b"", asyncssh.SFTPAttrs(type=1, size=1, permissions=0o100644, mtime=1))

    unruly.scandir = some  # type: ignore[method-assign] # the fault
    assert (await copy(server, images)).already_there == COUNT
    assert asked["writes"] < COUNT  # as many as were under way when the first was found to be there
    for number in range(COUNT):
        assert at_target(server, number).read_text() == str(UUID(int=number))
