import re
from datetime import datetime, timedelta, timezone
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from uuid import UUID

import pytest

from data_export.content import Digests
from data_export.delivery.email.errors import masked
from data_export.delivery.email.message import Letterhead
from data_export.delivery.email.send import Offer, compose
from data_export.receipt import Receipt, SiteReceipt

SITES = [UUID(int=number) for number in (1, 2)]
LINK = "https://storage.example/links/t0ken/acme.json?X-Signature=abc&X-Expires=43200"
OFFER = Offer(LINK, "Parquet, nested", Digests(3_100_000, "f" * 64))
EXPIRES = datetime(2025, 3, 17, 14, 30, 59, tzinfo=timezone(timedelta(hours=2)))
RECIPIENTS = ["bob@customer.example", "eve@customer.example"]


def receipt(**changes: object) -> Receipt:
    sites = [
        SiteReceipt(
            site_id=site,
            work_orders=1204 * number,
            quarantined=0,
            bytes=1_550_000,
            sha256=f"{number}" * 64,
            uri=f"file:///{site}",
            outcome="staged",
        )
        for number, site in enumerate(SITES)
    ]
    values = {
        "export": "acme",
        "export_type": "work-orders-timeline",
        "window": {"start": "2025-03-16T00:00:00+00:00", "end": "2025-03-17T00:00:00+00:00"},
        "connector": "email",
        "target": "email",
        "config_hash": "0" * 16,
        "sites": sites,
        "delivered_at": "2025-03-17T00:10:00+00:00",
    }
    return Receipt.model_validate(values | changes)


def composed(**changes: object) -> list[EmailMessage]:
    return compose(receipt(**changes), OFFER, EXPIRES, "exports@platform.example", RECIPIENTS)


def received(message: EmailMessage) -> EmailMessage:
    """As the recipient's program reads it."""
    return message_from_bytes(message.as_bytes(), policy=default)


def parts(message: EmailMessage) -> tuple[str, str]:
    text, html = (received(message).get_body([kind]) for kind in ("plain", "html"))
    assert text is not None
    assert html is not None
    return text.get_content(), html.get_content()


def test_text_and_html_say_what_and_until_when() -> None:
    text, html = parts(composed()[0])
    assert LINK in text
    assert f'href="{LINK.replace("&", "&amp;")}"' in html
    for body in (text, html):
        for told in (
            "acme",
            "work-orders-timeline",
            "from 2025-03-16 00:00:00 UTC to 2025-03-17 00:00:00 UTC (excluded)",
            "1,204 work orders",
            "3.1 MB, Parquet, nested",
            "2025-03-17 12:30 UTC",
            *map(str, SITES),
        ):
            assert told in body, told
        assert re.findall("[0-9a-f]{64}", body) == ["f" * 64]  # no part's, which is no file at the customer's
        assert "Set aside" not in body


def test_each_recipient_gets_a_mail_and_sees_no_other() -> None:
    messages = composed()
    assert [message["To"] for message in messages] == RECIPIENTS
    assert all("Cc" not in message and "Bcc" not in message for message in messages)
    assert RECIPIENTS[1] not in messages[0].as_string()
    assert received(messages[0])["Subject"] == "Data export acme: 2025-03-16 00:00 to 2025-03-17 00:00 UTC"
    assert messages[0]["From"] == "exports@platform.example"


def test_a_customer_reads_who_writes_in_their_zone_and_whom_to_ask() -> None:
    sites = [site.model_copy(update={"name": f"Site <{number}>"}) for number, site in enumerate(receipt().sites)]
    head = Letterhead("Inspecto", "data@platform.example", "Europe/Paris")
    (mail, _) = compose(receipt(sites=sites), OFFER, EXPIRES, "exports@platform.example", RECIPIENTS, head)
    subject = received(mail)["Subject"].strip()  # a long one begins on the next line
    assert subject == "Inspecto export acme: 2025-03-16 01:00 to 2025-03-17 01:00 (Europe/Paris)"
    assert mail["Reply-To"] == "data@platform.example"
    text, html = parts(mail)
    for said in (
        "Your Inspecto data export acme is ready",
        "2025-03-16 01:00 to 2025-03-17 01:00 (Europe/Paris), end excluded",
        "from 2025-03-16 00:00:00 UTC to 2025-03-17 00:00:00 UTC (excluded)",
        "2025-03-17 13:30 (Europe/Paris)",
        "sent by a program of Inspecto",
        "data@platform.example",
    ):
        assert said in text, said
        assert said in html, said
    assert "Site <1>" in text
    assert "Site &lt;1&gt;" in html
    assert mail["Message-ID"] == composed()[0]["Message-ID"]  # or a repeat after an upgrade were another mail


def test_message_id_is_that_of_the_offer() -> None:
    def ids(link: str = LINK, recipients: list[str] = RECIPIENTS, **changes: object) -> list[str]:
        offer = OFFER._replace(link=link)
        messages = compose(receipt(**changes), offer, EXPIRES + timedelta(1), "exports@platform.example", recipients)
        return [message["Message-ID"] for message in messages]

    first = [message["Message-ID"] for message in composed()]
    assert len(set(first)) == 2
    assert all(re.fullmatch(r"<[0-9a-f]{40}\.data-export@platform\.example>", one) for one in first)
    assert ids(link=LINK.replace("abc", "other-signature")) == first
    assert ids(delivered_at="2025-03-18T00:00:00+00:00") == first
    for changed in (
        ids(link=LINK.replace("t0ken", "another")),
        ids(export="other"),
        ids(export_type="work-orders-states"),
        ids(window={"start": "2025-03-16T00:00:00+00:00", "end": "2025-03-16T01:00:00+00:00"}),
        ids(sites=[receipt().sites[0].model_copy(update={"sha256": "f" * 64})]),
        ids(recipients=["carol@customer.example", "dan@customer.example"]),
    ):
        assert not set(changed) & set(first)


def test_records_set_aside_are_told() -> None:
    site = receipt().sites[0].model_copy(update={"quarantined": 3})
    for body in parts(composed(sites=[site])[0]):
        assert "Set aside" in body
        assert "3 records" in body


def test_values_are_escaped_in_html() -> None:
    offer = OFFER._replace(link='https://x.example/"><script>')
    (message,) = compose(receipt(), offer, EXPIRES, "a@platform.example", RECIPIENTS[:1])
    assert "<script>" not in parts(message)[1]


def test_a_very_long_link_survives_the_way() -> None:
    link = "https://x.example/" + "a" * 3000
    (message,) = compose(receipt(), OFFER._replace(link=link), EXPIRES, "a@platform.example", RECIPIENTS[:1])
    assert max(map(len, message.as_bytes().splitlines())) <= 998
    assert all(link in body for body in parts(message))


@pytest.mark.parametrize(
    ("address", "shown"), [("bob@customer.example", "b***@customer.example"), ("b@x.example", "b***@x.example")]
)
def test_masked_address(address: str, shown: str) -> None:
    assert masked(address) == shown
