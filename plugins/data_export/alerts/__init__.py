"""Tells people what went wrong, once per export and cause a day: by mail, and through any Airflow notifier."""
