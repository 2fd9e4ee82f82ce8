"""Unfinished files on an SFTP server: named so that all runs know them, and removed when nobody needs them."""

import asyncio
import hashlib
import logging
import re
import secrets
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from data_export.delivery.sftp.errors import is_lost, taken_away
from data_export.delivery.sftp.sessions.session import SftpSession
from data_export.delivery.sftp.wire.packets import Attributes
from data_export.errors import DataExportError, TargetUnavailable
from data_export.wording import harmless

#: What unfinished files are called; no object's name may begin so.
TEMPORARY_PREFIX = ".data-export-"
#: No write lasts so long without a byte; the server's clock counts, not ours.
ABANDONED_SECONDS = 24 * 3600
# A folder of images may hold millions of files; OpenSSH lists 100 in one answer. So long it may take to look, and again
# to clean, whatever a server lists.
_LOOK_SECONDS = 30
_MOST_FOUND = 1_000
# Longer than two renames take.
_SWAP_SECONDS = 1.0
_log = logging.getLogger(__name__)
_STEM_LENGTH = len(TEMPORARY_PREFIX) + 16 + 1
_TOKEN_LENGTH = 12
# The only names that are ours. A server may list any name, also one that leads out of the folder.
_UNFINISHED = re.compile(rb"\.data-export-[0-9a-f]{16}-([0-9a-f]{12}|claim)\.tmp")
_ASIDE = re.compile(rb"\.data-export-[0-9a-f]{16}-[0-9a-f]{12}-([^/\\\x00-\x1f]{1,255})\.old")


def temporary_path(path: str) -> str:
    """A new name in the folder of `path`: the prefix, what identifies the object, and what identifies this write.

    Two writers of one object never share a file, so neither can give the other's unfinished bytes the final name.
    """
    return f"{_stem(path)}{secrets.token_hex(_TOKEN_LENGTH // 2)}.tmp"


async def takes_colons(session: SftpSession, path: str) -> bool:
    """Whether a colon is not what the server refuses of the name; filters of names answer as missing rights do."""
    if ":" not in path.rpartition("/")[2]:
        return True
    plain = temporary_path(path)
    made = {name: await session.create(name) for name in (plain, f"{plain}:")}
    for name in made:
        await session.remove_quietly(name)
    return made[f"{plain}:"] or not made[plain]


def claim_path(path: str) -> str:
    """The one file that says, on servers that need it, that a run is giving `path` to a new file."""
    return f"{_stem(path)}claim.tmp"


def aside_path(path: str) -> str:
    """A new name for the old file while another takes its place, with its own in it, which tells whether one did."""
    return f"{_stem(path)}{secrets.token_hex(_TOKEN_LENGTH // 2)}-{path.rpartition('/')[2]}.old"


def _stem(path: str) -> str:
    """What all unfinished files of the object have in common."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{TEMPORARY_PREFIX}{hashlib.sha256(name.encode()).hexdigest()[:16]}-"


def _name_of_ours(listed: bytes) -> str | None:
    """The name of an unfinished file as this module makes them; None for any other that a server lists."""
    if _UNFINISHED.fullmatch(listed):
        return listed.decode()
    match = _ASIDE.fullmatch(listed)
    try:
        name, original = listed.decode(), match[1].decode() if match else ""
    except UnicodeDecodeError:
        return None
    return name if original not in ("", ".", "..") and name.startswith(_stem(original)) else None


def _lead(folder: str) -> str:
    """What names in the folder begin with."""
    return f"{folder.rstrip('/')}/" if folder else ""


def _stem_of_left(left: str) -> str:
    return left[: left.rfind("/") + 1 + _STEM_LENGTH]


class LeftOver:
    """The unfinished files that are to be removed, of this destination and of runs that were killed.

    A file of ours goes at once or, where the connection broke, when its object was written or the work ends. Files of
    other runs are found when a folder is first written to. They go when their object was written, since its run may be
    alive until then, or once they are a day old. An old file that was moved aside goes when another has its name; where
    none has, its run was killed in between, and it gets its name back.
    """

    def __init__(self) -> None:
        self._looking = asyncio.Lock()
        self._looked_at: set[str] = set()
        self._listed: set[str] = set()
        self._aside: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self._by_object: dict[str, set[str]] = defaultdict(set)
        self._undated: list[tuple[str, int]] = []
        #: How many files were removed, or have their name back.
        self.cleaned = 0
        #: Files of ours whose removal the server has not confirmed.
        self.ours: set[str] = set()

    async def look(self, session: SftpSession, folder: str) -> None:
        """Finds what other runs left in the folder, once for all sessions and for at most half a minute."""
        async with self._looking:
            if folder in self._looked_at:
                return
            for step in (self._look, self._restore):  # what was found in time gets its name back
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await step(session, folder)
            self._looked_at.add(folder)

    async def drop(self, session: SftpSession, path: str) -> None:
        """Removes a file of ours, now or when that is possible."""
        self.ours.add(path)
        await self._remove(session, path)

    async def after_write(self, session: SftpSession, path: str, server_time: int | None) -> None:
        """Removes what is left of this object, and whatever is found to be abandoned by the server's clock.

        For at most half a minute; what is left then is found again by another run.
        """
        if _stem(path) in self._by_object or self._undated:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._clean(session, path, server_time)

    async def _clean(self, session: SftpSession, path: str, server_time: int | None) -> None:
        for left in tuple(self._by_object.pop(_stem(path), ())):
            await self._remove(session, left)
        if server_time is not None and self._undated:
            undated, self._undated = self._undated, []
            for left, modified in undated:
                if modified < server_time - ABANDONED_SECONDS:
                    await self._remove(session, left)

    async def tidy(self, session: SftpSession, folder: str) -> int:
        """Cleans a folder that nothing is written to now; returns how many files went or have their name back."""

        await self.look(session, folder)
        if self._undated:
            probe = temporary_path(f"{folder.rstrip('/')}/tidy" if folder else "tidy")
            # The server's clock counts: what it says of a file that is made now.
            if not await session.create(probe) or (made := await session.stat(probe)) is None:
                return self.cleaned  # nothing may be written here now, so nothing is removed by its age
            await self.drop(session, probe)
            await self.after_write(session, probe, made.mtime)
            return self.cleaned - 1  # without the probe
        return self.cleaned

    async def remove_ours(self, session: SftpSession) -> None:
        await asyncio.gather(*(self._remove(session, path) for path in list(self.ours)))

    async def _remove(self, session: SftpSession, left: str) -> None:
        of_object = self._by_object[_stem_of_left(left)]
        of_object.add(left)
        if await session.remove_quietly(left):
            self.cleaned += 1
            of_object.discard(left)
            self.ours.discard(left)

    async def _look(self, session: SftpSession, folder: str) -> None:
        import asyncssh

        try:
            if folder not in self._listed:
                async with aclosing(self.pages(session, folder)) as pages:
                    async for _ in pages:
                        pass
        except asyncssh.SFTPError as error:
            if is_lost(error):
                raise
            # A drop box may take files without ever listing them: then nothing can be cleaned.

    async def _restore(self, session: SftpSession, folder: str) -> None:
        """Gives files that were moved aside their names back."""
        lead = _lead(folder)
        for _, name in sorted(self._aside.pop(folder, ()), reverse=True):  # only the newest gets the name back
            await self._put_back(session, lead + name, lead + name[_STEM_LENGTH + _TOKEN_LENGTH + 1 : -4])

    async def pages(self, session: SftpSession, folder: str) -> AsyncGenerator[list[tuple[bytes, Attributes]], None]:
        """The names in the folder as `SftpSession.pages`; what other runs left among them is remembered on the way."""
        found = {True: 0, False: 0}  # many unfinished files do not hide those that were moved aside
        async with aclosing(session.pages(folder)) as pages:
            async for page in pages:
                for listed, attributes in page:
                    # Bytes, because a name that somebody else left there need not be UTF-8.
                    aside = listed.endswith(b".old")
                    if found[aside] < _MOST_FOUND and (name := _name_of_ours(listed)):
                        found[aside] += 1
                        self._note(folder, name, attributes.mtime)
                yield page
        self._listed.add(folder)

    def _note(self, folder: str, name: str, modified: int | None) -> None:
        left = _lead(folder) + name
        self._by_object[_stem_of_left(left)].add(left)
        if name.endswith(".old"):
            self._aside[folder].append((modified or 0, name))
        elif modified is not None:
            self._undated.append((left, modified))

    async def _put_back(self, session: SftpSession, aside: str, path: str) -> None:
        """Removes what was moved aside where another file has its name; else its run may just be about to place one."""
        import asyncssh

        if not await session.exists(path):
            await asyncio.sleep(_SWAP_SECONDS)
        if await session.exists(path):
            await self._remove(session, aside)
            return
        with suppress(asyncssh.SFTPError):  # its run was alive, or another puts it back too
            await session.client.rename(aside, path)
            self._by_object[_stem_of_left(aside)].discard(aside)
            self.cleaned += 1
            _log.warning("%s was moved aside by a run that was killed: it has its name back", harmless(path))


async def why_gone(session: SftpSession, path: str, where: str) -> DataExportError:
    """Why the unfinished file of `path` is not there any more, although nobody has given it that name.

    Another run may have removed it, or somebody the folder: try again. A drop box that took it would take it again.
    """
    folder = path.rpartition("/")[0] or "."
    if await session.exists(folder):
        await asyncio.sleep(_SWAP_SECONDS)  # a run that replaces the file leaves its name free for a moment
        if not await session.exists(path) and await session.exists(folder):
            return taken_away(where)
    return TargetUnavailable(f"{where}: another run, or the server, removed our unfinished file: try again")
