"""How all commands print: columns, colours on terminals only, JSON, and progress on standard error."""

import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Self, TextIO

from data_export.wording import visible

_COLOURS = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "dim": 2}
#: After how many seconds progress shows: at once to a person, and late enough that a cron job mails nothing.
_ON_TERMINAL, _ELSEWHERE = 1.0, 10.0
_NONE = "-"


def has_colours(stream: TextIO) -> bool:
    """A terminal that can, unless NO_COLOR (no-color.org) is set to anything."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, colour: str | None, stream: TextIO) -> str:
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if colour and has_colours(stream) else text


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Head and rows padded to columns; the last column of each is as long as it is.

    Characters that a terminal would obey, in an address or a server's words, are shown as escapes.
    """
    table = [list(head), *([visible(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    widths[-1] = 0
    return [[f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)] for row in table]


def joined(cells: Sequence[str]) -> str:
    return "  ".join(cells).rstrip()


def as_json(value: Any) -> str:
    """Indented; instants as ISO 8601."""
    return json.dumps(
        value, indent=2, default=lambda each: each.isoformat() if isinstance(each, datetime) else str(each)
    )


def instant(at: datetime | str | None) -> str:
    """`2025-03-16 00:05` in UTC; `-` where there is none."""
    return _NONE if at is None else f"{datetime.fromisoformat(at) if isinstance(at, str) else at:%Y-%m-%d %H:%M}"


class Progress:
    """Says on standard error what is under way, once that has taken a second; `text` may change meanwhile.

    On a terminal it is one line that vanishes at the end; elsewhere a line every ten seconds.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._over = threading.Event()
        self._printing = threading.Lock()
        self._is_shown = False

    def __enter__(self) -> Self:
        self._stream = sys.stderr
        self._thread = threading.Thread(target=self._show, daemon=True)
        self._thread.start()
        return self

    def print(self, line: str, out: TextIO) -> None:
        """A line of what was asked for, meanwhile: the line of progress gives way, and comes back below."""
        with self._printing:
            self._vanish()
            print(line, file=out, flush=True)

    def _vanish(self) -> None:
        if self._is_shown and self._stream.isatty():
            print("\r\x1b[K", end="", file=self._stream, flush=True)

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()
        self._vanish()

    def _show(self) -> None:
        pause = _ON_TERMINAL if self._stream.isatty() else _ELSEWHERE
        for seconds in _ticks(pause, self._over):
            line = f"{self.text} ... {seconds:.0f} s"
            begin, end = ("\r\x1b[K", "") if self._stream.isatty() else ("", "\n")
            with self._printing:
                print(f"{begin}{line}", end=end, file=self._stream, flush=True)
                self._is_shown = True


def _ticks(pause: float, over: threading.Event) -> Iterator[float]:
    seconds = pause
    while not over.wait(pause):
        yield seconds
        seconds += pause
