"""Which DAG file holds which exports: `dags/customer_exports.py` and its copies, as many as there are."""

from collections.abc import Sequence, Set
from hashlib import blake2b
from pathlib import Path

_FILES = "customer_exports*.py"


def share_files(folder: Path) -> list[str]:
    """Names of the DAG files in the folder that share the exports."""
    return sorted(path.name for path in folder.glob(_FILES))


def holder(name: str, files: Sequence[str]) -> str:
    """The one of `files` that holds the export of this name.

    The same in every process, and whatever other exports there are. Each file draws a number for the name and the
    highest has it, so that one more file takes exports from the others, and moves none between these.
    """
    return max(files, key=lambda file: blake2b(f"{file}/{name}".encode(), digest_size=8).digest())


def held(file: Path, names: Set[str]) -> Set[str]:
    """Those of `names` that this file holds: all of them where it stands alone."""
    files = share_files(file.parent)
    return {name for name in names if holder(name, files) == file.name} if len(files) > 1 else names
