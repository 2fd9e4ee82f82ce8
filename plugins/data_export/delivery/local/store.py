"""A folder of this machine as a store: staging on one machine, and the twin of the cloud stores in demo and tests."""

import asyncio
import errno
import hashlib
import itertools
import os
import stat
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from urllib.parse import quote
from uuid import uuid4

from data_export.content import CHUNK_BYTES, Content, Digests, Hasher
from data_export.delivery.base import StoredObject
from data_export.delivery.keys import checked_key, checked_prefix, leaves
from data_export.delivery.local import remove_empty_folders, remove_if_abandoned
from data_export.delivery.threads import at_hand, chunks_until, run_blocking
from data_export.errors import (
    ObjectExists,
    ObjectRefused,
    PermanentError,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
    VerificationFailed,
    os_errors_of,
)

_PARTIAL = ".partial-"
_MOST_TIDIED = 1_000


class LocalStore:
    """Files below `root`, which is made on entry if it is missing.

    A file is written under a hidden name in its own folder, synced to disk and only then given its name: no reader
    and no crash ever shows a part of it. What a killed process left goes when the name is written again a day later.
    Digests are computed by reading the file; at most 1 MiB of it is in memory.
    """

    concurrency = 8

    def __init__(self, root: Path, *, link_base_url: str | None = None) -> None:
        self._root = root.absolute()
        self._link_base_url = link_base_url

    @property
    def uri(self) -> str:
        return f"file://{self._root}/"

    async def __aenter__(self) -> Self:
        with os_errors_of(str(self._root)):
            await asyncio.to_thread(self._root.mkdir, parents=True, exist_ok=True)
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...

    def _path(self, key: str) -> Path:
        return Path(self._checked(key))

    def _checked(self, key: str) -> str:
        """Where the key's file is. As text: for a small image, a Path costs as much as reading it."""
        path = f"{self._root}/{checked_key(key)}"
        if path.rpartition("/")[2].startswith(_PARTIAL):
            raise TargetRefused(
                f"{path}: names that begin with {_PARTIAL!r} are kept for unfinished files: choose another"
            )
        if leaves(self._root, key):
            raise TargetRefused(f"{path}: a symbolic link leads out of {self._root}: remove it")
        return path

    async def stat(self, key: str) -> StoredObject | None:
        return await asyncio.to_thread(self._stat, key)

    def _stat(self, key: str) -> StoredObject | None:
        path, hasher = self._path(key), Hasher()
        with suppress(TargetNotFound), os_errors_of(str(path)):
            _file(key, path, path.stat())
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    hasher.update(chunk)
                return _listed(key, os.fstat(file.fileno()), hasher.digests())
        return None

    async def glance(self, key: str) -> StoredObject | None:
        path = self._checked(key)
        with suppress(TargetNotFound), os_errors_of(path):
            return _file(key, path, os.stat(path))  # noqa: PTH116 - see `_checked`
        return None

    async def create(self, key: str, content: Content) -> StoredObject:
        return await run_blocking(lambda stop: self._store(key, content, stop, replace=False))

    async def replace(self, key: str, content: Content) -> StoredObject:
        return await run_blocking(lambda stop: self._store(key, content, stop, replace=True))

    def _store(self, key: str, content: Content, stop: threading.Event, *, replace: bool) -> StoredObject:
        path = self._path(key)
        stem = _PARTIAL + hashlib.sha256(path.name.encode()).hexdigest()[:16]
        partial = path.with_name(f"{stem}-{uuid4().hex}")
        with os_errors_of(str(path)):
            if not replace and path.exists():  # spares the write; the link below is what decides
                raise ObjectExists(f"{path} is there already")
            path.parent.mkdir(parents=True, exist_ok=True)
            for abandoned in path.parent.glob(f"{stem}-*"):
                remove_if_abandoned(abandoned)
            try:
                stored = _write(partial, chunks_until(stop, content))
                if content.digests.matches(stored) is False:
                    raise VerificationFailed(
                        f"{path}: {stored.size} bytes with sha256 {stored.sha256} were read where {content.size} bytes "
                        f"with {content.digests.sha256} were announced: the source changed meanwhile"
                    )
                if replace:
                    partial.replace(path)
                else:
                    _link(partial, path)
                _sync_folder(path.parent)
            except FileNotFoundError as error:
                if error.filename != str(partial):
                    raise
                raise TargetUnavailable(f"{path.parent} was removed as an empty folder meanwhile: try again") from None
            finally:
                partial.unlink(missing_ok=True)
        return StoredObject(key, stored, datetime.now(UTC))

    async def read(self, key: str) -> AsyncIterator[bytes]:
        path = self._checked(key)
        with os_errors_of(path):
            if (whole := at_hand(path)) is not None:
                if whole:
                    yield whole
                return
            with await asyncio.to_thread(open, path, "rb") as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    yield chunk

    async def delete(self, key: str) -> None:
        path = self._path(key)
        with os_errors_of(str(path)):
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        checked_prefix(prefix)
        with os_errors_of(self.uri + prefix):
            for key in await asyncio.to_thread(self._walk, prefix):
                with suppress(FileNotFoundError):  # removed since
                    yield _listed(key, os.stat(f"{self._root}/{key}"))  # noqa: PTH116 - a Path costs more than it

    def _walk(self, prefix: str) -> Sequence[str]:
        top, lead = self._root / prefix.rpartition("/")[0], len(f"{str(self._root).rstrip('/')}/")
        keys = (
            f"{folder.rstrip('/')}/{name}"[lead:]
            for folder, _, names in os.walk(top, onerror=_unreadable)
            for name in names
            if not name.startswith(_PARTIAL)
        )
        return sorted(key for key in keys if key.startswith(prefix))

    @asynccontextmanager
    async def folder_for_a_while(self, folder: str) -> AsyncIterator[None]:
        path = self._path(folder)
        with os_errors_of(str(path)):
            missing = [one for one in (path, *path.parents) if not one.exists()]
            path.mkdir(parents=True, exist_ok=True)
        try:
            yield
        finally:
            with suppress(OSError):  # somebody has put something there
                for one in missing:
                    one.rmdir()

    async def tidy(self, folders: Sequence[str]) -> int:
        return await asyncio.to_thread(lambda: sum(map(self._tidy, folders)))

    def _tidy(self, folder: str) -> int:
        """Empty folders go only where all of the store is tidied, as staging is: a target's may be its owner's."""
        top = self._root / folder
        paths = (Path(one, name) for one, _, names in os.walk(top) for name in names if name.startswith(_PARTIAL))
        with os_errors_of(str(top)):
            removed = sum(map(remove_if_abandoned, itertools.islice(paths, _MOST_TIDIED)))
        if not folder:
            remove_empty_folders(top)
        return removed

    async def sign(self, key: str, lifetime: timedelta, file_name: str) -> str:
        """A link of the file server that shows this folder; it works as long as that server and the file do."""
        self._path(key)
        if self._link_base_url is None:
            raise PermanentError(
                f"{self.uri}: a local folder has no links to mail: set staging.uri in platform.yaml to a bucket, "
                "gs:// or s3://"
            )
        return f"{self._link_base_url.rstrip('/')}/{quote(key)}"


def _unreadable(error: OSError) -> None:
    """Raises it: what is in a folder that may not be read is not nothing, unless it is of the file system itself."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError) and Path(error.filename).name != "lost+found":
        with os_errors_of(error.filename):
            raise error


def _file(key: str, path: Path | str, status: os.stat_result) -> StoredObject:
    """
    Raises:
        ObjectRefused: it is none; to open a pipe is to wait for ever.
    """
    if not stat.S_ISREG(status.st_mode):
        raise ObjectRefused(f"{path} is a folder, a pipe or a device where a file must be: remove it")
    return _listed(key, status)


def _listed(key: str, status: os.stat_result, digests: Digests | None = None) -> StoredObject:
    return StoredObject(key, digests or Digests(status.st_size), datetime.fromtimestamp(status.st_mtime, UTC))


def _write(path: Path, chunks: Iterator[bytes]) -> Digests:
    hasher = Hasher()
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
            hasher.update(chunk)
        file.flush()
        os.fsync(file.fileno())
    return hasher.digests()


def _link(partial: Path, path: Path) -> None:
    try:
        path.hardlink_to(partial)  # unlike a rename it never takes the place of a file
    except FileExistsError:
        raise ObjectExists(f"{path} is there already") from None
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise TargetRefused(
                f"{path}: this file system makes no hard links, by which files get their names"
            ) from None
        raise


def _sync_folder(folder: Path) -> None:
    """Where the folder may be read, and its file system knows how; the file has its name already."""
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)
