"""Telling people, with a real mail server and a real staging area: who gets how many mails, and what is not lost."""

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowTaskTimeout

from data_export.config.alerts import NotifierSettings
from data_export.errors import AccessDenied, ConfigError
from data_export.receipt import Receipt
from data_export_airflow.alerts import on_failure, tell_left_out
from data_export_airflow.checking import _alerts as check_alerts
from data_export_airflow.notifiers import make
from data_export_airflow.telling import Teller
from demo.mailbox import text_of
from demo.servers.smtp import SmtpServer
from tests.dags.mail_server import connect_to, told

OWNER, PLATFORM = "owner@platform.example", "data-platform@platform.example"
START = datetime(2025, 3, 16, tzinfo=UTC)
FAULT = AccessDenied("gs://bucket: not granted: grant roles/storage.objectCreator")
HERE = "tests.dags.test_alerts"
_noted: list[dict[str, Any]] = []


class Noting(BaseNotifier):
    """Keeps what it is told."""

    template_fields = ("text",)

    def __init__(self, text: str, **options: Any) -> None:
        super().__init__(**options)
        self.text = text

    def notify(self, context: Any) -> None:
        _noted.append({"text": self.text, "alert": context["alert"]})


class Raising(BaseNotifier):
    def notify(self, context: Any) -> None:
        raise RuntimeError("https://hooks.example/s3cret-token is gone")


def notifiers(monkeypatch: pytest.MonkeyPatch, *settings: dict[str, Any]) -> None:
    monkeypatch.setenv("DATA_EXPORT_ALERTS__NOTIFIERS", json.dumps(settings))


def context(site: int = 0, run: int = 16, error: BaseException | None = FAULT, owner: str = OWNER) -> dict[str, Any]:
    """Of a task that has failed, as Airflow gives it to a callback."""
    start = START.replace(day=run)
    run_id = f"scheduled__{start:%Y-%m-%d}"
    return {
        "ti": SimpleNamespace(
            dag_id="data_export__acme",
            run_id=run_id,
            task_id="deliver",
            map_index=site,
            try_number=1,
            log_url=f"http://airflow.example/dags/data_export__acme/runs/{run_id}/tasks/deliver",
            xcom_pull=lambda **_: None,
        ),
        "task": SimpleNamespace(owner=owner, op_kwargs={"site_id": f"site-{site}"}),
        "dag_run": SimpleNamespace(data_interval_start=start, data_interval_end=start + timedelta(days=1)),
        "params": {},
        "exception": error,
    }


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


def test_a_task_that_took_too_long_says_how_long(server: SmtpServer) -> None:
    failed = context(error=AirflowTaskTimeout("Timeout, PID: 1"))
    failed["task"].execution_timeout = timedelta(hours=6)
    on_failure(failed)
    assert ["still running after 6:00:00" in text_of(mail) for mail in server.messages()] == [True, True]


def test_a_worker_that_died_is_told_of(server: SmtpServer) -> None:
    on_failure(context(error=None))
    assert ["WorkerLost" in mail["Subject"] for mail in server.messages()] == [True, True]


def test_without_the_ledger_people_are_told_in_any_case(
    server: SmtpServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "staging").write_text("a file in the place of the folder")
    on_failure(context())
    assert told(server) == [PLATFORM, OWNER]
    assert "which alerts were sent is not known" in caplog.text


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


def test_notifiers_are_told_once_with_their_templates_rendered(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _noted.clear()
    kwargs = {"text": "{{ alert.subject }} ({{ run_id }})"}
    notifiers(monkeypatch, {"class": f"{HERE}.Noting", "kwargs": kwargs, "on": ["failure"]})
    for site in range(3):
        on_failure(context(site) | {"run_id": "r1"})
    (noted,) = _noted
    assert noted["text"] == "Data export acme failed: AccessDenied (r1)"
    assert noted["alert"]["link"].endswith("/tasks/deliver")
    assert "grant roles" in noted["alert"]["text"]
    tell_left_out(context(), receipt(quarantined=1), "runs/acme")
    assert len(_noted) == 1  # it wants failures only


def test_a_notifier_that_fails_costs_nobody_their_mail_and_tells_no_secret(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    notifiers(monkeypatch, {"class": "no.such.Notifier"}, {"class": f"{HERE}.Raising"})
    on_failure(context())
    assert told(server) == [PLATFORM, OWNER]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("data_export")]
    assert any("no.such.Notifier cannot be imported" in message for message in ours)
    assert any("Raising could not be told: RuntimeError" in message for message in ours)
    assert not any("s3cret-token" in message for message in ours)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"class": "no_such_package.Notifier"}, "cannot be imported"),
        ({"class": f"{HERE}.NoSuch"}, "cannot be imported"),
        ({"class": "pathlib.Path"}, "not a subclass of airflow.sdk.BaseNotifier"),
        ({"class": f"{HERE}.Noting", "kwargs": {"txt": "x"}}, "does not take these kwargs"),
    ],
)
def test_a_notifier_that_cannot_be_made_says_why(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(NotifierSettings.model_validate(setting))


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


def test_telling_of_records_set_aside_never_fails_a_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_EXPORT_PLATFORM_FILE", "/nowhere/platform.yaml")
    tell_left_out(context(), receipt(quarantined=3), "runs/acme")


def receipt(quarantined: int) -> Receipt:
    site = {"site_id": "433a60f6-9756-473e-b1e9-9e89e24bb787", "work_orders": 9, "quarantined": quarantined}
    return Receipt.model_validate(
        {
            "export": "acme",
            "export_type": "work-orders-timeline",
            "window": {"start": START.isoformat(), "end": (START + timedelta(days=1)).isoformat()},
            "connector": "gs",
            "target": "gs://bucket/",
            "config_hash": "",
            "delivered_at": "",
            "sites": [site | {"bytes": 1, "sha256": "", "uri": "", "outcome": "created"}],
        }
    )


def test_the_check_tries_recipients_and_notifiers_and_sends_nothing(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    notifiers(monkeypatch, {"class": f"{HERE}.Noting", "kwargs": {"text": "x"}}, {"class": "no.such.Notifier"})
    server.refused = {PLATFORM}
    owned: Any = SimpleNamespace(owner=OWNER)
    results = check_alerts(owned, Teller({}).settings)
    assert [(result.step, result.ok) for result in results] == [
        ("alerts: server and login accepted", True),
        ("alerts: recipient 1", True),
        ("alerts: recipient 2", False),
        ("alerts: notifier", True),
        ("alerts: notifier", False),
    ]
    assert "alerts.emails in platform.yaml" in results[2].detail
    assert told(server) == []
