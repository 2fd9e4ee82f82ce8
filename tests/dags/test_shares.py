"""How the DAG files share the exports: each is in exactly one, and an added file moves no more than it must."""

import time
from collections import Counter
from pathlib import Path

from data_export_airflow.dags.shards import (
    MOST,
    complete,
    contents,
    is_complete,
    names_in,
    seems_complete,
    shard_files,
    shard_of,
)

FILES = shard_files(32)
NAMES = frozenset(f"customer-{number}" for number in range(5000))


def test_every_export_is_in_exactly_one_file() -> None:
    shares = [names_in(file, NAMES, 32) for file in FILES]
    assert sum(map(len, shares)) == len(NAMES)
    assert set().union(*shares) == NAMES


def test_shares_are_about_equal() -> None:
    sizes = Counter(shard_of(name, FILES) for name in NAMES)
    assert max(sizes.values()) < 210  # of 156 on average


def test_one_more_file_takes_its_share_and_moves_no_other_export() -> None:
    more = shard_files(33)
    moved = {name for name in NAMES if shard_of(name, FILES) != shard_of(name, more)}
    assert {shard_of(name, more) for name in moved} == {"customer_exports_33.py"}
    assert 100 < len(moved) < 210


def test_the_shares_are_those_of_the_copies_that_older_versions_had() -> None:
    """No DAG moves with the upgrade: the names of the files and the draw are as they were."""
    assert FILES[:2] == ["customer_exports.py", "customer_exports_02.py"]
    assert FILES[-1] == "customer_exports_32.py"
    numbers = [shard_of(f"customer-{number}", FILES).removeprefix("customer_exports")[:-3] for number in range(6)]
    assert numbers == ["_18", "_20", "", "_06", "_10", "_20"]


def test_a_file_that_stands_alone_holds_everything_and_a_copy_that_was_left_nothing() -> None:
    assert names_in("customer_exports.py", NAMES, None) == NAMES
    assert names_in("my_own_name.py", NAMES, None) == NAMES
    assert names_in("customer_exports_07.py", NAMES, None) == set()
    assert names_in("customer_exports_07.py", NAMES, 6) == set()


def dags_folder(folder: Path) -> Path:
    dags = folder / "dags"
    (dags / "mine").mkdir(parents=True)
    for name in ("customer_exports.py", "customer_exports_40.py", "own.py", "mine/deep.py"):
        (dags / name).write_text("# as it is in the DAGs folder\n")
    (dags / ".airflowignore").write_text("deep.py")
    (dags / "__pycache__").mkdir()
    return dags


def test_the_folder_holds_shards_and_everything_else_of_the_dags_folder(tmp_path: Path) -> None:
    dags, folder = dags_folder(tmp_path), tmp_path / "storage" / "shards"
    complete(folder, contents(8, dags))
    assert {path.name for path in folder.iterdir()} == {*shard_files(MOST), "own.py", "mine", ".airflowignore"}
    assert "shards=8" in (folder / "customer_exports.py").read_text()
    own, *ours = (folder / ".airflowignore").read_text().split()
    assert (own, len(ours)) == ("deep.py", 2)  # each is tried on each file at every look
    assert (folder / "mine" / "deep.py").samefile(dags / "mine" / "deep.py")


def test_what_came_went_or_was_damaged_is_put_right(tmp_path: Path) -> None:
    dags, folder = dags_folder(tmp_path), tmp_path / "shards"
    complete(folder, contents(8, dags))
    (folder / "__pycache__").mkdir()  # Python's
    assert is_complete(folder, contents(8, dags))
    (dags / "own.py").rename(dags / "new.py")
    (folder / "customer_exports_05.py").unlink()  # as /tmp is cleaned
    (folder / "customer_exports_06.py").write_text("half")
    (folder / "customer_exports_07.py").unlink()
    (folder / "customer_exports_07.py").symlink_to(dags / "customer_exports.py")
    (folder / ".customer_exports_05.py.123").touch()  # of a process that was killed
    assert not is_complete(folder, contents(8, dags))
    complete(folder, contents(8, dags))
    assert is_complete(folder, contents(8, dags))
    fresh = tmp_path / "fresh"
    complete(fresh, contents(8, dags))
    assert {path.name for path in folder.iterdir()} == {path.name for path in fresh.iterdir()} | {"__pycache__"}
    assert all((folder / name).read_text() == (fresh / name).read_text() for name in shard_files(MOST))


def test_a_task_sees_by_names_kinds_and_sizes_what_is_missing_or_damaged(tmp_path: Path) -> None:
    dags, folder = dags_folder(tmp_path), tmp_path / "shards"
    wanted, file = contents(8, dags), folder / "customer_exports_05.py"
    assert not seems_complete(folder, wanted)
    complete(folder, wanted)
    (folder / "__pycache__").mkdir()
    (folder / "acme.yaml.py").touch()  # what no task parses
    assert seems_complete(folder, wanted)
    (dags / "own.py").rename(dags / "new.py")
    assert not seems_complete(folder, contents(8, dags))  # a DAG that came to the DAGs folder
    (dags / "new.py").rename(dags / "own.py")
    file.unlink()  # as /tmp is cleaned
    assert not seems_complete(folder, wanted)
    file.symlink_to(dags / "customer_exports.py")
    assert not seems_complete(folder, wanted)
    file.unlink()
    file.write_text("half")
    assert not seems_complete(folder, wanted)
    complete(folder, wanted)
    assert seems_complete(folder, wanted)
    (folder / "own.py").unlink()
    (folder / "own.py").write_text("# no link\n")
    assert not seems_complete(folder, wanted)


def test_a_read_only_dags_folder_and_a_look_that_costs_milliseconds(tmp_path: Path) -> None:
    dags, folder = dags_folder(tmp_path), tmp_path / "shards"
    dags.chmod(0o555)
    began = time.process_time()
    complete(folder, contents(32, dags))
    made = time.process_time() - began
    assert is_complete(folder, contents(32, dags))
    looked = time.process_time() - began - made
    dags.chmod(0o755)
    assert made < 0.2
    assert looked < 0.05
    assert not list((dags / "__pycache__").iterdir())
