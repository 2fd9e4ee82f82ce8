"""One alert of many exports to each person: late windows, broken files, damaged files, and that late ones came."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_export.alerts.alert import Alert
from data_export.alerts.late import (
    DAMAGED,
    LATE,
    broken_alert,
    broken_cause,
    damaged_alert,
    late_alert,
    late_recovery_alert,
)
from data_export.alerts.watch import Late
from data_export.config.folder import file_of
from data_export.config.load import owner_in
from data_export.config.models import AnyExport
from data_export.window import ExportWindow
from data_export_airflow.alerting.sender import AlertSender, Noted

#: From some exports, and by export when an alert was sent before, to the alert.
_AlertOf = Callable[[Collection[str], dict[str, str]], Alert]


@dataclass(frozen=True, slots=True)
class AlertSummary:
    """Alerts the owners of exports, and the platform's list.

    `exports` are those whose files are right; `ui` is the base address of Airflow's UI.
    """

    sender: AlertSender
    exports: Mapping[str, AnyExport]
    ui: str

    def late(self, late: Mapping[str, Sequence[Late]]) -> list[str]:
        """Sends the alert of late windows; returns the exports whose alert reached nobody."""

        def alert(names: Collection[str], repeated: dict[str, str]) -> Alert:
            return late_alert([entry for name in names for entry in late[name]], self.ui, repeated)

        noted = {name: Noted(LATE, [str(one.window) for one in late[name]]) for name in late}
        reached = self._send(noted, alert)
        return self.sender.unsent({name: noted[name] for name in noted if name not in reached})

    def delivered(
        self,
        windows: Mapping[str, Sequence[ExportWindow]],
        missing: Mapping[str, Sequence[ExportWindow]],
        alerted: Mapping[str, Collection[str]],
    ) -> list[str]:
        """Reports late windows that are delivered to who got an alert of them, once a day; returns the exports done."""
        taken = self.sender.take_late_recovered([*windows], LATE)
        if not taken:
            return []

        def alert(names: Collection[str]) -> Alert:
            return late_recovery_alert({name: windows[name] for name in names}, missing, self.ui)

        mails = [(alert(names), people) for names, people in _by_people({name: alerted[name] for name in taken})]

        def end(names: Collection[str]) -> None:
            self.sender.end_recovered({name: taken[name] for name in names})

        reached = self.sender.tell(mails, alert([*taken]), {name: [taken[name]] for name in taken}, end)
        unknown = {name for name in taken if not alerted[name]} - reached
        end(unknown)  # to nobody
        return [name for name in taken if name in reached | unknown]

    def broken(self, problems: Mapping[str, Sequence[str]]) -> None:
        """Sends the alert of exports that do not run because of the problems in their files."""

        def alert(names: Collection[str], repeated: dict[str, str]) -> Alert:
            return broken_alert({name: problems[name] for name in names}, self.ui, repeated)

        today = [str(self.sender.now.date())]
        self._send({name: Noted(broken_cause(lines), today) for name, lines in problems.items()}, alert)

    def damaged(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        """Sends the alert of files that an audit found damaged; the same findings cause one alert, not one a week."""

        def alert(names: Collection[str], _: dict[str, str]) -> Alert:
            repaired = [name for name in names if found[name]["repairs"]]
            return damaged_alert({name: found[name]["lines"] for name in names}, repaired, self.ui)

        self._send({name: Noted(one["mark"], [DAMAGED]) for name, one in found.items()}, alert, once=True)

    def _send(self, noted: Mapping[str, Noted], alert_of: _AlertOf, *, once: bool = False) -> set[str]:
        """Returns the exports whose alert reached somebody; with `once`, what people know already is not repeated."""
        claims = self.sender.claims(noted)
        if once:
            known = {name: claim for name, claim in claims.items() if claim and claim.last}
            self.sender.note_sent(known.values())  # the mark of their own mail does not stay for ever
            claims = {name: claim for name, claim in claims.items() if name not in known}
        if not claims:
            return set()
        repeated = {name: claim.spoken() for name, claim in claims.items() if claim}
        by_people = _by_people({name: self.people_of(name) for name in claims})
        alerts = [(alert_of(names, repeated), people) for names, people in by_people]

        def note(names: set[str]) -> None:
            self.sender.note_sent([claims[name] for name in names])

        return self.sender.tell(
            alerts, alert_of(list(claims), repeated), {name: [claims[name]] for name in claims}, note
        )

    def people_of(self, name: str) -> tuple[str, ...]:
        export = self.exports.get(name)
        return self.sender.recipients(export.owner if export else owner_in(file_of(name)))


def _by_people(people_of: Mapping[str, Collection[str]]) -> list[tuple[tuple[str, ...], list[str]]]:
    """Exports, and the people whose mail is about exactly these."""
    of_person: dict[str, list[str]] = {}
    for name, people in people_of.items():
        for person in {address.lower() for address in people}:
            of_person.setdefault(person, []).append(name)
    grouped: dict[tuple[str, ...], list[str]] = {}
    for person, theirs in of_person.items():
        grouped.setdefault(tuple(theirs), []).append(person)
    return list(grouped.items())
