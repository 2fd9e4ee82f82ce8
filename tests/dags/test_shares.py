"""How the DAG files share the exports: each is in exactly one, and an added file moves no more than it must."""

from collections import Counter
from pathlib import Path

from data_export_airflow.dags.shards import held, holder, share_files

DAGS = Path(__file__).parents[2] / "dags"
NAMES = frozenset(f"customer-{number}" for number in range(5000))


def test_every_export_is_in_exactly_one_file() -> None:
    files = share_files(DAGS)
    assert len(files) == 32
    shares = [held(DAGS / file, NAMES) for file in files]
    assert sum(map(len, shares)) == len(NAMES)
    assert set().union(*shares) == NAMES


def test_shares_are_about_equal() -> None:
    files = share_files(DAGS)
    sizes = Counter(holder(name, files) for name in NAMES)
    assert max(sizes.values()) < 210  # of 156 on average


def test_one_more_file_takes_its_share_and_moves_no_other_export() -> None:
    files = share_files(DAGS)
    more = [*files, "customer_exports_33.py"]
    moved = {name for name in NAMES if holder(name, files) != holder(name, more)}
    assert {holder(name, more) for name in moved} == {"customer_exports_33.py"}
    assert 100 < len(moved) < 210


def test_a_file_that_stands_alone_holds_everything(tmp_path: Path) -> None:
    (tmp_path / "customer_exports.py").touch()
    assert held(tmp_path / "customer_exports.py", NAMES) == NAMES


def test_all_files_are_the_same_but_for_their_docstring() -> None:
    code = {(DAGS / file).read_text().partition('"""\n\n')[2] for file in share_files(DAGS)}
    assert len(code) == 1
