"""The mail server of tests that tell people: where it is, and whom it was asked to tell."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout

from demo.servers.smtp import SmtpServer


def connect_to(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    extra = {"disable_ssl": True, "disable_tls": True, "retry_limit": 1, "timeout": 5}
    fields = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_EXPORT_SMTP", json.dumps(fields))


@contextmanager
def time_out(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The task's time is over as soon as the mail server is asked for, which no `except Exception` sees."""

    def too_late(_: str) -> None:
        raise AirflowTaskTimeout("Timeout, PID: 1")

    with monkeypatch.context() as patch:
        patch.setattr("data_export_airflow.alerting.sender.smtp_factory", too_late)
        yield


@contextmanager
def no_time_to_notify(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A notifier takes the rest of the task's time, and the process is killed before it gives anything back."""

    def too_late(*_: object) -> None:
        raise AirflowTaskTimeout("Timeout, PID: 1")

    with monkeypatch.context() as patch:
        patch.setattr("data_export_airflow.alerting.sender.AlertSender.notify", too_late)
        patch.setattr("data_export_airflow.alerting.sender.AlertSender.give_back", lambda *_: None)
        yield


def abandon(marks: Iterable[Path]) -> None:
    """Makes marks of the ledger as old as those of a process that must have been killed."""
    then = time.time() - 21 * 60
    for mark in marks:
        os.utime(mark, (then, then))


def told(server: SmtpServer) -> list[str]:
    return sorted(str(mail["To"]) for mail in server.messages())
