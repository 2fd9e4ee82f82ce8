"""A check of a target with folders: what a server refuses is told by what an export needs, and nothing is left."""

from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from data_export.check import CheckResult, check_target
from data_export.delivery.local import LocalStore
from data_export.delivery.sftp import SftpDestination
from demo.servers.sftp import SftpKeys, SftpServer
from tests.connectors.sftp.logins import login_of

FOLDERS = ("433a60f6/data/work-orders-timeline", "433a60f6/inputs")


class Refusing(asyncssh.SFTPServer):
    """Refuses the operations named, and names with ':' where `colons` is False."""

    refused: frozenset[str] = frozenset()
    colons = True

    def _refuse(self, operation: str, path: bytes = b"") -> None:
        if operation in self.refused:
            raise asyncssh.SFTPPermissionDenied("no")
        if b":" in path and not self.colons:
            raise asyncssh.SFTPFailure("The filename, directory name, or volume label syntax is incorrect")

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if pflags & asyncssh.FXF_WRITE:
            self._refuse("open", path)
        return super().open(path, pflags, attrs)

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        self._refuse("mkdir", path)
        super().mkdir(path, attrs)

    def remove(self, path: bytes) -> None:
        self._refuse("remove", path)
        super().remove(path)

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        self._refuse("rename", newpath)
        super().rename(oldpath, newpath)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        self._refuse("posix_rename", newpath)
        super().posix_rename(oldpath, newpath)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    SftpKeys(folder / "keys")
    return folder


@pytest.fixture
def kind() -> type[Refusing]:
    return type("RefusingHere", (Refusing,), {})


@pytest.fixture
def server(keys: Path, tmp_path: Path, kind: type[Refusing]) -> Iterator[SftpServer]:
    (tmp_path / "keys").symlink_to(keys / "keys")
    with SftpServer(tmp_path, sftp=kind) as server:
        yield server


def failures(results: list[CheckResult]) -> dict[str, str]:
    return {result.step: result.detail for result in results if not result.ok}


def checked(server: SftpServer, root: str = "/exports") -> list[CheckResult]:
    return check_target(SftpDestination(login_of(server), root), FOLDERS)


def left(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("there", ["", "exports", "exports/433a60f6", "exports/433a60f6/inputs"])
def test_a_server_that_works_is_left_as_it_was(server: SftpServer, there: str) -> None:
    (server.root / there).mkdir(parents=True, exist_ok=True)
    before = left(server.root)
    results = checked(server)
    assert failures(results) == {}
    assert {"target: names with ':'", "target: replace", f"target: folder {FOLDERS[0]}"} <= {
        one.step for one in results
    }
    assert left(server.root) == before


def test_a_local_folder_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "433a60f6").mkdir()
    assert failures(check_target(LocalStore(tmp_path), FOLDERS)) == {}
    assert left(tmp_path) == ["433a60f6"]


def test_without_the_right_to_remove_an_export_works(server: SftpServer, kind: type[Refusing]) -> None:
    (server.root / "exports").mkdir()
    kind.refused = frozenset({"remove"})
    results = checked(server)
    assert failures(results) == {}
    (told,) = (one.detail for one in results if one.step == "target: remove")
    (file,) = left(server.root / "exports")
    assert f"remove {file} there" in told


def test_without_the_right_to_make_folders_those_of_the_export_are_named(
    server: SftpServer, kind: type[Refusing]
) -> None:
    (server.root / "exports").mkdir()
    kind.refused = frozenset({"mkdir"})
    failed = failures(checked(server))
    assert list(failed) == [f"target: folder {folder}" for folder in FOLDERS]
    assert "folder '/exports/433a60f6'" in failed[f"target: folder {FOLDERS[0]}"]
    for folder in FOLDERS:
        (server.root / "exports" / folder).mkdir(parents=True)
    assert failures(checked(server)) == {}


def test_a_server_that_only_reads_is_one_failure(server: SftpServer, kind: type[Refusing]) -> None:
    (server.root / "exports").mkdir()
    kind.refused = frozenset({"mkdir", "open", "remove", "rename", "posix_rename"})
    failed = failures(checked(server))
    assert list(failed) == ["target: write and check"]
    assert "ask for read and write rights there" in failed["target: write and check"]


def test_a_missing_root_that_may_not_be_made_is_one_failure(server: SftpServer, kind: type[Refusing]) -> None:
    kind.refused = frozenset({"mkdir"})
    failed = failures(checked(server))
    assert list(failed) == ["target: write and check"]
    assert "folder '/exports'" in failed["target: write and check"]


def test_names_with_colons_that_are_refused_are_the_one_failure(server: SftpServer, kind: type[Refusing]) -> None:
    (server.root / "exports").mkdir()
    kind.colons = False
    failed = failures(checked(server))
    assert list(failed) == ["target: names with ':'"]
    assert "Windows servers refuse ':'" in failed["target: names with ':'"]
    assert left(server.root) == ["exports"]


def test_replacing_that_is_refused_is_told(server: SftpServer, kind: type[Refusing]) -> None:
    (server.root / "exports").mkdir()
    kind.refused = frozenset({"posix_rename"})
    failed = failures(checked(server))
    assert list(failed) == ["target: replace"]
    assert left(server.root) == ["exports"]
