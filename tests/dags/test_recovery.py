"""Delivered again: whoever was alerted to failures hears of it, once, and of what is still missing."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from smtplib import SMTP
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout

from data_export.delivery.email.send import send
from data_export.errors import TargetUnavailable
from data_export.window import ExportWindow
from data_export_airflow.alerting.callbacks import on_failure, tell_recovered
from data_export_airflow.alerting.sender import AlertSender
from demo.mailbox import text_of
from demo.servers.smtp import SmtpServer
from tests.dags.failed_task import FAULT, OWNER, PLATFORM, START, context
from tests.dags.mail_server import abandon, connect_to, no_time_to_notify, time_out, told


def window(day: int, days: int = 1) -> ExportWindow:
    start = START.replace(day=day)
    return ExportWindow(start, start + timedelta(days=days))


def delivered(day: int, days: int = 1, **changes: Any) -> None:
    of_task = context(run=day, **changes)
    of_task["ti"].task_id = "close"
    tell_recovered(of_task, window(day, days))


def recoveries(server: SmtpServer) -> list[Any]:
    return [mail for mail in server.messages() if "again" in mail["Subject"]]


def test_an_export_that_never_failed_says_nothing(server: SmtpServer) -> None:
    delivered(16)
    assert told(server) == []


def test_two_failed_runs_and_the_next_delivery_are_one_mail_to_each_who_knew(server: SmtpServer) -> None:
    on_failure(context(run=16))
    on_failure(context(run=16, site=1))
    on_failure(context(run=17, error=type(FAULT)("another bucket")))
    before = len(told(server))
    delivered(16)  # an older window, while a newer one has failed: nothing is over yet
    assert len(told(server)) == before
    delivered(17)
    delivered(18)
    mails = recoveries(server)
    assert sorted(mail["To"] for mail in mails) == [PLATFORM, OWNER]
    for mail in mails:
        assert mail["Subject"] == "Data export acme delivers again"
        assert "has delivered again after 2 failed runs." in text_of(mail)
        assert "Nothing is to be done." in text_of(mail)


def test_a_recovery_that_a_time_out_ends_is_told_of_with_the_next_delivery(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_failure(context(run=16))
    with time_out(monkeypatch), pytest.raises(AirflowTaskTimeout):
        delivered(17)
    delivered(18)
    assert sorted(mail["To"] for mail in recoveries(server)) == [PLATFORM, OWNER]


def test_a_recovery_that_was_mailed_before_a_notifier_took_the_time_is_not_mailed_again(
    server: SmtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_failure(context(run=16))
    with no_time_to_notify(monkeypatch), pytest.raises(AirflowTaskTimeout):
        delivered(17)
    abandon((tmp_path / "staging").rglob("recovered/*"))
    delivered(18)
    assert sorted(mail["To"] for mail in recoveries(server)) == [PLATFORM, OWNER]


def test_what_is_still_missing_is_named_with_the_command(server: SmtpServer) -> None:
    for day in (14, 15, 16):
        on_failure(context(run=day))
    delivered(15)
    delivered(17)
    (mail, _) = recoveries(server)
    text = text_of(mail)
    assert "after 3 failed runs" in text
    assert "2025-03-14 00:00 to 2025-03-15 00:00 UTC: not delivered yet" in text
    assert "2025-03-15 00:00 to" not in text
    assert "backfill acme --from 2025-03-14T00:00:00+00:00 --to 2025-03-17T00:00:00+00:00 --reprocess failed" in text


def test_what_was_run_by_hand_is_run_by_hand_again(server: SmtpServer) -> None:
    on_failure(context(run=14))
    by_hand = context(run=15) | {"params": {"from": "2025-03-15T06:00:00+00:00", "to": "2025-03-15T09:00:00+00:00"}}
    on_failure(by_hand)
    delivered(17)
    text = text_of(recoveries(server)[0])
    assert "2025-03-15 06:00 to 2025-03-15 09:00 UTC: not delivered yet" in text
    assert "backfill acme --from 2025-03-14T00:00:00+00:00 --to 2025-03-15T00:00:00+00:00" in text
    assert '"from": "2025-03-15T06:00:00+00:00", "to": "2025-03-15T09:00:00+00:00"' in text


def test_one_range_may_deliver_all_that_failed(server: SmtpServer) -> None:
    for day in (14, 16):
        on_failure(context(run=day))
    delivered(14, days=3)
    assert len(recoveries(server)) == 2
    assert "Nothing is to be done." in text_of(recoveries(server)[0])


def test_an_export_that_fails_and_delivers_in_turn_is_no_storm(server: SmtpServer) -> None:
    for day in range(10, 20):
        on_failure(context(run=day))
        delivered(day)
    assert len(recoveries(server)) == 2  # one to each
    # People read that it is over, so the failure after that is reported although there was a mail of it this day.
    assert len(told(server)) == 2 + 2 * 2
    tomorrow = AlertSender(context(), now=datetime.now(UTC) + timedelta(days=1))
    tomorrow.send_recovered("acme", "acme", window(20), "")
    (mail, _) = recoveries(server)[2:]
    assert "after 9 failed runs" in text_of(mail)


@contextmanager
def in_doubt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The mail server takes each mail, but its answers are lost."""

    def unanswered(messages: Sequence[EmailMessage], connect: Callable[[], SMTP], **_: Any) -> None:
        send(messages, connect)
        raise TargetUnavailable("no answer")

    with monkeypatch.context() as patch:
        patch.setattr("data_export_airflow.alerting.sender.send", unanswered)
        yield


@pytest.mark.parametrize("dag", ["data_export__acme", "data_export_watch"])
def test_mailboxes_take_a_failure_after_a_recovery_for_another_one_and_a_second_try_for_the_same(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch, dag: str
) -> None:
    """They drop a mail whose Message-ID they have."""

    def of_run(run: int) -> dict[str, Any]:
        task = context(run=run)
        task["ti"].dag_id, task["ti"].task_id = dag, "look"
        return task

    on_failure(of_run(16))
    with in_doubt(monkeypatch):
        tell_recovered(of_run(17), window(17))
    tell_recovered(of_run(18), window(18))
    with in_doubt(monkeypatch):
        on_failure(of_run(19))
    on_failure(of_run(20))
    for person in (OWNER, PLATFORM):
        mails = [mail for mail in server.messages() if mail["To"] == person]
        assert ["again" in mail["Subject"] for mail in mails] == [False, True, True, False, False]
        ids = [mail["Message-ID"] for mail in mails]
        assert [ids.index(each) for each in ids] == [0, 1, 1, 3, 3]


def test_nobody_hears_of_a_recovery_from_what_nobody_heard(server: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connect_to(monkeypatch, 9)  # nobody listens
    on_failure(context())
    connect_to(monkeypatch, server.port)
    delivered(17)
    assert told(server) == []


def test_a_mail_server_that_is_down_delays_the_recovery(server: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    on_failure(context())
    connect_to(monkeypatch, 9)
    delivered(17)
    connect_to(monkeypatch, server.port)
    delivered(18)
    assert len(recoveries(server)) == 2


def test_another_export_and_a_failed_notice_are_no_recovery(server: SmtpServer) -> None:
    on_failure(context())
    delivered(17, export="other")
    noticing = context(run=17, export="third")
    noticing["ti"].task_id = "notify"
    on_failure(noticing)
    delivered(18, export="third")
    assert recoveries(server) == []


def test_a_failure_without_a_window_is_over_with_any_delivery(server: SmtpServer) -> None:
    failed = context(run=16)
    failed["dag_run"].data_interval_start = None
    on_failure(failed)
    delivered(10)
    assert len(recoveries(server)) == 2


def test_the_watch_works_again(server: SmtpServer) -> None:
    failed = context()
    failed["ti"].dag_id, failed["ti"].task_id = "data_export_watch", "look"
    on_failure(failed)
    tell_recovered(failed)
    assert [mail["Subject"] for mail in recoveries(server)] == ["DAG data_export_watch works again"] * 2


def test_what_is_damaged_in_staging_fails_no_delivery(server: SmtpServer, tmp_path: Path) -> None:
    on_failure(context())
    for path in (tmp_path / "staging/alerts/acme/open").iterdir():
        path.write_bytes(b"{}")
    delivered(17)
    assert recoveries(server) == []
