"""What SFTP servers do with a file that has just arrived: they take it away, or show it late."""

import asyncio
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from data_export.delivery.deliver import deliver
from data_export.delivery.sftp import leftovers, transfer
from data_export.errors import TargetRefused, TargetUnavailable, VerificationFailed
from demo.servers.sftp import SftpServer
from tests.connectors.contract import DATA_KEY
from tests.connectors.sftp.unruly import SMALL, Unruly, target


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_LATE_SECONDS", (0.05, 0.1, 0.2))


class TestDropBox:
    @pytest.fixture
    def handed_over(self, unruly: type[Unruly]) -> list[bytes]:
        taken: list[bytes] = []

        def close(self: Unruly, file_obj: object) -> None:
            name = file_obj.name  # type: ignore[attr-defined] # a plain file
            writes = file_obj.writable()  # type: ignore[attr-defined]
            asyncssh.SFTPServer.close(self, file_obj)
            if writes:
                taken.append(name)
                Path(name.decode()).unlink()

        unruly.close = close  # type: ignore[method-assign,assignment] # the drop box
        return taken

    @pytest.mark.parametrize("upload", ["rename", "direct"])
    async def test_it_is_handed_a_file_once_and_the_fix_is_named(
        self, server: SftpServer, handed_over: list[bytes], upload: str
    ) -> None:
        async with target(server, upload=upload) as destination:
            with pytest.raises(TargetRefused, match="for a drop box set `sftp_upload: direct` and `verify: none`"):
                await deliver(destination, lambda _: DATA_KEY, SMALL, "replace")
        assert len(handed_over) == 1

    async def test_unverified_it_gets_every_file_once(self, server: SftpServer, handed_over: list[bytes]) -> None:
        async with target(server, upload="direct", verify="none") as destination:
            for key in (DATA_KEY, "second", DATA_KEY):
                assert (await deliver(destination, lambda _, key=key: key, SMALL, "replace")).outcome == "created"
        assert [name.decode().rpartition("/")[2] for name in handed_over] == [
            DATA_KEY.rpartition("/")[2],
            "second",
            DATA_KEY.rpartition("/")[2],
        ]

    async def test_unverified_a_block_that_is_refused_fails(self, server: SftpServer, unruly: type[Unruly]) -> None:
        unruly.refused = {"block": asyncssh.SFTPFailure("Failure")}
        async with target(server, upload="direct", verify="none") as destination:
            with pytest.raises(TargetUnavailable):
                await destination.create(DATA_KEY, SMALL)

    @pytest.mark.parametrize("verify", ["size", "read-back"])
    @pytest.mark.parametrize("moved", [False, True])
    async def test_one_that_takes_the_file_a_little_later_is_known_too(
        self, server: SftpServer, unruly: type[Unruly], monkeypatch: pytest.MonkeyPatch, verify: Any, moved: bool
    ) -> None:
        """Away, or to another name, between our look and the rename or the reading."""
        monkeypatch.setattr(leftovers, "_SWAP_SECONDS", 0.01)
        taken = []

        def stat(self: Unruly, path: bytes) -> asyncssh.SFTPAttrs:
            found = Unruly.stat(self, path)
            if path.endswith(b".tmp"):
                taken.append(path)
                file = Path(self.map_path(path).decode())
                file.rename(f"{file}.received") if moved else file.unlink()
            return found

        unruly.stat = stat  # type: ignore[method-assign] # the drop box
        async with target(server, verify=verify) as destination:
            with pytest.raises(TargetRefused, match="for a drop box set"):
                await deliver(destination, lambda _: DATA_KEY, SMALL, "replace")
        assert len(taken) == 1


LATE = ["not there yet", "empty at first", "without a size", "empty for ever", "never whole"]


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("upload", ["rename", "direct"])
async def test_what_a_server_says_of_a_new_file_may_come_late(
    server: SftpServer, unruly: type[Unruly], late: str, upload: str
) -> None:
    looks: dict[bytes, int] = {}

    def stat(self: Unruly, path: bytes) -> asyncssh.SFTPAttrs:
        found = Unruly.stat(self, path)
        if found.type != asyncssh.FILEXFER_TYPE_REGULAR or not found.size:
            return found
        looks[path] = looks.get(path, 0) + 1
        if late == "without a size":
            return asyncssh.SFTPAttrs(type=found.type, mtime=found.mtime, atime=found.mtime)
        if looks[path] < 3 or late in ("empty for ever", "never whole"):
            if late == "not there yet":
                raise asyncssh.SFTPNoSuchFile("no")
            size = int(late == "never whole")
            return asyncssh.SFTPAttrs(size=size, type=found.type, mtime=found.mtime, atime=found.mtime)
        return found

    unruly.stat = stat  # type: ignore[method-assign] # the fault
    async with target(server, upload=upload) as destination:
        if late == "never whole":
            with pytest.raises(VerificationFailed, match="changes files as it takes them"):
                await destination.create(DATA_KEY, SMALL)
            return
        assert (await destination.create(DATA_KEY, SMALL)).digests.size == SMALL.size
        await asyncio.sleep(0)
        for _ in range(3):
            found = await destination.stat(DATA_KEY)
        assert found is not None
        assert found.digests.size == SMALL.size
        assert (await deliver(destination, lambda _: DATA_KEY, SMALL, "replace")).outcome == "unchanged"


@pytest.mark.parametrize("size", [None, 0])
async def test_a_size_that_is_not_known_does_not_hide_a_cut_file(
    server: SftpServer, unruly: type[Unruly], size: int | None
) -> None:
    def stat(self: Unruly, path: bytes) -> asyncssh.SFTPAttrs:
        found = Unruly.stat(self, path)
        return asyncssh.SFTPAttrs(size=size, type=found.type, mtime=found.mtime, atime=found.mtime)

    unruly.stat, unruly.lost_after = stat, 0  # type: ignore[method-assign] # the fault
    async with target(server) as destination:
        with pytest.raises(VerificationFailed):
            await destination.create(DATA_KEY, SMALL)
