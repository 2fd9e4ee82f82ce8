"""Telling people, with a real mail server and a real staging area: who gets how many mails, and what is not lost."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout

from data_export.alerts.failure import Failure, failure_alert
from data_export.alerts.ledger import was_alerted
from data_export.delivery.local.store import LocalStore
from data_export.errors import AccessDenied, ConfigError, SourceUnavailable, TargetRefused, TargetUnavailable
from data_export.receipt import ImagesCopied
from data_export.window import ExportWindow
from data_export_airflow.alerting.callbacks import on_failure, tell_left_out
from data_export_airflow.alerting.sender import AlertSender
from demo.mailbox import text_of
from demo.servers.smtp import SmtpServer
from tests.dags.failed_task import FAULT, OWNER, PLATFORM, START, context, receipt
from tests.dags.mail_server import abandon, connect_to, no_time_to_notify, time_out, told


def test_a_run_of_twenty_sites_that_fail_alike_is_one_mail_to_each(server: SmtpServer) -> None:
    for site in range(20):
        on_failure(context(site))
    assert told(server) == [PLATFORM, OWNER]
    for mail in server.messages():
        assert mail["X-RcptTo"] == mail["To"]
        text = text_of(mail)
        assert "AccessDenied: gs://bucket" in text
        assert "site-0" in text
        assert "/runs/scheduled__2025-03-16/tasks/deliver" in text


def test_a_notice_that_was_not_taken_is_no_run_to_be_made_again(server: SmtpServer) -> None:
    failed = context(error=TargetUnavailable("https://hooks.acme.example: 503"))
    failed["ti"].task_id = "notify"
    on_failure(failed)
    assert told(server) == [PLATFORM, OWNER]
    for mail in server.messages():
        text = text_of(mail)
        assert "TargetUnavailable: https://hooks.acme.example: 503" in text
        assert "sends what is left for a day" in text
        assert "backfill" not in text
        assert "has failed and is not tried again" not in text


@contextmanager
def hanging(at: str) -> Iterator[int]:
    """The port of a mail server that does not greet, or takes all that a client says but the mail itself."""

    def serve() -> None:
        with suppress(OSError), listener.accept()[0] as client, client.makefile("rb") as lines:
            client.sendall(b"220 slow\r\n" if at == "mail" else b"")
            for line in lines:
                if line.upper().startswith(b"DATA"):
                    lines.read()  # until the client goes
                client.sendall(b"250 yes\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # smtplib's own socket, half open
@pytest.mark.parametrize("at", ["greeting", "mail"])
def test_a_mail_server_that_hangs_leaves_the_alert_to_the_next_failure(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at: str
) -> None:
    """Airflow kills a task that is not over soon after its end, tries it again, and nobody had the alert."""
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "2")
    with hanging(at) as port:
        connect_to(monkeypatch, port)
        began = time.monotonic()
        on_failure(context())
        assert time.monotonic() - began < 4.5  # the server's own time-out is 5, and a farewell to it would take as long
    assert "the alert may not be out, or not be noted, after 1 s" in caplog.text
    connect_to(monkeypatch, server.port)
    on_failure(context(run=17))
    assert told(server) == [PLATFORM, OWNER]


@pytest.mark.parametrize("number", [1, 2])
def test_a_further_try_is_a_further_time(server: SmtpServer, tmp_path: Path, number: int) -> None:
    """A run that is cleared and fails again; but one try that is told of twice is one time."""
    on_failure(context())
    again = context()
    again["ti"].try_number = number
    on_failure(again)
    noted = [path.name for path in (tmp_path / "staging/alerts/acme").glob("*/*/*") if "told" not in path.parts]
    assert len(noted) - 1 == number  # the mail is noted too


def test_a_repeat_says_when_it_was_told_and_how_often_it_has_happened_since(server: SmtpServer) -> None:
    on_failure(context())
    on_failure(context(site=1))
    (first, _) = server.messages()
    alert = failure_alert(Failure("acme", "data_export__acme", "deliver", type(FAULT).__name__, str(FAULT), ""))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert AlertSender({}, now=tomorrow).send_once(alert, OWNER, "tomorrow's run")
    assert "told of this" not in text_of(first)
    said = f"alerted about this on {tomorrow - timedelta(days=1):%Y-%m-%d}; since then it has happened 2 more times"
    assert [said in text_of(mail) for mail in server.messages()[2:]] == [True, True]


def was_window_told(folder: Path, run: int = 16, export: str = "acme") -> bool:
    """Whether the watch will leave out this window, since people know."""
    window = ExportWindow(START.replace(day=run), START.replace(day=run + 1))

    async def ask() -> bool:
        async with LocalStore(folder) as staging:
            return await was_alerted(staging, export, window)

    return asyncio.run(ask())


def test_a_window_is_noted_as_told_only_when_somebody_was_told(
    server: SmtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_to(monkeypatch, 9)  # nobody listens
    on_failure(context())
    assert not was_window_told(tmp_path / "staging")
    connect_to(monkeypatch, server.port)
    on_failure(context())
    on_failure(context(run=17))  # a repeat: no mail, but people know
    assert [was_window_told(tmp_path / "staging", run) for run in (16, 17, 18)] == [True, True, False]
    assert told(server) == [PLATFORM, OWNER]


def test_a_repeat_beside_a_mail_that_does_not_get_out_is_left_to_the_watch(
    server: SmtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = AlertSender.claims

    def and_another_site_fails(sender: AlertSender, noted: Any) -> Any:
        taken = claims(sender, noted)
        monkeypatch.setattr(AlertSender, "claims", claims)
        on_failure(context(site=1))  # finds the claim taken
        return taken

    monkeypatch.setattr(AlertSender, "claims", and_another_site_fails)
    connect_to(monkeypatch, 9)  # nobody listens
    on_failure(context())
    assert told(server) == []
    assert not was_window_told(tmp_path / "staging")


def test_a_range_by_hand_is_the_window_although_prepare_has_failed(server: SmtpServer, tmp_path: Path) -> None:
    asked = {"from": "2025-03-02T00:00:00+01:00", "to": "2025-03-09T00:00:00+00:00"}
    on_failure(context() | {"params": asked})
    for mail in server.messages():
        assert "2025-03-01 23:00 to 2025-03-09 00:00 UTC" in text_of(mail)
        assert "airflow dags trigger data_export__acme --conf" in text_of(mail)  # a backfill would not make it again
    assert not was_window_told(tmp_path / "staging")


def test_another_cause_is_another_mail(server: SmtpServer) -> None:
    on_failure(context())
    on_failure(context(error=AccessDenied("gs://other: not granted")))
    assert len(told(server)) == 4


def test_an_export_without_owner_tells_the_platform(server: SmtpServer) -> None:
    on_failure(context(owner="data-export"))
    assert told(server) == [PLATFORM]


def test_other_peoples_words_are_not_mailed(server: SmtpServer) -> None:
    on_failure(context(error=RuntimeError("password=canary-secret")))
    (mail, _) = server.messages()
    assert b"canary-secret" not in mail.as_bytes()
    assert "RuntimeError" in mail["Subject"]


def test_words_that_are_no_text_cost_nobody_their_mail(server: SmtpServer) -> None:
    """A lone surrogate: what Python makes of bytes of a server or a file's name that are not UTF-8."""
    for run in (16, 17):
        on_failure(context(run=run, error=TargetUnavailable("sftp.x: the server answers 'caf\udce9'")))
    assert told(server) == [PLATFORM, OWNER]
    assert all("the server answers 'caf\\udce9'" in text_of(mail) for mail in server.messages())


def test_the_watch_s_own_failure_is_not_called_an_export_s(server: SmtpServer, tmp_path: Path) -> None:
    failed = context(owner="airflow", error=ConfigError("include/customers cannot be listed: create it"))
    failed["ti"].dag_id, failed["ti"].task_id = "data_export_watch", "look"
    on_failure(failed)
    (mail,) = server.messages()
    text = " ".join(text_of(mail).split())
    assert mail["Subject"] == "The watch for late data exports failed: ConfigError"
    assert "nobody is alerted about windows that are late" in text
    assert "include/customers cannot be listed: create it" in text
    assert "the data export data_export_watch" not in text
    assert "check data_export_watch" not in text
    assert "backfill" not in text


def test_notices_that_were_given_up_are_not_called_the_watch_s_failure(server: SmtpServer) -> None:
    failed = context(owner="airflow", error=TargetRefused("acme: bi@customer.example was given up after a day"))
    failed["ti"].dag_id, failed["ti"].task_id = "data_export_watch", "notices"
    on_failure(failed)
    (mail,) = server.messages()
    text = " ".join(text_of(mail).split())
    assert mail["Subject"] == "Sending notices of data exports again failed: TargetRefused"
    assert "may not have heard of a delivery" in text
    assert "late" not in text


def test_a_task_that_took_too_long_says_how_long(server: SmtpServer) -> None:
    failed = context(error=AirflowTaskTimeout("Timeout, PID: 1"))
    failed["task"].execution_timeout = timedelta(hours=6)
    on_failure(failed)
    assert ["still running after 6:00:00" in text_of(mail) for mail in server.messages()] == [True, True]


def test_an_alert_that_a_time_out_ends_goes_out_the_next_time(
    server: SmtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with time_out(monkeypatch):
        on_failure(context())
    assert not was_window_told(tmp_path / "staging")
    for _ in range(2):
        on_failure(context())
    assert told(server) == [PLATFORM, OWNER]


def test_an_alert_that_was_mailed_before_a_notifier_took_the_time_is_not_mailed_again(
    server: SmtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with no_time_to_notify(monkeypatch):
        on_failure(context())
    assert was_window_told(tmp_path / "staging")
    assert [*(tmp_path / "staging/alerts/acme/open").glob("*-known")]
    abandon((tmp_path / "staging").rglob("mail"))
    on_failure(context())
    assert told(server) == [PLATFORM, OWNER]


def test_a_worker_that_died_is_told_of(server: SmtpServer) -> None:
    on_failure(context(error=None))
    assert ["WorkerLost" in mail["Subject"] for mail in server.messages()] == [True, True]


def test_without_the_ledger_people_are_told_in_any_case(
    server: SmtpServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "staging").write_text("a file in the place of the folder")
    on_failure(context())
    assert told(server) == [PLATFORM, OWNER]
    assert "cannot read the alert ledger in staging" in caplog.text


def test_what_was_sent_while_the_ledger_was_away_is_noted_when_it_is_back(
    server: SmtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, calls = AlertSender.ledger, count()
    monkeypatch.setattr(AlertSender, "ledger", lambda *given: ledger(*given) if next(calls) else None)
    on_failure(context())
    assert told(server) == [PLATFORM, OWNER]
    assert was_window_told(tmp_path / "staging")
    assert [*(tmp_path / "staging/alerts/acme/open").glob("*-known")]


def test_a_mail_server_that_is_down_loses_nothing(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connect_to(monkeypatch, 9)  # nobody listens
    on_failure(context(site=0))
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "2 of 2 alert mails were not sent" in record.getMessage()
    assert OWNER not in caplog.text
    connect_to(monkeypatch, server.port)
    on_failure(context(site=1))
    assert told(server) == [PLATFORM, OWNER]


def test_a_refused_recipient_keeps_nobody_from_their_mail(server: SmtpServer, caplog: pytest.LogCaptureFixture) -> None:
    server.refused = {OWNER}
    on_failure(context())
    assert told(server) == [PLATFORM]
    assert "`owner` in the customer file or alerts.emails" in caplog.text
    on_failure(context(site=1))
    assert told(server) == [PLATFORM]


def test_records_set_aside_are_told_of_once_a_day(server: SmtpServer, tmp_path: Path) -> None:
    tell_left_out(context(), receipt(quarantined=0), "runs/acme/window/token")
    assert told(server) == []
    for run in (16, 17):
        tell_left_out(context(run=run), receipt(quarantined=3), "runs/acme/window/token")
    assert told(server) == [PLATFORM, OWNER]
    text = text_of(server.messages()[0])
    assert f"file://{tmp_path}/staging/runs/acme/window/token/" in text


def test_recipients_who_are_refused_are_told_of_masked(server: SmtpServer) -> None:
    refused = receipt(quarantined=0).model_copy(update={"refused_recipients": ["e***@customer.example"]})
    for run in (16, 17):
        tell_left_out(context(run=run), refused, "runs/acme/window/token")
    assert told(server) == [PLATFORM, OWNER]
    text = text_of(server.messages()[0])
    for said in ("e***@customer.example", "Correct `emails`", "2025-03-16 00:00 to 2025-03-17 00:00 UTC"):
        assert said in text


def test_images_that_failed_are_told_of_once_with_their_reason(server: SmtpServer) -> None:
    """The run succeeded, so what `copy_images` alone would need of staging is gone."""
    whole = receipt(quarantined=0)
    images = ImagesCopied(site_id=whole.sites[0].site_id, copied=3, failed=1, failures=["a.png: it is archived"])
    failed = whole.model_copy(update={"sites": [whole.sites[0].model_copy(update={"images": images})]})
    for run in (16, 17):
        tell_left_out(context(run=run), failed, "runs/acme/window/token")
    assert told(server) == [PLATFORM, OWNER]
    text = text_of(server.messages()[0])
    for said in ("1 of its images could not be read or stored", "a.png: it is archived", "from `extract` on"):
        assert said in text


def test_telling_of_records_set_aside_never_fails_a_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_EXPORT_PLATFORM_FILE", "/nowhere/platform.yaml")
    tell_left_out(context(), receipt(quarantined=3), "runs/acme")


DOWN = SourceUnavailable("source: Failed to connect: server closed the connection")


def of(server: SmtpServer, person: str) -> list[str]:
    return [text_of(mail) for mail in server.messages() if mail["To"] == person]


def test_a_fault_that_thousands_of_exports_share_is_not_a_mail_for_each(server: SmtpServer) -> None:
    for number in range(1, 16):
        on_failure(context(export=f"acme{number}", owner=f"o{number}@owners.example", error=DOWN))
    listed = of(server, PLATFORM)
    assert [f"export acme{number} has failed" in text for number, text in enumerate(listed, 1)] == [True] * 10
    assert ["This is the 10th export" in text for text in listed] == [False] * 9 + [True]
    for number in range(1, 16):  # whose export it is knows at once
        (text,) = of(server, f"o{number}@owners.example")
        assert "This is the 10th export" not in text
    on_failure(context(export="acme16", owner="o16@owners.example"))
    assert len(of(server, PLATFORM)) == 11, "another cause is told of"


@pytest.mark.parametrize("owner", ["data-export", PLATFORM.upper()])
def test_what_nobody_was_told_of_is_left_to_the_watch(server: SmtpServer, tmp_path: Path, owner: str) -> None:
    """Hence it comes in one mail, when the windows are late."""
    for number in range(1, 13):
        on_failure(context(export=f"acme{number}", owner=owner, error=DOWN))
    assert len(server.messages()) == 10
    told_windows = [was_window_told(tmp_path / "staging", export=f"acme{number}") for number in range(1, 13)]
    assert told_windows == [True] * 10 + [False] * 2


def test_mails_that_were_not_sent_are_not_counted(server: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connect_to(monkeypatch, 9)  # nobody listens
    for number in range(12):
        on_failure(context(export=f"acme{number}", owner="data-export", error=DOWN))
    connect_to(monkeypatch, server.port)
    for number in range(12):
        on_failure(context(export=f"acme{number}", owner="data-export", error=DOWN))
    assert told(server) == [PLATFORM] * 10


def test_records_set_aside_are_each_export_s_own(server: SmtpServer) -> None:
    for number in range(12):
        left_out = receipt(quarantined=1).model_copy(update={"export": f"acme{number}"})
        tell_left_out(context(export=f"acme{number}", owner="data-export"), left_out, "runs/acme")
    assert told(server) == [PLATFORM] * 12
