"""What the watch tells of many exports, with a real mail server and a real staging area."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowTaskTimeout

from data_export.alerts.watch import Late, Standing
from data_export.config.load import load_customers
from data_export.window import ExportWindow
from data_export_airflow.alerting import sender as sending
from data_export_airflow.alerting import watch as watching
from data_export_airflow.alerting.sender import AlertSender
from data_export_airflow.alerting.summary import AlertSummary
from demo.mailbox import text_of
from demo.servers.smtp import SmtpServer
from tests.customers import GOOD, export
from tests.dags.mail_server import abandon, connect_to, no_time_to_notify, time_out, told

ANNA, BEN, PLATFORM = "anna@owners.example", "ben@owners.example", "data-platform@platform.example"
OWNERS = {"a-1": ANNA, "a-2": ANNA, "b-1": BEN, "nobodys": None}
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR, WEEK = timedelta(hours=1), timedelta(weeks=1)


def summary(now: datetime = NOON) -> AlertSummary:
    exports = {name: export("hourly", owner=owner) for name, owner in OWNERS.items()}
    return AlertSummary(AlertSender({}, now=now), exports, "http://airflow.example")


def late(*names: str, hour: int = 0) -> dict[str, list[Late]]:
    window = ExportWindow(NOON + (hour - 1) * HOUR, NOON + hour * HOUR)
    return {name: [Late(name, window, "none", "active")] for name in names}


def test_each_person_gets_one_mail_about_their_own_exports(server: SmtpServer) -> None:
    assert summary().late(late(*OWNERS)) == []
    assert told(server) == sorted([ANNA, BEN, PLATFORM])
    texts = {str(mail["To"]): text_of(mail) for mail in server.messages()}
    assert {name for name in OWNERS if f"- {name}:" in texts[ANNA]} == {"a-1", "a-2"}
    assert {name for name in OWNERS if f"- {name}:" in texts[PLATFORM]} == set(OWNERS)
    assert {str(mail["Subject"]) for mail in server.messages() if mail["To"] == BEN} == {"Data export b-1 is late"}


def test_further_windows_of_the_day_are_told_of_the_next_day(server: SmtpServer) -> None:
    for hour in range(24):
        summary(NOON + hour * HOUR / 4).late(late("b-1", hour=hour))
    assert len(told(server)) == 2
    summary(NOON + 24 * HOUR).late(late("b-1", hour=24))
    assert len(told(server)) == 4
    text = text_of(server.messages()[-1])
    assert "alerted about this on 2026-03-02; since then it has happened 24 more times" in text


def test_what_nobody_could_be_told_of_is_told_of_later(server: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connect_to(monkeypatch, 9)  # nobody listens
    assert summary().late(late("b-1")) == ["b-1"]
    connect_to(monkeypatch, server.port)
    assert summary(NOON + HOUR / 4).late(late("b-1")) == []
    assert told(server) == sorted([BEN, PLATFORM])


def test_what_a_time_out_ends_is_told_of_at_the_next_look(server: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    windows, alerted = {"b-1": [late("b-1")["b-1"][0].window]}, {"b-1": [BEN]}
    for look in (lambda: summary().late(late("b-1")), lambda: summary().delivered(windows, {"b-1": []}, alerted)):
        before = len(told(server))
        with time_out(monkeypatch), pytest.raises(AirflowTaskTimeout):
            look()
        assert len(told(server)) == before
        look()
        assert len(told(server)) > before


def test_what_was_mailed_before_a_notifier_took_the_rest_of_the_time_is_not_mailed_again(
    server: SmtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, alerted = {"b-1": [late("b-1")["b-1"][0].window]}, {"b-1": [BEN]}
    found = {"b-1": {"mark": "0" * 32, "lines": ["a file is missing"], "repairs": 0}}
    looks = (
        lambda: summary().late(late("b-1")),
        lambda: summary().broken({"b-1": ["b-1.yaml:2: dayly"]}),
        lambda: summary().damaged(found),
        lambda: summary().delivered(windows, {"b-1": []}, alerted),
    )
    with no_time_to_notify(monkeypatch):
        for look in looks:
            with pytest.raises(AirflowTaskTimeout):
                look()
    assert told(server) == sorted([BEN, PLATFORM] * 3 + [BEN])
    abandon(path for path in (tmp_path / "staging").rglob("*") if path.is_file())
    for look in looks[1:]:  # what came is news again when it is late again
        look()
    assert summary().late({}) == []
    assert len(told(server)) == 7


def test_what_was_mailed_before_the_time_was_over_is_not_mailed_again(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = sending.send

    def too_slow(*given: Any, **more: Any) -> None:
        send(*given, **more)
        raise AirflowTaskTimeout("Timeout, PID: 1")

    with monkeypatch.context() as patch:
        patch.setattr(sending, "send", too_slow)
        with pytest.raises(AirflowTaskTimeout):
            summary().late(late("nobodys"))
    assert summary().late(late("nobodys")) == []
    assert told(server) == [PLATFORM]


def test_each_person_gets_one_mail_of_all_that_came_late(server: SmtpServer) -> None:
    window, other = (late("x", hour=hour)["x"][0].window for hour in (0, 1))
    windows = {name: [other] for name in OWNERS}
    missing = {name: [window] * (name == "b-1") for name in OWNERS}
    alerted = {name: [PLATFORM, *([owner] if owner else [])] for name, owner in OWNERS.items()}
    assert summary().delivered(windows, missing, alerted) == [*OWNERS]
    assert summary().delivered(windows, missing, alerted) == [], "once a day"
    assert told(server) == sorted([ANNA, BEN, PLATFORM])
    texts = {str(mail["To"]): text_of(mail) for mail in server.messages()}
    assert {name for name in OWNERS if f"- {name}:" in texts[ANNA]} == {"a-1", "a-2"}
    assert "Nothing is to be done." in texts[ANNA]
    assert "2026-03-02 11:00 to 2026-03-02 12:00 UTC: not delivered yet" in texts[BEN]
    assert {str(mail["Subject"]) for mail in server.messages() if mail["To"] == PLATFORM} == {
        "Data exports deliver again"
    }


def test_a_notifier_that_took_it_is_enough(server: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the mail of the day is not sent again and again while the mail server is down."""
    connect_to(monkeypatch, 9)  # nobody listens
    taken: list[str] = []

    class Chat(BaseNotifier):
        def notify(self, context: Any) -> None:
            taken.append(context["alert"]["exports"])

    monkeypatch.setattr("tests.dags.test_summary.Chat", Chat, raising=False)
    monkeypatch.setenv("DATA_EXPORT_ALERTS__NOTIFIERS", '[{"class": "tests.dags.test_summary.Chat"}]')
    assert summary().late(late("b-1", "a-1")) == []
    assert summary(NOON + HOUR).late(late("b-1", "a-1", hour=1)) == []
    assert taken == ["b-1, a-1"]


def test_a_finding_is_told_of_once_and_again_only_where_that_mail_did_not_get_out(
    server: SmtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"b-1": {"mark": "0" * 32, "lines": ["a file is missing"], "repairs": 0}}
    with monkeypatch.context() as killed:
        for step in ("send", "give_back"):
            killed.setattr(AlertSender, step, lambda *_: set())
        summary().damaged(found)
    for week in range(1, 4):
        summary(NOON + week * WEEK).damaged(found)
        assert told(server) == sorted([BEN, PLATFORM])
    for mark in (tmp_path / "staging").rglob("2026-03-09/*"):
        mark.unlink()  # as in time it is: what was found meanwhile is known all the same
    summary(NOON + 4 * WEEK).damaged(found)
    assert told(server) == sorted([BEN, PLATFORM])


def test_a_broken_file_is_told_of_once_for_every_way_to_break_it(
    server: SmtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    (tmp_path / "c-1.yaml").write_text(f"owner: {BEN}\ninterval: [\n")
    (tmp_path / "c-2.yaml").write_text(f"owner: {BEN}\ninterval: dayly\n")
    summary().broken({"c-1": ["c-1.yaml:2: a bracket"], "c-2": ["c-2.yaml:2: dayly"]})
    summary(NOON + HOUR).broken({"c-2": ["c-2.yaml:2: dayly"]})
    assert told(server) == sorted([BEN, PLATFORM])  # the owner is read even where the rest is broken
    summary(NOON + 2 * HOUR).broken({"c-2": ["c-2.yaml:2: weakly"]})
    assert told(server) == sorted([BEN, BEN, PLATFORM, PLATFORM])


def test_an_export_whose_file_is_renamed_is_told_of(
    server: SmtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow still knows its DAG; nothing else would say that it runs no more."""

    class Runs:
        def standing(self, export: str) -> Standing:
            return "active"

    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    for name in ("C-1.yaml", "c-2.yml", "c-3.yaml", "c-3.yml"):
        (tmp_path / name).write_text(f"{GOOD % name}owner: {BEN}\n")
    broken = watching._broken(load_customers(), Runs())  # type: ignore[arg-type]
    assert list(broken) == ["c-1", "c-2"], "c-3 has a right file beside the wrong one"
    summary().broken(broken)
    assert told(server) == sorted([BEN, PLATFORM])
    assert "C-1.yaml: the name of a customer file must be" in text_of(server.messages()[0])
