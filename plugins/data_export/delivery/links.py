"""What signed links of the cloud stores have in common."""

from datetime import timedelta
from urllib.parse import quote

from data_export.delivery.connector import LONGEST_LINK_HOURS
from data_export.errors import PermanentError


def check_lifetime(address: str, lifetime: timedelta) -> None:
    """Passes a lifetime that a link can have.

    Raises:
        PermanentError: longer than any link works; boto3 would sign it all the same, and S3 refuse it.
    """
    if lifetime > timedelta(hours=LONGEST_LINK_HOURS):
        fix = f"set link_ttl_hours to at most {LONGEST_LINK_HOURS}"
        raise PermanentError(f"{address}: no link works for {hours(lifetime)}: {fix}")


def hours(lifetime: timedelta) -> str:
    """The lifetime as messages say it."""
    return f"{lifetime.total_seconds() / 3600:g} hours"


def attachment(file_name: str) -> str:
    """`Content-Disposition` that makes a browser save the download under that name (RFC 6266)."""
    return f"attachment; filename*=UTF-8''{quote(file_name, safe='')}"
