"""How things are said alike everywhere: foreign text, ranges of windows, sizes, formats."""

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

#: A data file's encoding, in words.
FORMATS = {
    "json": "JSON Lines (UTF-8, a work order a line)",
    "gzip": "JSON Lines (UTF-8, a work order a line), compressed with gzip",
    "zstd": "JSON Lines (UTF-8, a work order a line), compressed with zstd",
    "parquet": "Parquet, nested, compressed with zstd",
}
_SHORT_DAY = timedelta(hours=20)
_FOREIGN_CHARACTERS = 300
# Python calls these printable, but nothing is seen of them: fillers, blanks, selectors of variants.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def harmless(text: object, limit: int = _FOREIGN_CHARACTERS) -> str:
    """Foreign text (a server's words, a source's values, a file's) as one line that is safe to print anywhere.

    Control characters, terminal escapes, bidi overrides, invisible characters and lone surrogates become escapes such
    as `\\x1b` and `\\u202e`; white space becomes one space. Whatever shows it as HTML escapes it, and Markdown takes
    `as_code`.

    Args:
        limit: longest result, in characters; what is cut off is marked by `...`.
    """
    words = visible(" ".join(str(text)[: 8 * limit].split()))
    return words if len(words) <= limit else f"{words[: limit - 3]}..."


def visible(text: str) -> str:
    """The same of all of a text, line ends and other white space included."""
    if text.isprintable() and not _UNSEEN.search(text):
        return text
    seen = (c if c.isprintable() and not _UNSEEN.match(c) else c.encode("unicode_escape").decode() for c in text)
    return "".join(seen)


def as_code(text: object, limit: int = _FOREIGN_CHARACTERS) -> str:
    """Foreign text as a code span of Markdown, which no markup, no HTML and no backtick in it can end."""
    words = harmless(text, limit)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", words)), default=0))
    pad = " " if words.startswith("`") or words.endswith("`") else ""
    return f"{fence}{pad}{words}{pad}{fence}"


def windows_in_words(count: int, first: datetime, last: datetime, timezone: str) -> str:
    """`3 windows, starting 2025-03-16 up to and including 2025-03-18 (UTC)`: no end that might be meant in or out.

    The page says the same (`static/js/format.js`).

    Args:
        first: start of the first window.
        last: start of the last window.
    """
    starts = [moment.astimezone(ZoneInfo(timezone)) for moment in (first, last)]
    are_days = last - first >= (count - 1) * _SHORT_DAY and all(f"{start:%H:%M:%S}" == "00:00:00" for start in starts)
    spoken = [f"{start:%Y-%m-%d}" if are_days else f"{start:%Y-%m-%d %H:%M}" for start in starts]
    if count == 1:
        return f"1 window, starting {spoken[0]} ({timezone})"
    return f"{count:,} windows, starting {spoken[0]} up to and including {spoken[1]} ({timezone})"


def count_in_words(work_orders: int | None) -> str:
    """`1,204 work orders`; of a file that cannot be read nobody knows."""
    return f"{'an unknown number of' if work_orders is None else f'{work_orders:,}'} work orders"


_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size_in_words(size: float) -> str:
    """Bytes in decimal units, e.g. `312 B`, `34.8 kB`, `3.1 MB`; the page says the same (`format.js`)."""
    unit = 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 or size >= 99.5 else f"{size:.1f} {_UNITS[unit]}"


_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def duration_in_words(seconds: float | None) -> str:
    """The two largest units, e.g. `3 d 4 h`, `12 min`; `-` where it is not known. The page says the same."""
    if seconds is None:
        return "-"
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds >= 30 * _DAY:
        return f"{seconds / _DAY:,.0f} d"
    large, names, small = (_HOUR, ("h", "min"), _MINUTE) if seconds < _DAY else (_DAY, ("d", "h"), _HOUR)
    count, rest = int(seconds // large), int(seconds % large // small)
    return f"{count} {names[0]} {rest} {names[1]}" if rest else f"{count} {names[0]}"
