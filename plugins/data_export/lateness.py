"""When an export counts as late: one rule for whoever shows it or tells of it."""

from datetime import datetime, timedelta


def overdue(
    delivered: datetime | None,
    due: datetime | None,
    length: timedelta,
    began: datetime | None,
    late_after: timedelta,
    now: datetime,
) -> timedelta | None:
    """How long ago the oldest window that is due was to be delivered at the latest; None where none is overdue.

    Args:
        delivered: end of the newest window that was delivered; None where none was.
        due: end of the newest window that is due; None where none is.
        length: of one window, zero if unknown. Of more than one window behind, the oldest's end is reckoned by it.
        began: when the newest run was queued; what never delivered has from then as long as any: a new export's first
            window ended before anybody could run it.
        late_after: how long after its end a window may be delivered.
    """
    if due is None or (delivered is not None and delivered >= due):
        return None
    oldest = due
    if delivered is None:
        oldest = max(due, began or due)
    elif length and due - delivered >= 1.5 * length:  # half a window of doubt: days and months differ in length
        oldest = delivered + length
    late = now - oldest - late_after
    return late if late > timedelta(0) else None
