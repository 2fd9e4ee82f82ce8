"""The text of a file that a person wrote: whether it changed, and in plain words what a parser stumbled over in it."""

import errno
import os
import re
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml
from yaml.reader import Reader

from data_export.config.problems.problems import BrokenFile, ConfigProblem

#: Nanoseconds of the last change of what the file holds and of the file itself, bytes, inode.
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Size:
    """How much a file may hold, and what to do about one that holds more."""

    bytes: int
    values: int  # several times what the longest list of sites has: 4,096 are read in 10 ms
    fix: str


CUSTOMER_FILE = Size(64 * 1024, 4096, "split it into several exports")
#: What one file says of all customers: thousands of them.
FILE_OF_ALL = Size(4 * 1024 * 1024, 200_000, "remove what is no longer used")
#: Words of every error that may pass by itself, also where another error quotes it.
NOT_NOW = "cannot be read now"
_LASTING = {
    *(errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENOTDIR),
    *(errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO, errno.ENODEV, errno.EOVERFLOW),
}
# A file may change once more within what its file system takes for one moment.
_SETTLED_NS = 1_000_000_000
_CONFLICT = re.compile(r"^(?:(?:<{7}|>{7}|\|{7})(?:[ \t\r]|$)|={7}\r?$)", re.MULTILINE)  # as git and others mark it


def read_text(path: Path, size: Size = CUSTOMER_FILE) -> str:
    """The text of a file of at most this size.

    Raises:
        BrokenFile: it cannot be read, is too big, is no text, or holds a merge conflict.
    """
    text = _decode(path, _read(path, size))
    if conflict := _CONFLICT.search(text):
        message = "a merge conflict stands here: keep one version, and remove the lines <<<<<<<, ======= and >>>>>>>"
        raise BrokenFile([ConfigProblem(path, text.count("\n", 0, conflict.start()) + 1, None, message)])
    return text


def _read(path: Path, size: Size) -> bytes:
    try:
        # without O_NONBLOCK, opening a named pipe would wait for ever for somebody to write into it
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if is_file := stat.S_ISREG(os.fstat(descriptor).st_mode):
            with os.fdopen(descriptor, "rb") as file:
                data = file.read(size.bytes + 1)
        else:
            os.close(descriptor)  # `fdopen` of a folder raises, and leaves it open
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a file name"
        message = f"cannot be read ({reason}): fix or remove it"
        if isinstance(error, OSError) and error.errno not in _LASTING:  # a disk that does not answer, a file on its way
            message = f"{NOT_NOW} ({reason}): fix or remove it if that does not pass"
        raise BrokenFile([ConfigProblem(path, None, None, message)]) from None
    if not is_file:
        raise BrokenFile([ConfigProblem(path, None, None, "is not a regular file: remove it or give it another name")])
    if len(data) > size.bytes:
        message = f"is bigger than {size.bytes // 1024:,} KiB: {size.fix}"
        raise BrokenFile([ConfigProblem(path, None, None, message)])
    return data


def _decode(path: Path, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BrokenFile([ConfigProblem(path, line, None, "is not UTF-8 text: save it as UTF-8")]) from None
    if bad := Reader.NON_PRINTABLE.search(text):
        message = f"has the control character U+{ord(bad[0]):04X}: remove it, or save the file as UTF-8"
        raise BrokenFile([ConfigProblem(path, text.count("\n", 0, bad.start()) + 1, None, message)])
    return text


def explain_syntax(error: yaml.YAMLError, text: str) -> tuple[int | None, str]:
    """The line and what to change there. The text of the file itself is not repeated: it may hold a secret."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return None, "is not YAML: compare it with a file from include/examples"
    line, message = _explain_marked(error, error.problem_mark, text)
    return min(line, text.rstrip().count("\n") + 1), message  # the parser may stop behind the last line


def _explain_marked(error: yaml.MarkedYAMLError, mark: yaml.Mark, text: str) -> tuple[int, str]:
    context, problem = error.context or "", error.problem or ""
    opened = error.context_mark or mark
    if "alias" in context or "anchor" in context:
        return mark.line + 1, "a value that begins with * or & must stand in quotes, e.g. '*/5 * * * *'"
    if "quoted scalar" in context and "escape" not in problem:
        return opened.line + 1, "a quotation mark opens here and is never closed: close it"
    if "flow" in context:
        return opened.line + 1, "a bracket opens here and is not closed, or lacks a comma: fix the list"
    if "cannot start any token" in problem:
        return mark.line + 1, _bad_start(_character(text, mark.line, mark.column))
    if "simple key" in context:
        return opened.line + 1, "is not of the form `key: value`: write a colon after the key, and a space after it"
    if "mapping values" in problem:
        fix = "put a value that holds ': ' in quotes, and begin the keys of one level in the same column"
        return mark.line + 1, f"a second ': ' where none may be: {fix}"
    if "too deep" in problem:
        return mark.line + 1, "is nested too deep: write the keys as in include/examples"
    if problem.startswith("did not find expected"):
        return mark.line + 1, "the indentation does not fit: begin the keys of one level in the same column"
    return mark.line + 1, f"is not YAML ({problem}): compare it with a file from include/examples"


def _character(text: str, line: int, column: int) -> str:
    rows = text.split("\n")
    return rows[line][column : column + 1] if line < len(rows) else ""


def _bad_start(character: str) -> str:
    if character == "\t":
        return "a tab where only spaces may be: indent with spaces"
    return f"a value that begins with {character or 'this character'} must stand in quotes"


def stamp(path: Path | str) -> Stamp | None:
    """Changes with the file, also where a link leads to another one, as when a ConfigMap is updated; None without."""
    try:
        found = os.stat(path)  # noqa: PTH116 - thousands of paths cost half of it
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def is_missing(path: Path) -> bool:
    """Whether there is no such file; where a disk does not answer, which `lexists` takes for that, nobody knows."""
    with suppress(OSError, ValueError):
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return True
    return False


def is_settled(stamped: Stamp | None) -> bool:
    """Whether a later change of the file would give it another stamp."""
    return stamped is None or max(stamped[:2]) < time.time_ns() - _SETTLED_NS
