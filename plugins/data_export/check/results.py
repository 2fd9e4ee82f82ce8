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


def table(results: Sequence[CheckResult]) -> str:
    """The results as lines of text: step, ok or FAILED, detail."""
    width = max((len(result.step) for result in results), default=0)
    return "\n".join(
        f"{result.step:<{width}}  {'ok    ' if result.ok else 'FAILED'}  {result.detail}" for result in results
    )
