"""What alerts say, and how their mails look."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any
from uuid import UUID

import pytest

from data_export.alerts.alert import Alert, as_text, compose
from data_export.alerts.failure import Failure, failure_alert, quarantine_alert
from data_export.alerts.late import broken_alert, broken_cause, late_alert
from data_export.alerts.watch import Late
from data_export.receipt import Receipt
from data_export.window import ExportWindow

WINDOW = ExportWindow(datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC))
FAILURE = Failure(
    export="acme-timeline",
    dag_id="data_export__acme_timeline",
    task="deliver",
    error="HostKeyMismatch",
    message="sftp.acme.example:22 shows <another> key",
    link="https://airflow.example/dags/data_export__acme_timeline/runs/r/tasks/deliver",
    window=WINDOW,
    site="433a60f6-9756-473e-b1e9-9e89e24bb787",
)
PEOPLE = ["bob@platform.example", "eve@platform.example", "BOB@platform.example"]
UI = "https://airflow.example"


def mails(alert: Alert, day: date = date(2025, 3, 17)) -> list[EmailMessage]:
    """As the recipients' programs read them."""
    composed = compose(alert, "exports@platform.example", PEOPLE, day)
    return [message_from_bytes(mail.as_bytes(), policy=default) for mail in composed]


def parts(mail: EmailMessage) -> list[str]:
    return [str(part.get_content()) for part in mail.iter_parts()]


def late(export: str = "acme", number: int = 0, **changes: Any) -> Late:
    shift = timedelta(days=number)
    return Late(export, ExportWindow(WINDOW.start + shift, WINDOW.end + shift), "none", "active")._replace(**changes)


def test_a_failure_says_customer_window_site_task_reason_fix_link_and_how_to_run_it_again() -> None:
    text, html = parts(mails(failure_alert(FAILURE))[0])
    for word in (
        "acme-timeline",
        "2025-03-16 00:00 to 2025-03-17 00:00 UTC",
        FAILURE.site,
        "deliver",
        "HostKeyMismatch: sftp.acme.example:22 shows",
        "Correct `sftp_host_key`",
        FAILURE.link,
        "python -m data_export_airflow backfill acme-timeline --from 2025-03-16T00:00:00+00:00 "
        "--to 2025-03-17T00:00:00+00:00 --reprocess failed",
    ):
        assert word in text, word
        assert word in html, word
    assert "<another>" in text
    assert "&lt;another&gt;" in html


def test_a_range_of_its_own_is_triggered_again_and_one_without_window_has_no_command() -> None:
    (command,) = failure_alert(replace(FAILURE, has_interval=False)).commands
    assert command == (
        "airflow dags trigger data_export__acme_timeline --conf "
        '\'{"from": "2025-03-16T00:00:00+00:00", "to": "2025-03-17T00:00:00+00:00"}\''
    )
    early = failure_alert(replace(FAILURE, window=None, site=""))
    assert early.commands == ()
    assert "Window" not in as_text(early)


def test_sites_of_one_run_that_fail_alike_are_one_cause() -> None:
    other = replace(FAILURE, site=str(UUID(int=1)), task="copy_images")
    assert failure_alert(other).cause == failure_alert(FAILURE).cause
    assert failure_alert(replace(FAILURE, message="another.example:22 shows another key")).cause != (
        failure_alert(FAILURE).cause
    )


def test_an_alert_links_to_what_is_known_of_its_error() -> None:
    alert = failure_alert(replace(FAILURE, guide="https://airflow.example/data-exports/errors.html#accessdenied"))
    assert alert.guide in as_text(alert)
    assert alert.to_dict()["guide"] == alert.guide
    (mail, *_) = mails(alert)
    html = mail.get_body(["html"])
    assert html is not None
    assert f'href="{alert.guide}"' in html.get_content()
    assert "About this error" not in as_text(replace(alert, guide=""))


def test_each_recipient_gets_one_mail_and_sees_no_other() -> None:
    sent = mails(failure_alert(FAILURE))
    assert [mail["To"] for mail in sent] == ["BOB@platform.example", "eve@platform.example"]
    for mail in sent:
        others = {person.lower() for person in PEOPLE} - {mail["To"].lower()}
        assert not [other for other in others if other.encode() in mail.as_bytes().lower()]


def test_mails_about_one_cause_are_one_thread_and_every_day_has_its_own() -> None:
    first, second = (mails(failure_alert(FAILURE), date(2025, 3, day))[0] for day in (17, 18))
    assert first["Subject"] == second["Subject"] == "Data export acme-timeline failed: HostKeyMismatch"
    assert first["References"] == second["References"]
    assert first["Message-ID"] != second["Message-ID"]
    assert first["Message-ID"] == mails(failure_alert(FAILURE))[0]["Message-ID"]
    site = mails(replace(failure_alert(FAILURE), link="https://airflow.example/another-site"))[0]
    assert site["Message-ID"] == first["Message-ID"]  # or a run of 300 sites is 300 mails where the ledger is away
    other = mails(failure_alert(replace(FAILURE, error="AccessDenied")))[0]
    assert other["References"] != first["References"]


def test_two_alerts_of_a_day_that_say_different_things_are_no_doubles() -> None:
    alert = replace(failure_alert(FAILURE), occasion="broken", items=("acme.yaml:3: one",))
    first, same, other = (mails(each)[0] for each in (alert, alert, replace(alert, items=("acme.yaml:4: another",))))
    assert first["Message-ID"] == same["Message-ID"] != other["Message-ID"]
    assert first["References"] == other["References"]
    retried = replace(alert, link=f"{alert.link}?try_number=2", repeated="You were alerted about this on 2025-03-16.")
    assert mails(retried)[0]["Message-ID"] == first["Message-ID"]


def test_a_repeat_says_so() -> None:
    text, html = parts(mails(replace(failure_alert(FAILURE), repeated="You were alerted about this on 2025-03-16."))[0])
    assert "alerted about this on 2025-03-16" in text
    assert "alerted about this on 2025-03-16" in html


def test_late_windows_say_what_became_of_their_runs_and_how_to_backfill_them() -> None:
    alert = late_alert([late(number=0), late(number=1), late(number=2, run="running")], UI, {"acme": "Again."})
    assert alert.subject == "Data export acme is late"
    assert alert.link == f"{UI}/dags/data_export__acme"
    assert alert.repeated == "Again."
    assert alert.items[1] == "acme: 2025-03-17 00:00 to 2025-03-18 00:00 UTC: no run was made"
    assert alert.items[2].endswith("its run is still going on")
    assert "catch" not in alert.fix
    assert "backfill the window" in alert.fix
    (command,) = alert.commands
    assert "backfill acme --from 2025-03-16T00:00:00+00:00 --to 2025-03-18T00:00:00+00:00" in command


def test_many_late_exports_are_one_mail_of_bounded_length() -> None:
    alert = late_alert([late(f"acme-{number}") for number in range(1000)], UI, {"acme-1": "x", "acme-2": ""})
    assert alert.subject == "Data exports are late"
    assert alert.link == f"{UI}/plugin/data-exports"
    assert "alerted about 1 of them" in alert.repeated
    assert len(alert.items) == len(alert.commands) == 51
    assert alert.items[-1] == "... and 950 more"


@pytest.mark.parametrize(("entry", "words"), [({"standing": "missing"}, "import errors"), ({"run": "queued"}, "pools")])
def test_the_fix_is_that_of_what_was_found(entry: dict[str, str], words: str) -> None:
    assert words in late_alert([late(**entry)], UI, {}).fix


def test_a_broken_file_says_its_problems() -> None:
    problems = {"acme": ["acme.yaml:3: interval: 'dayly' is not known (did you mean daily?)"]}
    alert = broken_alert(problems, UI, {})
    assert "acme" in alert.subject
    assert alert.items == tuple(problems["acme"])
    assert broken_cause(["a"]) != broken_cause(["b"])
    both = broken_alert(problems | {"other": ["other.yaml: empty"]}, UI, {})
    assert both.exports == ("acme", "other")
    assert len(both.items) == 2


def test_records_set_aside_are_counted_by_site_and_found() -> None:
    site = {"work_orders": 9, "bytes": 1, "sha256": "", "uri": "", "outcome": "created"}
    receipt = Receipt.model_validate(
        {
            "export": "acme",
            "export_type": "work-orders-timeline",
            "window": WINDOW.to_dict(),
            "connector": "gs",
            "target": "gs://bucket/",
            "config_hash": "",
            "delivered_at": "",
            "sites": [
                site | {"site_id": str(UUID(int=1)), "quarantined": 1200},
                site | {"site_id": str(UUID(int=2)), "quarantined": 0},
            ],
        }
    )
    text = as_text(quarantine_alert(receipt, "gs://staging/runs/acme/w/t/", 7, UI))
    for word in (
        "1,200 work orders",
        str(UUID(int=1)),
        "gs://staging/runs/acme/w/t/",
        "7 days",
        "2025-03-16 00:00",
        UI,
    ):
        assert word in text
    assert str(UUID(int=2)) not in text
    assert "all of the window" not in text
    assert "include/sql" not in text
    alone = receipt.sites[0].model_copy(update={"work_orders": 0})
    text = as_text(quarantine_alert(receipt.model_copy(update={"sites": [alone]}), "gs://staging/", 7, UI))
    assert "1,200 work orders, all of the window: its data file is empty" in text
    assert "look first whether a query in include/sql/ was edited" in text
    unread = alone.model_copy(update={"work_orders": None})
    text = as_text(quarantine_alert(receipt.model_copy(update={"sites": [unread]}), "gs://staging/", 7, UI))
    assert "all of the window" not in text
