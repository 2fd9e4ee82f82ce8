"""A folder of customer files: nothing in it hides anything else, and nothing makes the loader fail."""

import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_export.config import load
from data_export.config.folder import file_of
from data_export.config.load import load_customer, load_customers, load_named
from data_export.config.models import dag_id, name_of
from data_export.config.problems.problems import BrokenFile
from data_export.config.reading.file_text import read_text
from data_export.config.reading.yaml_lines import read_document
from data_export.config.validate import check_files
from data_export.errors import ConfigError
from tests.customers import GOOD


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good file, `good.yaml`."""
    folder = tmp_path / "customers"
    folder.mkdir()
    (folder / "good.yaml").write_text(GOOD % "good")
    return folder


def other_thing(folder: Path, kind: str) -> Iterator[str]:
    """Puts something that is no customer file into the folder and yields words of its problem."""
    thing = folder / "thing.yaml"
    if kind == "folder":
        thing.mkdir()
        yield "is not a regular file"
    elif kind == "named pipe":
        os.mkfifo(thing)
        yield "is not a regular file"
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(thing))  # an absolute path could be longer than a socket's name may be
            yield "cannot be read"
    elif kind == "dangling link":
        thing.symlink_to(folder / "gone")
        yield "cannot be read now (No such file or directory): fix or remove it if that does not pass"
    elif kind == "endless link":
        thing.symlink_to(thing)
        yield "cannot be read (Too many levels of symbolic links)"
    elif kind == "link to outside":
        outside = folder.parent / "outside"
        outside.write_text(GOOD % "outside")
        thing.symlink_to(outside)
        yield "is a link to a file outside of its folder"
    elif kind == "link to a sibling of the same beginning":
        outside = folder.parent / "customers-old"
        outside.write_text(GOOD % "outside")
        thing.symlink_to(outside)
        yield "is a link to a file outside of its folder"
    elif kind == "device":
        thing.symlink_to("/dev/zero")
        yield "is a link to a file outside of its folder"
    elif kind == "name that is not text":
        (folder / os.fsdecode(b"\xff\xfe\n.yaml")).write_text(GOOD % "x")
        yield "rename it to customer-name.yaml"


@pytest.mark.parametrize(
    "kind",
    [
        "folder",
        "named pipe",
        "socket",
        "dangling link",
        "endless link",
        "link to outside",
        "link to a sibling of the same beginning",
        "device",
        "name that is not text",
    ],
)
def test_a_strange_thing_is_reported_and_hides_nothing(kind: str, folder: Path) -> None:
    for words in other_thing(folder, kind):
        loaded = load_customers(folder)
        assert list(loaded.exports) == ["good"]
        (problem,) = loaded.problems
        assert words in problem.message
        assert problem.is_error
        str(problem).encode()  # printable on any terminal


def test_a_folder_in_place_of_a_file_is_not_left_open(folder: Path) -> None:
    (folder / "thing.yaml").mkdir()
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(9):
        with pytest.raises(BrokenFile, match="is not a regular file"):
            read_text(folder / "thing.yaml")
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_links_within_the_folder_are_read_as_a_config_map_mounts_them(folder: Path) -> None:
    data = folder / "..2025_03_16"
    data.mkdir()
    (data / "acme.yaml").write_text(GOOD % "acme")
    (folder / "..data").symlink_to(data.name)
    (folder / "acme.yaml").symlink_to("..data/acme.yaml")
    loaded = load_customers(folder)
    assert list(loaded.exports) == ["acme", "good"]
    assert loaded.problems == ()


def test_other_files_are_left_alone(folder: Path) -> None:
    for name in ("README.md", ".gitkeep", ".acme.yaml.swp", ".hidden.yaml", "acme.yaml~", "acme.yaml.bak"):
        (folder / name).write_bytes(b"\x00 not yaml: [")
    (folder / "old").mkdir()
    assert load_customers(folder).problems == ()


def test_a_broken_file_is_an_exports_whatever_its_name_is(folder: Path) -> None:
    """A file that is renamed must not take its export away unnoticed."""
    (folder / "acme.yaml").write_text("x")
    (folder / "Zebra_1.yaml").write_text("x")
    (folder / "acme2.yml").write_text("x")
    (folder / "-.yaml").write_text("x")
    assert [problem.name for problem in load_customers(folder).problems] == [None, "zebra-1", "acme", "acme2"]
    assert [file_of(name, folder).name for name in ("acme", "zebra-1", "no")] == [
        "acme.yaml",
        "Zebra_1.yaml",
        "no.yaml",
    ]


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_cannot_be_listed_is_a_problem_with_its_fix(there: bool, tmp_path: Path) -> None:
    place = tmp_path / "customers"
    if there:
        place.write_text("a file")
    loaded = load_customers(place)
    assert loaded.exports == {}
    assert "set DATA_EXPORT_CUSTOMERS_DIR" in str(loaded.problems[0])


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES, errno.ENOENT])
@pytest.mark.parametrize("age", [0, 86400])
def test_a_folder_that_cannot_be_listed_now_keeps_the_exports_that_it_had(
    number: int, age: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow would hide the DAGs of all customers until the disk answers."""
    (folder / "broken.yaml").write_text("[")
    for file in folder.iterdir():
        os.utime(file, (file.stat().st_mtime - age,) * 2)
    before = load_customers(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", Mock(side_effect=OSError(number, os.strerror(number))))
        for _ in range(2):
            loaded = load_customers(folder)
            assert loaded.exports == before.exports
            assert [*loaded.exports] == ["good"]
            folders, *others = loaded.problems
            assert folders.path == folder
            assert f"cannot be listed ({os.strerror(number)})" in folders.message
            assert tuple(others) == before.problems
        assert load_customers(folder.parent / "other").exports == {}
    assert load_customers(folder) == before


def test_an_empty_folder_is_fine(tmp_path: Path) -> None:
    assert load_customers(tmp_path) == load.Loaded({}, ())


def test_a_fault_of_ours_over_one_file_hides_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "acme.yaml").write_text(GOOD % "acme")

    def faulty(path: Path) -> object:
        if path.stem == "acme":
            raise RecursionError
        return read_document(path)

    monkeypatch.setattr(load, "read_document", faulty)
    loaded = load_customers(folder)
    assert list(loaded.exports) == ["good"]
    assert "a fault of the service (RecursionError): report it" in str(loaded.problems[0])


def test_the_folder_is_moved_by_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(folder))
    assert list(load_customers().exports) == ["good"]
    assert load_named("good") == load_customer(folder / "good.yaml")


def test_one_dag_reads_one_file(folder: Path) -> None:
    os.mkfifo(folder / "a.yaml")
    (folder / "acme-eu.yaml").write_text(GOOD % "acme")
    loaded = load_customers(folder, only_dag_id="data_export__acme_eu")
    assert list(loaded.exports) == ["acme-eu"]
    assert loaded.problems == ()
    assert load_customers(folder, only_dag_id="another_dag") == load.Loaded({}, ())
    assert load_customers(folder, only_dag_id="data_export__../x") == load.Loaded({}, ())


def test_given_files_and_folders_are_read_wherever_they_are(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(GOOD % "other")
    loaded = check_files([folder, tmp_path / "other.yaml", tmp_path / "gone" / "x.yaml", tmp_path / ".hidden.yaml"])
    assert loaded.right == {folder / "good.yaml", tmp_path / "other.yaml"}
    assert [problem.path.name for problem in loaded.problems] == [".hidden.yaml", "x.yaml"]


def test_files_of_one_name_in_two_folders_are_two_and_a_file_given_twice_is_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for place, text in ((folder, GOOD % "acme"), (other, GOOD % "acme"), (folder, "nonsense")):
        (place / ("acme.yaml" if "site_id" in text else "broken.yaml")).write_text(text)
    monkeypatch.chdir(folder)
    again = [Path("acme.yaml"), Path("./acme.yaml"), Path("../customers/acme.yaml"), folder / "acme.yaml"]
    assert len(check_files([*again, other / "acme.yaml"]).right) == 2
    (folder / ".hidden.yaml").write_text("nonsense")  # which is told only where it is named
    assert len(check_files([folder, folder / ".hidden.yaml"]).problems) == 2
    (folder / "loop.yaml").symlink_to(folder / "loop.yaml")
    assert "cannot be read" in check_files([folder / "loop.yaml"]).problems[0].message
    (folder / "loop.yaml").unlink()
    for paths in ([folder, folder / "broken.yaml"], [Path("broken.yaml"), folder], [Path()], [Path(), folder]):
        checked = check_files(paths)
        assert (len(checked.right), len(checked.problems)) == (2, 1), paths


@pytest.mark.parametrize("given", ["acme.yaml", "beta.yaml"])
def test_of_the_files_beside_a_given_one_only_those_it_collides_with_are_told(given: str, folder: Path) -> None:
    (folder / "acme.yaml").write_text(GOOD % "same")
    (folder / "beta.yaml").write_text(GOOD % "same")
    (folder / "broken.yaml").write_text("nonsense")
    loaded = check_files([folder / given])
    (problem,) = loaded.problems
    assert problem.path.name == given
    assert "acme.yaml" in problem.message
    assert "beta.yaml" in problem.message
    assert loaded.right == frozenset(), "what collides is not right"
    assert check_files([folder / "good.yaml"]).problems == ()


def test_a_draft_is_compared_with_the_folder_it_is_meant_for(folder: Path, tmp_path: Path) -> None:
    draft = tmp_path / "zeta.yaml"
    draft.write_text(GOOD % "good")
    assert check_files([draft]).problems == ()
    (problem,) = check_files([draft], beside=folder).problems
    assert "zeta.yaml and good.yaml would write the same files" in problem.message


@pytest.mark.parametrize("name", ["../good", "", "good.yaml", "/etc/passwd", "a\x00b", "Good"])
def test_no_name_leads_out_of_the_folder(name: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not the name of a customer file.*: write its name alone"):
        load_named(name, folder / "sub")


def test_a_name_that_is_not_there(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"no export gone: correct the name, or put its file back: .*/gone\.yaml"):
        load_named("gone", folder)
    with pytest.raises(ConfigError, match=r"there is no export goood \(did you mean good\?\)") as raised:
        load_named("goood", folder)
    assert not isinstance(raised.value, BrokenFile), "nothing is broken: the word would mislead"


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True))
def test_every_name_has_a_dag_id_of_its_own(name: str) -> None:
    assert name_of(dag_id(name)) == name


def test_local_targets_need_the_platforms_leave(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "local.yaml").write_text(GOOD.replace("gs://bucket/%s", "file:///srv/x"))
    assert list(load_customers(folder).exports) == ["good"]
    monkeypatch.setenv("DATA_EXPORT_TARGETS__ALLOW_LOCAL", "true")
    assert list(load_customers(folder).exports) == ["good", "local"]
    monkeypatch.setenv("DATA_EXPORT_PLATFORM_FILE", str(folder / "gone"))
    assert "the platform's settings cannot be read" in str(load_customers(folder).problems[0])


# --- whatever lies in the folder -----------------------------------------------------------------------------------

KEYS = ["site_id", "interval", "start_date", "end_date", "timezone", "connector_type", "connector_config", "owner"]
SCALARS = st.one_of(
    st.sampled_from(
        ["sftp", "email", "cloud_storage", "once", "daily", "2025-03-16", "gs://b/x", "~", "*a", "&a", "!a"]
    ),
    st.text(max_size=12),
    st.integers(),
    st.none(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def never_raises(folder: Path, data: bytes) -> None:
    (folder / "fuzz.yaml").write_bytes(data)
    loaded = load_customers(folder)
    assert "good" in loaded.exports
    assert ("fuzz" in loaded.exports) or loaded.problems
    for problem in loaded.problems:
        assert "fault of the service" not in problem.message
        assert str(problem).isprintable()


@SETTINGS
@given(st.binary(max_size=200))
def test_any_bytes(folder: Path, data: bytes) -> None:
    never_raises(folder, data)


@SETTINGS
@given(st.text(alphabet="ab:-[]{}&*!|>'\"%@`#,?~ \n\t\\<=0é\u2028\ufeff", max_size=60))
def test_any_yaml_like_text(folder: Path, text: str) -> None:
    never_raises(folder, text.encode())


@SETTINGS
@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_any_values_under_known_keys(folder: Path, values: dict[str, object]) -> None:
    never_raises(folder, json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@SETTINGS
@given(st.data())
def test_any_damage_to_a_good_file(folder: Path, data: st.DataObject) -> None:
    raw = bytearray((GOOD % "fuzz").encode())
    start = data.draw(st.integers(0, len(raw)))
    raw[start : start + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=8))
    never_raises(folder, bytes(raw))


@pytest.mark.parametrize("name", ["acme.yaml.txt", "acme.YML.txt", "acme.json"])
def test_what_looks_like_a_customer_file_and_is_not_read_is_said(tmp_path: Path, name: str) -> None:
    for each in (name, "README.txt", ".acme.json", "acme.yaml~", "acme.yaml.bak"):
        (tmp_path / each).write_text("site_id: []\n")
    (problem,) = check_files([tmp_path]).problems
    assert (problem.path.name, problem.is_error) == (name, False)
    assert "rename it" in str(problem)
