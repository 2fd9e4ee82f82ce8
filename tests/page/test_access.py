"""The page under FAB, Airflow's auth manager of roles: it shows to each role what Airflow's own API shows to it."""

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.api_fastapi.app import _AuthManagerState, create_app
from airflow.models.xcom import XComModel
from fastapi.testclient import TestClient

from data_export.lateness import Due
from data_export.window import ExportWindow
from data_export_airflow.alerting.callbacks import AUDIT_DAG
from data_export_airflow.dags.service_dags import CHECK_DAG
from tests.page.history import History

DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
OURS, THEIRS = "data_export__ours", "data_export__theirs"
BOTH = {"ours", "theirs"}
#: What only runs, receipts, reasons and results of checks hold.
RUN, SUMS, REASON, STEP = "scheduled__", '"work_orders":7', "no right to write", "grant storage.objects.list"
DAMAGED = "found 3 missing or damaged"
RUNS, TASKS, XCOMS, ASSETS = "DAG Runs", "Task Instances", "XComs", "Assets"

#: The late windows.
LATE = '"late_windows":1'
#: What each role may read.
ROLES: dict[str, list[str]] = {
    "nothing": [],
    "dags": ["DAGs"],
    "runs": ["DAGs", RUNS],
    "receipts": ["DAGs", RUNS, ASSETS],
    "receipts alone": ["DAGs", ASSETS],
    "reasons": ["DAGs", RUNS, TASKS, XCOMS],
    "no xcoms": ["DAGs", RUNS, TASKS],
    "no tasks": ["DAGs", RUNS, XCOMS],
    "runs of one dag": [f"DAG:{OURS}", RUNS],
    "all of one dag": [f"DAG:{OURS}", RUNS, TASKS, XCOMS, ASSETS],
    "runs, by the older permission": [f"DAG:{OURS}", f"DAG Run:{OURS}", ASSETS],
    "no audits": [f"DAG:{OURS}", f"DAG:{THEIRS}", RUNS, TASKS, XCOMS, ASSETS],
    "all": ["DAGs", RUNS, TASKS, XCOMS, ASSETS, "ImportError"],
}
#: For each route of the page what of Airflow's API tells the same.
SAME: dict[str, list[str]] = {
    "fleet": ["dags/~/dagRuns"],
    "failures": ["dags/~/dagRuns", "dags/~/dagRuns/~/taskInstances", "dags/~/dagRuns/~/taskInstances/~/xcomEntries"],
    "volume": ["assets/events"],
    "status": [
        "dags/~/dagRuns",
        "dags/~/dagRuns/~/taskInstances",
        "dags/~/dagRuns/~/taskInstances/~/xcomEntries",
        "assets/events",
    ],
    f"exports/{OURS}": [f"dags/{OURS}/dagRuns"],
    f"exports/{THEIRS}": [f"dags/{THEIRS}/dagRuns"],
    f"exports/{OURS}/files/1": [f"dags/{OURS}/dagRuns", "assets/events"],
    f"exports/{THEIRS}/files/1": [f"dags/{THEIRS}/dagRuns", "assets/events"],
    f"exports/{OURS}/delivered": [f"dags/{OURS}/dagRuns", "assets/events"],
    f"exports/{THEIRS}/delivered": [f"dags/{THEIRS}/dagRuns", "assets/events"],
    f"exports/{OURS}/sheet": [f"dags/{OURS}/dagRuns"],
    f"exports/{THEIRS}/sheet": [f"dags/{THEIRS}/dagRuns"],
    f"exports/{OURS}/check": [
        f"dags/{OURS}/dagRuns",
        f"dags/{CHECK_DAG}/dagRuns",
        f"dags/{CHECK_DAG}/dagRuns/~/taskInstances/~/xcomEntries",
    ],
    f"exports/{OURS}/audit": [
        f"dags/{OURS}/dagRuns",
        f"dags/{AUDIT_DAG}/dagRuns",
        f"dags/{AUDIT_DAG}/dagRuns/~/taskInstances/~/xcomEntries",
    ],
}


@pytest.fixture(scope="module")
def users(_tables: None) -> Iterator[dict[str, TestClient]]:
    """By role a client of a user who has it, of Airflow's application with FAB."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of FAB's own
        patch.setenv(
            "AIRFLOW__CORE__AUTH_MANAGER", "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
        )
        patch.setenv(
            "AIRFLOW__API_AUTH__JWT_SECRET", "a secret of these tests alone, long enough to sign tokens with it"
        )
        patch.setattr(_AuthManagerState, "instance", None)
        app = create_app(apps="core")
        with app.state.auth_manager.flask_app.app_context():
            tokens = {role: _token(app.state.auth_manager, role) for role in ROLES}
        yield {role: TestClient(app, headers={"Authorization": f"Bearer {token}"}) for role, token in tokens.items()}


def _token(manager: Any, role: str) -> str:
    """Of a new user with a new role."""
    security = manager.security_manager
    made = security.add_role(role)
    for resource in ROLES[role]:
        security.add_permission_to_role(made, security.create_permission("can_read", resource))
    user = security.add_user(role, role, "x", f"{role}@platform.example", made, password="x")
    return str(manager.generate_jwt(user))


@pytest.fixture(autouse=True)
def exports(history: History) -> None:
    """Two exports that delivered, failed and are late, and what a check found of one."""
    for dag in history.exports("ours", "theirs"):
        history.run(dag, TODAY - 3 * DAY, TODAY - 2 * DAY)
        run = history.run(dag, TODAY - 2 * DAY, TODAY - DAY, "failed", began=datetime.now(UTC) - timedelta(hours=1))
        history.result(run, "deliver", "failure", {"error": "AccessDenied", "message": f"{dag}: {REASON}"})
    windows = {"ours": ExportWindow(TODAY - 2 * DAY, TODAY - DAY), "theirs": ExportWindow(TODAY - 2 * DAY, TODAY)}
    history.look(datetime.now(UTC), {name: [Due(window, TODAY - DAY)] for name, window in windows.items()})
    run = history.run(CHECK_DAG, TODAY, TODAY, "failed", run_id="manual", run_type="manual", logical_date=None)
    history.result(run, "check", "ours", {"ok": False, "steps": [{"step": "list", "ok": False, "detail": STEP}]})
    run = history.run(AUDIT_DAG, TODAY, TODAY, "failed", run_id="manual", run_type="manual", logical_date=None)
    found = {"at": str(TODAY), "damaged": 3, "repairs": 0, "findings": [{"uri": STEP}]}
    history.result(run, "audit", "ours", found, state="success")


def test_the_page_refuses_what_airflow_refuses(users: dict[str, TestClient]) -> None:
    for role, user in users.items():
        asked = {other for others in SAME.values() for other in others}
        airflow = {other: user.get(f"/api/v2/{other}").status_code for other in asked}
        assert set(airflow.values()) <= {200, 403}
        for path, others in SAME.items():
            refused = user.get(f"/data-exports/api/{path}").status_code == 403
            assert refused is (403 in map(airflow.__getitem__, others)), (role, path, airflow)


#: What of runs, receipts and reasons the page tells a role; of which exports; of what was checked.
TOLD: dict[str, tuple[set[str], set[str]]] = {
    "nothing": (set(), set()),
    "dags": (BOTH, set()),
    "runs": (BOTH, {RUN}),
    "receipts": (BOTH, {RUN, SUMS}),
    "receipts alone": (BOTH, set()),
    "reasons": (BOTH, {RUN, REASON, STEP}),
    "no xcoms": (BOTH, {RUN}),
    "no tasks": (BOTH, {RUN, STEP}),
    "runs of one dag": ({"ours"}, {RUN}),
    "all of one dag": ({"ours"}, {RUN, SUMS, REASON}),
    "runs, by the older permission": ({"ours"}, {RUN, SUMS}),
    "no audits": (BOTH, {RUN, SUMS, REASON}),
    "all": (BOTH, {RUN, SUMS, REASON, STEP}),
}


def test_no_answer_holds_what_a_role_may_not_read(users: dict[str, TestClient]) -> None:
    assert TOLD.keys() == ROLES.keys()
    paths = ["exports", "problems", *(path for path in SAME if path != "volume")]  # whose zeros have names too
    for role, (names, words) in TOLD.items():
        rows = users[role].get("/data-exports/api/exports").json()["exports"]
        assert {row["name"] for row in rows} == names, role
        told = "".join(users[role].get(f"/data-exports/api/{path}").text for path in paths)
        assert {word for word in (RUN, SUMS, REASON, STEP) if word in told} == words, role
        assert (THEIRS in told) is ("theirs" in names), role
        assert (LATE in told) is (RUN in words), role
        assert (DAMAGED in told) is (STEP in words), role


def test_whether_late_windows_are_known_is_for_those_who_may_see_them(
    users: dict[str, TestClient], history: History
) -> None:
    history.session.execute(XComModel.__table__.delete())  # type: ignore[attr-defined]  # as if the watch had never run
    history.session.commit()
    for role, is_told in (("dags", False), ("runs of one dag", True)):
        why = users[role].get("/data-exports/api/exports").json()["late_unknown"]
        assert (why is not None) is is_told


def test_an_export_without_its_runs(users: dict[str, TestClient], history: History) -> None:
    """What Airflow tells of its DAG; no state, date or number that came of a run."""
    (history.customers / "theirs.yaml").write_text("site_id: [nonsense]\n")
    history.parse()
    found = users["dags"].get("/data-exports/api/exports?sort=bytes").json()["exports"]
    rows = {row["name"]: row for row in found}
    assert {name: row["state"] for name, row in rows.items()} == {"ours": "hidden", "theirs": "broken"}
    told = {key for key, value in rows["ours"].items() if value is not None}
    assert told == {"dag_id", "name", "connector", "export_type", "interval", "state", "paused", "next_run"}
