"""What makes two failures the same to a person."""

import hashlib
import re

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_VARYING = re.compile(rf"{_UUID}|\b[0-9a-f]{{12,}}\b|\d+", re.IGNORECASE)


def cause_of(occasion: str, error: str, message: str = "") -> str:
    """The key of a cause: 16 hexadecimal digits that do not change with sites, records, dates and counts.

    The words and names of the message count, so that another bucket, host, user or field is another cause; numbers,
    uuids and digests do not, so that the same fault of twenty sites or of another day is one.
    """
    text = _VARYING.sub("#", message)
    return hashlib.sha256(f"{occasion}\n{error}\n{text}".encode()).hexdigest()[:16]
