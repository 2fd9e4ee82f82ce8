"""Which window a run is for, whoever started it."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.definitions.param import process_params
from airflow.sdk.exceptions import ParamValidationError
from airflow.timetables.simple import NullTimetable
from pendulum import instance

from data_export.config.models import dag_id
from data_export.config.sections import LimitSettings
from data_export.errors import ConfigError
from data_export.limits import limits_of
from data_export_airflow.dags.factory import build_dag
from data_export_airflow.schedule.windows import latest_length, starting_in, window_of_run
from data_export_airflow.timetables import timetable_of
from tests.customers import export

SETTLE = timedelta(minutes=5)
RANGE = {"from": "2025-03-02T00:00:00Z", "to": "2025-03-09T00:00:00Z"}
NOW = datetime(2025, 3, 20, 12, tzinfo=UTC)


def context(
    start: datetime | None = None, end: datetime | None = None, at: datetime = NOW, **params: str | None
) -> dict[str, Any]:
    run = SimpleNamespace(data_interval_start=start, data_interval_end=end, run_after=at)
    return {"params": params, "dag_run": run}


def day(number: int) -> datetime:
    return datetime(2025, 3, number, tzinfo=UTC)


def test_a_scheduled_run_is_for_its_data_interval() -> None:
    window = window_of_run(export(), context(day(16), day(17)), SETTLE)
    assert (window.start, window.end) == (day(16), day(17))


def test_the_trigger_form_wins() -> None:
    form = {"from": "2025-03-02T00:00:00+01:00", "to": "2025-03-09T00:00:00Z"}
    window = window_of_run(export(), context(day(16), day(17), **form), SETTLE)
    assert str(window) == "[2025-03-01T23:00:00+00:00, 2025-03-09T00:00:00+00:00)"


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"from": "2025-03-02T00:00:00Z"}, "only one of"),
        ({"to": "2025-03-02T00:00:00Z"}, "only one of"),
        ({"from": "2025-03-02", "to": "2025-03-03"}, "no time zone"),
        ({"from": "2025-03-03T00:00:00Z", "to": "2025-03-02T00:00:00Z"}, "before it begins"),
        (
            {"from": "2025-03-02T00:00:00Z", "to": "2025-03-02T01:00:00+01:00"},
            "ends .* when it begins",
        ),
        (
            {"From": "2025-03-02T00:00:00Z", "To": "2025-03-03T00:00:00Z"},
            "From, To: an export has only the parameters `from` and `to`",
        ),
    ],
)
def test_a_wrong_form_is_told(form: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        window_of_run(export(), context(day(16), day(17), **form), SETTLE)


@pytest.mark.parametrize("key", RANGE)
def test_a_range_that_airflow_is_set_to_ignore_is_refused(key: str) -> None:
    """`dag_run_conf_overrides_params` is off: the last window would be exported, and the run be a success."""
    ignored = context(day(16), day(17), **{"from": None, "to": None})
    ignored["dag_run"].conf = {key: RANGE[key]}
    with pytest.raises(ConfigError, match=f"{key}='{RANGE[key]}'.*dag_run_conf_overrides_params"):
        window_of_run(export(), ignored, SETTLE)
    ignored["dag_run"].conf = {"from": None, "to": None}
    assert window_of_run(export(), ignored, SETTLE).start == day(16)


def test_airflow_hands_over_a_misspelt_parameter_too() -> None:
    dag = build_dag("acme", export(), limits_of("acme", export(), LimitSettings()))
    form = {"From": "2025-03-02T00:00:00Z", "to": None}
    params = process_params(dag, dag.get_task("prepare"), form, suppress_exception=False)
    with pytest.raises(ConfigError, match="From: an export has only"):
        window_of_run(export(), context(**params), SETTLE)


@pytest.mark.parametrize("form", [{}, RANGE], ids=["scheduled", "by hand"])
def test_a_task_that_goes_by_the_plan_has_the_parameters_unchecked(
    form: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id("acme"))  # as the task runner does
    for task, refuses in (("prepare", True), ("deliver", False)):
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", task)
        dag = build_dag("acme", export(), limits_of("acme", export(), LimitSettings()))
        params = process_params(dag, dag.get_task(task), dict(form), suppress_exception=False)
        assert params == {"from": None, "to": None} | form
        with pytest.raises(ParamValidationError) if refuses else nullcontext():
            process_params(dag, dag.get_task(task), {"from": "no moment"}, suppress_exception=False)


def test_a_run_without_interval_takes_the_last_settled_window() -> None:
    window = window_of_run(export(), context(), SETTLE)
    assert (window.start, window.end) == (day(19), day(20))
    early = window_of_run(export(), context(at=day(20) + timedelta(minutes=4)), SETTLE)
    assert (early.start, early.end) == (day(18), day(19))


def test_a_later_try_is_of_the_same_window() -> None:
    """A run that was triggered before midnight, and is cleared the next day."""
    run = context(at=day(20) - timedelta(minutes=1))
    window = window_of_run(export(), run, SETTLE)
    assert (window.start, window.end) == (day(18), day(19))


def test_once_is_always_its_whole_range() -> None:
    once = export("once", start_date="2025-03-01", end_date="2025-03-11")
    window = window_of_run(once, context(), SETTLE)
    assert (window.start, window.end) == (day(1), day(11))


def test_the_last_window_ends_at_the_end_date() -> None:
    window = window_of_run(export(end_date="2025-03-16T12:00:00"), context(day(16), day(17)), SETTLE)
    assert window.end == datetime(2025, 3, 16, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "end", "why"),
    [
        (day(17), day(16), "ends .* before it begins"),
        (day(16), day(17) + timedelta(microseconds=1), "has a fraction of a second"),
    ],
)
def test_a_data_interval_that_is_no_window_is_told_with_the_fix(start: datetime, end: datetime, why: str) -> None:
    """REST takes any; so may the timetable of somebody's own DAG."""
    with pytest.raises(ConfigError, match=f"data interval is not a window .*{why}.* trigger a run with `from` and"):
        window_of_run(export(), context(start, end), SETTLE)


def test_whatever_class_of_instants_airflow_hands_over_a_window_has_plain_ones() -> None:
    window = window_of_run(export(), context(instance(day(16)), instance(day(17))), SETTLE)
    assert (type(window.start), type(window.length)) == (datetime, timedelta)


def test_the_windows_that_start_in_a_range_are_those_of_the_schedule_up_to_its_very_end() -> None:
    daily = timetable_of(export(start_date="2025-03-10"), SETTLE)
    moment = timedelta(microseconds=1)
    assert [each.start for each in starting_in(daily, day(10), day(12))] == [day(10), day(11)]
    assert [each.start for each in starting_in(daily, day(10) + moment, day(12) + moment)] == [day(11), day(12)]
    assert list(starting_in(daily, day(12), day(12))) == []
    assert latest_length(daily, NOW) == timedelta(days=1)


def test_once_is_in_a_range_only_where_it_starts_there() -> None:
    once = timetable_of(export("once", start_date="2025-03-05", end_date="2025-03-11"), SETTLE)
    ranges = [(day(1), day(5)), (day(1), day(6)), (day(5), day(6)), (day(6), day(12))]
    assert [len(list(starting_in(once, *bounds))) for bounds in ranges] == [0, 1, 1, 0]


def test_a_dag_without_a_schedule_has_no_windows() -> None:
    assert list(starting_in(NullTimetable(), day(1), day(12))) == []
    assert latest_length(NullTimetable(), NOW) == timedelta(0)
