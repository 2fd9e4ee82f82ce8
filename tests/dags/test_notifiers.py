"""Any Airflow notifier that platform.yaml names: told with its templates rendered, and never at others' cost."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseNotifier

from data_export.config.sections import NotifierSettings
from data_export.errors import AccessDenied, ConfigError
from data_export_airflow.alerting.callbacks import on_failure, tell_left_out
from data_export_airflow.alerting.notifiers import make
from data_export_airflow.alerting.sender import AlertSender
from data_export_airflow.execution.checking import _alerts as check_alerts
from data_export_airflow.execution.checking import _tried
from demo.servers.smtp import SmtpServer
from tests.dags.failed_task import OWNER, PLATFORM, context, receipt
from tests.dags.mail_server import told

HERE = "tests.dags.test_notifiers"
_noted: list[dict[str, Any]] = []


class Noting(BaseNotifier):
    """Keeps what it is told."""

    template_fields = ("text",)

    def __init__(self, text: str, **options: Any) -> None:
        super().__init__(**options)
        self.text = text

    def notify(self, context: Any) -> None:
        _noted.append({"text": self.text, "alert": context["alert"]})


class Choosy(BaseNotifier):
    """Does not take an address without a scheme."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(**options)
        raise ValueError(f"{url} is no address")

    def notify(self, context: Any) -> None:
        raise AssertionError("it cannot be made")


class Raising(BaseNotifier):
    def notify(self, context: Any) -> None:
        raise RuntimeError("https://hooks.example/s3cret-token is gone")


def notifiers(monkeypatch: pytest.MonkeyPatch, *settings: dict[str, Any]) -> None:
    monkeypatch.setenv("DATA_EXPORT_ALERTS__NOTIFIERS", json.dumps(settings))


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


def test_what_looks_like_a_template_in_an_error_stays_text(server: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A customer's server words it, and templates reach the connections."""
    _noted.clear()
    notifiers(monkeypatch, {"class": f"{HERE}.Noting", "kwargs": {"text": "{{ alert.text }}"}})
    on_failure(context(error=AccessDenied("'{{ 7 * 191 }}' {% raw %} {{ conn.export_s3.password }} is refused")))
    (noted,) = _noted
    assert "'{{ 7 * 191 }}' {% raw %} {{ conn.export_s3.password }} is refused" in " ".join(noted["text"].split())


def test_a_notifier_that_fails_costs_nobody_their_mail_and_tells_no_secret(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    notifiers(monkeypatch, {"class": "no.such.Notifier"}, {"class": f"{HERE}.Raising"})
    on_failure(context())
    assert told(server) == [PLATFORM, OWNER]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("data_export")]
    assert any("no.such.Notifier cannot be imported" in message for message in ours)
    assert any("Raising did not take the alert: RuntimeError" in message for message in ours)
    assert not any("s3cret-token" in message for message in ours)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"class": "no_such_package.Notifier"}, "cannot be imported"),
        ({"class": f"{HERE}.NoSuch"}, "cannot be imported"),
        ({"class": "pathlib.Path"}, "not a subclass of airflow.sdk.BaseNotifier"),
        ({"class": f"{HERE}.Noting", "kwargs": {"txt": "x"}}, "does not take these kwargs"),
        ({"class": f"{HERE}.Choosy", "kwargs": {"url": "s3cret-token"}}, r"does not take its kwargs \(ValueError\)"),
        ({"class": "tests.dags.not_importable.Notifier"}, r"cannot be imported \(RuntimeError\)"),
    ],
)
def test_a_notifier_that_cannot_be_made_says_why(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        make(NotifierSettings.model_validate(setting))
    assert "s3cret-token" not in str(caught.value)


def test_a_real_notifier_named_in_platform_yaml_delivers(
    server: SmtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's own for mail, as the file spells it: types of its arguments, templates, connection and all."""
    (tmp_path / "platform.yaml").write_text(
        """\
source: {images_uri: "gs://images/{site_id}/{input_id}"}
staging: {uri: "gs://set-by-the-environment/"}
mail: {from: exports@platform.example}
alerts:
  notifiers:
    - class: airflow.providers.smtp.notifications.smtp.SmtpNotifier
      kwargs:
        smtp_conn_id: export_smtp
        from_email: alerts@platform.example
        to: [on-call@platform.example]
        subject: "{{ alert.subject }}"
        html_content: "<pre>{{ alert.text }}</pre>"
        cc: null
        custom_headers: {X-Priority: "1", X-Export: "{{ alert.exports }}"}
"""
    )
    monkeypatch.setenv("DATA_EXPORT_PLATFORM_FILE", str(tmp_path / "platform.yaml"))
    on_failure(context(owner="data-export"))
    (mail,) = server.messages()
    assert (mail["From"], mail["To"], mail["Cc"]) == ("alerts@platform.example", "on-call@platform.example", None)
    assert mail["Subject"] == "Data export acme failed: AccessDenied"
    assert (mail["X-Priority"], mail["X-Export"]) == ("1", "acme")
    html = mail.get_body(("html",))
    assert html is not None
    assert "AccessDenied: gs://bucket: not granted: grant roles/storage.objectCreator" in html.get_content()


def test_the_check_tries_recipients_and_notifiers_and_sends_nothing(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {"class": f"{HERE}.Choosy", "kwargs": {"url": "x"}}
    notifiers(monkeypatch, {"class": f"{HERE}.Noting", "kwargs": {"text": "x"}}, {"class": "no.such.Notifier"}, wrong)
    server.refused = {PLATFORM}
    owned: Any = SimpleNamespace(owner=OWNER)
    results = [
        result for step in check_alerts(owned, AlertSender({}).settings) for result in _tried(step.name, step.check)
    ]
    assert [(result.step, result.ok) for result in results] == [
        ("alerts: server and login accepted", True),
        ("alerts: recipient 1", True),
        ("alerts: recipient 2", False),
        ("alerts: notifier", True),
        ("alerts: notifier", False),
        ("alerts: notifier", False),
    ]
    assert "alerts.emails in platform.yaml" in results[2].detail
    assert told(server) == []
