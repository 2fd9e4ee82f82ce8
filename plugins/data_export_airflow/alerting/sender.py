"""Sends alerts: mail, notifiers, and the ledger in staging that keeps repeats from being sent."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, TypeVar

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
        claim, place, sent = claims.get(export), None, export not in claims
        if not sent:
            if claim is not None:
                alert = replace(alert, repeated=claim.spoken(), after_recovery=claim.after_recovery)
            try:
                place = self._place(alert) if alert.occasion == "failure" else None
                reached, people = self._send_to_all(alert, owner, place)
                sent = export in reached
            finally:  # also where the task's time is over meanwhile
                if not sent:
                    self.give_back([claim, place])
            if known is not None:
                known = replace(known, people=tuple(people), notified=place is None or place.number > 0)
        else:
            log.info("%s: this alert was sent today already", export)
        if sent:
            is_repeat = export not in claims
            self.ledger(lambda staging: self._note(staging, alert, claim, window, known, is_repeat))
        return sent

    async def _note(
        self,
        staging: Store,
        alert: Alert,
        claim: SendClaim | None,
        window: ExportWindow | None,
        known: Known | None,
        is_repeat: bool,
    ) -> None:
        (export,) = alert.exports
        if claim is not None:
            await note_sent(staging, claim)
        if known is not None:
            await note_known(staging, export, known)
        # Whoever has the claim may still fail: then nobody knows of this window either, and the watch tells of it.
        if window is not None and (not is_repeat or await was_sent(staging, export, alert.cause, self.now)):
            await note_alerted(staging, export, window)

    def send_recovered(self, name: str, export: str | None, window: ExportWindow | None, link: str) -> None:
        """Reports that an export delivers again to whom its failures were reported; once a day, if there were any."""
        recovered = self.ledger(lambda staging: take_recovered(staging, name, window, self.now))
        if recovered is None:
            return
        alert = recovery_alert(name, export, recovered, link)
        is_done = False
        try:
            sent = self.send([(alert, recovered.people)]) if recovered.people else set()
            if any(failure.notified for failure in recovered.failures):
                sent |= self.notify(alert)
            is_done = bool(sent) or not recovered.people
        finally:
            self.end_recovered({name: (recovered, is_done)})

    def take_late_recovered(self, names: Collection[str], cause: str) -> dict[str, Recovered]:
        """By export, the right to report this day that its late windows are delivered."""

        async def take(staging: Store) -> dict[str, Recovered]:
            taken = await of_each(staging, names, lambda name: take_late_recovered(staging, name, cause, self.now))
            return {name: recovered for name, recovered in taken.items() if recovered is not None}

        return (self.ledger(take, len(names)) if names else None) or {}

    def end_recovered(self, ended: Mapping[str, tuple[Recovered, bool]]) -> None:
        """Notes the recoveries that reached somebody, and gives back the right to report the others."""

        async def end(staging: Store) -> None:
            def end_one(name: str) -> Awaitable[None]:
                recovered, is_sent = ended[name]
                if is_sent:
                    return note_recovered(staging, name, recovered, self.now)
                return give_back(staging, recovered)

            await of_each(staging, ended, end_one)

        self.ledger(end, len(ended))

    def _place(self, alert: Alert) -> Place | None:
        return self.ledger(lambda staging: take_place(staging, alert.cause, self.now))

    def _send_to_all(self, alert: Alert, owner: str | None, place: Place | None) -> tuple[set[str], Collection[str]]:
        """Alerts the owner, and the platform's people and notifiers unless so many exports have failed alike today;
        who was reached, and to whom it went."""
        number = 1 if place is None else place.number
        listed = {address.lower() for address in self.settings.alerts.emails}
        if 0 < number < MOST_ALIKE:
            return self.send([(alert, self.recipients(owner))]) | self.notify(alert), self.recipients(owner)
        own = [(alert, [owner])] if owner and owner.lower() not in listed else []
        if number == 0:
            log.info("the platform's list was alerted about %d exports with this cause today", MOST_ALIKE)
            return (self.send(own), [str(owner)]) if own else (set(), ())
        last = replace(alert, repeated=f"{alert.repeated} {_LAST_ALIKE}".strip())
        return self.send([*own, (last, self.settings.alerts.emails)]) | self.notify(last), self.recipients(owner)

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

    def give_back(self, taken: Collection[SendClaim | Place | None]) -> None:
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

    def send(self, alerts: Sequence[tuple[Alert, Collection[str]]]) -> set[str]:
        """Mails every alert to its recipients; the exports of which at least one recipient was reached."""
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
        count("data_export.alert_mails", len(accepted), outcome="sent")
        count("data_export.alert_mails", len(mails) - len(accepted), outcome="failed")
        return {name for alert, mail in mails if mail["Message-ID"] in accepted for name in alert.exports}

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
