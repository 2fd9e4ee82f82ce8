"""Settles one image: it is already at the target, copied, kept as it is, or missing at the source."""

import asyncio
import logging
import mimetypes
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

from data_export.content import Content
from data_export.delivery.base import Destination, ServerSideCopy, StoredObject, WithGlance
from data_export.delivery.connector import IfExists
from data_export.delivery.retry import NoSuchObject
from data_export.delivery.threads import read_digests
from data_export.errors import (
    AccessDenied,
    CredentialsRefused,
    DataExportError,
    ObjectRefused,
    OverwriteRefused,
    TargetNotFound,
    VerificationFailed,
)
from data_export.images.fetch import Fetcher, proof_of
from data_export.images.listing import ListedImage
from data_export.images.seen import Seen, is_older

_log = logging.getLogger(__name__)


class Settled(NamedTuple):
    """The outcome for an image, and how many bytes were copied."""

    outcome: Literal["copied", "already_there", "kept", "missing"]
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class CopyRules:
    """When an image counts as the same, and what happens to a different one.

    An image is the same if it has the same size and, if both sides know one, the same checksum. If the target knows no
    checksum (SFTP), files older than the image at the source are read to compare; with `read_back`, every file is. A
    different image is replaced under `replace`, if the target lets us. Otherwise it is kept and counted, because no
    image may block the data. Images have no revisions: the data refers to each by its one name.
    """

    if_exists: IfExists = "replace"
    read_back: bool = False


DEFAULT_RULES = CopyRules()


class Settler:
    """Settles images between two open stores; calls `sent` with the bytes of each image sent so far."""

    def __init__(
        self,
        source: Destination,
        destination: Destination,
        fetcher: Fetcher,
        rules: CopyRules,
        seen: Seen,
        sent: Callable[[str, int], None],
    ) -> None:
        self._source = source
        self._must_read = isinstance(source, WithGlance)
        self._glance = source.glance if isinstance(source, WithGlance) else source.stat
        self._destination = destination
        self._fetcher = fetcher
        self._rules = rules
        self._seen = seen
        self._sent = sent
        self._refusal_logged = False
        self._server_side: ServerSideCopy | None = None
        self._copied_by_server = self._streamed_instead = 0
        if isinstance(destination, ServerSideCopy) and destination.can_copy_from(source):
            self._server_side = destination

    async def settle(self, image: ListedImage) -> Settled:
        """
        Raises:
            ObjectExists: another run was quicker, or the answer to our own write was lost; settle it again.
            DataExportError: any other error of either side.
        """
        if self._seen.is_same(image) and not self._rules.read_back:
            return Settled("already_there")
        try:
            return await self._settle(image)
        except DataExportError as error:
            self._seen.distrust(image, error)
            raise

    async def _settle(self, image: ListedImage) -> Settled:
        here, there = await self._sides(image)
        if here is None:
            return Settled("missing" if there is None else "already_there")
        if there is not None and here.encoding is None:
            if await self._is_same(here, there):
                return Settled("already_there")
            if self._rules.if_exists != "replace":
                return Settled("kept")
        try:
            if here.encoding is not None:
                return await self._settle_unpacked(image, here, there)
            if there is not None:
                return await self._replace(image, here)
            await self._create(image, here)
        except TargetNotFound as error:
            if await self._source.stat(image.source_key) is None:
                return Settled("missing")
            if isinstance(error, NoSuchObject):
                raise ObjectRefused(
                    f"{self._source.uri}{image.source_key} is damaged: the store knows it, and does not find it when "
                    f"it is read ({error}): store it again"
                ) from error
            raise TargetNotFound(  # a server-side copy may blame the image, which is there
                f"{self._destination.uri}: no such bucket or folder: create it, or correct the address in the customer "
                f"file ({error})"
            ) from error
        return Settled("copied", here.digests.size)

    async def _settle_unpacked(self, image: ListedImage, here: StoredObject, there: StoredObject | None) -> Settled:
        """An image that its store keeps compressed arrives as an image; its own digests are known by unpacking only."""
        async with self._fetcher.fetch(here) as content:
            if there is not None and await self._is_same(replace(here, digests=content.digests), there):
                return Settled("already_there")
            if there is not None and self._rules.if_exists != "replace":
                return Settled("kept")
            if there is not None:
                return await self._replace_by(image, content)
            await self._destination.create(image.key, self._named(image, content))
            return Settled("copied", content.size)

    async def _sides(self, image: ListedImage) -> tuple[StoredObject | None, StoredObject | None]:
        """What source and target hold, as far as listings leave it open."""
        if not self._rules.read_back and (listed := self._seen.listed(image)):
            here = await self._to_compare(image, listed)
            if here is not None and here.encoding is None and listed.digests.matches(here.digests):
                return here, listed
            if not self._must_read:
                return here, await self._destination.stat(image.key)
        elif self._seen.lacks(image):
            here = self._seen.held(image) or await self._look_to_copy(image)
            if here is not None:
                return here, None
        return await self.look(image)

    async def _look_to_copy(self, image: ListedImage) -> StoredObject | None:
        """What the source holds, by no more than it takes to copy it."""
        if self._server_side is not None:
            here = await self._server_side.look_to_copy(self._source, image.source_key)
            if here is None or here.encoding is None:
                return here
        return await self._glance(image.source_key)

    async def _to_compare(self, image: ListedImage, listed: StoredObject) -> StoredObject | None:
        """The source's image; where it must be read for its digests, with those only that were listed."""
        here = await self._glance(image.source_key)
        if here is None or not self._must_read or here.digests.size != listed.digests.size:
            return here
        with suppress(TargetNotFound):  # it has just gone
            chunks = self._source.read(here.key)
            return replace(here, digests=await read_digests(chunks, most=here.digests.size, **proof_of(listed)))
        return None

    async def look(self, image: ListedImage) -> tuple[StoredObject | None, StoredObject | None]:
        """What source and target hold, asked at once: it halves the time of recognising what is there."""
        here = asyncio.create_task(self._source.stat(image.source_key))
        try:
            there = await self._destination.stat(image.key)
        except BaseException:
            here.cancel()
            await asyncio.gather(here, return_exceptions=True)
            raise
        return await here, there

    async def _is_same(self, here: StoredObject, there: StoredObject) -> bool:
        same = there.digests.matches(here.digests)
        if same is not None:
            return same
        if not (self._rules.read_back or is_older(there, here)):
            return True
        size = here.digests.size  # of both, or they would differ already
        found = await read_digests(self._destination.read(there.key), md5=True, most=size)
        if (same := found.matches(here.digests)) is None:  # the source knows no checksum either
            same = found.matches(await read_digests(self._source.read(here.key), md5=True, most=size))
        return bool(same)

    async def _create(self, image: ListedImage, here: StoredObject) -> None:
        refusal: DataExportError | None = None
        if self._server_side is not None:
            try:
                stored = await self._server_side.copy_from(self._source, image.source_key, image.key, here)
            except CredentialsRefused:
                raise
            except (AccessDenied, NoSuchObject) as error:  # which may mean the target's bucket
                refusal = error
            else:
                if stored.digests.matches(here.digests) is False:
                    raise VerificationFailed(f"{self._destination.uri}{image.key} is not what was copied: {stored}")
                self._copied_by_server += 1
                return
        if here.partial:
            here = await self._source.stat(image.source_key) or here
        async with self._fetcher.fetch(here) as content:
            await self._destination.create(image.key, self._named(image, content))
        if refusal is not None:
            self._streams_instead(refusal)

    def _named(self, image: ListedImage, content: Content) -> Content:
        """The content by its type at the target: at the platform a name may have no extension."""
        kind = mimetypes.guess_type(image.name)[0] or content.content_type
        return replace(content, content_type=kind, sent=partial(self._sent, image.key))

    def _streams_instead(self, refusal: DataExportError) -> None:
        """Gives up copies by the server where these are refused: an image refused by itself is no reason to."""
        self._streamed_instead += 1
        if self._server_side is not None and self._streamed_instead > max(1, self._copied_by_server):
            self._server_side = None
            _log.warning("images are streamed, not copied from server to server: %s", refusal)

    async def _replace(self, image: ListedImage, here: StoredObject) -> Settled:
        """Replaces the image, or keeps it if the target lets us create only: images never block the data."""
        async with self._fetcher.fetch(here) as content:
            return await self._replace_by(image, content)

    async def _replace_by(self, image: ListedImage, content: Content) -> Settled:
        try:
            await self._destination.replace(image.key, self._named(image, content))
        except OverwriteRefused as refusal:
            if not self._refusal_logged:  # the end of the copy reports how many there were
                self._refusal_logged = True
                _log.warning("images that differ from their source are kept where they are: %s", refusal)
            return Settled("kept")
        _log.warning("%s%s differed from its source and was replaced", self._destination.uri, image.key)
        return Settled("copied", content.size)
