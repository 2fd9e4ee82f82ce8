"""A check of a target with folders: what a server refuses is told by what an export needs, and nothing is left."""

from pathlib import Path

import asyncssh
import pytest

from data_export.check.check import check_target
from data_export.check.results import CheckResult
from data_export.delivery.local.store import LocalStore
from data_export.delivery.sftp import transfer
from data_export.delivery.sftp.config import SftpConfig
from data_export.delivery.sftp.destination import SftpDestination
from data_export.delivery.sftp.leftovers import aside_path
from demo.servers.foreign import ProftpdServer, RcloneServer
from demo.servers.openssh import OpensshServer
from demo.servers.sftp import SftpServer
from tests.connectors.announced import not_announced
from tests.connectors.sftp.logins import Server, login_of
from tests.connectors.sftp.unruly import Unruly

NO = asyncssh.SFTPPermissionDenied("no")
FOLDERS = ("433a60f6/data/work-orders-timeline", "433a60f6/inputs")


def failures(results: list[CheckResult]) -> dict[str, str]:
    return {result.step: result.detail for result in results if not result.ok}


def checked(server: Server, root: str = "exports") -> list[CheckResult]:
    config = SftpConfig(conn_id="customer", sftp_remote_path="/x", export_images=True)
    results = check_target(SftpDestination(login_of(server), f"{server.base}{root}"), FOLDERS, config.check)
    assert not_announced(results, config) == set()
    return results


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


def renames(results: list[CheckResult]) -> str:
    (told,) = (one for one in results if one.step == "target: rename")
    assert told.ok
    return told.detail


@pytest.mark.parametrize("replaces", [False, True])
def test_what_a_rename_does_to_a_file_is_found_out(server: SftpServer, unruly: type[Unruly], replaces: bool) -> None:
    if replaces:
        unruly.rename = unruly.posix_rename  # type: ignore[method-assign] # the fault
    detail = renames(checked(server))
    assert ("no other program may write the same names" in detail) == replaces
    assert "a file is replaced at once" in detail
    assert left(server.root) == []


@pytest.mark.parametrize("kind", [ProftpdServer, RcloneServer, OpensshServer], ids=lambda kind: kind.__name__)
def test_a_server_of_another_maker_is_known_by_its_renames(
    kind: type[ProftpdServer | RcloneServer | OpensshServer], tmp_path: Path
) -> None:
    if not kind.installed():
        pytest.skip(f"{kind.__name__} is not on this machine")
    with kind(tmp_path) as server:
        results = checked(server)
        assert failures(results) == {}
        assert ("no other program may write" in renames(results)) == (kind is RcloneServer)
        assert left(server.root) == []


def test_a_server_that_refuses_names_with_a_dot_is_one_failure(server: SftpServer, unruly: type[Unruly]) -> None:
    def no_dots(self: Unruly, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if path.rpartition(b"/")[2].startswith(b"."):
            raise NO
        return Unruly.open(self, path, pflags, attrs)

    unruly.open = no_dots  # type: ignore[method-assign] # the fault
    failed = failures(checked(server))
    assert list(failed) == ["target: write and check"]
    assert "set `sftp_upload: direct`" in failed["target: write and check"]


def test_a_drop_box_is_known_and_passes_with_its_keys(
    server: SftpServer, unruly: type[Unruly], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_LATE_SECONDS", (0.05,))

    def close(self: Unruly, file_obj: object) -> None:
        asyncssh.SFTPServer.close(self, file_obj)
        Path(file_obj.name.decode()).unlink()  # type: ignore[attr-defined] # a plain file

    unruly.close = close  # type: ignore[method-assign,assignment] # the drop box
    failed = failures(checked(server))
    assert "for a drop box set `sftp_upload: direct` and `verify: none`" in failed["target: write and check"]
    drop_box = SftpDestination(login_of(server), "/exports", upload="direct", verify="none")
    config = SftpConfig(
        conn_id="customer", sftp_remote_path="/x", export_images=True, sftp_upload="direct", verify="none"
    )
    assert failures(check_target(drop_box, FOLDERS, config.check)) == {}


def test_a_file_that_a_killed_run_moved_aside_gets_its_name_back(server: SftpServer) -> None:
    folder = server.root / "exports" / FOLDERS[0]
    folder.mkdir(parents=True)
    (folder / aside_path("2025.json")).write_bytes(b"delivered")
    assert failures(checked(server)) == {}
    assert left(folder) == ["2025.json"]
