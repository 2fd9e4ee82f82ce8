"""The page's API in Airflow's own application, with its own auth manager: who sees what, and hostile text."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.models.dag import DagModel, clear_team_name_cache
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.team import Team
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from data_export.lateness import Due
from data_export.window import ExportWindow
from data_export_airflow.page import app as page
from tests.page.conftest import token
from tests.page.history import History

DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
MARKUP = "<img src=x onerror=alert(1)>"
AsUser = Callable[..., TestClient]


@pytest.fixture
def as_user(airflow: Any, history: History) -> AsUser:
    """A client of a user with a role, or of nobody."""

    def client(role: str | None, teams: list[str] | None = None) -> TestClient:
        return TestClient(airflow, headers={"Authorization": f"Bearer {token(role, teams)}"} if role else {})

    return client


@pytest.fixture
def two_teams(history: History) -> tuple[str, str]:
    """An export that everybody sees, and one of the team blue alone."""
    ours, theirs = history.exports("ours", "theirs")
    for dag in (ours, theirs):
        history.run(dag, TODAY - 2 * DAY, TODAY - DAY)
        run = history.run(dag, TODAY - DAY, TODAY, "failed", began=datetime.now(UTC) - timedelta(hours=1))
        history.result(run, "deliver", "failure", {"error": "AccessDenied", "message": f"{dag}: refused"})
    late = [Due(ExportWindow(TODAY - DAY, TODAY), TODAY)]
    history.look(datetime.now(UTC), {"ours": late, "theirs": late})
    (history.customers / "theirs.yaml").write_text("site_id: [nonsense]\n")
    (history.customers / "++.yaml").write_text("site_id: [nonsense]\n")
    history.parse()
    bundle = DagBundleModel(name="blue")
    bundle.teams = [Team(name="blue")]
    history.session.add(bundle)
    history.session.commit()
    history.session.get_one(DagModel, theirs).bundle_name = "blue"
    history.session.commit()
    clear_team_name_cache()  # Airflow keeps for half a minute whose an export of that name was
    return ours, theirs


PATHS = (
    "exports",
    "problems",
    "fleet",
    "failures",
    "volume",
    "exports/{}",
    "exports/{}/files/1",
    "exports/{}/backfills",
    "exports/{}/check",
    "exports/{}/sheet",
    "exports/{}/audit",
)


@pytest.mark.parametrize("path", PATHS)
def test_without_a_user_there_is_nothing(as_user: AsUser, two_teams: tuple[str, str], path: str) -> None:
    assert as_user(None).get(f"/data-exports/api/{path.format(two_teams[0])}").status_code == 401


def test_a_user_sees_the_exports_whose_dags_that_user_may_read(as_user: AsUser, two_teams: tuple[str, str]) -> None:
    for teams, names in (([], {"ours"}), (["blue"], {"ours", "theirs"})):
        client = as_user("viewer", teams)
        found = client.get("/data-exports/api/exports").json()
        assert {row["name"] for row in found["exports"]} == names
        assert (found["total"], found["matching"], sum(found["states"].values())) == (len(names),) * 3
        assert client.get("/data-exports/api/fleet").json()["exports"] == len(names)
        failures = client.get("/data-exports/api/failures").json()["failures"]
        assert {failure["name"] for group in failures for failure in group["examples"]} == names
        deliveries = sum(day["deliveries"] for day in client.get("/data-exports/api/volume").json()["days"])
        assert deliveries == len(names)


def test_a_user_is_told_of_late_exports_whose_dags_that_user_may_read(
    as_user: AsUser, two_teams: tuple[str, str], history: History
) -> None:
    history.session.get_one(DagModel, two_teams[0]).bundle_name = "blue"  # the other's file is broken: it has no window
    history.session.commit()
    for teams, names in (([], set()), (["blue"], {"ours"})):
        fleet = as_user("viewer", teams).get("/data-exports/api/fleet").json()
        assert ({row["name"] for row in fleet["late"]}, fleet["late_count"]) == (names, len(names))


@pytest.mark.parametrize("path", ["exports", "fleet", "exports/{}"])
def test_where_late_windows_are_not_known_each_view_says_so(as_user: AsUser, history: History, path: str) -> None:
    path = f"/data-exports/api/{path.format(history.export('ours'))}"
    words = "Late windows are not known: the watch has not run. "
    assert as_user("viewer").get(path).json()["late_unknown"].startswith(words)
    history.look(datetime.now(UTC))
    page.overview._made = None
    assert as_user("viewer").get(path).json()["late_unknown"] is None


def test_an_export_alone_may_not_be_known(as_user: AsUser, history: History) -> None:
    paths = [f"/data-exports/api/exports/{history.export(name)}" for name in ("ours", "theirs")]
    history.look(datetime.now(UTC), unknown=["ours"])
    first, second = (as_user("viewer").get(path).json()["late_unknown"] for path in paths)
    assert (first[:42], second) == ("Late windows of this export are not known:", None)


@pytest.mark.parametrize("path", PATHS[5:])
def test_another_teams_export_is_forbidden(as_user: AsUser, two_teams: tuple[str, str], path: str) -> None:
    url = f"/data-exports/api/{path.format(two_teams[1])}"
    assert as_user("viewer").get(url).status_code == 403
    assert as_user("viewer", ["blue"]).get(url).status_code in (200, 404, 409)


def test_the_sheet_is_a_page_of_its_own_that_runs_nothing(as_user: AsUser, history: History) -> None:
    url = f"/data-exports/api/exports/{history.export('ours')}/sheet"
    found = as_user("viewer").get(url)
    assert (found.status_code, found.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = found.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "gs://customer-bucket/ours/" in found.text
    saved = as_user("viewer").get(f"{url}?format=markdown")
    assert saved.headers["Content-Disposition"] == 'attachment; filename="ours.md"'
    assert saved.text.startswith("# Data export ours: hand-over sheet")


@pytest.mark.parametrize("text", [f'site_id: ["{MARKUP}"]\n', None])
def test_a_file_that_is_broken_or_gone_has_no_sheet_and_is_not_quoted(
    as_user: AsUser, history: History, text: str | None
) -> None:
    dag = history.export("ours")
    file = history.customers / "ours.yaml"
    file.write_text(text) if text else file.unlink()
    found = as_user("viewer").get(f"/data-exports/api/exports/{dag}/sheet")
    assert found.status_code == 409
    assert "`python -m data_export_airflow sheet ours` says what to change" in found.json()["detail"]
    assert str(history.customers) not in found.text
    assert "img" not in found.text


def test_a_receipt_is_read_through_its_own_export_only(as_user: AsUser, two_teams: tuple[str, str]) -> None:
    ours, theirs = two_teams
    client = as_user("admin")
    windows = client.get(f"/data-exports/api/exports/{theirs}").json()["windows"]
    (event,) = [window["event_id"] for window in windows if window["event_id"]]
    assert client.get(f"/data-exports/api/exports/{theirs}/files/{event}").json()["target"] == "gs://customer-bucket/"
    assert client.get(f"/data-exports/api/exports/{ours}/files/{event}").status_code == 404


def test_import_errors_are_for_those_who_may_see_them(as_user: AsUser, two_teams: tuple[str, str]) -> None:
    def files(role: str, *teams: str) -> set[str]:
        problems = as_user(role, list(teams)).get("/data-exports/api/problems").json()["problems"]
        return {problem["file"] for problem in problems}

    assert files("admin") == {"theirs.yaml", "++.yaml"}
    assert files("viewer") == {"++.yaml"}


@pytest.mark.parametrize(("role", "may"), [("viewer", False), ("user", True), ("admin", True)])
def test_who_may_start_runs(as_user: AsUser, two_teams: tuple[str, str], role: str, may: bool) -> None:
    client, ours = as_user(role), two_teams[0]
    assert client.get(f"/data-exports/api/exports/{ours}").json()["may_backfill"] is may
    assert client.get(f"/data-exports/api/exports/{ours}/check").json()["may_check"] is may
    body = {"dag_id": ours, "from_date": TODAY.isoformat(), "to_date": TODAY.isoformat()}
    answer = client.post("/api/v2/backfills/dry_run", json=body)
    assert (answer.status_code != 403) is may


def test_a_member_of_another_team_may_not_start_its_runs(as_user: AsUser, two_teams: tuple[str, str]) -> None:
    answer = as_user("user", ["blue"]).get(f"/data-exports/api/exports/{two_teams[1]}").json()
    assert answer["may_backfill"] is True
    assert as_user("user", ["red"]).get(f"/data-exports/api/exports/{two_teams[1]}").status_code == 403


def test_what_is_no_export_is_not_found(as_user: AsUser, two_teams: tuple[str, str]) -> None:
    for dag in ("data_export__nobody", "data_export_check"):
        assert as_user("admin").get(f"/data-exports/api/exports/{dag}").status_code == 404
    assert as_user("admin").get("/data-exports/api/exports/data_export_check/check").status_code == 404


@pytest.mark.parametrize(
    "query", ["sort=password", "order=up", "limit=100000", "offset=-1", "limit=x", f"search={'x' * 101}"]
)
def test_a_question_that_makes_no_sense_is_refused(as_user: AsUser, query: str) -> None:
    assert as_user("admin").get(f"/data-exports/api/exports?{query}").status_code == 422


def test_no_calendar_is_asked_for_beyond_what_can_be_counted(as_user: AsUser, two_teams: tuple[str, str]) -> None:
    for before, status in {
        "0001-01-01T00:00:00Z": 422,
        "1969-12-31T23:59:59Z": 422,
        "1970-01-01T00:00:00Z": 200,
        "2999-12-31T23:59:59Z": 200,
        "3000-01-01T00:00:00Z": 422,
        "9999-12-31T23:59:59-12:00": 422,
    }.items():
        answer = as_user("admin").get(f"/data-exports/api/exports/{two_teams[0]}", params={"before": before})
        assert answer.status_code == status, before


def test_no_receipt_has_such_a_number(as_user: AsUser, two_teams: tuple[str, str]) -> None:
    for event in (-1, 2**31, 2**63):
        assert as_user("admin").get(f"/data-exports/api/exports/{two_teams[0]}/files/{event}").status_code == 422


def test_what_cannot_be_a_name_is_asked_of_no_database(
    as_user: AsUser, two_teams: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL refuses text with a NUL."""
    monkeypatch.setattr(DagModel, "get_team_name", lambda dag: pytest.fail(f"the database was asked for {dag!r}"))
    for dag in ("%00", f"{two_teams[0]}%00", "data_export__A", "~", "data_export_check"):
        for path in ("exports/{}", "exports/{}/check", "exports/{}/files/1"):
            assert as_user("admin").get(f"/data-exports/api/{path.format(dag)}").status_code == 404
            assert as_user(None).get(f"/data-exports/api/{path.format(dag)}").status_code == 401


def test_nobody_checks_where_there_is_no_dag_that_checks(
    as_user: AsUser, two_teams: tuple[str, str], history: History
) -> None:
    url = f"/data-exports/api/exports/{two_teams[0]}/check"
    assert as_user("admin").get(url).json()["may_check"] is True
    history.session.get_one(DagModel, "data_export_check").is_stale = True
    history.session.commit()
    assert as_user("admin").get(url).json()["may_check"] is False


def test_a_check_of_what_is_no_name_is_not_started(as_user: AsUser, history: History) -> None:
    history.export("ours")
    for name in ("../../../../dag-runs/data_export__ours/run/clear", "a/b", "A"):
        body = {"logical_date": None, "conf": {"export": name}}
        assert as_user("admin").post("/api/v2/dags/data_export_check/dagRuns", json=body).status_code == 400
    assert history.session.scalar(select(func.count()).select_from(DagRun)) == 0


def test_hostile_text_stays_data(as_user: AsUser, history: History) -> None:
    """JSON, never HTML, and with a content type that no browser sniffs."""
    dag = history.export("acme")
    run = history.run(dag, TODAY - DAY, TODAY, "failed", began=datetime.now(UTC) - timedelta(hours=1))
    history.result(run, "deliver", "failure", {"error": MARKUP, "message": MARKUP})
    (history.customers / "broken.yaml").write_text(f"site_id: ['{MARKUP}']\n")
    history.parse()
    for path in ("exports", "problems", "failures", f"exports/{dag}"):
        answer = as_user("admin").get(f"/data-exports/api/{path}")
        assert answer.headers["content-type"] == "application/json"
    assert MARKUP in as_user("admin").get("/data-exports/api/failures").text


def test_pages_may_run_scripts_of_their_own_only(as_user: AsUser) -> None:
    for path in ("", "export.html", "fleet.html"):
        policy = as_user(None).get(f"/data-exports/{path}").headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe-inline" not in policy.partition("style-src")[0]


GUARDS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


def test_every_answer_is_guarded(
    airflow: Any, as_user: AsUser, two_teams: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that tell of an error: none may be framed by others, or taken for another kind of file."""
    known = f"api/exports/{two_teams[0]}"
    expected = {
        ("admin", ""): 200, ("admin", "js/list.js"): 200, ("admin", "none.html"): 404, ("admin", known): 200,
        (None, known): 401, ("viewer", f"api/exports/{two_teams[1]}"): 403, ("admin", "api/exports/%00"): 404,
        ("admin", f"{known}?before=9999-12-31T00:00:00Z"): 422,
    }  # fmt: skip
    for (role, path), status in expected.items():
        answer = as_user(role).get(f"/data-exports/{path}")
        assert answer.status_code == status, path
        assert {name: answer.headers.get(name) for name in GUARDS} == GUARDS, path
    for error, status in ((ValueError("a fault of ours"), 500), (TimeoutError(), 503)):

        def fails(*_: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(page, "detail", fails)
        answer = as_user("admin").get(f"/data-exports/{known}")
        assert answer.status_code == status
        assert "a fault of ours" not in answer.text
        assert {name: answer.headers.get(name) for name in GUARDS} == GUARDS
