"""How a file takes the place of another on an SFTP server without `posix-rename`, whatever comes between."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncssh
import pytest

from data_export.content import Content
from data_export.delivery.base import StoredObject
from data_export.delivery.deliver import deliver
from data_export.delivery.sftp import leftovers
from data_export.delivery.sftp import rename as sftp_rename
from data_export.delivery.sftp.leftovers import aside_path, claim_path, temporary_path
from data_export.errors import ObjectExists, OverwriteRefused, TargetUnavailable
from demo.servers.sftp import SftpServer
from tests.connectors.contract import DATA_KEY
from tests.connectors.sftp.unruly import BIG, OLD, SMALL, Unruly, left_over, put_old, target, until

Rename = Callable[[Unruly, bytes, bytes], object]
THEIRS = b"what another run has placed meanwhile"


@pytest.fixture(autouse=True)
def _old_server(monkeypatch: pytest.MonkeyPatch) -> None:
    from asyncssh.sftp import SFTPServerHandler

    monkeypatch.setattr(SFTPServerHandler, "_extensions", [])


@pytest.fixture(params=["refuses", "replaces"])
def rename(request: pytest.FixtureRequest) -> Rename:
    """The server's rename to a name that is taken: by the protocol, and as many servers do."""
    return Unruly.rename if request.param == "refuses" else Unruly.posix_rename


def is_aside(path: bytes) -> bool:
    return path.endswith(b".old")


async def test_create_and_replace(server: SftpServer, place: Path) -> None:
    async with target(server) as destination:
        await destination.create(DATA_KEY, SMALL)
        with pytest.raises(ObjectExists):
            await destination.create(DATA_KEY, BIG)
        await destination.replace(DATA_KEY, BIG)
        await destination.replace("new", SMALL)
    assert place.read_bytes() == BIG.source
    assert not left_over(server)


async def test_two_runs_at_once(server: SftpServer, unruly: type[Unruly], rename: Rename) -> None:
    unruly.rename = rename  # type: ignore[method-assign,assignment] # how this server renames
    contents = [Content.of_bytes(b"A"), Content.of_bytes(b"B")]
    async with target(server) as a, target(server) as b:
        for one in (a, b):  # who comes to a folder takes what is unfinished there for left over
            await one.replace("first.json", SMALL)
        for number in range(30):
            key = f"{number}.json"
            await a.create(key, SMALL)
            await asyncio.gather(
                *(deliver(to, lambda _: key, what, "replace") for to, what in zip((a, b), contents, strict=True))  # noqa: B023 - called at once
            )
            assert (server.root / "target" / key).read_bytes() in (b"A", b"B")
    assert not left_over(server)


async def test_another_run_moved_the_old_file_aside(server: SftpServer, unruly: type[Unruly], place: Path) -> None:
    def gone(self: Unruly, old: bytes, new: bytes) -> None:
        if is_aside(new):
            place.unlink()
            raise asyncssh.SFTPNoSuchFile("no")
        Unruly.rename(self, old, new)

    put_old(place)
    unruly.rename = gone  # type: ignore[method-assign] # the other run
    async with target(server) as destination:
        await destination.replace(DATA_KEY, SMALL)
    assert place.read_bytes() == SMALL.source
    assert not left_over(server)


async def test_another_run_took_the_name_that_was_made_free(
    server: SftpServer, unruly: type[Unruly], place: Path, rename: Rename
) -> None:
    taken = []

    def take(self: Unruly, old: bytes, new: bytes) -> None:
        rename(self, old, new)
        if is_aside(new) and not taken:
            taken.append(place.write_bytes(THEIRS))

    put_old(place)
    unruly.rename = take  # type: ignore[method-assign] # the other run
    async with target(server) as destination:
        await destination.replace(DATA_KEY, SMALL)
    assert place.read_bytes() == SMALL.source
    assert not left_over(server)


async def test_what_another_run_has_placed_is_not_lost_for_the_old_file(
    server: SftpServer, unruly: type[Unruly], place: Path, rename: Rename
) -> None:
    def never_ours(self: Unruly, old: bytes, new: bytes) -> None:
        if new.endswith(b".json") and not is_aside(old) and not place.exists():
            place.write_bytes(THEIRS)
            raise asyncssh.SFTPFailure("no")
        rename(self, old, new)

    put_old(place)
    unruly.rename = never_ours  # type: ignore[method-assign] # the other run
    async with target(server) as destination:
        with pytest.raises(TargetUnavailable, match="at the same time"):
            await destination.replace(DATA_KEY, SMALL)
    assert place.read_bytes() == THEIRS
    assert not left_over(server)


async def test_the_old_file_is_put_back(server: SftpServer, unruly: type[Unruly], place: Path, rename: Rename) -> None:
    def not_ours(self: Unruly, old: bytes, new: bytes) -> None:
        if new.endswith(b".json") and not is_aside(old) and not place.exists():
            raise asyncssh.SFTPPermissionDenied("no")
        rename(self, old, new)

    put_old(place)
    unruly.rename = not_ours  # type: ignore[method-assign] # the fault
    async with target(server) as destination:
        with pytest.raises(Exception, match="the server lets us write files but not rename them"):
            await destination.replace(DATA_KEY, SMALL)
    assert place.read_bytes() == OLD
    assert not left_over(server)


async def test_the_old_file_is_put_back_when_cancelled(
    server: SftpServer, unruly: type[Unruly], place: Path, rename: Rename
) -> None:
    async def never(self: Unruly, old: bytes, new: bytes) -> None:
        if new.endswith(b".json") and not is_aside(old) and not place.exists():
            await asyncio.sleep(0.3)
            raise asyncssh.SFTPFailure("no")
        rename(self, old, new)

    put_old(place)
    unruly.rename = never  # type: ignore[method-assign,assignment] # slow at the moment that matters
    async with target(server) as destination:
        writing = asyncio.create_task(destination.replace(DATA_KEY, SMALL))
        await until(lambda: not place.exists())
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert place.read_bytes() == OLD
    assert not left_over(server)


async def test_a_file_that_may_not_be_moved_aside(server: SftpServer, unruly: type[Unruly], place: Path) -> None:
    def denied(self: Unruly, old: bytes, new: bytes) -> None:
        if is_aside(new):
            raise asyncssh.SFTPPermissionDenied("no")
        Unruly.rename(self, old, new)

    put_old(place)
    unruly.rename = denied  # type: ignore[method-assign] # the fault
    async with target(server) as destination:
        with pytest.raises(OverwriteRefused):
            await destination.replace(DATA_KEY, SMALL)
    assert place.read_bytes() == OLD
    assert not left_over(server)


async def test_an_old_file_goes_only_when_another_has_its_name(server: SftpServer, place: Path) -> None:
    put_old(place)
    superseded = server.root / aside_path(f"target/{DATA_KEY}")
    only_one = server.root / aside_path(f"target/{DATA_KEY}-lost")
    unfinished = server.root / temporary_path(f"target/{DATA_KEY}-lost")
    for path in (superseded, only_one, unfinished):
        path.write_bytes(OLD)
        os.utime(path, (0, 0))
    async with target(server) as destination:
        await destination.create(f"{DATA_KEY}-2", SMALL)
        assert not left_over(server)  # the unfinished one was a day old
        assert place.with_name(f"{place.name}-lost").read_bytes() == OLD
        assert not only_one.exists()
        await destination.replace(f"{DATA_KEY}-lost", SMALL)
    assert not left_over(server)


async def test_a_run_that_was_killed_in_between_costs_no_file(server: SftpServer, place: Path) -> None:
    """Of several that were moved aside the newest gets its name back, at any later write to the folder."""
    put_old(place)
    for age, data in ((100, b"older"), (50, b"newest"), (200, b"oldest")):
        moved = server.root / aside_path(f"target/{DATA_KEY}")
        moved.write_bytes(data)
        os.utime(moved, (time.time() - age,) * 2)
    place.unlink()
    async with target(server) as destination:
        await destination.create(f"{DATA_KEY}-2", SMALL)
    assert place.read_bytes() == b"newest"
    assert not left_over(server)


async def test_what_else_is_listed_does_not_keep_the_name_from_a_file(
    server: SftpServer, unruly: type[Unruly], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither more unfinished files than are remembered, nor a folder that takes longer to list than we look."""
    put_old(place)
    monkeypatch.setattr(leftovers, "_MOST_FOUND", 5)
    monkeypatch.setattr(leftovers, "_LOOK_SECONDS", 1.5)

    async def endless(self: Unruly, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        for number in range(200):
            yield asyncssh.SFTPName(temporary_path(f"{number}").encode(), attrs=asyncssh.SFTPAttrs(mtime=1))
        yield asyncssh.SFTPName(aside.name.encode(), attrs=asyncssh.SFTPAttrs(mtime=1))
        for number in range(200):
            yield asyncssh.SFTPName(f"{number}.json".encode(), attrs=asyncssh.SFTPAttrs(mtime=1))
        await asyncio.sleep(5)

    aside = server.root / aside_path(f"target/{DATA_KEY}")
    place.rename(aside)
    unruly.scandir = endless  # type: ignore[method-assign,assignment] # the folder
    async with target(server) as destination:
        await destination.create(f"{DATA_KEY}-2", SMALL)
    assert place.read_bytes() == OLD


async def test_of_two_new_files_one_wins_where_rename_replaces(
    server: SftpServer, unruly: type[Unruly], rename: Rename
) -> None:
    async def slowly(self: Unruly, old: bytes, new: bytes) -> None:
        await asyncio.sleep(0.02)  # both have looked before either renames
        rename(self, old, new)

    unruly.rename = slowly  # type: ignore[method-assign,assignment] # how this server renames
    async with target(server) as a, target(server) as b:
        await a.create("first", SMALL)
        await b.create("second", SMALL)
        for number in range(10):
            made = await asyncio.gather(
                *(one.create(f"{number}.json", Content.of_bytes(data)) for one, data in ((a, b"A"), (b, b"B"))),
                return_exceptions=True,
            )
            assert sum(isinstance(one, ObjectExists) for one in made) == 1
            assert sum(isinstance(one, StoredObject) for one in made) == 1
    assert not left_over(server)


async def test_a_claim_that_a_killed_run_left_is_not_for_ever(
    server: SftpServer, unruly: type[Unruly], monkeypatch: pytest.MonkeyPatch
) -> None:
    unruly.rename = Unruly.posix_rename  # type: ignore[method-assign] # a server whose rename replaces
    monkeypatch.setattr(sftp_rename, "_LOOK_PAUSE", 0.001)
    async with target(server) as destination:
        await destination.create("first", SMALL)
        (server.root / claim_path("target/new")).touch()
        await destination.create("new", SMALL)
    assert (server.root / "target/new").read_bytes() == SMALL.source
    assert not left_over(server)
