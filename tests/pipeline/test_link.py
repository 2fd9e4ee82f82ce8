"""A link by mail, on a real mail server: to each recipient once, whatever is repeated."""

import asyncio
import gzip
import hashlib
import io
import os
import re
import smtplib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_export.config.platform import load_platform
from data_export.content import Content
from data_export.delivery.local.store import LocalStore
from data_export.errors import RecipientsRefused, StagedFileGone, TargetUnavailable
from data_export.pipeline.link import mail_link
from data_export.pipeline.receipts import make_receipt, site_receipt
from data_export.pipeline.site import stage_site
from data_export.pipeline.staging import clean_up, sweep_all
from data_export.plan import ExportPlan
from data_export.receipt import Document, Receipt
from data_export.transform.columnar import RECORD
from data_export.wording import FORMATS
from demo.servers.smtp import SmtpServer
from tests.pipeline.staged_run import NOW, SITE, export_to, plan_of, stage
from tests.time_limit import LimitReached, limit, slow_down

BOB, EVE = "bob@customer.example", "eve@customer.example"
OTHER_SITE = UUID(int=1)


class SigningStore(LocalStore):
    """Signs links that any mail may hold, and remembers for how long."""

    lifetimes: list[timedelta]

    async def sign(self, key: str, lifetime: timedelta, file_name: str) -> str:
        self.lifetimes.append(lifetime)
        return f"https://storage.example/{key}?signature=1"


class Mailing:
    """One export by mail, its staging area and its mail server."""

    def __init__(self, folder: Path, server: SmtpServer) -> None:
        self.folder, self.server = folder, server
        self.settings = load_platform()
        self.staging = SigningStore(folder / "staging")
        self.staging.lifetimes = []

    def staged(self, plan: ExportPlan, contents: dict[UUID, bytes]) -> Receipt:
        sites = [stage(self.staging, plan, self.folder, data, None, site) for site, data in contents.items()]
        parts = [site_receipt(site, None, stage_site(site, self.staging)) for site in sites]
        return make_receipt(plan, "email", parts, NOW)

    def mail(self, plan: ExportPlan, receipt: Receipt) -> Receipt:
        def connect() -> smtplib.SMTP:
            return smtplib.SMTP(self.server.host, self.server.port, timeout=10)

        return mail_link(plan, receipt, self.staging, self.settings, connect, NOW)

    def clean(self, plan: ExportPlan, receipt: Receipt) -> None:
        clean_up(plan, receipt, self.staging)

    def sweep(self, now: datetime) -> None:
        """As every night."""

        async def sweep() -> None:
            async with self.staging:
                await sweep_all(self.staging, self.settings, now, 1_000)

        asyncio.run(sweep())

    def recipients(self) -> list[str]:
        return [message["X-RcptTo"] for message in self.server.messages()]

    def links(self) -> list[Path]:
        return [path for path in (self.folder / "staging" / "links").rglob("*") if path.is_file()]


@pytest.fixture
def mailing(tmp_path: Path) -> Iterator[Mailing]:
    with SmtpServer(tmp_path / "mail") as server:
        yield Mailing(tmp_path, server)


def test_each_recipient_has_one_link_to_the_sites_lines_in_order(mailing: Mailing) -> None:
    plan = plan_of(export_to("email", SITE, OTHER_SITE))
    receipt = mailing.mail(plan, mailing.staged(plan, {SITE: b"b\n", OTHER_SITE: b"a\n"}))
    assert (mailing.recipients(), receipt.refused_recipients) == ([BOB, EVE], [])
    (link,) = mailing.links()
    assert link.read_bytes() == b"a\nb\n"
    key = link.relative_to(mailing.folder / "staging").as_posix()
    for message in mailing.server.messages():
        assert f"https://storage.example/{key}?signature=1" in message.get_body(["plain"]).get_content()


def as_parquet() -> bytes:
    made = io.BytesIO()
    row = {"id": str(SITE), "site_id": str(SITE), "work_items": []}
    pq.write_table(pa.Table.from_pylist([row], RECORD), made, compression="snappy")
    return made.getvalue()


@pytest.mark.parametrize("sites", [(SITE,), (SITE, OTHER_SITE)], ids=["one site", "two sites"])
@pytest.mark.parametrize(
    ("packed", "data"),
    [
        ({}, b"{}\n"),
        ({"compression": "gzip"}, gzip.compress(b"{}\n")),
        ({"file_format": "parquet"}, as_parquet()),
    ],
    ids=["json", "gzip", "parquet"],
)
def test_a_mail_has_the_format_and_the_checksum_of_the_file_that_its_link_leads_to(
    mailing: Mailing, sites: tuple[UUID, ...], packed: dict[str, str], data: bytes
) -> None:
    plan = plan_of(export_to("email", *sites).model_copy(update=packed))
    mailing.mail(plan, mailing.staged(plan, dict.fromkeys(sites, data)))
    (link,) = mailing.links()
    for kind in ("plain", "html"):
        body = mailing.server.messages()[0].get_body([kind]).get_content()
        assert re.findall("[0-9a-f]{64}", body) == [hashlib.sha256(link.read_bytes()).hexdigest()]
        assert FORMATS[plan.export.encoding] in body
    if len(sites) == 1:  # its file is what was staged, with the checksum of the receipt
        assert link.read_bytes() == data


@pytest.mark.parametrize(("hours", "expected"), [(None, 12), (36, 36)])
def test_a_link_works_as_long_as_its_mail_says(mailing: Mailing, hours: int | None, expected: int) -> None:
    plan = plan_of(export_to("email", link_ttl_hours=hours))
    mailing.mail(plan, mailing.staged(plan, {SITE: b"a\n"}))
    lifetime = timedelta(hours=expected)
    assert mailing.staging.lifetimes == [lifetime]
    said = re.search("until (.*) UTC", mailing.server.messages()[0].get_body(["plain"]).get_content())
    assert said is not None
    assert datetime.fromisoformat(f"{said[1]}+00:00") == NOW + lifetime


def test_a_repeat_after_cleaning_mails_nobody_and_needs_no_staged_data(mailing: Mailing) -> None:
    """The worker died between cleaning and the task's result, or somebody cleared `close` alone."""
    plan = plan_of(export_to("email"))
    receipt = mailing.staged(plan, {SITE: b"a\n"})
    mailing.mail(plan, receipt)
    mailing.clean(plan, receipt)
    assert mailing.mail(plan, receipt).refused_recipients == []
    assert mailing.recipients() == [BOB, EVE]


@pytest.mark.parametrize("sites", [(SITE,), (SITE, OTHER_SITE)], ids=["one site", "two sites"])
@pytest.mark.parametrize("cleaned", [False, True], ids=["before cleaning", "after cleaning"])
def test_a_repeat_notes_the_file_that_the_link_of_the_first_try_leads_to(
    mailing: Mailing, sites: tuple[UUID, ...], cleaned: bool
) -> None:
    """The first try sent the mail and died before its receipt was noted: the audit knows the file by the second's."""
    plan = plan_of(export_to("email", *sites))
    receipt = mailing.staged(plan, dict.fromkeys(sites, b"a\n"))
    first = mailing.mail(plan, receipt)
    if cleaned:
        mailing.clean(plan, receipt)
    assert mailing.mail(plan, receipt) == first
    (link,) = mailing.links()
    assert first.documents == (Document.of(f"file://{link}", Content.of_bytes(link.read_bytes()).digests),)
    assert mailing.recipients() == [BOB, EVE]


def test_a_file_is_as_old_as_the_newest_receipt_that_names_it(mailing: Mailing) -> None:
    """Audits look for it as long after each receipt as a link works."""
    plan = plan_of(export_to("email"))
    receipt = mailing.staged(plan, {SITE: b"a\n"})
    mailing.mail(plan, receipt)
    mailing.clean(plan, receipt)
    (link,) = mailing.links()
    week_ago = (datetime.now(UTC) - timedelta(days=7)).timestamp()
    os.utime(link, (week_ago, week_ago))
    assert mailing.mail(plan, receipt).documents
    mailing.sweep(datetime.now(UTC) + timedelta(days=6))
    assert mailing.links() == [link]


def test_a_repeat_after_the_link_was_swept_notes_no_file(mailing: Mailing) -> None:
    plan = plan_of(export_to("email"))
    receipt = mailing.staged(plan, {SITE: b"a\n"})
    mailing.mail(plan, receipt)
    mailing.clean(plan, receipt)
    mailing.links()[0].unlink()
    assert mailing.mail(plan, receipt).documents == ()
    assert mailing.recipients() == [BOB, EVE]


def test_nobody_is_mailed_twice_where_a_time_limit_ends_the_sending(
    mailing: Mailing, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down(mailing.server, monkeypatch, 0.3)
    plan = plan_of(export_to("email"))
    receipt = mailing.staged(plan, {SITE: b"a\n"})
    with pytest.raises(LimitReached), limit(0.15):
        mailing.mail(plan, receipt)
    assert mailing.mail(plan, receipt).documents
    assert sorted(mailing.recipients()) == [BOB, EVE]


def test_another_content_in_the_same_run_is_mailed_again(mailing: Mailing) -> None:
    """Somebody cleared `extract` with everything downstream after the source was mended."""
    plan = plan_of(export_to("email"))
    mailing.mail(plan, mailing.staged(plan, {SITE: b"a\n"}))
    mailing.mail(plan, mailing.staged(plan, {SITE: b"mended\n"}))
    assert mailing.recipients() == [BOB, EVE, BOB, EVE]


def test_a_link_outlives_its_run_and_is_swept_when_no_link_can_work(mailing: Mailing) -> None:
    plan = plan_of(export_to("email"))
    receipt = mailing.staged(plan, {SITE: b"a\n"})
    mailing.mail(plan, receipt)
    (link,) = mailing.links()
    offered = datetime.fromtimestamp(link.stat().st_mtime, UTC)
    mailing.clean(plan, receipt)
    mailing.sweep(offered + timedelta(hours=168))
    assert mailing.links() == [link]
    mailing.sweep(offered + timedelta(hours=193))
    assert mailing.links() == []


def test_who_had_the_mail_of_an_earlier_version_gets_no_second_one(mailing: Mailing) -> None:
    plan = plan_of(export_to("email"))
    receipt = mailing.staged(plan, {SITE: b"a\n"})
    mailing.mail(plan, receipt)
    staging = mailing.folder / "staging"
    before = staging / plan.staging_prefix / "mail"
    before.mkdir(parents=True)
    for mark in [path for path in (staging / "mailed").rglob("*") if path.is_file()]:
        mark.rename(before / mark.name)
    for _ in range(2):
        assert mailing.mail(plan, receipt).refused_recipients == []
        mailing.clean(plan, receipt)
    assert mailing.recipients() == [BOB, EVE]


def test_who_has_the_mail_is_known_for_a_month(mailing: Mailing) -> None:
    plan = plan_of(export_to("email"))
    receipt = mailing.staged(plan, {SITE: b"a\n"})
    mailing.mail(plan, receipt)
    mailing.clean(plan, receipt)
    assert [path for path in (mailing.folder / "staging" / "runs").rglob("*") if path.is_file()] == []
    mailing.sweep(datetime.now(UTC) + timedelta(days=29))
    mailing.mail(plan, receipt)
    assert mailing.recipients() == [BOB, EVE]
    mailing.sweep(datetime.now(UTC) + timedelta(days=31))
    assert [path for path in (mailing.folder / "staging").rglob("*") if path.is_file()] == []


def test_a_link_of_a_repeat_days_later_works_as_long_as_its_mail_says(mailing: Mailing) -> None:
    mailing.server.refused = {EVE}
    plan = plan_of(export_to("email"))
    receipt = mailing.staged(plan, {SITE: b"a\n"})
    mailing.mail(plan, receipt)
    mailing.clean(plan, receipt)
    (link,) = mailing.links()
    week_ago = (datetime.now(UTC) - timedelta(days=7)).timestamp()
    os.utime(link, (week_ago, week_ago))
    mailing.server.refused = set()
    repeated = mailing.mail(plan, receipt)
    assert [document.uri for document in repeated.documents] == [f"file://{link}"]
    mailing.sweep(datetime.now(UTC) + timedelta(days=6))
    assert [path.read_bytes() for path in mailing.links()] == [b"a\n"]


def test_a_repeat_whose_file_is_gone_says_what_to_clear(mailing: Mailing) -> None:
    mailing.server.refused = {EVE}
    plan = plan_of(export_to("email"))
    receipt = mailing.staged(plan, {SITE: b"a\n"})
    mailing.mail(plan, receipt)
    mailing.clean(plan, receipt)
    mailing.links()[0].unlink()
    with pytest.raises(StagedFileGone, match="clear the run's `prepare` task"):
        mailing.mail(plan, receipt)


def test_a_recipient_refused_for_good_is_on_the_receipt_and_stops_nobody(mailing: Mailing) -> None:
    mailing.server.refused = {EVE}
    plan = plan_of(export_to("email"))
    receipt = mailing.mail(plan, mailing.staged(plan, {SITE: b"a\n"}))
    assert receipt.refused_recipients == ["e***@customer.example"]
    assert receipt.summary().endswith("1 recipients refused")
    assert mailing.recipients() == [BOB]
    mailing.clean(plan, receipt)
    assert mailing.mail(plan, receipt).refused_recipients == ["e***@customer.example"]
    mailing.server.refused = set()  # the mailbox was made, and somebody cleared `close` alone
    assert mailing.mail(plan, receipt).refused_recipients == []
    assert mailing.recipients() == [BOB, EVE]
    assert [link.read_bytes() for link in mailing.links()] == [b"a\n"]


def test_a_mail_that_nobody_takes_fails(mailing: Mailing) -> None:
    mailing.server.refused = {BOB, EVE}
    plan = plan_of(export_to("email"))
    with pytest.raises(RecipientsRefused, match=r"b\*\*\*@.*e\*\*\*@"):
        mailing.mail(plan, mailing.staged(plan, {SITE: b"a\n"}))


def test_a_mark_that_cannot_be_stored_ends_the_try(mailing: Mailing) -> None:
    class Forgetful(SigningStore):
        async def replace(self, key: str, content):  # type: ignore[no-untyped-def]
            if key.startswith("mailed/"):
                raise TargetUnavailable("staging: connection reset")
            return await super().replace(key, content)

    plan = plan_of(export_to("email"))
    receipt = mailing.staged(plan, {SITE: b"a\n"})
    staging, mailing.staging = mailing.staging, Forgetful(mailing.folder / "staging")
    mailing.staging.lifetimes = []
    with pytest.raises(TargetUnavailable, match="connection reset"):
        mailing.mail(plan, receipt)
    assert mailing.recipients() == [BOB]
    mailing.staging = staging
    mailing.mail(plan, receipt)
    assert mailing.recipients() == [BOB, BOB, EVE]
