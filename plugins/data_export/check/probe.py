"""Writes a small file, looks at it, replaces it and removes it again."""

import secrets

from data_export.check.results import Results
from data_export.content import Content
from data_export.delivery.base import Destination

_COLONS = "2025-03-16_00:00:00_2025-03-17_00:00:00.json"


async def check_by_probe(place: Destination, what: str) -> Results:
    """For servers that let us remove what we write: each step on a file below `data-export-check-<random>/`.

    Names with colons are tried too, since delivered files have them and some servers (Windows) refuse them. The empty
    folder may stay where a protocol cannot remove one.
    """
    results = Results()
    folder = f"data-export-check-{secrets.token_hex(4)}"
    plain, dated = f"{folder}/probe.json", f"{folder}/{_COLONS}"
    if not await results.tried(f"{what}: write and check", plain, place.create(plain, Content.of_bytes(b"{}\n"))):
        return results
    await results.tried(f"{what}: look", plain, place.stat(plain))
    await results.tried(f"{what}: replace", plain, place.replace(plain, Content.of_bytes(b"[]\n")))
    if await results.tried(f"{what}: names with ':'", dated, place.create(dated, Content.of_bytes(b"{}\n"))):
        await results.tried(f"{what}: remove {dated}", "removed", place.delete(dated))
    await results.tried(f"{what}: remove {plain}", "removed", place.delete(plain))
    return results
