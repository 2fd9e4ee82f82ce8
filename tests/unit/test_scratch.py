"""Scratch folders: gone with their task, or with the next one where it was killed; never those of living processes."""

import errno
import logging
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_export import scratch as module
from data_export.scratch import remove_abandoned, scratch

HOLDER = "import sys\nfrom data_export.scratch import scratch\nwith scratch() as folder:\n"
HOLDER += "    (folder / 'data').write_text('secret')\n    print(folder, flush=True)\n    sys.stdin.read()"


@pytest.fixture(autouse=True)
def tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def made_old(folder: Path) -> Path:
    os.utime(folder, (time.time() - 2 * 3600,) * 2)
    return folder


def test_it_is_gone_afterwards_whatever_happens(tmpdir: Path) -> None:
    def fail() -> None:
        with scratch() as folder:
            (folder / "data").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmpdir.iterdir()) == []


def test_what_cannot_be_removed_hides_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A computation that outlives its task's time limit may still write there."""

    def is_written_to(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    def fail() -> None:
        with scratch():
            monkeypatch.setattr(module.os, "rmdir", is_written_to)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()


def test_a_killed_process_leaves_nothing_behind_for_long(tmpdir: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmpdir), "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = made_old(Path(process.stdout.readline().strip()))
        assert remove_abandoned(tmpdir) == 0  # it lives, however old its folder is
        process.kill()
    assert (folder / "data").read_text() == "secret"
    with scratch() as own:
        assert list(tmpdir.iterdir()) == [own]


def test_what_is_young_or_not_ours_stays(tmpdir: Path) -> None:
    for name in ("data-export-scratch-0000000y", "images-00000000", "data-export-staging", "data-export-scratch-kept"):
        (tmpdir / name).mkdir()
        if not name.endswith("y"):
            made_old(tmpdir / name)
    (tmpdir / "data-export-scratch-0000file").touch()
    (tmpdir / "data-export-scratch-0000link").symlink_to(tmpdir / "data-export-staging")
    before = {*tmpdir.iterdir()}
    assert remove_abandoned(tmpdir) == 0
    assert {*tmpdir.iterdir()} == before


def test_no_task_waits_long_for_what_others_left(tmpdir: Path) -> None:
    for number in range(60):
        folder = tmpdir / f"data-export-scratch-{number:08}"
        folder.mkdir()
        made_old(folder)
    assert [remove_abandoned(tmpdir), remove_abandoned(tmpdir)] == [50, 10]
    assert remove_abandoned(tmpdir / "no-such-folder") == 0


def test_what_is_removed_is_logged_and_alarms_nobody(tmpdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The task that finds it has nothing to do with it, and nobody has anything to do."""
    caplog.set_level(logging.DEBUG, logger="data_export.scratch")
    assert remove_abandoned(tmpdir) == 0
    made = tmpdir / "data-export-scratch-0000left"
    made.mkdir()
    made_old(made)
    assert remove_abandoned(tmpdir) == 1
    words = f"scratch folders of killed tasks removed from {tmpdir}: 1"
    assert caplog.record_tuples == [("data_export.scratch", logging.INFO, words)]


_FILLS = """
import ctypes, resource, sys
from data_export.scratch import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(64):
    ctypes.create_string_buffer(b"x" * (8 << 20))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps what it likes")
def test_freed_memory_is_used_again() -> None:
    """In chunks of 8 MiB, which the C library would else give back to the kernel each time."""
    usual, kept = (
        int(subprocess.run([sys.executable, "-c", _FILLS, way], check=True, capture_output=True, text=True).stdout)
        for way in ("usual", "kept")
    )
    assert kept < usual / 4
