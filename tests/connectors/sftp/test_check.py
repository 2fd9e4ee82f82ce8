"""A check of a target with folders: what a server refuses is told by what an export needs, and nothing is left."""

from pathlib import Path

import asyncssh
import pytest

from data_export.check.check import check_target
from data_export.check.results import CheckResult
from data_export.delivery.local.store import LocalStore
from data_export.delivery.sftp.destination import SftpDestination
from demo.servers.sftp import SftpServer
from tests.connectors.sftp.logins import login_of
from tests.connectors.sftp.unruly import Unruly

NO = asyncssh.SFTPPermissionDenied("no")
FOLDERS = ("433a60f6/data/work-orders-timeline", "433a60f6/inputs")


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


def test_without_the_right_to_remove_an_export_works(server: SftpServer, unruly: type[Unruly]) -> None:
    (server.root / "exports").mkdir()
    unruly.refused = {"remove": NO}
    results = checked(server)
    assert failures(results) == {}
    (told,) = (one.detail for one in results if one.step == "target: remove")
    (file,) = (name for name in left(server.root / "exports") if not name.startswith(".data-export-"))
    assert f"remove {file} there" in told


def test_without_the_right_to_make_folders_those_of_the_export_are_named(
    server: SftpServer, unruly: type[Unruly]
) -> None:
    (server.root / "exports").mkdir()
    unruly.refused = {"mkdir": NO}
    failed = failures(checked(server))
    assert list(failed) == [f"target: folder {folder}" for folder in FOLDERS]
    assert "folder '/exports/433a60f6'" in failed[f"target: folder {FOLDERS[0]}"]
    for folder in FOLDERS:
        (server.root / "exports" / folder).mkdir(parents=True)
    assert failures(checked(server)) == {}


def test_a_server_that_only_reads_is_one_failure(server: SftpServer, unruly: type[Unruly]) -> None:
    (server.root / "exports").mkdir()
    unruly.refused = dict.fromkeys(("mkdir", "write", "remove", "rename", "posix_rename"), NO)
    failed = failures(checked(server))
    assert list(failed) == ["target: write and check"]
    assert "ask for read and write rights there" in failed["target: write and check"]


def test_a_missing_root_that_may_not_be_made_is_one_failure(server: SftpServer, unruly: type[Unruly]) -> None:
    unruly.refused = {"mkdir": NO}
    failed = failures(checked(server))
    assert list(failed) == ["target: write and check"]
    assert "folder '/exports'" in failed["target: write and check"]


def test_names_with_colons_that_are_refused_are_the_one_failure(server: SftpServer, unruly: type[Unruly]) -> None:
    (server.root / "exports").mkdir()
    unruly.refused = {
        "colon": asyncssh.SFTPFailure("The filename, directory name, or volume label syntax is incorrect")
    }
    failed = failures(checked(server))
    assert list(failed) == ["target: names with ':'"]
    assert "Windows servers refuse ':'" in failed["target: names with ':'"]
    assert left(server.root) == ["exports"]


def test_replacing_that_is_refused_is_told(server: SftpServer, unruly: type[Unruly]) -> None:
    (server.root / "exports").mkdir()
    unruly.refused = {"posix_rename": NO}
    failed = failures(checked(server))
    assert list(failed) == ["target: replace"]
    assert left(server.root) == ["exports"]
