"""Writes a small file, looks at it, replaces it and removes it again."""

import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack

from data_export.check.results import CheckResult, Results
from data_export.content import Content
from data_export.delivery.base import Destination, WithFolders
from data_export.errors import AccessDenied, DataExportError

_PERIOD = "2025-03-16_00:00:00_2025-03-17_00:00:00"
_FIRST, _SECOND = Content.of_bytes(b"{}\n"), Content.of_bytes(b"[]\n")


async def check_by_probe(
    place: Destination, what: str, folders: Sequence[str] = (), *, must_remove: bool = False
) -> Results:
    """For servers that let us remove what we write: each step on one file in the root, none on a file of an export.

    Its name has colons, since those of delivered files have them and some servers (Windows) refuse them.

    Args:
        folders: what an export will write to; missing ones are made, and removed again.
        must_remove: whether the right to remove is needed. For a target it is not: it only spares temporary files.
    """
    made = Results()
    async with AsyncExitStack() as for_a_while:
        if isinstance(place, WithFolders):
            for folder in folders:
                with made.step(f"{what}: folder {folder}", "is there or can be made"):
                    await for_a_while.enter_async_context(place.folder_for_a_while(folder))
        results = Results()
        if key := await _write(place, what, results):
            results[1:1] = made  # where nothing can be written they only repeat that
            await results.tried(f"{what}: look", key, place.stat(key))
            await results.tried(f"{what}: replace", key, place.replace(key, _SECOND))
            await _remove(place, what, key, results, must_remove)
    return results


async def _write(place: Destination, what: str, results: Results) -> str | None:
    """The name that could be written, if any; one without colons where those are what the server refuses."""
    stem, step, colons = (
        f"data-export-check-{secrets.token_hex(4)}",
        f"{what}: write and check",
        f"{what}: names with ':'",
    )
    dated, plain = f"{stem}_{_PERIOD}.json", f"{stem}.json"
    if await results.tried(step, dated, place.create(dated, _FIRST)):
        results.append(CheckResult(colons, True, dated))
        return dated
    refusal = results.pop()
    if not await results.tried(step, plain, place.create(plain, _FIRST)):
        return None
    results.append(CheckResult(colons, False, refusal.detail))
    return plain


async def _remove(place: Destination, what: str, key: str, results: Results, must_remove: bool) -> None:
    step = f"{what}: remove"
    try:
        await place.delete(key)
    except DataExportError as error:
        spared = isinstance(error, AccessDenied) and not must_remove
        text = (
            f"not allowed, so that unfinished files of killed runs will stay: remove {key} there" if spared else error
        )
        results.append(CheckResult(step, spared, str(text)))
    else:
        results.append(CheckResult(step, True, "removed"))
