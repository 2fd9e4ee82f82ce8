"""`files` and `verify`: what receipts say was delivered, and what is at the target."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from sqlalchemy import delete, select, update

from data_export.layout import data_key
from data_export.pipeline.audit import audit
from data_export.window import ExportWindow
from data_export_airflow.alerting.callbacks import AUDIT_DAG
from data_export_airflow.commands.cli import main
from data_export_airflow.execution import auditing
from data_export_airflow.metadata import receipts
from tests.page.conftest import _tables, db, history
from tests.page.history import SITE, History

__all__ = ["_tables", "db", "history"]
DAY = timedelta(days=1)
FIRST = datetime(2025, 3, 16, tzinfo=UTC)
WINDOW = ExportWindow(FIRST, FIRST + DAY)
FILE = f"""\
site_id: [{SITE}]
interval: daily
start_date: 2025-03-01
end_date: 2025-04-01
connector_type: cloud_storage
connector_config: {{storage_uri: "file://%s/", export_images: false}}
"""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATA_EXPORT_TARGETS__ALLOW_LOCAL", "true")
    return tmp_path / "target"


@pytest.fixture
def acme(history: History, target: Path) -> str:
    (history.customers / "acme.yaml").write_text(FILE % target)
    history.parse()
    return "data_export__acme"


def deliver(history: History, dag: str, target: Path, start: datetime, end: datetime, data: bytes, **run: Any) -> Path:
    """A file at the target, and the run and receipt that brought it."""
    path = target / data_key(SITE, "work-orders-timeline", ExportWindow(start, end))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    site = {"uri": f"file://{path}", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    history.run(dag, start, end, orders=2, sums=site, **run)
    return path


def listed(capsys: pytest.CaptureFixture[str], *arguments: str, command: str = "files", code: int = 0) -> Any:
    assert main([command, "acme", "--json", *arguments]) == code
    return json.loads(capsys.readouterr().out)


def test_the_newest_receipt_of_each_window_is_listed(
    history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for days in range(12):
        deliver(history, acme, target, FIRST + days * DAY, FIRST + (days + 1) * DAY, b"1\n" * days)
    again = {"run_id": "manual", "run_type": "manual", "logical_date": None, "began": FIRST + 100 * DAY}
    deliver(history, acme, target, FIRST + 11 * DAY, FIRST + 12 * DAY, b"again", **again)
    found = listed(capsys)
    assert [file["start"][:10] for file in found] == [str((FIRST + days * DAY).date()) for days in range(2, 12)]
    assert (found[-1]["bytes"], found[-1]["sha256"]) == (5, hashlib.sha256(b"again").hexdigest())
    assert len(listed(capsys, "--from", "2025-03-16", "--to", "2025-03-19")) == 3
    assert [file["start"][:10] for file in listed(capsys, "--window", "2025-03-20T12:00")] == ["2025-03-20"]
    assert listed(capsys, "--window", "2025-01-01") == []


def test_files_in_columns(history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = deliver(history, acme, target, FIRST, FIRST + DAY, b"1\n")
    assert main(["files", "acme"]) == 0
    head, row, last = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["WINDOW", "(UTC)"]
    assert row.startswith("2025-03-16 00:00 to 2025-03-17 00:00")
    assert row.endswith(f"{hashlib.sha256(b'1' + chr(10).encode()).hexdigest()}  file://{path}")
    assert last == "1 file of 1 window"


def test_of_a_kept_file_that_cannot_be_read_no_number_is_shown(
    history: History, acme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    history.run(acme, FIRST, FIRST + DAY, sums={"work_orders": None, "outcome": "kept"})
    assert listed(capsys)[0]["work_orders"] is None
    assert main(["files", "acme"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[5:9] == ["-", "7,000", "kept", "ab" * 32]


def test_verify_says_what_is_missing_and_how_to_deliver_it_again(
    history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, longer, _ = (
        deliver(history, acme, target, FIRST + days * DAY, FIRST + (days + 1) * DAY, b"1\n") for days in range(3)
    )
    whole = ("--from", "2025-03-16", "--to", "2025-03-19")
    assert [file["found"] for file in listed(capsys, *whole, command="verify")] == ["ok", "ok", "ok"]
    gone.unlink()
    longer.write_bytes(b"longer")
    assert main(["verify", "acme", *whole]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[-2:] == ["missing", f"file://{gone}"]
    assert f"file://{longer}: 6 B (6 bytes), not 2 B (2)" in lines[2]
    assert lines[3] == "3 files: 1 missing, 1 other size, 1 ok"
    assert lines[4].endswith("backfill acme --from DATE --to DATE --reprocess completed")
    found = listed(capsys, *whole, command="verify", code=1)
    assert [file["found"] for file in found] == ["missing", "other size", "ok"]
    assert not gone.exists()  # it reads only


@pytest.mark.parametrize("command", ["files", "verify"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody", "--from", "2025-03-16", "--to", "2025-03-17"], "Airflow knows no export 'nobody': correct"),
        (["acne", "--from", "2025-03-16", "--to", "2025-03-17"], "'acne' (did you mean acme?): correct"),
        (["acme", "--from", "16.3.2025", "--to", "2025-03-17"], "'16.3.2025' is not a date"),
    ],
)
def test_a_name_or_date_that_is_none(
    history: History, acme: str, command: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, *arguments]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", ["files", "verify"])
def test_a_range_that_ends_before_it_begins(command: str, acme: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "acme", "--from", "2025-03-20", "--to", "2025-03-16"]) == 1
    assert "--to 2025-03-16 is not after --from 2025-03-20: give a later end" in capsys.readouterr().err


def test_an_audit_since_a_day_to_come(acme: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "acme", "--since", "2999-01-01"]) == 1
    assert "--since 2999-01-01 is in the future: give an earlier date" in capsys.readouterr().err


def test_a_file_whose_dag_is_not_there_yet(acme: str, history: History, capsys: pytest.CaptureFixture[str]) -> None:
    (history.customers / "beta.yaml").write_text(FILE % "/elsewhere")
    for name, said in (
        ("beta", "beta: Airflow has no DAG data_export__beta yet: it comes within half a minute"),
        ("data_export__acme", "Airflow knows no export 'data_export__acme' (did you mean acme?): correct the name"),
    ):
        assert main(["files", name]) == main(["status", name]) == 1
        assert capsys.readouterr().err.count(said) == 2


def test_nothing_to_verify_is_said_and_is_no_success(
    history: History, acme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "acme", "--from", "2025-03-16", "--to", "2025-03-17"]) == 1
    assert "nothing of acme was delivered in that range" in capsys.readouterr().err
    assert listed(capsys, "--from", "2025-03-16", "--to", "2025-03-17", command="verify", code=1) == []
    assert main(["files", "acme"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 files of 0 windows"


def test_of_one_window_one_receipt_is_read(
    history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receipt may list a thousand sites, and a year has thousands of receipts."""
    read: list[int] = []
    given = receipts.receipts
    monkeypatch.setattr(receipts, "receipts", lambda session, ids: given(session, read.extend(ids) or ids))
    for days in range(3):
        deliver(history, acme, target, FIRST + days * DAY, FIRST + (days + 1) * DAY, b"1\n")
    (file,) = listed(capsys, "--window", "2025-03-17")
    assert (file["start"][:10], len(read)) == ("2025-03-17", 1)


def test_verify_says_what_the_last_audit_found(
    history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which has looked at images, receipts and manifests too."""
    deliver(history, acme, target, FIRST, FIRST + DAY, b"1\n")
    run = history.run(AUDIT_DAG, FIRST, FIRST, "running", run_type="manual", logical_date=None, began=FIRST)
    history.result(run, "audit", "acme", {"at": FIRST.isoformat(), "damaged": 2, "repairs": 0}, state="success")
    history.session.commit()
    assert main(["verify", "acme", "--from", "2025-03-16", "--to", "2025-03-17"]) == 0
    said = "the audit of 2025-03-16 found 2 missing or damaged"
    assert capsys.readouterr().out.splitlines() == ["1 file: 1 ok", said]


def test_mailed_links_have_no_target(
    history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(history, acme, target, FIRST, FIRST + DAY, b"1\n")
    mailed = FILE.partition("connector_type")[0] + "connector_type: email\nconnector_config: {emails: [a@b.example]}\n"
    (history.customers / "acme.yaml").write_text(mailed)
    assert main(["verify", "acme", "--from", "2025-03-16", "--to", "2025-03-17"]) == 1
    assert "there is no target to verify" in capsys.readouterr().err


SINCE = ("--since", "2025-03-01")


def test_an_audit_says_what_is_damaged_and_has_it_run_again(
    history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, changed, _ = (
        deliver(history, acme, target, FIRST + days * DAY, FIRST + (days + 1) * DAY, b"1\n") for days in range(3)
    )
    for run in history.session.scalars(select(DagRun)).all():
        history.result(run, "close", "receipt", None, -1, "success")  # a run without tasks has nothing to clear
    history.session.commit()
    clean = listed(capsys, *SINCE, command="audit")
    assert (clean["objects"], clean["damaged"], clean["read"]) == (3, 0, 3)  # all were written after 2025
    gone.unlink()
    changed.write_bytes(b"2\n")
    assert main(["audit", "acme", *SINCE]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith(f"missing        file://{gone}")
    assert lines[2].startswith("2025-03-17 00:00 to 2025-03-18 00:00  data  other content")
    assert lines[3:] == ["3 objects, 2 damaged; read 2, 0 images", "to deliver 2 windows again: add --repair"]
    found = listed(capsys, *SINCE, "--repair", command="audit", code=1)
    assert (found["damaged"], found["repairs"]) == (2, 2)
    history.session.expire_all()
    states = {run.logical_date: run.state for run in history.session.scalars(select(DagRun))}
    assert [states[FIRST + days * DAY] for days in range(3)] == ["queued", "queued", "success"]
    # They are not over, so what they deliver is in no receipt yet.
    found = listed(capsys, *SINCE, "--repair", command="audit")
    assert (found["damaged"], found["under_way"], found["repairs"]) == (0, 2, 0)
    assert not gone.exists()  # it reads only


def test_a_forgotten_run_is_made_anew_for_its_range(
    history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(history, acme, target, FIRST, FIRST + DAY, b"1\n").unlink()
    history.session.execute(delete(DagRun))
    history.session.commit()
    found = listed(capsys, *SINCE, "--repair", command="audit", code=1)
    assert found["repairs"] == 1
    (run,) = history.session.scalars(select(DagRun))
    assert (run.run_id, run.conf["from"]) == ("audit__2025-03-16_00:00:00_2025-03-17_00:00:00", FIRST.isoformat())


@pytest.mark.parametrize(("interval", "made"), [("daily", "manual__one"), ("weekly", f"audit__{WINDOW.stamp}")])
def test_a_run_that_would_be_of_another_window_by_now_is_not_cleared(
    interval: str, made: str, history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand: dict[str, Any] = {"run_id": "manual__one", "run_type": "manual", "logical_date": None}
    deliver(history, acme, target, FIRST, FIRST + DAY, b"1\n", **by_hand).unlink()
    (run,) = history.session.scalars(select(DagRun))
    run.run_after += timedelta(hours=1)
    history.result(run, "close", "receipt", None, -1, "success")
    file = history.customers / "acme.yaml"
    file.write_text(file.read_text().replace("daily", interval))
    found = listed(capsys, *SINCE, "--repair", command="audit", code=1)
    assert found["repairs"] == 1
    history.session.expire_all()
    runs = {run.run_id: run for run in history.session.scalars(select(DagRun))}
    assert [run.run_id for run in runs.values() if run.state == "queued"] == [made]
    bounds = {"from": FIRST.isoformat(), "to": (FIRST + DAY).isoformat()}
    assert runs[made].conf == ({} if made == "manual__one" else bounds)


def test_a_backfills_run_is_left_as_it_is_and_the_window_has_a_new_one(
    history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a cancelled backfill Airflow starts no run any more: it would be under way for ever."""
    deliver(history, acme, target, FIRST, FIRST + DAY, b"1\n", run_type="backfill", run_id="backfill__1").unlink()
    assert listed(capsys, *SINCE, "--repair", command="audit", code=1)["repairs"] == 1
    history.session.expire_all()
    states = {run.run_id: run.state for run in history.session.scalars(select(DagRun))}
    assert states == {"backfill__1": "success", f"audit__{WINDOW.stamp}": "queued"}


@pytest.mark.parametrize(
    ("key", "line"), [("end_date", "end_date: 2025-03-16T12:00:00"), ("start_date", "start_date: 2025-03-16T12:00:00")]
)
def test_a_window_that_the_customer_file_allows_no_longer_is_not_run_again(
    key: str, line: str, history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its run would fail at once, at each audit anew."""
    deliver(history, acme, target, FIRST, FIRST + DAY, b"1\n").unlink()
    file = history.customers / "acme.yaml"
    kept = [each for each in file.read_text().splitlines() if not each.startswith(key)]
    file.write_text("\n".join([*kept, line]) + "\n")
    found = listed(capsys, *SINCE, "--repair", command="audit", code=1)
    assert (found["repairs"], len(found["findings"])) == (0, 1)
    assert f"the export's {key}" in found["findings"][0]["fix"]
    assert history.session.scalars(select(DagRun).where(DagRun._state == "queued")).all() == []


@pytest.mark.parametrize(("days", "under_way"), [(1, 1), (2, 0)])
def test_what_a_run_by_hand_is_delivering_is_no_finding(
    days: int, under_way: int, history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(history, acme, target, FIRST, FIRST + DAY, b"1\n").write_bytes(b"newer\n")
    conf = {"from": FIRST.isoformat(), "to": (FIRST + days * DAY).isoformat()}
    at = FIRST + timedelta(days=30, hours=5)
    history.run(acme, at, at + DAY, "running", run_id="manual__two", run_type="manual", conf=conf)
    found = listed(capsys, *SINCE, command="audit", code=1 - under_way)
    assert (found["damaged"], found["under_way"]) == (1 - under_way, under_way)


def test_what_a_run_has_delivered_since_the_audit_began_is_no_finding(
    history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(history, acme, target, FIRST, FIRST + DAY, b"1\n").write_bytes(b"newer\n")

    def looked(*asked: Any) -> Any:
        seen = audit(*asked)
        again: dict[str, Any] = {"run_id": "manual__two", "run_type": "manual", "logical_date": None}
        history.run(acme, FIRST, FIRST + DAY, began=datetime.now(UTC), **again)
        return seen

    monkeypatch.setattr(auditing, "audit", looked)
    found = listed(capsys, *SINCE, "--repair", command="audit")
    assert (found["damaged"], found["under_way"], found["repairs"]) == (0, 1, 0)


def test_a_paused_export_is_audited_but_not_run(
    history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(history, acme, target, FIRST, FIRST + DAY, b"1\n").unlink()
    history.session.execute(update(DagModel).values(is_paused=True))
    history.session.commit()
    assert main(["audit", "acme", *SINCE, "--repair"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "nothing is delivered again while the DAG is paused"
    assert {*history.session.scalars(select(DagRun.state))} == {"success"}


@pytest.mark.parametrize(
    ("changed", "fix"),
    [
        ("if_exists: keep", "if_exists is keep: remove it at the target, or set replace"),
        ("if_exists: revision", ""),
    ],
)
def test_what_no_run_can_make_good_is_said(
    history: History, acme: str, target: Path, changed: str, fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(history, acme, target, FIRST, FIRST + DAY, b"1\n").write_bytes(b"22")
    file = history.customers / "acme.yaml"
    file.write_text((FILE % target).replace("export_images: false", f"export_images: false, {changed}"))
    (found,) = listed(capsys, *SINCE, command="audit", code=1)["findings"]
    assert found["found"] == "other content"
    assert found["fix"].startswith(fix)
    assert bool(found["fix"]) == bool(fix)
