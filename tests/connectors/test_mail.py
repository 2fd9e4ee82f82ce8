import logging
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from data_export.content import Digests
from data_export.delivery.email.send import Offer, compose, send
from data_export.errors import AccessDenied, PermanentError, RecipientsRefused, TargetUnavailable
from data_export.receipt import Receipt
from demo.servers.smtp import SmtpServer

LINK = "https://storage.example/links/s3cret-token/acme.json?X-Signature=s3cret-signature"
RECIPIENTS = ["bob@customer.example", "eve@customer.example", "dan@customer.example"]


class Misbehaving(SmtpServer):
    """Refuses for now, or takes a mail and hangs up before it says so."""

    busy: frozenset[str] = frozenset()
    answers_lost = 0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.busy:
            return f"450 4.2.1 <{address}> is busy"
        return await super().handle_RCPT(server, session, envelope, address, options)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        answer = await super().handle_DATA(server, session, envelope)
        if self.answers_lost:
            self.answers_lost -= 1
            assert server.transport is not None
            server.transport.abort()
        return answer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Misbehaving]:
    with Misbehaving(tmp_path / "mail") as server:
        yield server


@pytest.fixture
def messages() -> list[EmailMessage]:
    receipt = Receipt(
        export="acme",
        export_type="work-orders-timeline",
        window={"start": "2025-03-16T00:00:00+00:00", "end": "2025-03-17T00:00:00+00:00"},
        connector="email",
        target="email",
        config_hash="0" * 16,
        sites=[],
        delivered_at="2025-03-17T00:10:00+00:00",
    )
    offer = Offer(LINK, "JSON Lines", Digests(0, "0" * 64))
    return compose(receipt, offer, datetime(2025, 3, 17, 12, tzinfo=UTC), "exports@platform.example", RECIPIENTS)


def plain(server: SmtpServer) -> Callable[[], smtplib.SMTP]:
    return lambda: smtplib.SMTP(server.host, server.port, timeout=10)


def logged_in(server: SmtpServer, password: str, trusted: Path | None) -> Callable[[], smtplib.SMTP]:
    def connect() -> smtplib.SMTP:
        client = smtplib.SMTP(server.host, server.port, timeout=10)
        try:
            client.starttls(context=ssl.create_default_context(cafile=trusted))
            client.login("exporter", password)
        except BaseException:
            client.close()
            raise
        return client

    return connect


def delivered_to(server: SmtpServer) -> list[str]:
    return [message["X-RcptTo"] for message in server.messages()]


def test_one_mail_to_each(server: Misbehaving, messages: list[EmailMessage]) -> None:
    sent: list[str] = []
    send(messages, plain(server), sent.append)
    assert sent == [message["Message-ID"] for message in messages]
    assert delivered_to(server) == RECIPIENTS
    assert [message["To"] for message in server.messages()] == RECIPIENTS
    body = server.messages()[0].get_body(["plain"])
    assert body is not None
    assert LINK in body.get_content()


def test_starttls_and_login(tmp_path: Path, messages: list[EmailMessage]) -> None:
    with SmtpServer(tmp_path, login=("exporter", "s3cret-password")) as server:
        send(messages, logged_in(server, "s3cret-password", server.certificate))
        assert delivered_to(server) == RECIPIENTS
        with pytest.raises(AccessDenied, match=r"535.*correct user and password") as denied:
            send(messages, logged_in(server, "wrong", server.certificate))
        assert "s3cret" not in str(denied.value)
        with pytest.raises(PermanentError, match=r"certificate is not trusted.*self-signed"):
            send(messages, logged_in(server, "s3cret-password", None))


def test_login_that_the_server_does_not_offer(server: Misbehaving, messages: list[EmailMessage]) -> None:
    with pytest.raises(PermanentError, match="does not offer"):
        send(messages, logged_in(server, "x", None))


def test_a_refused_recipient_is_named_masked_and_keeps_no_mail_from_others(
    server: Misbehaving, messages: list[EmailMessage]
) -> None:
    server.refused = {RECIPIENTS[1]}
    sent: list[str] = []
    with pytest.raises(
        RecipientsRefused, match=r"e\*\*\*@customer\.example \(550 5\.1\.1\): correct `emails`"
    ) as refused:
        send(messages, plain(server), sent.append)
    assert "eve" not in str(refused.value)
    assert delivered_to(server) == [RECIPIENTS[0], RECIPIENTS[2]]
    assert sent == [messages[0]["Message-ID"], messages[2]["Message-ID"]]


def test_a_temporary_refusal_keeps_no_mail_from_others_and_may_be_tried_again(
    server: Misbehaving, messages: list[EmailMessage]
) -> None:
    server.busy, server.refused = frozenset(RECIPIENTS[:1]), {RECIPIENTS[1]}
    sent: list[str] = []
    with pytest.raises(TargetUnavailable, match=r"b\*\*\*@.*450 4\.2\.1.*e\*\*\*@") as busy:
        send(messages, plain(server), sent.append)
    assert "bob" not in str(busy.value)
    assert sent == [messages[2]["Message-ID"]]
    assert delivered_to(server) == [RECIPIENTS[2]]


def test_a_lost_answer_repeats_the_same_message_id(server: Misbehaving, messages: list[EmailMessage]) -> None:
    server.answers_lost = 1
    sent: set[str] = set()
    with pytest.raises(TargetUnavailable, match="was lost while it took a mail"):
        send(messages, plain(server), sent.add)
    assert sent == set()
    send(messages, plain(server), sent.add)
    assert delivered_to(server) == [RECIPIENTS[0], *RECIPIENTS]
    ids = [message["Message-ID"] for message in server.messages()]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_dead_port(messages: list[EmailMessage]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(TargetUnavailable, match="not reached: Connection refused"):
            send(messages, lambda: smtplib.SMTP("127.0.0.1", port, timeout=5))


def test_a_server_that_says_nothing(messages: list[EmailMessage]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TargetUnavailable, match="not reached"):
        send(messages, lambda: smtplib.SMTP("127.0.0.1", silent.getsockname()[1], timeout=0.2))


def test_neither_link_nor_address_is_logged(
    server: Misbehaving, messages: list[EmailMessage], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="data_export")
    server.refused = {RECIPIENTS[0]}
    with pytest.raises(PermanentError):
        send(messages, plain(server))
    assert "sent 2 of 3 mails" in caplog.text
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("data_export"))
    assert not any(hidden in ours for hidden in ("s3cret", "bob", "eve", "dan"))
