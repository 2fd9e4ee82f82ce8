"""Notices: what people and receivers are told, once, and again for a day where they do not take it."""

import asyncio
import json
import smtplib
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from data_export.config.platform import MailSettings
from data_export.delivery.local.store import LocalStore
from data_export.errors import TargetRefused, TargetUnavailable
from data_export.pipeline import notice
from data_export.pipeline.notice import LONGEST, Means, record, send_left
from data_export.receipt import Receipt
from data_export.window import ExportWindow
from demo.servers.smtp import SmtpServer
from tests.connectors.receiver import SECRET, Receiver, certificate, noticed, receiver
from tests.pipeline.staged_run import NOW

__all__ = ["certificate", "receiver"]
MAIL = MailSettings.model_validate(
    {"from": "exports@platform.example", "platform": "Inspecto", "contact": "data@platform.example"}
)


class Noticing:
    """An export's notices, with its receiver and a mail server."""

    def __init__(self, folder: Path, url: str, server: SmtpServer) -> None:
        self.staging = LocalStore(folder / "staging")
        self.on = noticed(url).on_delivery
        self.server = server
        self.means = Means(MAIL, self.connect, lambda _on: SECRET, private=True)

    def connect(self) -> smtplib.SMTP:
        return smtplib.SMTP(self.server.host, self.server.port, timeout=10)

    def deliver(self, sha256: str = "ab" * 32, timezone: str = "UTC") -> None:
        asyncio.run(record(receipt(sha256), self.staging, NOW, timezone))

    def send(self, later: timedelta = timedelta(), window: ExportWindow | None = None) -> int:
        return asyncio.run(send_left("acme", self.on, self.staging, self.means, NOW + later, window=window))


def receipt(sha256: str) -> Receipt:
    site = {
        "site_id": "433a60f6-9756-473e-b1e9-9e89e24bb787",
        "name": "Lille Nord",
        "work_orders": 3,
        "quarantined": 0,
        "bytes": 9,
        "sha256": sha256,
        "uri": "gs://acme/x.json",
        "outcome": "created",
    }
    window = {"start": "2025-03-16T00:00:00+00:00", "end": "2025-03-17T00:00:00+00:00"}
    return Receipt.model_validate(
        {
            "export": "acme",
            "export_type": "work-orders-timeline",
            "window": window,
            "connector": "gs",
            "target": "gs://acme/",
            "config_hash": "0",
            "sites": [site],
            "delivered_at": "2025-06-01T00:00:00+00:00",
        }
    )


@pytest.fixture
def noticing(tmp_path: Path, receiver: Receiver) -> Iterator[Noticing]:
    with SmtpServer(tmp_path / "mail") as server:
        yield Noticing(tmp_path, receiver.url, server)


def test_each_window_is_one_webhook_and_one_mail_with_the_receipt(noticing: Noticing, receiver: Receiver) -> None:
    noticing.deliver()
    assert (noticing.send(), noticing.send()) == (1, 0)
    ((headers, body),) = receiver.requests
    assert Receipt.model_validate(json.loads(body)) == receipt("ab" * 32)
    (mail,) = noticing.server.messages()
    assert (mail["To"], headers["webhook-id"] in mail["Message-ID"]) == ("bi@acme.example", True)
    assert "3 work orders" in str(mail)
    noticing.deliver()  # a repeat of the window with the same files
    assert noticing.send() == 0
    noticing.deliver("cd" * 32)
    assert noticing.send() == 1
    assert receiver.requests[1][0]["webhook-id"] != headers["webhook-id"]


def test_files_that_changed_and_changed_back_are_three_notices(noticing: Noticing, receiver: Receiver) -> None:
    for sha256 in ("ab" * 32, "cd" * 32, "ab" * 32):
        noticing.deliver(sha256)
        noticing.deliver(sha256)  # `close` repeated
        assert (noticing.send(), noticing.send()) == (1, 0)
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 3


def test_a_notice_that_was_kept_by_a_close_that_died_is_one(noticing: Noticing, tmp_path: Path) -> None:
    """As are those that an earlier version kept, which did not note the window's last one."""
    noticing.deliver()
    for path in (tmp_path / "staging" / "told").rglob("*"):
        path.is_file() and path.unlink()
    noticing.deliver()
    assert (noticing.send(), noticing.send()) == (1, 0)
    noticing.deliver()
    assert noticing.send() == 0


def test_a_run_sends_the_notices_of_its_own_window_alone(noticing: Noticing, receiver: Receiver) -> None:
    """Another run's file may name other people by now."""
    noticing.deliver()
    own = receipt("ab" * 32).export_window
    assert noticing.send(window=ExportWindow(own.end, own.end + timedelta(days=1))) == 0
    assert receiver.requests == []
    assert (noticing.send(window=own), len(receiver.requests)) == (1, 1)


def test_a_worker_whose_clock_is_behind_sends_the_notice_too(noticing: Noticing) -> None:
    noticing.deliver()
    assert noticing.send(timedelta(minutes=-3)) == 1


def test_what_notify_may_be_at_is_left_to_it(noticing: Noticing) -> None:
    noticing.deliver()
    on, staging, means, older = noticing.on, noticing.staging, noticing.means, timedelta(minutes=25)
    for minutes, sent in ((24, 0), (25, 1)):
        now = NOW + timedelta(minutes=minutes)
        assert asyncio.run(send_left("acme", on, staging, means, now, older=older)) == sent


def test_what_was_sent_is_not_read_again(noticing: Noticing, receiver: Receiver, tmp_path: Path) -> None:
    noticing.deliver()
    assert noticing.send() == 1
    (kept,) = (tmp_path / "staging" / "notices" / "acme").iterdir()
    assert kept.read_bytes() == b""
    noticing.deliver()  # a repeat
    assert noticing.send() == 0
    assert len(receiver.requests) == 1


def test_a_notice_speaks_the_customers_language(noticing: Noticing) -> None:
    noticing.deliver(timezone="Europe/Paris")
    noticing.send()
    (mail,) = noticing.server.messages()
    assert mail["Reply-To"] == "data@platform.example"
    assert mail["Subject"] == ("Inspecto export delivered: acme, 2025-03-16 01:00 to 2025-03-17 01:00 (Europe/Paris)")
    body = mail.get_body(["plain"])
    assert body is not None
    text = body.get_content()
    for said in (
        "; 2025-03-16 00:00 to 2025-03-17 00:00 UTC)",
        "Lille Nord: gs://acme/x.json",
        "Write to data@platform",
    ):
        assert said in text, said


def test_it_is_repeated_with_one_id_and_given_up_after_a_day_once(noticing: Noticing, receiver: Receiver) -> None:
    noticing.deliver()
    receiver.status = 503
    for later in (timedelta(), timedelta(hours=1), LONGEST):
        with pytest.raises(TargetUnavailable, match="503"):
            noticing.send(later)
    with pytest.raises(TargetRefused, match="given up"):
        noticing.send(LONGEST + timedelta(minutes=1))
    assert noticing.send(LONGEST + timedelta(minutes=20)) == 0
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
    assert len({body for _, body in receiver.requests}) == 1
    assert len(receiver.requests) == 4
    assert len(noticing.server.messages()) == 1  # who has it gets no second one


def test_what_is_given_up_is_told_of_though_staging_fails_then(
    noticing: Noticing, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.status = 503
    noticing.deliver()
    noticing.deliver("cd" * 32)
    read, calls = notice._read, count()

    async def then_fails(staging: Any, key: str) -> Any:
        if next(calls):
            raise TargetUnavailable("staging does not answer")
        return await read(staging, key)

    monkeypatch.setattr(notice, "_read", then_fails)
    with pytest.raises(TargetRefused, match=r"given up after a day.*staging does not answer"):
        noticing.send(LONGEST + timedelta(minutes=1))


def test_what_cannot_be_read_keeps_no_other_notice_back(noticing: Noticing, tmp_path: Path) -> None:
    noticing.deliver()
    (tmp_path / "staging" / "notices" / "acme" / "msg_0.json").write_text("{")
    assert noticing.send() == 1


def test_a_receiver_that_is_back_gets_what_is_left(noticing: Noticing, receiver: Receiver) -> None:
    noticing.deliver()
    noticing.deliver("cd" * 32)
    receiver.status = 500
    with pytest.raises(TargetUnavailable):
        noticing.send()
    receiver.status = 200
    assert noticing.send(timedelta(hours=20)) == 2


def test_a_receiver_that_takes_long_keeps_no_notice_behind_the_same_one(
    noticing: Noticing, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(step=40)  # the first notice is tried, and after it 80 of 60 seconds are over
    monkeypatch.setattr(notice, "monotonic", lambda: next(clock))
    for number in range(4):
        noticing.deliver(f"{number}" * 64)
    receiver.status = 503
    for _ in range(40):
        with pytest.raises(TargetUnavailable, match=r"answered 503; other notices wait, since these took long"):
            noticing.send()
    assert len(receiver.requests) == 40
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 4


def test_what_is_left_goes_when_the_file_names_nobody_any_more(noticing: Noticing, receiver: Receiver) -> None:
    noticing.deliver()
    receiver.status = 500
    with pytest.raises(TargetUnavailable):
        noticing.send()
    assert asyncio.run(send_left("acme", None, noticing.staging, noticing.means, NOW)) == 1
    assert len(receiver.requests) == 1


def test_a_notice_that_staging_does_not_keep_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "staging").write_text("a file in place of the folder")
    with pytest.raises(TargetRefused, match="a file is in the place of a folder"):
        asyncio.run(record(receipt("ab" * 32), LocalStore(tmp_path / "staging"), NOW))
