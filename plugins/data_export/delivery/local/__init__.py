"""A folder of this machine, `file://`: staging on one machine, and the twin of the cloud stores."""

import os
import time
from contextlib import suppress
from pathlib import Path

_ABANDONED_SECONDS = 24 * 3600


def remove_if_abandoned(path: Path) -> bool:
    """Removes a file that nobody has written to for a day; whether it did."""
    with suppress(OSError):  # gone, or another user's
        if _is_abandoned(path):
            path.unlink()
            return True
    return False


def remove_empty_folders(top: Path) -> None:
    """Removes those where nothing has changed for a day; not `top`, and not what is in it, such as lost+found."""
    old: list[Path] = []
    for folder in (Path(one) for one, _, _ in os.walk(top)):
        with suppress(OSError):  # gone
            if top not in (folder, folder.parent) and _is_abandoned(folder):
                old.append(folder)
    for folder in reversed(old):  # deepest first; all were judged before, since this changes the folder around it
        with suppress(OSError):  # not empty, or another user's
            folder.rmdir()


def _is_abandoned(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
