"""`backfill` against a real metadata database: what it tells, what it refuses, and what Airflow then has."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.dag_processing.collection import update_dag_parsing_results_in_db
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.backfill import Backfill
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session
from sqlalchemy import delete, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from data_export.config.load import load_named
from data_export.config.models import dag_id
from data_export.config.platform import load_platform
from data_export.limits import limits_of
from data_export_airflow.commands import backfill as backfill_command
from data_export_airflow.commands.cli import main
from data_export_airflow.dags.factory import build_dag
from tests.unit.source_kit import SITE, SourceDatabase

# Airflow's own: it uses a name that one of its libraries has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern")

BUNDLE = "tests"
NAME = "acme"
DAG = dag_id(NAME)
FILE = f"""\
site_id: [{SITE}]
interval: daily
timezone: Europe/Paris
start_date: 2025-03-10
end_date: 2025-04-01
connector_type: cloud_storage
connector_config: {{storage_uri: "gs://bucket/x/", export_images: true}}
"""
Deploy = Callable[[str], None]


@pytest.fixture(scope="module")
def metadata(tables: None) -> None:
    with create_session() as session:
        session.merge(DagBundleModel(name=BUNDLE))


@pytest.fixture
def deploy(metadata: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deploy]:
    """Writes the customer file and has Airflow read it, as its dag-processor would."""
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_EXPORT_SOURCE", "postgres://us:canary@127.0.0.1:1/source")
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def parsed(text: str = FILE) -> None:
        (tmp_path / f"{NAME}.yaml").write_text(text)
        export = load_named(NAME)
        dag = build_dag(NAME, export, limits_of(NAME, export, load_platform().limits))
        dag.fileloc, dag.relative_fileloc = __file__, "x.py"
        with create_session() as session:
            lazy = LazyDeserializedDAG.from_dag(dag)
            update_dag_parsing_results_in_db(
                BUNDLE, None, [lazy], {}, None, set(), session, files_parsed={(BUNDLE, "x.py")}
            )

    forget()  # what tests of other files left
    yield parsed
    forget()


def forget() -> None:
    with create_session() as session:
        for model in (DagRun, Backfill, DagModel):
            session.execute(delete(model).where(model.dag_id == DAG))
        session.execute(delete(AssetEvent).where(AssetEvent.source_dag_id == DAG))


def backfill(*arguments: str, start: str = "2025-03-28", end: str = "2025-04-01") -> int:
    return main(["backfill", NAME, "--from", start, "--to", end, *arguments])


def runs() -> list[tuple[datetime, str]]:
    with create_session() as session:
        found = session.execute(
            select(DagRun.data_interval_start, DagRun.state)
            .where(DagRun.dag_id == DAG)
            .order_by(DagRun.data_interval_start)
        )
        return [(start, str(state)) for start, state in found]


def end_backfills(**states: str) -> None:
    """As the scheduler would: the runs of these days of March are over, with receipts, and so is the backfill."""
    with create_session() as session:
        session.execute(update(Backfill).where(Backfill.dag_id == DAG).values(completed_at=datetime.now(UTC)))
        for run in session.scalars(select(DagRun).where(DagRun.dag_id == DAG)):
            run._state = states.get(f"day_{run.data_interval_end.day}", "success")
            if run._state == "success":
                receipt(session, run)


def receipt(session: Session, run: DagRun) -> None:
    asset = session.scalar(select(AssetModel.id).where(AssetModel.name == f"data_export/{NAME}"))
    window = {"start": run.data_interval_start.isoformat(), "end": run.data_interval_end.isoformat()}
    made = {"source_dag_id": DAG, "source_run_id": run.run_id, "timestamp": datetime.now(UTC)}
    where = {"place": ["gs://bucket/x/", ""], "export_type": "work-orders-timeline", "sites": [{"site_id": str(SITE)}]}
    session.add(AssetEvent(asset_id=asset, extra={"window": window, **where}, **made))


def test_it_shows_what_it_would_do_and_creates_nothing(deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    deploy(FILE)
    assert backfill("--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "acme: 4 windows, starting 2025-03-28 up to and including 2025-03-31 (Europe/Paris)"
    said = {line[2:12].strip(): line[12:] for line in lines[1:]}
    assert said["windows"] == "4: 4 never run"
    assert said["first"] == "2025-03-27 23:00:00 to 2025-03-28 23:00:00 UTC"
    assert said["last"] == "2025-03-30 22:00:00 to 2025-03-31 22:00:00 UTC"  # after a day of 23 hours
    assert said["runs"] == "4 (windows that never ran), oldest first, at most 3 at once"
    assert said["estimate"].startswith("unknown: nothing was delivered yet, and the source does not answer: source: ")
    assert said["limits"] == "max_window_days 400, earliest 2020-01-01, max_active_runs 3: kept"
    assert said["IDLE"] == "no scheduler of Airflow is alive: the runs wait until one is"
    assert said["PAUSED"] == f"the DAG is paused: the runs wait until `airflow dags unpause {DAG}`"
    assert "canary" not in "".join(lines)
    assert runs() == []


def test_it_is_airflows_own_backfill_of_a_half_open_range(deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    deploy(FILE)
    assert backfill("--yes", "--newest-first", "--max-active-runs", "2") == 0
    days = [datetime(2025, 3, 27, 23, tzinfo=UTC), datetime(2025, 3, 28, 23, tzinfo=UTC)]
    days += [datetime(2025, 3, 29, 23, tzinfo=UTC), datetime(2025, 3, 30, 22, tzinfo=UTC)]
    assert runs() == [(day, "queued") for day in days]
    with create_session() as session:
        (made,) = session.scalars(select(Backfill).where(Backfill.dag_id == DAG))
        assert (made.max_active_runs, made.reprocess_behavior) == (2, "none")
    out = capsys.readouterr().out
    assert f"backfill {made.id} is created with 4 runs" in out
    assert f"/dags/{DAG}/backfills" in out
    assert f"/api/v2/backfills/{made.id}/cancel" in out


def test_a_second_one_is_refused_while_the_first_goes_on(
    deploy: Deploy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(FILE)
    assert backfill("--yes") == 0
    for again in ((), ("--yes",)):
        assert backfill(*again, start="2025-03-20") == 1
        words = "of 4 windows, starting 2025-03-28 up to and including 2025-03-31 (Europe/Paris) is under way"
        assert words in capsys.readouterr().err
    assert backfill("--dry-run", start="2025-03-20") == 0
    assert "  BUSY      backfill " in capsys.readouterr().out
    assert backfill() == 0  # the same again, for nobody ran it
    out = capsys.readouterr().out
    assert "  runs      0 (windows that never ran), nothing to do" in out
    assert all(f"  {why}" in out for why in ("BUSY", "IDLE", "PAUSED"))
    with monkeypatch.context() as before:  # the other's was there
        before.setattr("data_export_airflow.backfill.dry_run._under_way", lambda *_: None)
        assert backfill("--yes", start="2025-03-20") == 1
    assert "another backfill is under way, and Airflow has one per DAG at a time: wait" in capsys.readouterr().err
    end_backfills()
    assert backfill("--yes", start="2025-03-20") == 0
    assert len(runs()) == 12


@pytest.mark.parametrize(
    ("reprocess", "count"), [("none", 2), ("failed", 3), ("completed", 5)], ids=["none", "failed", "completed"]
)
def test_which_windows_run_again(
    reprocess: str, count: int, deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy(FILE)
    assert backfill("--yes", start="2025-03-28", end="2025-03-31") == 0
    end_backfills(day_29="failed")
    capsys.readouterr()
    assert backfill("--yes", "--reprocess", reprocess, start="2025-03-27", end="2025-04-01") == 0
    out = capsys.readouterr().out
    assert "windows   5: 2 never run, 2 delivered, 1 failed" in out
    assert f"  runs      {count} (" in out
    assert [state for _, state in runs()].count("queued") == count


def test_nothing_to_do_is_no_failure(deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    deploy(FILE)
    assert backfill("--yes") == 0
    end_backfills()
    assert backfill() == 0
    out = capsys.readouterr().out
    assert "runs      0 (windows that never ran), nothing to do" in out
    assert "  note      what is delivered is left out: add --reprocess completed to deliver it again" in out


@pytest.mark.parametrize("never_run", [False, True])
def test_what_failed_is_not_passed_over_in_silence(
    never_run: bool, deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy(FILE)
    assert backfill("--yes") == 0
    end_backfills(day_29="failed")
    start = "2025-03-27" if never_run else "2025-03-28"
    assert backfill("--dry-run", start=start) == 0
    assert "  note      1 that failed is left out: add --reprocess failed\n" in capsys.readouterr().out
    assert backfill("--dry-run", "--reprocess", "failed", start=start) == 0
    assert "left out" not in capsys.readouterr().out


def test_a_window_without_a_run_of_its_own_is_not_said_to_be_left_out() -> None:
    """One that failed in a run by hand is created; only what is not is left out."""
    states = Counter({"failed": 1, "never run": 1})
    assert backfill_command._again("none", states, runs=2) is None
    assert "1 that failed is left out" in str(backfill_command._again("none", states, runs=1))


def test_json_is_one_object_and_asks_nothing(deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    deploy(FILE)
    assert backfill("--json") == 2
    assert "--json asks nothing: add --yes" in capsys.readouterr().err
    assert backfill("--json", "--dry-run") == 0
    shown = json.loads(capsys.readouterr().out)
    assert ([row["state"] for row in shown["windows"]], len(shown["runs"])) == (["past"] * 4, 4)
    assert (shown["backfill_id"], shown["is_paused"], shown["dag_id"]) == (None, True, DAG)
    assert backfill("--json", "--yes") == 0
    assert json.loads(capsys.readouterr().out)["backfill_id"] > 0


@pytest.mark.parametrize(
    ("more", "start", "end", "arguments", "said"),
    [
        ("", "2025-03-09", "2025-04-01", (), "--from 2025-03-09 is before the export's start_date 2025-03-10"),
        ("", "2025-03-10", "2025-04-01", ("--max-active-runs", "9"), "9 is more than limits.max_active_runs = 3"),
        (
            "limits: {max_active_runs: 1}",
            "2025-03-10",
            "2025-04-01",
            ("--max-active-runs", "2"),
            "acme.yaml): ask for fewer",
        ),
        (
            "limits: {earliest: 2025-03-20}",
            "2025-03-15",
            "2025-04-01",
            (),
            "begins before limits.earliest = 2025-03-20",
        ),
        ("", "2025-03-12", "2025-03-12", (), "--from 2025-03-12 --to 2025-03-12: window ends"),
        ("", "12.3.2025", "2025-03-12", (), "is not a date or date-time that exists"),
        ("", "2025-06-01", "2025-07-01", (), "no window that is over starts in"),
        ("", "2025-03-12T06:00", "2025-03-12T07:00", (), "(Europe/Paris): take a longer range, or trigger a run"),
        ("", "2025-03-12", "2025-03-11", (), "before it begins (2025-03-11T23:00:00+00:00): give a later end"),
        ("", "2990-06-01", "2990-07-01", (), "(Europe/Paris): its end_date is before that, begin earlier"),
        ("enabled: false", "2025-03-12", "2025-04-01", (), "enabled is false"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    more: str,
    start: str,
    end: str,
    arguments: tuple[str, ...],
    said: str,
    deploy: Deploy,
    capsys: pytest.CaptureFixture[str],
) -> None:
    deploy(FILE + more)
    assert backfill("--yes", *arguments, start=start, end=end) == 1
    assert said in capsys.readouterr().err
    assert runs() == []


def test_once_has_no_backfill(deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    deploy(FILE.replace("daily", "once"))
    assert backfill("--yes") == 1
    assert "interval once has one window and no backfill" in capsys.readouterr().err


def test_airflow_must_have_read_the_file(deploy: Deploy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / f"{NAME}.yaml").write_text(FILE)
    assert backfill("--yes") == 1
    assert f"Airflow has no DAG {DAG} yet" in capsys.readouterr().err
    deploy(FILE)
    (tmp_path / f"{NAME}.yaml").write_text(FILE.replace("daily", "hourly"))
    assert backfill("--yes") == 1
    assert "an earlier version of the file" in capsys.readouterr().err


def test_nobody_is_surprised(
    deploy: Deploy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an answer nothing is created: not in a script, and not for a no."""
    deploy(FILE)
    assert backfill() == 2
    assert "add --yes" in capsys.readouterr().err
    for answer, code, count in (("n", 1, 0), ("", 1, 0), ("y", 0, 4)):
        terminal = io.StringIO(f"{answer}\n")
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", terminal)
        assert backfill() == code
        assert len(runs()) == count


@pytest.mark.parametrize(
    ("interval", "start", "end", "note"),
    [
        ("weekly", "2025-03-11", "2025-03-20", "no window starts before 2025-03-16 23:00:00 UTC"),
        ("weekly", "2025-03-17", "2025-03-20", "goes on after it, to 2025-03-23 23:00:00 UTC"),
        ("daily", "2025-03-30", "2025-05-01", "no window starts after 2025-03-30 22:00:00 UTC: the export ends there"),
        ("daily", "2025-03-30", "2099-01-01", "no window starts after 2025-03-30 22:00:00 UTC: the export ends there"),
    ],
)
def test_a_range_that_does_not_fit_the_windows_is_explained(
    interval: str, start: str, end: str, note: str, deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy(FILE.replace("daily", interval))
    assert backfill("--dry-run", start=start, end=end) == 0
    assert note in capsys.readouterr().out


def test_a_window_that_goes_on_is_said_to_run_later(deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    deploy(FILE.replace("daily", "monthly").replace("end_date: 2025-04-01\n", ""))
    now = datetime.now(UTC)
    for end in (now, now + timedelta(days=40)):
        assert backfill("--dry-run", end=end.isoformat(timespec="seconds")) == 0
        out = capsys.readouterr().out
        assert "note      windows that are not over yet are left out: they run when they are\n" in out
        assert "ends there" not in out


def test_one_of_two_that_would_write_the_same_files_is_refused(
    deploy: Deploy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy(FILE)
    (tmp_path / "abc.yaml").write_text(FILE)
    for asked in ("--dry-run", "--yes"):
        assert backfill(asked) == 1
        refused = "acme.yaml does not run, since abc.yaml, which would write the same files, goes before it; "
        assert refused in capsys.readouterr().err
    assert runs() == []
    (tmp_path / "abc.yaml").rename(tmp_path / "other.yaml")
    assert backfill("--yes") == 0
    end_backfills()
    (tmp_path / "other.yaml").rename(tmp_path / "abc.yaml")
    capsys.readouterr()
    assert backfill("--dry-run", "--reprocess", "completed") == 0, "it is the one that delivers already"


def test_where_airflow_does_not_say_which_of_two_delivers_neither_runs(
    deploy: Deploy, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise OperationalError("", {}, Exception("gone"))

    deploy(FILE)
    (tmp_path / "other.yaml").write_text(FILE)
    monkeypatch.setattr("data_export_airflow.metadata.receipts.deliveries", gone)
    assert backfill("--dry-run") == 1
    assert "which of them delivers is not known: Airflow's database" in capsys.readouterr().err


def delivered(start: datetime, length: timedelta) -> None:
    """As a run did of the schedule of that time."""
    end = start + length
    with create_session() as session:
        run = DagRun(
            DAG, f"scheduled__{start.isoformat()}", logical_date=start, data_interval=(start, end), run_after=end
        )
        run.run_type, run._state, run.start_date, run.end_date = "scheduled", "success", end, end
        session.add(run)
        receipt(session, run)


def test_a_run_without_a_receipt_is_run_again_where_that_is_asked_for(
    deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody marked it as a success."""
    deploy(FILE)
    assert backfill("--yes") == 0
    end_backfills()
    with create_session() as session:
        session.execute(delete(AssetEvent).where(AssetEvent.source_run_id.contains("2025-03-29")))
    assert backfill("--dry-run") == 0
    out = capsys.readouterr().out
    assert "windows   4: 3 delivered, 1 unproven\n" in out
    assert "note      1 whose runs succeeded without a receipt is left out: add --reprocess completed\n" in out
    assert backfill("--dry-run", "--reprocess", "completed") == 0
    assert "runs      4 " in capsys.readouterr().out


def test_what_a_changed_interval_left_over_is_told_with_the_way_to_deliver_it(
    deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    """Daily became weekly."""
    deploy(FILE.replace("Europe/Paris", "UTC").replace("daily", "weekly"))
    for day in (17, 18, 20):
        delivered(datetime(2025, 3, day, tzinfo=UTC), timedelta(days=1))
    assert backfill("--dry-run", start="2025-03-17", end="2025-03-31") == 0
    out = capsys.readouterr().out
    assert "  windows   2: 1 never run, 1 delivered with other bounds\n" in out
    assert "  last      2025-03-24 00:00:00 to 2025-03-31 00:00:00 UTC\n" in out
    assert "  runs      1 (windows that never ran)" in out
    assert "the export ends there" not in out
    assert out.count(" is in no run: ") == 2
    assert '--conf \'{"from": "2025-03-19T00:00:00+00:00", "to": "2025-03-20T00:00:00+00:00"}\'' in out
    assert '--conf \'{"from": "2025-03-21T00:00:00+00:00", "to": "2025-03-24T00:00:00+00:00"}\'' in out


def test_windows_that_a_longer_one_has_delivered_are_counted_and_told_of(
    deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    """Daily became hourly: Airflow has a run for the first hour's logical date alone."""
    deploy(FILE.replace("Europe/Paris", "UTC").replace("daily", "hourly"))
    delivered(datetime(2025, 3, 17, tzinfo=UTC), timedelta(days=1))
    assert backfill("--dry-run", start="2025-03-17", end="2025-03-18") == 0
    out = capsys.readouterr().out
    held = "in a longer window that was delivered"
    assert f"  windows   24: 1 delivered with other bounds, 23 {held}\n" in out
    assert "  runs      23 (windows that never ran)" in out
    assert f"  TWICE     23 of these runs deliver a second time what is {held}\n" in out
    assert "that failed" not in out
    assert backfill("--dry-run", start="2025-03-17T05:00", end="2025-03-18") == 0
    assert f"  windows   19: 19 {held}\n" in capsys.readouterr().out


def test_so_is_what_an_end_date_left_over_that_is_gone(deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    deploy(FILE.replace("Europe/Paris", "UTC"))
    delivered(datetime(2025, 3, 18, tzinfo=UTC), timedelta(hours=18))
    assert backfill("--dry-run", start="2025-03-18", end="2025-03-19") == 0
    assert "[2025-03-18T18:00:00+00:00, 2025-03-19T00:00:00+00:00) is in no run: " in capsys.readouterr().out


def test_before_the_first_delivery_the_source_is_asked(
    deploy: Deploy, one_order: SourceDatabase, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EXPORT_SOURCE", one_order.dsn)
    deploy(FILE)
    assert backfill("--dry-run", start="2025-03-16", end="2025-03-17") == 0
    out = capsys.readouterr().out
    assert "estimate  1 work orders and 1 images, as counted at the source" in out
    assert "time      unknown until a first window is delivered" in out
    assert backfill("--dry-run", start="2025-03-10", end="2025-03-20") == 0
    assert "estimate  0 work orders and 0 images, going by 3 of 10 windows at the source" in capsys.readouterr().out
