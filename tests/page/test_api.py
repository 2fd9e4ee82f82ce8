"""The page's API in Airflow's own application, with its own auth manager: who sees what, and hostile text."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.team import Team
from fastapi.testclient import TestClient

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
    ours, theirs = history.export("ours"), history.export("theirs")
    for dag in (ours, theirs):
        history.run(dag, TODAY - 2 * DAY, TODAY - DAY)
        run = history.run(dag, TODAY - DAY, TODAY, "failed", began=datetime.now(UTC) - timedelta(hours=1))
        history.result(run, "deliver", "failure", {"error": "AccessDenied", "message": f"{dag}: refused"})
    (history.customers / "theirs.yaml").write_text("site_id: [nonsense]\n")
    (history.customers / "nobody's.yaml").write_text("site_id: [nonsense]\n")
    history.parse()
    bundle = DagBundleModel(name="blue")
    bundle.teams = [Team(name="blue")]
    history.session.add(bundle)
    history.session.commit()
    history.session.get_one(DagModel, theirs).bundle_name = "blue"
    history.session.commit()
    return ours, theirs


PATHS = (
    "exports",
    "problems",
    "fleet",
    "failures",
    "volume",
    "exports/{}",
    "exports/{}/receipts/1",
    "exports/{}/check",
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
        fleet = client.get("/data-exports/api/fleet").json()
        assert fleet["exports"] == len(names)
        failures = client.get("/data-exports/api/failures").json()["failures"]
        assert {failure["name"] for group in failures for failure in group["examples"]} == names
        deliveries = sum(day["deliveries"] for day in client.get("/data-exports/api/volume").json()["days"])
        assert deliveries == len(names)


@pytest.mark.parametrize("path", PATHS[5:])
def test_another_teams_export_is_forbidden(as_user: AsUser, two_teams: tuple[str, str], path: str) -> None:
    url = f"/data-exports/api/{path.format(two_teams[1])}"
    assert as_user("viewer").get(url).status_code == 403
    assert as_user("viewer", ["blue"]).get(url).status_code in (200, 404)


def test_a_receipt_is_read_through_its_own_export_only(as_user: AsUser, two_teams: tuple[str, str]) -> None:
    ours, theirs = two_teams
    client = as_user("admin")
    windows = client.get(f"/data-exports/api/exports/{theirs}").json()["windows"]
    (event,) = [window["event_id"] for window in windows if window["event_id"]]
    assert (
        client.get(f"/data-exports/api/exports/{theirs}/receipts/{event}").json()["target"] == "gs://customer-bucket/"
    )
    assert client.get(f"/data-exports/api/exports/{ours}/receipts/{event}").status_code == 404


def test_import_errors_are_for_those_who_may_see_them(as_user: AsUser, two_teams: tuple[str, str]) -> None:
    def files(role: str, *teams: str) -> set[str]:
        problems = as_user(role, list(teams)).get("/data-exports/api/problems").json()["problems"]
        return {problem["file"] for problem in problems}

    assert files("admin") == {"theirs.yaml", "nobody's.yaml"}
    assert files("viewer") == {"nobody's.yaml"}


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
