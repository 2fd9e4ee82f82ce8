"""A folder of this machine as a store: staging on one machine, and the twin of the cloud stores in demo and tests."""

import asyncio
import errno
import hashlib
import itertools
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from urllib.parse import quote
from uuid import uuid4

from data_export.content import CHUNK_BYTES, Content, Digests, Hasher
from data_export.delivery.base import StoredObject
from data_export.delivery.keys import checked_key, checked_prefix, leaves
from data_export.delivery.threads import at_hand, chunks_until, run_blocking
from data_export.errors import (
    AccessDenied,
    DataExportError,
    ObjectExists,
    PermanentError,
    TargetFull,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
    VerificationFailed,
)

_PARTIAL = ".partial-"
_ABANDONED_SECONDS = 24 * 3600
_MOST_TIDIED = 1_000


class LocalStore:
    """Files below `root`, which is made on entry if it is missing.

    A file is written under a hidden name in its own folder, synced to disk and only then given its name, so that
    neither a reader nor a crash ever shows a part of it. What a killed process left behind goes when the name is
    written again a day later. Digests are computed by reading the file; at most 1 MiB of it is in memory.
    """

    concurrency = 8

    def __init__(self, root: Path, *, link_base_url: str | None = None) -> None:
        self._root = root.absolute()
        self._link_base_url = link_base_url

    @property
    def uri(self) -> str:
        return f"file://{self._root}/"

    async def __aenter__(self) -> Self:
        with _named(str(self._root)):
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
        path = self._path(key)
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise TargetRefused(f"{path} is a folder, a pipe or a device where a file must be: remove it")
        hasher = Hasher()
        try:
            with _named(str(path)), path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    hasher.update(chunk)
                modified = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
        except TargetNotFound:
            return None
        return StoredObject(key, hasher.digests(), modified)

    async def glance(self, key: str) -> StoredObject | None:
        path = self._checked(key)
        with suppress(TargetNotFound), _named(path):
            return _listed(key, os.stat(path))  # noqa: PTH116 - see `_checked`
        return None

    async def create(self, key: str, content: Content) -> StoredObject:
        return await run_blocking(lambda stop: self._store(key, content, stop, replace=False))

    async def replace(self, key: str, content: Content) -> StoredObject:
        return await run_blocking(lambda stop: self._store(key, content, stop, replace=True))

    def _store(self, key: str, content: Content, stop: threading.Event, *, replace: bool) -> StoredObject:
        path = self._path(key)
        if not replace and path.exists():  # spares the write; the link below is what decides
            raise ObjectExists(f"{path} is there already")
        stem = _PARTIAL + hashlib.sha256(path.name.encode()).hexdigest()[:16]
        partial = path.with_name(f"{stem}-{uuid4().hex}")
        with _named(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(path.parent, stem)
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
            finally:
                partial.unlink(missing_ok=True)
        return StoredObject(key, stored, datetime.now(UTC))

    async def read(self, key: str) -> AsyncIterator[bytes]:
        path = self._checked(key)
        with _named(path):
            if (whole := at_hand(path)) is not None:
                if whole:
                    yield whole
                return
            file = await asyncio.to_thread(open, path, "rb")
            with file:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    yield chunk

    async def delete(self, key: str) -> None:
        path = self._path(key)
        with _named(str(path)):
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        checked_prefix(prefix)
        with _named(self.uri + prefix):
            for key in await asyncio.to_thread(self._walk, prefix):
                with suppress(FileNotFoundError):  # removed since
                    yield _listed(key, os.stat(f"{self._root}/{key}"))  # noqa: PTH116 - a Path costs more than it

    def _walk(self, prefix: str) -> Sequence[str]:
        top, lead = self._root / prefix.rpartition("/")[0], len(f"{str(self._root).rstrip('/')}/")
        keys = (
            f"{folder.rstrip('/')}/{name}"[lead:]
            for folder, _, names in os.walk(top)
            for name in names
            if not name.startswith(_PARTIAL)
        )
        return sorted(key for key in keys if key.startswith(prefix))

    @asynccontextmanager
    async def folder_for_a_while(self, folder: str) -> AsyncIterator[None]:
        path = self._path(folder)
        missing = [one for one in (path, *path.parents) if not one.exists()]
        with _named(str(path)):
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
        top = self._root / folder
        paths = (Path(one, name) for one, _, names in os.walk(top) for name in names if name.startswith(_PARTIAL))
        with _named(str(top)):
            return sum(map(_remove_if_abandoned, itertools.islice(paths, _MOST_TIDIED)))

    async def sign(self, key: str, lifetime: timedelta, file_name: str) -> str:
        """A link of the file server that shows this folder; it works as long as that server and the file do."""
        self._path(key)
        if self._link_base_url is None:
            raise PermanentError(
                f"{self.uri}: a local folder has no links to mail: set staging.uri in platform.yaml to a bucket, "
                "gs:// or s3://"
            )
        return f"{self._link_base_url.rstrip('/')}/{quote(key)}"


def _listed(key: str, status: os.stat_result) -> StoredObject:
    return StoredObject(key, Digests(status.st_size), datetime.fromtimestamp(status.st_mtime, UTC))


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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(folder: Path, stem: str) -> None:
    for path in folder.glob(f"{stem}-*"):
        _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> bool:
    with suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            path.unlink()
            return True
    return False


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turns what the operating system says into errors of the service that name the file and the fix."""
    try:
        yield
    except DataExportError:
        raise
    except FileNotFoundError:
        raise TargetNotFound(f"{name}: no such file") from None
    except PermissionError:
        raise AccessDenied(f"{name}: the user of this process may not read or write here: change its rights") from None
    except (NotADirectoryError, IsADirectoryError, FileExistsError):
        raise TargetRefused(f"{name}: a file is in the place of a folder, or a folder of a file: remove it") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TargetFull(f"{name}: {os.strerror(error.errno)}: make room") from None
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EROFS):
            raise TargetRefused(f"{name}: {os.strerror(error.errno)}") from None
        raise TargetUnavailable(f"{name}: {error.strerror or error}") from None
