"""Checks a cron expression without Airflow."""


def check_cron(expression: str) -> str:
    """The expression, if it is one of five fields.

    Raises:
        ValueError: with what to write instead.
    """
    from croniter import croniter  # the library that Airflow's own cron timetables use

    if len(expression.split()) != 5 or not croniter.is_valid(expression):
        raise ValueError(
            f"{expression!r} is neither once, hourly, daily, weekly, monthly nor a 5-field cron expression "
            "such as '0 6 * * 1'"
        )
    return expression
