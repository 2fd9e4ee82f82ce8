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

from data_export.config.models import EXPORT
from data_export.config.platform import MailSettings
from data_export.delivery.local.store import LocalStore
from data_export.delivery.threads import run_async
from data_export.errors import AccessDenied, TargetRefused, TargetUnavailable
from data_export.pipeline import notice
from data_export.pipeline.notice import LONGEST, Means, record, send_left
from data_export.receipt import ImagesCopied, Receipt
from data_export.window import ExportWindow
from data_export_airflow.execution.steps import report_given_up
from demo.servers.smtp import SmtpServer
from tests.connectors.receiver import SECRET, Receiver, certificate, noticed, receiver
from tests.pipeline.staged_run import NOW
from tests.time_limit import LimitReached, limit, slow_down

__all__ = ["certificate", "receiver"]
URL = "https://hooks.acme.example/exports"
MAIL = MailSettings.model_validate(
    {"from": "exports@platform.example", "platform": "Inspecto", "contact": "data@platform.example"}
)


class Noticing:
    """An export's notices, with its receiver and a mail server."""

    def __init__(self, folder: Path, url: str, server: SmtpServer) -> None:
        self.staging = LocalStore(folder / "staging")
        self.export = noticed(url)
        self.server = server
        self.means = Means(MAIL, self.connect, lambda _on: SECRET, private=True)

    def connect(self) -> smtplib.SMTP:
        return smtplib.SMTP(self.server.host, self.server.port, timeout=10)

    def deliver(self, sha256: str = "ab" * 32, delivered: Receipt | None = None) -> None:
        asyncio.run(record(delivered or receipt(sha256), self.export, self.staging, NOW))

    def send(self, later: timedelta = timedelta(), **which: Any) -> int:
        given_up: dict[str, str] = {}
        try:
            return self.look(given_up, later, **which)
        finally:
            report_given_up(given_up, self.staging)

    def look(self, given_up: dict[str, str], later: timedelta = timedelta(), **which: Any) -> int:
        """Without what a look does at its end."""
        return run_async(send_left("acme", self.export, self.staging, self.means, NOW + later, given_up, **which))

    def changed(self, **keys: Any) -> None:
        """The customer file, edited."""
        self.export = EXPORT.validate_python(self.export.model_dump(mode="json") | keys)


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


def test_of_a_kept_file_that_cannot_be_read_no_number_is_told(noticing: Noticing) -> None:
    delivered = receipt("ab" * 32)
    unread = delivered.sites[0].model_copy(update={"work_orders": None, "outcome": "kept"})
    noticing.deliver(delivered=delivered.model_copy(update={"sites": [unread]}))
    assert noticing.send() == 1
    (mail,) = noticing.server.messages()
    said = mail.get_body(["plain"]).get_content()
    assert "gs://acme/x.json (an unknown number of work orders, kept)" in said
    assert "has arrived: 1 site, an unknown number of work orders, 9 B" in said


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
    for minutes, sent in ((24, 0), (25, 1)):
        assert noticing.send(timedelta(minutes=minutes), older=timedelta(minutes=25)) == sent


def test_what_was_sent_is_not_read_again(noticing: Noticing, receiver: Receiver, tmp_path: Path) -> None:
    noticing.deliver()
    assert noticing.send() == 1
    (kept,) = (tmp_path / "staging" / "notices" / "acme").iterdir()
    assert kept.read_bytes() == b""
    noticing.deliver()  # a repeat
    assert noticing.send() == 0
    assert len(receiver.requests) == 1


def test_a_notice_speaks_the_customers_language(noticing: Noticing) -> None:
    noticing.changed(timezone="Europe/Paris")
    noticing.deliver()
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
    with pytest.raises(TargetRefused, match="given up after a day") as raised:
        noticing.send(LONGEST + timedelta(minutes=1))
    assert "staging does not answer" in str(raised.value.__context__)


def test_what_a_killed_look_gave_up_is_told_of_by_the_next(noticing: Noticing, receiver: Receiver) -> None:
    receiver.status = 503
    noticing.deliver()
    given_up: dict[str, str] = {}
    assert noticing.look(given_up, LONGEST + timedelta(minutes=1)) == 0  # and here it is killed
    assert len(given_up) == 1
    with pytest.raises(TargetRefused, match=r"acme: notice msg_\w+, given up after a day: .*503"):
        noticing.send(LONGEST + timedelta(minutes=16))
    assert noticing.send(LONGEST + timedelta(minutes=31)) == 0


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


def several(noticing: Noticing, count: int) -> list[str]:
    """That many people, and no webhook."""
    people = [f"p{number}@acme.example" for number in range(count)]
    noticing.changed(on_delivery={"emails": people})
    noticing.deliver()
    return people


def test_nobody_is_mailed_twice_where_a_time_limit_ends_the_look(
    noticing: Noticing, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down(noticing.server, monkeypatch, 0.15)
    people, limits = several(noticing, 9), 0
    for _ in range(9):
        try:
            with limit(0.4):
                noticing.send()
        except LimitReached:
            limits += 1
    assert limits > 1
    assert sorted(str(mail["To"]) for mail in noticing.server.messages()) == people


def test_a_server_that_takes_long_for_each_mail_gets_the_others_with_the_next_looks(
    noticing: Noticing, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(step=40)  # 80 of 60 seconds are over when some have their mail
    monkeypatch.setattr(notice, "monotonic", lambda: next(clock))
    people = several(noticing, 9)
    for _ in range(2):
        with pytest.raises(TargetUnavailable, match="other recipients wait, since these took long"):
            noticing.send()
    assert noticing.send() == 1
    assert sorted(str(mail["To"]) for mail in noticing.server.messages()) == people


def test_nobody_is_always_behind_those_whose_refusal_takes_long(
    noticing: Noticing, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = set[str]()

    async def not_now(_server: Any, _session: Any, _envelope: Any, address: str, _options: Any) -> str:
        asked.add(address)
        return "451 4.7.1 try again later"

    monkeypatch.setattr(noticing.server, "handle_RCPT", not_now, raising=False)
    people = several(noticing, 6)
    for _ in range(30):
        monkeypatch.setattr(notice, "monotonic", count(step=35).__next__)
        with pytest.raises(TargetUnavailable, match=r"4\.7\.1.*other recipients wait"):
            noticing.send()
    assert asked == {*people}


def test_no_address_in_staging_and_no_word_of_the_platforms_stores_leaves_the_house(
    noticing: Noticing, receiver: Receiver
) -> None:
    """Of a link by mail the folder in staging is what the mailed file's address has too."""
    mailed, name = receipt("ab" * 32), "0b1c.png"
    secret = "gs://staging/runs/acme/2025/0123456789abcdef/x.json"
    images = ImagesCopied(
        site_id=mailed.sites[0].site_id,
        missing_list=secret,
        failed=1,
        failures=[f"{name}: gs://platform-images/{name}: 403: robot@platform.example has no access"],
    )
    site = mailed.sites[0].model_copy(update={"uri": secret, "outcome": "staged", "images": images})
    delivered = mailed.model_copy(update={"target": "email", "sites": [site]})
    noticing.deliver(delivered=delivered)
    assert noticing.send() == 1
    ((_, body),) = receiver.requests
    (mail,) = noticing.server.messages()
    (attached,) = mail.iter_attachments()
    plain = mail.get_body(["plain"])
    assert plain is not None
    assert f"Lille Nord: {site.site_id} (3 work orders, staged)" in plain.get_content()
    for text in (body.decode(), attached.get_content().decode(), mail.as_string()):
        for word in ("0123456789abcdef", "gs://", "robot"):
            assert word not in text
    (told,) = json.loads(body)["sites"]
    assert {*told} == {*delivered.to_dict()["sites"][0]}
    assert (told["uri"], told["images"]["missing_list"]) == ("", None)
    assert told["images"]["failures"] == [f"{name}: could not be copied"]


def test_a_list_of_missing_images_at_the_target_is_named(noticing: Noticing, receiver: Receiver) -> None:
    there = "gs://acme/receipts/x.missing-images.txt"
    delivered = receipt("ab" * 32)
    images = ImagesCopied(site_id=delivered.sites[0].site_id, missing_list=there)
    site = delivered.sites[0].model_copy(update={"images": images})
    noticing.deliver(delivered=delivered.model_copy(update={"sites": [site]}))
    noticing.send()
    ((_, body),) = receiver.requests
    assert json.loads(body)["sites"][0]["images"]["missing_list"] == there


@pytest.mark.parametrize(
    "edited",
    [
        {"customer": "bolt"},
        {"connector_config": {"storage_uri": "gs://bolt/", "export_images": False}},
        {"connector_type": "email", "connector_config": {"emails": ["bi@bolt.example"]}},
    ],
)
def test_what_was_made_for_another_customer_or_target_is_sent_to_nobody(
    noticing: Noticing, receiver: Receiver, edited: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    noticing.changed(customer="acme")
    noticing.deliver()
    noticing.changed(**edited)
    assert (noticing.send(), noticing.send()) == (0, 0)
    assert (receiver.requests, noticing.server.messages()) == ([], [])
    assert "the file's customer or target is another by now" in caplog.text


def test_other_domains_of_a_links_recipients_are_another_customer(noticing: Noticing, receiver: Receiver) -> None:
    def mailed_to(recipient: str) -> None:
        noticing.changed(connector_type="email", connector_config={"emails": [recipient]})

    mailed_to("bob@acme.example")
    noticing.deliver()
    mailed_to("eve@acme.example")
    receiver.status = 503
    with pytest.raises(TargetUnavailable):
        noticing.send()
    mailed_to("bob@bolt.example")
    receiver.status = 204
    assert (noticing.send(), len(receiver.requests)) == (0, 1)


def test_a_customer_that_the_file_did_not_name_is_the_same(noticing: Noticing, receiver: Receiver) -> None:
    noticing.deliver()
    noticing.changed(customer="acme")
    assert (noticing.send(), len(receiver.requests)) == (1, 1)


def test_a_run_of_an_earlier_plan_leaves_the_notice_of_another_target_alone(
    noticing: Noticing, receiver: Receiver
) -> None:
    noticing.changed(customer="acme")
    noticing.deliver()
    noticing.changed(customer="bolt")
    assert noticing.send(window=receipt("ab" * 32).export_window) == 0
    noticing.changed(customer="acme")
    assert (noticing.send(), len(receiver.requests)) == (1, 1)


def test_who_was_never_tried_is_not_given_up(noticing: Noticing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looked for a day, and the server is slow."""
    people = several(noticing, 9)
    clock = count(step=40)
    monkeypatch.setattr(notice, "monotonic", lambda: next(clock))
    for _ in range(2):
        with pytest.raises(TargetUnavailable, match="other recipients wait"):
            noticing.send(LONGEST * 2)
    assert noticing.send(LONGEST * 2) == 1
    assert sorted(str(mail["To"]) for mail in noticing.server.messages()) == people


def test_a_login_that_is_refused_is_not_tried_for_each_recipient(
    noticing: Noticing, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def refused() -> Any:
        asked.append(1)
        raise AccessDenied("the login is refused (535)")

    several(noticing, 9)
    noticing.means = noticing.means._replace(connect=refused)
    with pytest.raises(TargetUnavailable, match="535"):
        noticing.send()
    assert len(asked) == 1


def test_a_notice_of_an_earlier_version_is_sent(noticing: Noticing, receiver: Receiver, tmp_path: Path) -> None:
    """Which did not note for whom it was."""
    noticing.deliver()
    (kept,) = (tmp_path / "staging" / "notices" / "acme").iterdir()
    known = json.loads(kept.read_bytes())
    assert known.pop("whose")
    kept.write_text(json.dumps(known))
    assert (noticing.send(), len(receiver.requests)) == (1, 1)


def test_what_is_left_goes_when_the_file_names_nobody_any_more(noticing: Noticing, receiver: Receiver) -> None:
    noticing.deliver()
    receiver.status = 500
    with pytest.raises(TargetUnavailable):
        noticing.send()
    noticing.changed(on_delivery=None)
    assert noticing.send() == 1
    assert len(receiver.requests) == 1


def test_a_notice_that_staging_does_not_keep_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "staging").write_text("a file in place of the folder")
    with pytest.raises(TargetRefused, match="a file is in the place of a folder"):
        asyncio.run(record(receipt("ab" * 32), noticed(URL), LocalStore(tmp_path / "staging"), NOW))
