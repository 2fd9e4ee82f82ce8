"""How a size reads: in notes, mails, logs and on the command line alike."""

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def in_words(size: float) -> str:
    """Bytes in decimal units, e.g. `312 B`, `34.8 kB`, `3.1 MB`; the page says the same (`format.js`)."""
    unit = 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 or size >= 99.5 else f"{size:.1f} {_UNITS[unit]}"
