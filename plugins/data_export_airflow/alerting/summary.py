"""Tells of many exports at once: one mail for each person, whatever number of exports it is about."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from data_export.alerts.alert import Alert
from data_export.alerts.late import LATE, broken_alert, broken_cause, late_alert
from data_export.alerts.watch import Late
from data_export.config.load import file_of, owner_in
from data_export.config.models import AnyExport
from data_export_airflow.alerting.sender import Noted, Teller

#: From some exports, and by export when people were told of it before, to what is said of them.
_AlertOf = Callable[[Collection[str], dict[str, str]], Alert]


@dataclass(frozen=True, slots=True)
class Digest:
    """Tells the owners of exports, and the platform's list.

    `exports` are those whose files are right; `ui` is the base address of Airflow's UI.
    """

    teller: Teller
    exports: Mapping[str, AnyExport]
    ui: str

    def late(self, late: Mapping[str, Sequence[Late]]) -> list[str]:
        """Tells of windows that are late; returns the exports that nobody could be told of."""

        def alert(names: Collection[str], repeated: dict[str, str]) -> Alert:
            return late_alert([entry for name in names for entry in late[name]], self.ui, repeated)

        return self._tell({name: Noted(LATE, [str(one.window) for one in late[name]]) for name in late}, alert)

    def broken(self, problems: Mapping[str, Sequence[str]]) -> None:
        """Tells of exports that do not run because of the problems in their files."""

        def alert(names: Collection[str], repeated: dict[str, str]) -> Alert:
            return broken_alert({name: problems[name] for name in names}, self.ui, repeated)

        today = [str(self.teller.now.date())]
        self._tell({name: Noted(broken_cause(lines), today) for name, lines in problems.items()}, alert)

    def _tell(self, noted: Mapping[str, Noted], alert_of: _AlertOf) -> list[str]:
        turns = self.teller.turns(noted)
        if not turns:
            return []
        repeated = {name: turn.spoken() for name, turn in turns.items() if turn}
        alerts = [(alert_of(names, repeated), people) for names, people in self._by_people(turns)]
        reached = self.teller.send(alerts) | self.teller.notify(alert_of(list(turns), repeated))
        unreached = [name for name in turns if name not in reached]
        self.teller.give_back([turns[name] for name in unreached])
        return unreached

    def _by_people(self, names: Iterable[str]) -> list[tuple[tuple[str, ...], list[str]]]:
        """Exports, and the people that are told of exactly these."""
        of_person: dict[str, list[str]] = {}
        for name in names:
            for person in {address.lower() for address in self.teller.recipients(self._owner(name))}:
                of_person.setdefault(person, []).append(name)
        people: dict[tuple[str, ...], list[str]] = {}
        for person, theirs in of_person.items():
            people.setdefault(tuple(theirs), []).append(person)
        return list(people.items())

    def _owner(self, name: str) -> str | None:
        export = self.exports.get(name)
        return export.owner if export else owner_in(file_of(name))
