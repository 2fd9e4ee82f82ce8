"""The customer files of an earlier git revision."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data_export.errors import ConfigError

_LINK = "120000"
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
    commit = _git(
        folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", what=revision
    )
    entries = [
        entry.split("\t", 1) for entry in _git(folder, "ls-tree", "-z", commit.strip(), "./").split("\0") if entry
    ]
    blobs = [(*head.split(" "), name.rpartition("/")[2]) for head, name in entries]
    files = [(mode, id_, name) for mode, kind, id_, name in blobs if kind == "blob"]
    contents = _contents(folder, [id_ for _, id_, _ in files])
    with tempfile.TemporaryDirectory(prefix="data-export-plan-") as scratch:
        for (mode, _, name), content in zip(files, contents, strict=True):
            if mode == _LINK:  # reading refuses those that lead out of the folder
                (Path(scratch) / name).symlink_to(content.decode())
            else:
                (Path(scratch) / name).write_bytes(content)
        yield Revision(commit.strip(), Path(scratch))


def _contents(folder: Path, ids: list[str]) -> Iterator[bytes]:
    out = _run(folder, "cat-file", "--batch", given="".join(f"{id_}\n" for id_ in ids).encode()).stdout
    at = 0
    for _ in ids:  # each is `<id> blob <size>`, a line end, the bytes, a line end
        head, _, _ = out[at : at + 200].partition(b"\n")
        start, size = at + len(head) + 1, int(head.split()[2])
        yield out[start : start + size]
        at = start + size + 1


def _git(folder: Path, *arguments: str, what: str = "") -> str:
    done = _run(folder, *arguments)
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split()).removeprefix("fatal: ")
        fix = "put the folder under git, or set DATA_EXPORT_CUSTOMERS_DIR to one that is"
        if not said:
            said, fix = f"there is no revision {what!r}", "name a branch, tag or commit of this repository, or fetch it"
        raise ConfigError(f"the customer files of {folder} cannot be compared with another revision: {said}: {fix}")
    return done.stdout.decode(errors="surrogateescape")


def _run(folder: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603 - a fixed program; a revision stands after --end-of-options
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - wherever the user has it
            env={name: value for name, value in os.environ.items() if name not in _OF_A_HOOK},
            input=given,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise ConfigError("git is not installed, which tells what the customer files were: install it") from None
