"""The watch of the customers' folder: what a change concerns, and that nothing makes it fail."""

import os
from pathlib import Path

import pytest

from data_export_airflow import bundle
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


def test_nothing_changed_reads_nothing(looked: FolderWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "load_customers", None)
    assert looked.look() == Changes()


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
    folder.rename(folder.with_name("away"))
    assert looked.look() == Changes(frozenset({"acme", "beta"}), problems=True)
    folder.with_name("away").rename(folder)
    assert looked.look() == Changes(frozenset({"acme", "beta"}), problems=True)
