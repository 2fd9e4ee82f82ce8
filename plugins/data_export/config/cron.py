"""Cron expressions, without Airflow."""

import re
from datetime import UTC, datetime
from functools import lru_cache

#: The expression behind each interval that has a word.
CRON = {"hourly": "0 * * * *", "daily": "0 0 * * *", "weekly": "0 0 * * 1", "monthly": "0 0 1 * *"}
_NAMES = re.compile(r"jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat")
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
    if len(fields) != 5 or not all(_FIELD.fullmatch(_NAMES.sub("0", field.lower())) for field in fields):
        raise ValueError("it has not five fields such as '0 6 * * 1' (minute, hour, day, month, weekday)")
    try:
        croniter(" ".join(fields), datetime(2024, 1, 1, tzinfo=UTC)).get_next(datetime)
    except CroniterBadDateError:
        raise ValueError("no such day ever comes") from None
    except (CroniterError, TypeError) as error:  # CroniterError is a ValueError, but its range error is a TypeError
        raise ValueError(str(error)) from None
    return " ".join(fields)
