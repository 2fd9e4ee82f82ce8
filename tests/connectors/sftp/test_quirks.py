"""What SFTP servers do in their own way, which none of the tests' own servers does by itself."""

from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from data_export.errors import TargetFull, TargetRefused
from demo.servers.sftp import SftpServer
from tests.connectors.contract import DATA_KEY
from tests.connectors.sftp.logins import Server
from tests.connectors.sftp.test_contract import SftpContract
from tests.connectors.sftp.unruly import SMALL, Unruly, target


class FailureForMissing(asyncssh.SFTPServer):
    """Answers "Failure" where the protocol has "no such file"."""

    def __getattribute__(self, name: str) -> object:
        found = super().__getattribute__(name)
        if name not in ("stat", "lstat", "open", "remove", "rename", "posix_rename", "mkdir", "rmdir", "scandir"):
            return found

        def failing(*args: object) -> object:
            try:
                return found(*args)
            except (FileNotFoundError, asyncssh.SFTPNoSuchFile):
                raise asyncssh.SFTPFailure("Failure") from None

        return failing


class TestFailureForMissing(SftpContract):
    big_bytes = 1 << 20
    many = 30

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with SftpServer(tmp_path_factory.mktemp("failure"), sftp=FailureForMissing) as server:
            yield server


NO = [asyncssh.SFTPPermissionDenied("no"), asyncssh.SFTPFailure("no"), asyncssh.SFTPNoSuchFile("no")]


@pytest.mark.parametrize("refusal", [*NO, asyncssh.SFTPBadMessage("no"), asyncssh.SFTPInvalidFilename("no")])
async def test_a_server_that_refuses_names_with_a_dot(
    server: SftpServer, unruly: type[Unruly], place: Path, refusal: Exception
) -> None:
    def no_dots(self: Unruly, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if path.rpartition(b"/")[2].startswith(b".") and pflags & asyncssh.FXF_WRITE:
            raise refusal
        return Unruly.open(self, path, pflags, attrs)

    unruly.open = no_dots  # type: ignore[method-assign] # the fault
    async with target(server) as destination:
        for write in (destination.create, destination.replace):
            with pytest.raises(TargetRefused, match=r"begin with a dot.*`sftp_upload: direct`"):
                await write(DATA_KEY, SMALL)
    assert not [path for path in server.root.rglob("*") if path.is_file()]
    async with target(server, upload="direct") as destination:
        await destination.create(DATA_KEY, SMALL)
    assert place.read_bytes() == SMALL.source


@pytest.mark.parametrize("refusal", [asyncssh.SFTPFailure("Invalid argument"), asyncssh.SFTPPermissionDenied("no")])
async def test_a_server_that_cannot_sync(server: SftpServer, unruly: type[Unruly], refusal: Exception) -> None:
    asked = []

    def fsync(_self: Unruly, _file: object) -> None:
        asked.append(1)
        raise refusal

    unruly.fsync = fsync  # type: ignore[method-assign,assignment] # the fault
    async with target(server) as destination:
        for key in ("a", "b", DATA_KEY):
            await destination.create(key, SMALL)
        assert len(asked) == 2  # once more by another handle, and never again
    unruly.full = True
    async with target(server) as destination:
        if type(refusal) is asyncssh.SFTPFailure:
            with pytest.raises(TargetFull):
                await destination.create("c", SMALL)
