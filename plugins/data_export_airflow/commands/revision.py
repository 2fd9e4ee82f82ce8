"""The customer files of an earlier git revision."""

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data_export.errors import ConfigError

# What git tells its hooks, relative to a folder that we are not in.
_OF_A_HOOK = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_WORK_TREE")


@dataclass(frozen=True, slots=True)
class Revision:
    """`folder` holds the files as they were; `commit` is the full hash."""

    commit: str
    folder: Path


@contextmanager
def files_at(revision: str, folder: Path) -> Iterator[Revision]:
    """The files that lay directly in the folder, in a temporary one while the block lasts; none where it was not there.

    Raises:
        ConfigError: no git, no repository, or no such revision.
    """
    named = f"{revision}^{{commit}}"
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", named, what=revision).decode().strip()
    with tempfile.TemporaryDirectory(prefix="data-export-plan-") as scratch:
        if not _run(folder, "cat-file", "-e", f"{commit}:./").returncode:
            archive = _git(folder, "archive", "--format=tar", commit)
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                flat = [member for member in tar if "/" not in member.name and not member.isdir()]
                tar.extractall(scratch, flat, filter="tar")  # links too; reading refuses those that lead out
        yield Revision(commit, Path(scratch))


def _git(folder: Path, *arguments: str, what: str = "") -> bytes:
    done = _run(folder, *arguments)
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split()).removeprefix("fatal: ")
        fix = "put the folder under git, or set DATA_EXPORT_CUSTOMERS_DIR to one that is"
        if not said:
            said, fix = f"there is no revision {what!r}", "name a branch, tag or commit of this repository, or fetch it"
        raise ConfigError(f"the customer files of {folder} cannot be compared with another revision: {said}: {fix}")
    return done.stdout


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603 - a fixed program; a revision stands after --end-of-options
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - wherever the user has it
            env={name: value for name, value in os.environ.items() if name not in _OF_A_HOOK},
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise ConfigError(
            "git is not installed, but the earlier customer files are read from it: install git"
        ) from None
