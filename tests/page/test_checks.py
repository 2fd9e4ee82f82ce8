"""What the DAG `data_export_check` found, as the page reads it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from data_export_airflow.alerting.callbacks import AUDIT_DAG
from data_export_airflow.dags.service_dags import AUDIT_TASK, CHECK_DAG, CHECK_TASK
from data_export_airflow.metadata.failures import audit_in_words, audits, can_check, last_audit, last_check
from data_export_airflow.metadata.missing import MissingWindows
from data_export_airflow.metadata.overview import at_a_glance, standing
from tests.page.history import History

NOW = datetime(2026, 3, 10, 1, tzinfo=UTC)
GOOD = {"ok": True, "steps": [{"step": "target: list", "ok": True, "detail": "may list"}]}
BAD = {"ok": False, "steps": [{"step": "target: list", "ok": False, "detail": "grant storage.objects.list"}]}


def checked(history: History, number: int, state: str, found: dict[str, dict[str, object]], wanted: str | None) -> None:
    at = NOW + timedelta(hours=number)
    run = history.run(
        CHECK_DAG, at, at, "failed" if state == "failed" else "running", run_id=f"manual-{number}", run_type="manual",
        logical_date=None, conf={"export": wanted}, began=at,
    )  # fmt: skip
    run.state, run.end_date = state, at + timedelta(seconds=9) if state != "running" else None
    for index, (name, value) in enumerate(found.items()):
        history.result(run, "check", name, value, index, "success" if value["ok"] else "failed")
    history.session.commit()


def test_the_newest_result_counts(history: History) -> None:
    history.export("acme")
    checked(history, 1, "success", {"acme": GOOD, "other": GOOD}, None)
    checked(history, 2, "failed", {"other": GOOD, "acme": BAD}, None)
    found = last_check(history.session, "acme")
    assert found["result"] == {"run_id": "manual-2", "map_index": 1, "at": NOW + timedelta(hours=2, seconds=9), **BAD}
    assert found["running"] is False


@pytest.mark.parametrize("value", ["a text", ["a", "list"], {"damaged": 3}, {"error": {"of": "parts"}, "at": 7}])
def test_results_that_somebody_edited_break_nothing(history: History, value: object) -> None:
    history.export("acme")
    for dag, task in ((AUDIT_DAG, AUDIT_TASK), (CHECK_DAG, CHECK_TASK)):
        history.result(history.run(dag, NOW, NOW + timedelta(days=1), "failed"), task, "acme", value, state="success")
    assert audits(history.session) == {}
    results = (last_audit(history.session, "acme"), last_check(history.session, "acme")["result"])
    assert [result is None for result in results] == [not isinstance(value, dict)] * 2


def test_an_export_that_was_never_checked(history: History) -> None:
    history.export("acme")
    checked(history, 1, "success", {"other": GOOD}, "other")
    assert last_check(history.session, "acme") == {"result": None, "running": False}


def test_a_check_of_it_or_of_all_is_under_way(history: History) -> None:
    history.export("acme")
    checked(history, 1, "running", {}, "other")
    assert last_check(history.session, "acme")["running"] is False
    checked(history, 2, "running", {}, None)
    assert last_check(history.session, "acme")["running"] is True


def test_there_may_be_no_dag_that_checks(history: History) -> None:
    assert can_check(history.session) is False
    history.export("acme")
    assert can_check(history.session) is True


def test_the_newest_audit_of_each_export_counts(history: History) -> None:
    history.export("acme")
    for day, damaged in ((1, 3), (2, 0), (3, 2)):
        at = NOW + timedelta(days=day)
        run = history.run(
            AUDIT_DAG, at, at, "running", run_id=f"scheduled-{day}", run_type="manual", logical_date=None, began=at
        )
        found = {"at": at.isoformat(), "damaged": damaged, "repairs": 1, "findings": []}
        history.result(run, "audit", "acme", found, 0, "success")
        history.result(run, "audit", "other", found | {"damaged": 0}, 1, "success")
        history.result(run, "audit", "barred", {"at": at.isoformat(), "error": "AccessDenied: no"}, 2, "success")
    history.session.commit()
    last = last_audit(history.session, "acme")
    assert last is not None
    assert (last["run_id"], last["damaged"]) == ("scheduled-3", 2)
    assert last_audit(history.session, "nobody") is None
    said = "the audit of 2026-03-13 found 2 missing or damaged, 1 run cleared to repair"
    barred = "the audit of 2026-03-13 could not look: AccessDenied: no"
    assert audits(history.session) == {"acme": said, "barred": barred}
    shown = standing(history.session, at_a_glance(history.session, NOW, MissingWindows()).rows, {})
    rows = {row["name"]: row for row in shown}
    assert (rows["acme"]["audit"], rows["acme"]["reason"]) == (said, said)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"damaged": 0, "objects": 1234, "repairs": 0}, "found 1,234 objects as they were delivered"),
        (
            {"damaged": 0, "objects": 7, "repairs": 0, "cut": True},
            "found 7 objects as they were delivered; it did not get to all of them",
        ),
        ({"damaged": 1, "objects": 3, "repairs": 0}, "found 1 missing or damaged"),
        ({"error": "AccessDenied: no"}, "could not look: AccessDenied: no"),
    ],
)
def test_an_audit_in_words(found: dict[str, Any], words: str) -> None:
    assert audit_in_words({"at": "2026-03-13T04:00:00+00:00", **found}) == f"the audit of 2026-03-13 {words}"


@pytest.mark.parametrize("found", [{}, {"at": 7}, {"at": "2026-03-13", "damaged": 1}, {"at": "2026", "damaged": "x"}])
def test_an_audit_that_somebody_edited_has_no_words(found: dict[str, Any]) -> None:
    assert audit_in_words(found) == ""


def test_the_words_of_an_audit_move_no_cursor() -> None:
    assert audit_in_words({"at": "2026-03-13", "error": "no\x1b[2J"}).isprintable()
