"""500 customer files, 20 of them broken in 20 ways: 480 exports run, and each broken file is named with its fix."""

import os
import socket
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest
from airflow.dag_processing.dagbag import DagBag

from data_export.config import moments as cron
from data_export.config.fields import name_meant
from data_export.config.models import dag_id
from data_export_airflow.bundle import CustomerFilesBundle
from data_export_airflow.dags.factory import INVALID_TAG
from data_export_airflow.dags.shards import shard_files

ROOT = Path(__file__).parents[2]
GOOD = """\
site_id: [{site}]
interval: daily
start_date: 2025-03-16
connector_type: cloud_storage
connector_config:
  storage_uri: gs://bucket/{name}/
  export_images: true
"""


def good(number: int) -> str:
    return GOOD.format(site=UUID(int=number), name=f"customer-{number}")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:  # what not even root can open
        server.bind(os.path.relpath(path))


def _link_outside(path: Path) -> None:
    (path.parents[1] / "outside.yaml").write_text(good(1))
    path.symlink_to("../outside.yaml")


def _laughs(path: Path) -> None:
    path.write_text("a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefgh")))


Break = Callable[[Path], object]
#: Name of the file -> how it is broken, and what its message must hold: line and key, and words of the fix.
BROKEN: dict[str, tuple[Break, str, str]] = {
    "bad-yaml": (lambda p: p.write_text(good(1).replace("[", "[a, [")), ":1: ", "a bracket opens here"),
    "tab": (lambda p: p.write_text(good(1).replace("  storage", "\tstorage")), ":6: ", "indent with spaces"),
    "duplicate-key": (lambda p: p.write_text(good(1) + "interval: weekly\n"), ":8: interval: ", "remove one"),
    "wrong-type": (
        lambda p: p.write_text(good(1).replace("true", "[1]")),
        ":7: connector_config.export_images: ",
        "write one of the two",
    ),
    "unknown-key": (lambda p: p.write_text(good(1) + "time_zone: UTC\n"), ":8: time_zone: ", "did you mean timezone?"),
    "zz-collides": (lambda p: p.write_text(good(7)), ":6: connector_config.storage_uri: ", "change storage_uri"),
    "bad-uuid": (lambda p: p.write_text(good(1).replace("[0", "[x")), ":1: site_id[0]: ", "copy it whole"),
    "nul": (lambda p: p.write_bytes(good(1).encode() + b"\x00"), ":8: ", "control character U+0000"),
    "ten-megabytes": (lambda p: p.write_bytes(b"#" * 10_000_000), ": ", "bigger than 64 KiB"),
    "unreadable": (_socket, ": ", "cannot be read"),
    "link-outside": (_link_outside, ": ", "is a link to a file outside of its folder"),
    "laughs": (_laughs, ":1: a: ", "put the value in quotes"),
    "latin-1": (lambda p: p.write_bytes(good(1).encode() + b"owner: caf\xe9\n"), ":8: ", "save it as UTF-8"),
    "empty": (lambda p: p.touch(), ":1: ", "is empty: begin with a copy"),
    "folder": (lambda p: p.mkdir(), ": ", "is not a regular file"),
    "pipe": (os.mkfifo, ": ", "is not a regular file"),
    "dangling": (lambda p: p.symlink_to("gone.yaml"), ": ", "cannot be read"),
    "long-" + "x" * 60: (lambda p: p.write_text(good(1)), ": ", "rename it to"),
    "bad-cron": (
        lambda p: p.write_text(good(1).replace("daily", "0 25 * * *")),
        ":2: interval: ",
        "its hour '25' is not valid",
    ),
    "missing-key": (lambda p: p.write_text(good(1).replace("interval: daily\n", "")), ":1: interval: ", "add it"),
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The DAG files that share the exports."""
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "storage"))
    bundle = CustomerFilesBundle(name="tests", path=str(ROOT / "dags"), shards=8)
    bundle.initialize()
    return [bundle.path / name for name in shard_files(8)]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet") / "customers"
    folder.mkdir()
    for number in range(2, 482):
        (folder / f"customer-{number}.yaml").write_text(good(number))
    for name, (spoil, _, _) in BROKEN.items():
        spoil(folder / f"{name}.yaml")
    return folder


@pytest.fixture
def fleets_folder(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(fleet))
    return fleet


def test_480_exports_run_and_the_others_keep_their_place(fleets_folder: Path, files: list[Path]) -> None:
    assert len(list(fleets_folder.iterdir())) == 500
    bags = [DagBag(file, bundle_name="tests") for file in files]
    assert [bag.import_errors for bag in bags] == [{}] * len(bags)
    found = [dag for bag in bags for dag in bag.dags.values()]
    dags = {dag.dag_id: dag for dag in found}
    assert len(dags) == len(found), "an export is in two DAG files"
    placeholders = {name for name, dag in dags.items() if INVALID_TAG in dag.tags}
    runs = {dag_id(f"customer-{number}") for number in range(2, 482)}
    collides = dag_id("zz-collides")  # which of the two delivers is for their runs to say
    assert dags.keys() - placeholders == runs | {collides}
    for one, other in (("customer-7", "zz-collides"), ("zz-collides", "customer-7")):
        assert f"{one}.yaml and {other}.yaml would write the same files" in str(dags[dag_id(one)].doc_md)
    meant = {dag_id(str(name_meant(Path(f"{name}.yaml")))): name for name in BROKEN if name != "zz-collides"}
    assert placeholders == meant.keys()
    for placeholder, name in meant.items():
        assert dags[placeholder].timetable.can_be_scheduled is False
        assert BROKEN[name][2] in str(dags[placeholder].doc_md)


def test_each_broken_file_is_named_with_line_key_and_fix(fleets_folder: Path) -> None:
    (message,) = DagBag(ROOT / "dags" / "config_errors.py", bundle_name="tests").import_errors.values()
    lines = message.splitlines()
    for name, (_, place, fix) in BROKEN.items():
        told = [line for line in lines if f"/{name}.yaml{place}" in line]
        assert any(fix in line for line in told), (name, [line for line in lines if name in line])
    assert "customer-2.yaml:" not in message


def test_the_longest_cron_expression_has_a_dag_and_none_is_a_placeholder_in_silence(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's tags have 100 characters, and the interval is one; whatever else a DAG may choke on is told too."""
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    monkeypatch.setattr(cron, "_LONGEST", 101)
    for length in (100, 101):
        minutes = ",".join(["0"] * 46)
        (tmp_path / f"cron-{length}.yaml").write_text(
            good(length).replace("daily", f"'{minutes}{'1' * (length - 99)} * * * *'")
        )
    bags = [DagBag(file, bundle_name="tests") for file in files]
    tags = {name: dag.tags for bag in bags for name, dag in bag.dags.items()}
    assert {name: INVALID_TAG in found for name, found in tags.items()} == {
        dag_id("cron-100"): False,
        dag_id("cron-101"): True,
    }
    errors = DagBag(ROOT / "dags" / "config_errors.py", bundle_name="tests")
    (message,) = errors.import_errors.values()
    assert f"\n{tmp_path}/cron-101.yaml: a fault of the service keeps its DAG from being built" in message
    assert "cron-100" not in message
    assert errors.dags == {}
