"""An installation with every state that an export and a window can be in, for the tests in Chromium."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from airflow.models.dag import DagModel

from data_export.config.models import dag_id
from data_export.lateness import Due
from data_export.window import ExportWindow
from data_export_airflow.dags.service_dags import CHECK_DAG
from tests.page.history import SITE, History

DAY = timedelta(days=1)
NAMES = (
    "acme-timeline",
    "acme-states",
    "borealis-telecom",
    "castor-energie-nord",
    "dupont-fibre",
    "eiffage-ftth-region-sud-est-work-orders-states",
    "fjord-networks",
    "gamma-utilities",
    "hermes-mail",
    "ionia-grid",
)
OFF, MAIL, ENDED = "gamma-utilities", "hermes-mail", "ionia-grid"
MAIN = "data_export__acme_timeline"
DENIED = {
    "error": "AccessDenied",
    "message": "gs://acme-bi/exports: 403, the service may not create objects: grant storage.objects.create on the"
    " bucket acme-bi to exports@platform-project.iam.gserviceaccount.com",
}
BY_MAIL = """\
site_id: [{site}]
interval: daily
start_date: {start}
connector_type: email
connector_config: {{emails: [anna@hermes.example, ben@hermes.example]}}
"""
OFFERED = {"work_orders": 231, "bytes": 231_000, "sha256": "cd" * 32}
FULL = {"error": "TargetFull", "message": "sftp.fjord.example:22: the disk is full: make room, the next try resumes"}


@cache
def today() -> datetime:
    """The midnight before this is first asked, ever since: what is filled and what is expected agree."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def fill(history: History, days: int = 60) -> None:
    """Exports on time, failed, late, running, new, paused, ended with a gap and off; and two broken files."""
    start = f"{today() - (days + 30) * DAY:%Y-%m-%d}"
    for name in NAMES:
        more = {OFF: {"enabled": "false"}, ENDED: {"end_date": f"{today() - 5 * DAY:%Y-%m-%d}"}}.get(name, {})
        history.write(name, start=start if name != ENDED else f"{today() - 9 * DAY:%Y-%m-%d}", **more)
    (history.customers / f"{MAIL}.yaml").write_text(BY_MAIL.format(site=SITE, start=start))
    (history.customers / "helios-broken.yaml").write_text("site_id: [not-a-uuid]\ninterval: daily\ntime_zone: UTC\n")
    (history.customers / "iris.yaml").write_text("site_id: [9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d]\n\tinterval: daily\n")
    history.parse()
    dags = [dag_id(name) for name in NAMES if name not in (OFF, ENDED, MAIL)]
    for dag in dags:
        history.next_window(dag, today(), today() + DAY)
    _, states, running, paused, late, healed, _new = dags
    for back in range(days, 0, -1):  # in order of time, as Airflow's events are
        _day_of_main(history, back)
        for place, dag in enumerate((states, paused, late)):
            if 2 < back < 7:
                _delivered(history, dag, back, 300 * (place + 1))
        if back == 2:
            _delivered(history, states, back, 290)
            _failed(history, healed, back, FULL)
    now = datetime.now(UTC)
    _failed(history, states, 1, DENIED, began=now - timedelta(minutes=3))  # the last 24 hours have it until tomorrow
    _delivered(history, healed, 1, 90)
    history.run(running, today() - DAY, today(), "running", began=now - timedelta(minutes=3))
    again = history.run(
        healed, today() - 3 * DAY, today() - 2 * DAY, "running", run_type="backfill", run_id="backfill__1"
    )
    history.retry(again, "deliver", "TargetUnavailable: sftp.fjord.example:22: connection refused", 3, 900, now)
    _others(history)
    history.session.get_one(DagModel, paused).is_paused = True
    history.next_window(late, today() - 2 * DAY, today() - DAY)  # which the scheduler did not create
    _looked(history)
    _checked(history)


def _others(history: History) -> None:
    """A link that does not reach everybody, and an export that has ended with two windows missing."""
    mail, ended = dag_id(MAIL), dag_id(ENDED)
    history.next_window(mail, today(), today() + DAY)
    for back in (3, 2, 1):
        refused = ("b***@hermes.example",) if back == 3 else ("b***@hermes.example", "c***@hermes.example")
        _delivered(history, mail, back, 40, refused=refused if back != 2 else (), outcome="staged")
    for back in (9, 6):
        _delivered(history, ended, back, 70)
    row = history.session.get_one(DagModel, ended)
    row.next_dagrun_data_interval_start = row.next_dagrun_data_interval_end = row.next_dagrun_create_after = None


def _day_of_main(history: History, back: int) -> None:
    if back == 37:
        _failed(history, MAIN, back, DENIED)
    elif back not in (11, 12, 90):
        orders = 0 if back % 41 == 7 else 180 + (back * 37) % 90 + (60 if back < 60 else 0)
        missing = {20: 2, 34: 250}.get(back, 0)
        kept = {"outcome": "kept", "offered": OFFERED, "images_kept": 3} if back == 1 else {}
        _delivered(history, MAIN, back, orders, images_missing=missing, name="Lille Nord", **kept)


def _delivered(history: History, dag: str, back: int, orders: int, **sums: Any) -> None:
    start = today() - back * DAY
    history.run(dag, start, start + DAY, orders=orders, sums=sums)


def _failed(history: History, dag: str, back: int, reason: dict[str, str], **more: datetime) -> None:
    start = today() - back * DAY
    run = history.run(dag, start, start + DAY, "failed", **more)
    history.result(run, "deliver", "failure", reason)


def _looked(history: History) -> None:
    """What the watch has just found; the next look is not due before the tests are over."""

    def due(back: int) -> Due:
        end = today() - back * DAY
        return Due(ExportWindow(end - DAY, end), end + timedelta(hours=2))

    now = datetime.now(UTC)
    history.look(now, {"acme-states": [due(0)], "dupont-fibre": [due(1), due(0)]}, following=now + DAY)


def _checked(history: History) -> None:
    steps = [
        ("source: connect", True, "PostgreSQL 18.0, all tables and columns are there"),
        ("staging: write, read, remove", True, "s3://platform-staging/exports/"),
        ("images: read", True, "gs://platform-images/"),
        ("target: storage.objects.list", True, "granted"),
        ("target: storage.objects.create", False, DENIED["message"]),
    ]
    found = {"ok": False, "steps": [{"step": step, "ok": ok, "detail": detail} for step, ok, detail in steps]}
    at = datetime.now(UTC) - timedelta(hours=2)
    run = history.run(
        CHECK_DAG, at, at, "failed", run_id="manual__check", run_type="manual", logical_date=None, began=at
    )
    history.result(run, "check", "acme-timeline", found)
