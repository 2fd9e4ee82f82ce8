"""Alerts about many exports at once: one mail for each person, whatever number of exports it is about."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from data_export.alerts.alert import Alert
from data_export.alerts.late import LATE, broken_alert, broken_cause, late_alert
from data_export.alerts.watch import Late
from data_export.config.load import file_of, owner_in
from data_export.config.models import AnyExport
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

        return self._send({name: Noted(LATE, [str(one.window) for one in late[name]]) for name in late}, alert)

    def broken(self, problems: Mapping[str, Sequence[str]]) -> None:
        """Sends the alert of exports that do not run because of the problems in their files."""

        def alert(names: Collection[str], repeated: dict[str, str]) -> Alert:
            return broken_alert({name: problems[name] for name in names}, self.ui, repeated)

        today = [str(self.sender.now.date())]
        self._send({name: Noted(broken_cause(lines), today) for name, lines in problems.items()}, alert)

    def _send(self, noted: Mapping[str, Noted], alert_of: _AlertOf) -> list[str]:
        claims = self.sender.claims(noted)
        if not claims:
            return []
        repeated = {name: claim.spoken() for name, claim in claims.items() if claim}
        alerts = [(alert_of(names, repeated), people) for names, people in self._by_people(claims)]
        reached = self.sender.send(alerts) | self.sender.notify(alert_of(list(claims), repeated))
        unreached = [name for name in claims if name not in reached]
        self.sender.give_back([claims[name] for name in unreached])
        return unreached

    def _by_people(self, names: Iterable[str]) -> list[tuple[tuple[str, ...], list[str]]]:
        """Exports, and the people whose mail is about exactly these."""
        of_person: dict[str, list[str]] = {}
        for name in names:
            for person in {address.lower() for address in self.sender.recipients(self._owner(name))}:
                of_person.setdefault(person, []).append(name)
        people: dict[tuple[str, ...], list[str]] = {}
        for person, theirs in of_person.items():
            people.setdefault(tuple(theirs), []).append(person)
        return list(people.items())

    def _owner(self, name: str) -> str | None:
        export = self.exports.get(name)
        return export.owner if export else owner_in(file_of(name))
