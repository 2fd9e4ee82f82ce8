"""The watch of the customers' folder: what a change concerns, and that nothing makes it fail."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from data_export.config import load
from data_export.config.load import load_customers
from data_export.config.reading import file_text
from data_export_airflow.bundle import Changes, FolderWatch
from tests.customers import GOOD


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "customers"
    folder.mkdir()
    for name in ("acme", "beta"):
        (folder / f"{name}.yaml").write_text(GOOD % name)
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(folder))
    return folder


@pytest.fixture
def looked(folder: Path) -> FolderWatch:
    """A watch that has seen the folder."""
    seen = FolderWatch()
    assert seen.look() == Changes()
    return seen


def test_nothing_changed_reads_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_text, "_SETTLED_NS", 0)
    loaded = load_customers()
    monkeypatch.setattr(load, "load_all", None)
    watch = FolderWatch()
    assert watch.look() == watch.look() == Changes()
    assert load_customers() is loaded


@pytest.mark.parametrize("change", ["same size", "removed", "platform", "tenants", "setting", "just written"])
def test_what_was_read_before_is_read_again_where_anything_differs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    for name in ("PLATFORM", "TENANTS"):
        monkeypatch.setenv(f"DATA_EXPORT_{name}_FILE", str(tmp_path / name))
    if change != "just written":
        monkeypatch.setattr(file_text, "_SETTLED_NS", 0)
    loaded = load_customers()
    changes: dict[str, Callable[[], object]] = {
        "same size": lambda: (folder / "beta.yaml").write_text(GOOD % "zeta"),
        "removed": (folder / "beta.yaml").unlink,
        "platform": lambda: (tmp_path / "PLATFORM").write_text("targets: {allow_local: true}\n"),
        "tenants": lambda: (tmp_path / "TENANTS").write_text("{}\n"),
        "setting": lambda: monkeypatch.setenv("DATA_EXPORT_TARGETS__ALLOW_LOCAL", "true"),
        "just written": lambda: None,
    }
    changes[change]()
    assert load_customers() is not loaded


def test_a_file_that_could_not_be_read_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_text, "_SETTLED_NS", 0)
    monkeypatch.setattr(os, "open", Mock(side_effect=OSError(errno.EMFILE, "Too many open files")))
    assert load_customers().exports == {}
    monkeypatch.undo()
    assert len(load_customers(folder).exports) == 2


def test_a_file_that_comes_changes_and_goes(looked: FolderWatch, folder: Path) -> None:
    file = folder / "gamma.yaml"
    for change in (
        lambda: file.write_text(GOOD % "gamma"),
        lambda: file.write_text(GOOD.replace("daily", "weekly") % "gamma"),
        file.unlink,
    ):
        change()
        assert looked.look() == Changes(frozenset({"gamma"}))
        assert looked.look() == Changes()


def test_a_file_that_breaks_and_is_mended(looked: FolderWatch, folder: Path) -> None:
    (folder / "acme.yaml").write_text("interval: daily\n")
    assert looked.look() == Changes(frozenset({"acme"}), problems=True)
    (folder / "acme.yaml").write_text(GOOD % "acme")
    assert looked.look() == Changes(frozenset({"acme"}), problems=True)


def test_the_file_that_a_change_collides_with_or_no_longer_does(looked: FolderWatch, folder: Path) -> None:
    (folder / "beta.yaml").write_text(GOOD % "acme")
    assert looked.look().names == {"acme", "beta"}
    (folder / "acme.yaml").unlink()
    assert looked.look().names == {"acme", "beta"}


def test_a_file_that_is_only_touched_is_no_change(looked: FolderWatch, folder: Path) -> None:
    os.utime(folder / "acme.yaml", (1, 1))
    assert looked.look() == Changes()


def test_a_change_of_the_platforms_settings(
    looked: FolderWatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_PLATFORM_FILE", str(tmp_path / "platform.yaml"))
    assert looked.look() == Changes(platform=True)


def test_a_config_map_that_is_swapped(folder: Path) -> None:
    for version, name in (("1", "delta"), ("2", "other")):
        (folder / f"..{version}").mkdir()
        (folder / f"..{version}" / "delta.yaml").write_text(GOOD % name)
    (folder / "..data").symlink_to("..1")
    (folder / "delta.yaml").symlink_to("..data/delta.yaml")
    watching = FolderWatch()
    watching.look()
    (folder / "..new").symlink_to("..2")
    (folder / "..new").rename(folder / "..data")
    assert watching.look().names == {"delta"}


def test_a_folder_that_goes_and_returns(looked: FolderWatch, folder: Path) -> None:
    """It may be replaced, or its disk mounted again: no export goes, but everybody is told."""
    folder.rename(folder.with_name("away"))
    assert looked.look() == Changes(problems=True)
    assert [*load_customers().exports] == ["acme", "beta"]
    folder.with_name("away").rename(folder)
    assert looked.look() == Changes(problems=True)
    assert load_customers().problems == ()
