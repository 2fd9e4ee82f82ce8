"""Dates, time zones and intervals of a customer file."""

import re
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from functools import lru_cache
from itertools import pairwise
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from data_export.config.fields import quoted

PRESETS = ("once", "hourly", "daily", "weekly", "monthly")
_MOMENT = r"\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}(:\d{2})?(\s?([Zz]|[+-]\d{2}(:?\d{2})?))?)?"
_LONGEST_ZONE = 64  # characters; the longest of the database has 32
YEARS = range(1970, 3000)  # a zone's offset never carries these out of what a date can hold


def instant(value: datetime | date, timezone: str) -> datetime:
    """The date's midnight, or the date-time, as an instant in UTC; without zone it is in `timezone`."""
    whole = value if isinstance(value, datetime) else datetime.combine(value, time.min)
    return (whole if whole.tzinfo else whole.replace(tzinfo=ZoneInfo(timezone))).astimezone(UTC)


def length(start: datetime, end: datetime, timezone: str) -> timedelta:
    """The length of a window as limits count it: its hours, or less where a clock of the zone shows less.

    A day of 25 hours has 24 on the clock. Where the clock skips some time as the window ends, that is left out.
    """
    try:
        begun, before, after = (
            moment.astimezone(ZoneInfo(timezone)).utcoffset() or timedelta()
            for moment in (start, end - timedelta(seconds=1), end)
        )
    except OverflowError:  # the first and last days of the calendar, which not every zone has
        return end - start
    return end - start + min(timedelta(), before - begun, after - begun)


def moment(value: object) -> datetime | date:
    """A date or a date-time of whole seconds; a text and a date of the same meaning become the same value."""
    if value is None:
        raise ValueError("is empty: write a date, e.g. 2025-03-16")
    if isinstance(value, str):
        value = _parsed(value)
    if not isinstance(value, date):
        raise ValueError(f"{quoted(value)} is not a date: write e.g. 2025-03-16 or 2025-03-16T06:00:00+01:00")
    if isinstance(value, datetime) and value.microsecond:
        raise ValueError(f"{quoted(value)} has a fraction of a second: use whole seconds")
    if value.year not in YEARS:
        raise ValueError(f"{quoted(value)} is out of range: years go from {YEARS.start} to {YEARS.stop - 1}")
    return value


def _day(value: object) -> date:
    found = moment(value)
    if isinstance(found, datetime):
        raise ValueError(f"{quoted(value)} has a time of day: write the date only, e.g. 2025-03-16")
    return found


def _parsed(text: str) -> datetime | date:
    try:
        # fromisoformat alone would take week dates and 20250316 too, which other readers of the file would not
        if not re.fullmatch(_MOMENT, text, re.ASCII):
            raise ValueError
        text = re.sub(r"\s(?=[Zz+-])", "", text).upper()
        return date.fromisoformat(text) if len(text) == len("2025-03-16") else datetime.fromisoformat(text)
    except ValueError:
        fix = "write e.g. 2025-03-16 or 2025-03-16T06:00:00+01:00"
        raise ValueError(f"{quoted(text)} is not a date or date-time that exists: {fix}") from None


def _timezone(value: str) -> str:
    try:
        if len(value) > _LONGEST_ZONE or value.startswith(("posix/", "right/", "posixrules", "localtime")):
            raise ValueError  # the system's own copies: other seconds, or another zone on every machine
        ZoneInfo(value)
    except (ValueError, OSError, KeyError):  # KeyError: ZoneInfoNotFoundError; OSError: a folder such as Europe
        hint = _near_zone(value[:_LONGEST_ZONE])
        raise ValueError(f"{quoted(value)} is not a time zone of the IANA database: {hint}") from None
    return value


@lru_cache(maxsize=256)
def _near_zone(value: str) -> str:
    """Cached: it takes 15 ms, and thousands of files may have the same wrong zone."""
    if re.search(r"\d", value):
        return "an offset has no daylight saving: write a place, e.g. Europe/Paris"
    zones, place = sorted(available_timezones()), value.strip().replace(" ", "_").lower()
    near = [zone for zone in zones if f"/{zone.lower()}".endswith(f"/{place}")] or get_close_matches(value, zones, 1)
    return f"did you mean {near[0]}?" if near else "write e.g. Europe/Paris"


def _interval(value: str) -> str:
    if value in PRESETS:
        return value
    try:
        return check_cron(value)
    except ValueError as error:
        near = get_close_matches(value[:40].strip("@").lower(), PRESETS, 1)
        hint = f"did you mean {near[0]}?" if near else str(error)
        shown = repr(value) if re.fullmatch("@[a-z]{1,20}", value) else quoted(value)  # cron's own words are no secret
        raise ValueError(
            f"{shown} is neither {', '.join(PRESETS[:-1])}, {PRESETS[-1]} nor a cron expression: {hint}"
        ) from None


Moment = Annotated[
    datetime | date,
    BeforeValidator(moment),
    WithJsonSchema(
        {"type": "string", "pattern": f"^{_MOMENT}$", "examples": ["2025-03-16", "2025-03-16T06:00:00+01:00"]}
    ),
]
Day = Annotated[date, BeforeValidator(_day)]
TimeZone = Annotated[str, AfterValidator(_timezone)]
Interval = Annotated[
    str,
    AfterValidator(_interval),
    WithJsonSchema({"type": "string", "anyOf": [{"enum": list(PRESETS)}, {"pattern": r"^\s*\S+(\s+\S+){4}\s*$"}]}),
]


#: The expression behind each interval that has a word.
CRON = {"hourly": "0 * * * *", "daily": "0 0 * * *", "weekly": "0 0 * * 1", "monthly": "0 0 1 * *"}
_NAMES = re.compile(r"jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat")
_PARTS = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of the month", "1-31"),
    ("month", "1-12"),
    ("weekday", "0-7 (0 and 7 are Sunday)"),
)
_FIELD = re.compile(r"[0-9*/,#?l-]+")
_LONGEST = 100  # characters of a DAG's tag, which the interval is, at Airflow


@lru_cache(maxsize=1024)
def check_cron(expression: str) -> str:
    """The expression with single spaces, if it is one of five fields that comes due at some time.

    Random and hashed fields (`R`, `H`), which croniter knows, are refused: windows must be the same on every parse.

    Raises:
        ValueError: with what to write instead.
    """
    # The library that Airflow's own cron timetables use.
    from croniter import CroniterBadDateError, CroniterError, croniter

    fields = expression.split()
    if (length := len(" ".join(fields))) > _LONGEST:
        raise ValueError(f"its {length} characters are more than {_LONGEST}: write ranges and steps, such as 0-58/2")
    if len(fields) != len(_PARTS):
        raise ValueError("it has not five fields such as '0 6 * * 1' (minute, hour, day, month, weekday)")
    try:
        for field in fields:
            if not _FIELD.fullmatch(_NAMES.sub("0", field.lower())):
                raise CroniterError(f"{quoted(field)} is not valid")
        croniter(" ".join(fields), datetime(2024, 1, 1, tzinfo=UTC)).get_next(datetime)
    except CroniterBadDateError:
        raise ValueError("no such day ever comes") from None
    except (CroniterError, TypeError) as error:  # CroniterError is a ValueError, but its range error is a TypeError
        for place, (field, (name, values)) in enumerate(zip(fields, _PARTS, strict=True)):
            alone = " ".join(field if place == other else "*" for other in range(len(fields)))
            if not _FIELD.fullmatch(_NAMES.sub("0", field.lower())) or not croniter.is_valid(alone):
                fix = f"write *, or {values}, or lists, ranges and steps of these"
                raise ValueError(f"its {name} {quoted(field)} is not valid: {fix}") from None
        raise ValueError(str(error)) from None
    return " ".join(fields)


# The rarest day, 29 February, comes twice in at most twelve years.
_LOOKED_AT = timedelta(days=4 * 366)


@lru_cache(maxsize=1024)
def window_days(interval: str) -> tuple[int, int]:
    """Days of the shortest and of the longest window of an interval other than `once`; a part of a day is one."""
    from croniter import croniter

    days = CRON.get(interval, interval).split()[2:]
    if days == ["*"] * 3:
        return 1, 1
    begun = datetime(2024, 1, 1)  # noqa: DTZ001 - of a clock on the wall
    due = croniter(" ".join(["0", "0", *days]), begun)
    moments = [due.get_next(datetime), due.get_next(datetime)]
    while moments[-1] < begun + _LOOKED_AT:
        moments.append(due.get_next(datetime))
    lengths = [(after - before).days for before, after in pairwise(moments)]
    return min(lengths), max(lengths)
