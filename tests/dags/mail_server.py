"""The mail server of tests that tell people: where it is, and whom it was asked to tell."""

import json

import pytest

from demo.servers.smtp import SmtpServer


def connect_to(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    extra = {"disable_ssl": True, "disable_tls": True, "retry_limit": 1, "timeout": 5}
    fields = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_EXPORT_SMTP", json.dumps(fields))


def told(server: SmtpServer) -> list[str]:
    return sorted(str(mail["To"]) for mail in server.messages())
