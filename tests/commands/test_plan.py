"""`plan` on a real git repository, with and without a source."""

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from data_export_airflow.commands.cli import main
from tests.unit.source_kit import SITE, SourceDatabase

CLOUD = f"""\
site_id: [{SITE}]
interval: daily
start_date: 2990-01-01
connector_type: cloud_storage
connector_config: {{storage_uri: "gs://bucket/%s", export_images: true}}
"""
SECRET = "canary-password"
NOWHERE = f"postgres://us:{SECRET}@127.0.0.1:1/source"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The customers folder of a repository whose only commit has `same`, `edited` and `gone`."""
    folder = tmp_path / "repository" / "include" / "customers"
    folder.mkdir(parents=True)
    for name in ("same", "edited", "gone"):
        (folder / f"{name}.yaml").write_text(CLOUD % name)
    git(tmp_path / "repository", "init", "--quiet")
    commit(folder)
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(folder))
    monkeypatch.setenv("AIRFLOW_CONN_EXPORT_SOURCE", NOWHERE)
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True)


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "--quiet", "--message", "x")


def planned(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert main(["plan", "--json", *arguments]) == code
    return json.loads(capsys.readouterr().out)


def test_the_first_commit_of_a_repository_may_be_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "-q", "--allow-empty", "-m", "x")
    (tmp_path / "new.yaml").write_text(CLOUD % "new")
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    assert [each["change"] for each in planned(capsys, "--no-source")["exports"]] == ["added"]


def test_added_changed_and_removed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "gone.yaml").unlink()
    (folder / "edited.yaml").write_text(CLOUD % "elsewhere")
    (folder / "new.yaml").write_text(CLOUD % "new")
    plan = planned(capsys, "--no-source")
    assert [(each["name"], each["change"]) for each in plan["exports"]] == [
        ("edited", "changed"),
        ("gone", "removed"),
        ("new", "added"),
    ]
    assert plan["unchanged"] == 1
    edited, gone, new = plan["exports"]
    assert edited["keys"] == [
        {"key": "connector_config.storage_uri", "before": "gs://bucket/edited/", "after": "gs://bucket/elsewhere/"}
    ]
    assert gone["runs"] == []
    assert new["dag_id"] == "data_export__new"
    assert new["runs"][0] == {
        "start": "2990-01-01T00:00:00+00:00",
        "end": "2990-01-02T00:00:00+00:00",
        "run_after": "2990-01-02T00:05:00+00:00",
    }
    assert len(new["runs"]) == 3
    stamp = "2990-01-01_00:00:00_2990-01-02_00:00:00"
    assert new["objects"]["data"] == f"gs://bucket/new/{SITE}/data/work-orders-timeline/{stamp}.json"
    assert new["limits"]["max_window_days"]["value"] == "400"


def test_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "new.yaml").write_text(CLOUD % "new")
    assert main(["plan"]) == 0
    out = capsys.readouterr().out
    assert "1 added, 3 unchanged" in out.splitlines()[0]
    assert "+ new: added" in out
    assert "2990-01-01 00:00:00 to 2990-01-02 00:00:00  2990-01-02 00:05:00" in out
    assert "not everything was counted at the source: source: " in out  # it is not there, which is no failure
    assert SECRET not in out


PAST = (CLOUD % "new").replace("2990-01-01", "2025-03-16")
ENDED = PAST + "end_date: 2025-03-20\n"
ONCE = ENDED.replace("daily", "once")


@pytest.mark.parametrize(
    ("before", "after", "said", "runs"),
    [
        (None, ENDED, "no run is due: end_date 2025-03-20 is past; windows that are to be delivered are a backfill", 0),
        (PAST, ENDED, "no run is due: end_date 2025-03-20 is past", 0),
        (None, ENDED + "enabled: false\n", "no run is due: enabled is false", 0),
        (ENDED + "enabled: false\n", ENDED, "no run is due: end_date 2025-03-20 is past", 0),
        (ONCE, ONCE + "owner: bi@customer.example\n", "no run is due: interval once runs only an export that never", 0),
        (ENDED, ONCE, "no run is due: interval once runs only an export that never ran: trigger it by hand", 0),
        (None, ONCE, None, 1),
        (None, PAST, "windows from 2025-03-16 up to the first below are history: backfill them", 3),
        (None, CLOUD % "new", None, 3),
    ],
)
def test_which_windows_are_nobodys_to_run(
    folder: Path, capsys: pytest.CaptureFixture[str], before: str | None, after: str, said: str | None, runs: int
) -> None:
    if before:
        (folder / "new.yaml").write_text(before)
        commit(folder)
    (folder / "new.yaml").write_text(after)
    assert main(["plan", "--no-source"]) == 0
    out = capsys.readouterr().out
    (new,) = planned(capsys, "--no-source")["exports"]
    assert len(new["runs"]) == runs
    assert ("below" in out) is (runs > 0 and said is not None)
    assert out.count("no run is due") == (runs == 0)
    if said is None:
        assert new["note"] is None
    else:
        assert new["note"].startswith(said)
        assert f"    {said}" in out


def test_nothing_changed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 0
    assert capsys.readouterr().out.endswith("3 unchanged\n")


def test_a_python_before_3_11_4_has_no_filters_of_archives(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    extract = tarfile.TarFile.extractall
    monkeypatch.delattr(tarfile, "tar_filter", raising=False)
    monkeypatch.setattr(tarfile.TarFile, "extractall", lambda tar, path, members=None: extract(tar, path, members))
    assert main(["plan"]) == 0
    assert capsys.readouterr().out.endswith("3 unchanged\n")


def test_against_another_revision(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git(folder, "branch", "earlier")
    (folder / "new.yaml").write_text(CLOUD % "new")
    commit(folder)
    assert planned(capsys, "--no-source")["exports"] == []
    assert [each["name"] for each in planned(capsys, "--no-source", "--since", "earlier")["exports"]] == ["new"]


@pytest.mark.parametrize("of", ["the repository", "a folder of it"])
def test_only_the_files_that_lie_directly_in_the_folder_count(
    of: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if of == "the repository":
        folder = folder.parents[1]
        monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(folder))
        (folder / "same.yaml").write_text(CLOUD % "same")
    (folder / "older").mkdir()
    (folder / "older" / "same.yaml").write_text("not: this one")
    commit(folder)
    plan = planned(capsys, "--no-source")
    assert (plan["exports"], plan["unchanged"]) == ([], 1 if of == "the repository" else 3)


def test_within_a_hook_of_git(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", ".git")
    monkeypatch.setenv("GIT_INDEX_FILE", ".git/index")
    assert planned(capsys, "--no-source")["unchanged"] == 3


def test_before_the_folder_was_there(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = folder.parent / "others"
    other.mkdir()
    (other / "new.yaml").write_text(CLOUD % "new")
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(other))
    assert [each["change"] for each in planned(capsys, "--no-source")["exports"]] == ["added"]


def test_a_broken_file_fails_the_plan_and_hides_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "edited.yaml").write_text((CLOUD % "edited").replace("daily", "dayly"))
    (folder / "new.yaml").write_text(CLOUD % "new")
    broken, new = planned(capsys, "--no-source", code=1)["exports"]
    assert (broken["change"], broken["problems"][0]["line"]) == ("broken", 2)
    assert new["change"] == "added"


def test_what_a_limit_will_refuse_fails_the_plan(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_LIMITS__MAX_WINDOW_DAYS", "300")
    (folder / "new.yaml").write_text((CLOUD % "new").replace("daily", '"0 0 1 1,2 *"'))
    (new,) = planned(capsys, "--no-source", code=1)["exports"]
    assert "limits.max_window_days = 300" in new["refusals"][0]


@pytest.mark.parametrize("revision", ["no-such", "--all", "HEAD:include"])
def test_a_revision_that_is_none(folder: Path, capsys: pytest.CaptureFixture[str], revision: str) -> None:
    assert main(["plan", f"--since={revision}"]) == 1
    assert f"there is no revision '{revision}': name a branch, tag or commit" in capsys.readouterr().err


def test_a_folder_outside_of_git(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    assert main(["plan"]) == 1
    said = capsys.readouterr().err
    assert "not a git repository" in said
    assert said.endswith(": put the folder under git, or set DATA_EXPORT_CUSTOMERS_DIR to one that is\n")


def test_a_link_that_leads_out_of_the_folder_is_not_followed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "link.yaml").symlink_to("/etc/hostname")
    (folder / "inner.yaml").symlink_to("same.yaml")
    commit(folder)
    found = planned(capsys, "--no-source", code=1)["exports"]
    assert [(each["name"], each["change"]) for each in found] == [
        (name, "broken") for name in ("inner", "link", "same")
    ]


def test_the_source_tells_how_much_a_window_holds(
    folder: Path, one_order: SourceDatabase, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EXPORT_SOURCE", one_order.dsn)
    text = (CLOUD % "new").replace("daily", "once\nend_date: 2025-04-01").replace("2990-01-01", "2025-03-01")
    (folder / "new.yaml").write_text(text)
    plan = planned(capsys)
    assert plan["source"] is None
    estimate = plan["exports"][0]["estimate_per_window"]
    assert (estimate["work_orders"], estimate["images"], estimate["share"]) == (1, 1, 1)
    assert main(["plan"]) == 0
    assert "1 work orders and 1 images a window" in capsys.readouterr().out


def test_the_name_of_a_file_reaches_no_terminal_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "edited\x1b]0;x\x07.YML").write_text("x")
    (folder / "\u202e.yaml").write_text("x")
    assert main(["plan", "--no-source"]) == 1
    said = capsys.readouterr().out
    assert "\\u202e.yaml: broken" in said
    assert not {"\x1b", "\x07", "\u202e"} & {*said}
