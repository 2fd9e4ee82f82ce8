"""The outcome of each step of a check."""

from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from data_export.errors import DataExportError
from data_export.wording import harmless


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One step: what was tried, and what was found or, where it failed, the fix in words."""

    step: str
    ok: bool
    detail: str

    def __post_init__(self) -> None:
        """What a server says of itself is not printed raw."""
        object.__setattr__(self, "step", harmless(self.step))
        object.__setattr__(self, "detail", harmless(self.detail, 2000))

    def to_dict(self) -> dict[str, str | bool]:
        return {"step": self.step, "ok": self.ok, "detail": self.detail}


class Results(list[CheckResult]):
    """Collects steps; a failure that the service knows is a result, not an end."""

    @contextmanager
    def step(self, name: str, ok: str) -> Iterator[None]:
        """The block is the step; `ok` is what to say when it goes well."""
        try:
            yield
        except DataExportError as error:
            self.append(CheckResult(name, False, str(error)))
        else:
            self.append(CheckResult(name, True, ok))

    async def tried(self, name: str, ok: str, action: Awaitable[object]) -> bool:
        """The same for one asynchronous action; whether it went well."""
        with self.step(name, ok):
            await action
        return self[-1].ok


#: Longer than most steps' names, so that rows that are shown as they come stand in columns.
_WIDTH = 36


def row(result: CheckResult, verdict: str | None = None) -> str:
    """One line: ok or FAILED, or the verdict as it is to be shown; step; finding."""
    return f"{verdict or shown(result)}  {result.step:<{_WIDTH}}  {result.detail}".rstrip()


def shown(result: CheckResult) -> str:
    return "ok    " if result.ok else "FAILED"


def verdict(results: Sequence[CheckResult]) -> str:
    """`14 steps, 1 failed` or `14 steps, all ok`."""
    failed = sum(not result.ok for result in results)
    return f"{len(results):,} step{'s' * (len(results) != 1)}, {f'{failed:,} failed' if failed else 'all ok'}"
