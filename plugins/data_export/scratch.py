"""What a task uses of its machine: memory, and local folders.

The folders are removed with the task, and, where it was killed, by the next task on the same disk.
"""

import ctypes
import fcntl
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "data-export-scratch-"
#: The whole name, with what `tempfile` adds: nobody's folder but ours is removed.
_NAME = re.compile(_PREFIX + r"[a-z0-9_]{8}")
#: A folder is locked a moment after it was made; an hour covers clocks that are adjusted too.
_ABANDONED_SECONDS = 3600
_MOST_REMOVED = 50
_log = logging.getLogger(__name__)


# Options of glibc's mallopt: keep up to 64 MiB of what is freed, map only what is larger than 32 MiB.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = (-1, 64 << 20), (-3, 32 << 20)


def keep_freed_memory() -> None:
    """Lets this process use again what it frees, instead of new pages from the kernel.

    As glibc comes, the columns of every chunk are mapped, filled and unmapped again: 7 to 14 % of the CPU time of
    extract and transform. Does nothing with another C library.
    """
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            mallopt(option, value)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder in TMPDIR that is removed whatever happens; what killed processes left there goes first.

    The folder is locked while it is in use. The kernel drops the lock when its process ends, however it ends.
    """
    remove_abandoned(Path(tempfile.gettempdir()))
    # Not removed is what a step that outlives its time limit still writes: its error is the one to raise.
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as folder:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks: the folder's age alone then protects it
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Path(folder)
        finally:
            os.close(descriptor)


def remove_abandoned(root: Path) -> int:
    """Removes what `scratch` made in `root` an hour ago or more, and no living process has locked.

    At most 50 at once, so that no task waits long. Never raises: a disk that cannot be tidied is no reason to fail.
    """
    removed = 0
    with suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            if removed == _MOST_REMOVED:
                break
            if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                removed += _removed(entry.path)
    if removed:
        _log.info("scratch folders of killed tasks removed from %s: %d", root, removed)
    return removed


def _removed(folder: str) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    except OSError:  # another user's, or gone
        return False
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.getuid() or abs(time.time() - status.st_mtime) < _ABANDONED_SECONDS:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
        return not Path(folder).exists()
    except OSError:  # its process lives, or the file system has no locks
        return False
    finally:
        os.close(descriptor)
