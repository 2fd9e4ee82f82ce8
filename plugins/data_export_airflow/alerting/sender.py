"""Sends alerts: mail, notifiers, and the ledger in staging that keeps repeats from being sent."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from data_export.alerts.alert import LISTED_IN, Alert, compose
from data_export.alerts.failure import recovery_alert
from data_export.alerts.ledger import (
    MOST_ALIKE,
    Known,
    Place,
    Recovered,
    SendClaim,
    claim_send,
    give_back,
    note_alerted,
    note_known,
    note_recovered,
    note_sent,
    take_late_recovered,
    take_place,
    take_recovered,
    was_sent,
)
from data_export.config.platform import PlatformSettings, load_platform
from data_export.delivery.base import Store
from data_export.delivery.email.send import send
from data_export.delivery.threads import run_async
from data_export.errors import DataExportError
from data_export.window import ExportWindow
from data_export_airflow.alerting.notifiers import notify
from data_export_airflow.connections.clients import smtp_factory, store
from data_export_airflow.telemetry.metrics import count

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
_Mail: TypeAlias = tuple[Alert, Collection[str]]
_Taken: TypeAlias = SendClaim | Place | Recovered | None
log = logging.getLogger(__name__)
_LAST_ALIKE = (
    f"This is the {MOST_ALIKE}th export that has failed for this cause today. Further ones are reported to their "
    "owners; those without an owner come in one mail when their windows are late. The page "
    '"Data exports" shows all of them.'
)
#: Asked three times an alert, for which Airflow's default leaves 14 seconds: a dead staging area must not keep it.
_LEDGER_SECONDS = 4


class Noted(NamedTuple):
    """What happened to an export; `occurrences` distinguish one time from another."""

    cause: str
    occurrences: list[str]


@dataclass(frozen=True, slots=True)
class AlertSender:
    """Sends alerts from inside a task or a callback. Nothing here raises for a mail server or notifier that is down."""

    #: Of the task, for the notifiers' templates.
    context: Mapping[str, Any]
    settings: PlatformSettings = field(default_factory=load_platform)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def recipients(self, owner: str | None) -> tuple[str, ...]:
        return (*([owner] if owner else []), *self.settings.alerts.emails)

    def send_once(
        self,
        alert: Alert,
        owner: str | None,
        occurrence: str,
        window: ExportWindow | None = None,
        known: Known | None = None,
    ) -> bool:
        """Sends one export's alert, unless it was sent this day; whether it is sent now, or was.

        Where the ledger is not reached it is sent in any case: better twice than never. `known` is a failure, of which
        the next delivery is a recovery, reported to the same people.
        """
        (export,) = alert.exports
        claims = self.claims({export: Noted(alert.cause, [occurrence])})
        claim, is_repeat = claims.get(export), export not in claims

        async def note(staging: Store) -> None:
            if claim is not None:
                await note_sent(staging, claim)
            if known is not None:
                await note_known(staging, export, known)
            # Whoever has the claim may still fail: then nobody knows of this window either, and the watch tells of it.
            if window is not None and (not is_repeat or await was_sent(staging, export, alert.cause, self.now)):
                await note_alerted(staging, export, window)

        if is_repeat:
            log.info("%s: this alert was sent today already", export)
            self.ledger(note)
            return True
        if claim is not None:
            alert = replace(alert, repeated=claim.spoken(), after_recovery=claim.after_recovery)
        is_failure = alert.occasion == "failure"
        place = self.ledger(lambda staging: take_place(staging, alert.cause, self.now)) if is_failure else None
        mails, notice = self._addressed(alert, owner, place)
        if known is not None:
            known = replace(known, people=tuple(to for _, people in mails for to in people), notified=bool(notice))
        return bool(self.tell(mails, notice, {export: [claim, place]}, lambda _: self.ledger(note)))

    def send_recovered(self, name: str, export: str | None, window: ExportWindow | None, link: str) -> None:
        """Reports that an export delivers again to whom its failures were reported; once a day, if there were any."""
        recovered = self.ledger(lambda staging: take_recovered(staging, name, window, self.now))
        if recovered is None:
            return
        alert = recovery_alert(name, export, recovered, link)
        mails = [(alert, recovered.people)] if recovered.people else []
        notice = alert if any(failure.notified for failure in recovered.failures) else None
        ended = {name: recovered}
        if not self.tell(mails, notice, {name: [recovered]}, lambda _: self.end_recovered(ended)) and not mails:
            self.end_recovered(ended)

    def take_late_recovered(self, names: Collection[str], cause: str) -> dict[str, Recovered]:
        """By export, the right to report this day that its late windows are delivered."""

        async def take(staging: Store) -> dict[str, Recovered]:
            taken = await of_each(staging, names, lambda name: take_late_recovered(staging, name, cause, self.now))
            return {name: recovered for name, recovered in taken.items() if recovered is not None}

        return (self.ledger(take, len(names)) if names else None) or {}

    def end_recovered(self, ended: Mapping[str, Recovered]) -> None:
        """Notes the recoveries that reached somebody."""

        async def end(staging: Store) -> None:
            await of_each(staging, ended, lambda name: note_recovered(staging, name, ended[name], self.now))

        if ended:
            self.ledger(end, len(ended))

    def _addressed(self, alert: Alert, owner: str | None, place: Place | None) -> tuple[list[_Mail], Alert | None]:
        """The mails to the owner, and to the platform's people unless so many exports have failed alike today, and what
        notifiers get."""
        number = 1 if place is None else place.number
        listed = {address.lower() for address in self.settings.alerts.emails}
        if 0 < number < MOST_ALIKE:
            return [(alert, self.recipients(owner))], alert
        own: list[_Mail] = [(alert, [owner])] if owner and owner.lower() not in listed else []
        if number == 0:
            log.info("the platform's list was alerted about %d exports with this cause today", MOST_ALIKE)
            return own, None
        last = replace(alert, repeated=f"{alert.repeated} {_LAST_ALIKE}".strip())
        return [*own, (last, self.settings.alerts.emails)], last

    def claims(self, noted: Mapping[str, Noted]) -> dict[str, SendClaim | None]:
        """By export, for those whose alert is to be sent now; None as a claim where the ledger is not reached."""

        async def take(staging: Store) -> dict[str, SendClaim | None]:
            claims = await of_each(staging, noted, lambda name: claim_send(staging, name, *noted[name], self.now))
            return {name: claim for name, claim in claims.items() if claim is not None}

        taken = self.ledger(take, len(noted)) if noted else {}
        return dict.fromkeys(noted) if taken is None else taken

    def unsent(self, noted: Mapping[str, Noted]) -> list[str]:
        """Those whose alert of this day is not out: whoever has the claim to it may have been killed."""

        async def look(staging: Store) -> dict[str, bool]:
            return await of_each(staging, noted, lambda name: was_sent(staging, name, noted[name].cause, self.now))

        sent = (self.ledger(look, len(noted)) if noted else None) or {}
        return [name for name in noted if not sent.get(name)]

    def give_back(self, taken: Collection[_Taken]) -> None:
        if there := [one for one in taken if one]:
            self.ledger(lambda staging: of_each(staging, there, partial(give_back, staging)), len(there))

    def note_sent(self, claims: Collection[SendClaim | None]) -> None:
        if there := [one for one in claims if one]:
            self.ledger(lambda staging: of_each(staging, there, partial(note_sent, staging)), len(there))

    def ledger(self, use: Callable[[Store], Awaitable[T]], exports: int = 1) -> T | None:
        """What `use` returns; None where staging is not reached, or takes seconds for an export, which is logged."""

        async def run() -> T:
            async with store(self.settings.staging.uri, self.settings.staging.conn_id) as staging:
                return await use(staging)

        try:
            return run_async(asyncio.wait_for(run(), _LEDGER_SECONDS + exports))
        except Exception as error:  # the alert must go out, whatever is wrong with the ledger
            log.warning(
                "cannot read the alert ledger in staging (%s: %s); sending anyway, so duplicates are possible",
                type(error).__name__,
                error,
            )
            return None

    def tell(
        self,
        alerts: Sequence[_Mail],
        notice: Alert | None,
        taken: Mapping[str, Sequence[_Taken]],
        note: Callable[[set[str]], object],
    ) -> set[str]:
        """Mails, then calls notifiers; the exports of which somebody was reached. `note` gets these at once, since a
        notifier may take the rest of the task's time. What is `taken` for the others is given back, also at its end."""
        reached: set[str] = set()
        try:
            try:
                if alerts or notice:
                    self.send(alerts, reached)
            finally:
                if reached:
                    note(reached)
            if notice and (took := self.notify(notice) - reached):
                reached |= took
                note(took)
        finally:
            self.give_back([one for name in taken if name not in reached for one in taken[name]])
        return reached

    def send(self, alerts: Sequence[_Mail], reached: set[str]) -> None:
        """Mails every alert to its recipients; adds to `reached` the exports of which at least one recipient was."""
        sender, day = self.settings.mail.sender, self.now.date()
        mails = [(alert, mail) for alert, people in alerts for mail in compose(alert, sender, people, day)]
        if not mails and not self.settings.alerts.notifiers:
            log.warning("nobody is alerted: no `owner` in the customer file, no alerts.emails in platform.yaml")
        accepted: set[str] = set()
        try:
            connect = smtp_factory(self.settings.mail.smtp_conn_id) if mails else None
            if connect is not None:
                send([mail for _, mail in mails], connect, on_sent=accepted.add, listed_in=LISTED_IN)
        except DataExportError as error:
            log.error("%d of %d alert mails were not sent: %s", len(mails) - len(accepted), len(mails), error)
        finally:  # also where the task's time is over meanwhile
            reached.update(name for alert, mail in mails if mail["Message-ID"] in accepted for name in alert.exports)
        count("data_export.alert_mails", len(accepted), outcome="sent")
        count("data_export.alert_mails", len(mails) - len(accepted), outcome="failed")

    def notify(self, alert: Alert) -> set[str]:
        """Calls every notifier that wants this kind of alert; the exports, if one of them took it."""
        wanted = [one for one in self.settings.alerts.notifiers if alert.occasion in one.on]
        took = [notify(one, alert, self.context) for one in wanted]
        return set(alert.exports) if any(took) else set()


async def of_each(staging: Store, each: Iterable[K], use: Callable[[K], Awaitable[T]]) -> dict[K, T]:
    """What `use` returns for each, as many at once as the store takes."""
    at_once = asyncio.Semaphore(staging.concurrency)

    async def one(key: K) -> tuple[K, T]:
        async with at_once:
            return key, await use(key)

    return dict(await asyncio.gather(*map(one, each)))
