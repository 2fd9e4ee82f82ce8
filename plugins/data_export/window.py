"""The time window of an export."""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Self


@dataclass(frozen=True, slots=True)
class ExportWindow:
    """Half-open `[start, end)` in UTC, whole seconds, never empty.

    Whole seconds because the file name carries no fraction: two windows could otherwise share a name.

    Raises:
        ValueError: a bound is naive, sub-second or not a possible UTC date, or `end` is not after `start`.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            value: datetime = getattr(self, name)
            if value.tzinfo is None:
                raise ValueError(f"window {name} {value.isoformat()} has no time zone: append Z or an offset")
            try:
                value = value.astimezone(UTC)
            except OverflowError:
                raise ValueError(f"window {name} {value.isoformat()} is out of range: use a year of this age") from None
            if value.microsecond:
                raise ValueError(f"window {name} {value.isoformat()} has a fraction of a second: use whole seconds")
            # A plain datetime, whatever came: pendulum's loses its zone in sums once astimezone has given it UTC.
            object.__setattr__(self, name, datetime.combine(value.date(), value.time(), UTC))
        if self.end <= self.start:
            order = "when" if self.end == self.start else "before"
            raise ValueError(
                f"window ends ({self.end.isoformat()}) {order} it begins ({self.start.isoformat()}): give a later end"
            )

    @property
    def stamp(self) -> str:
        """`<from>_<to>` of the delivered file's name, e.g. `2025-03-16_00:00:00_2025-03-17_00:00:00` (UTC)."""
        # not strftime, whose %Y does not pad years before 1000
        return f"{self.start.date()}_{self.start.time()}_{self.end.date()}_{self.end.time()}"

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    def to_dict(self) -> dict[str, str]:
        return {"start": self.start.isoformat(), "end": self.end.isoformat()}

    @classmethod
    def from_dict(cls, value: dict[str, str]) -> Self:
        return cls(datetime.fromisoformat(value["start"]), datetime.fromisoformat(value["end"]))

    def __str__(self) -> str:
        return f"[{self.start.isoformat()}, {self.end.isoformat()})"


def held_by(ranges: Iterable[tuple[datetime, datetime]]) -> Callable[[datetime, datetime], bool]:
    """Tells of `[start, end)` whether a single one of these ranges holds all of it, however many there are."""
    ordered = sorted(ranges)
    starts = [start for start, _ in ordered]
    latest = [*accumulate((end for _, end in ordered), max)]

    def held(start: datetime, end: datetime) -> bool:
        at = bisect_right(starts, start)
        return at > 0 and end <= latest[at - 1]

    return held
