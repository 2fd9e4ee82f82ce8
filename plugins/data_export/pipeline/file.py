"""One file of anybody's from one place to another, with the promises that an export's files have."""

import asyncio
import logging
import mimetypes
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, get_args

from data_export.content import Content
from data_export.delivery.base import Destination
from data_export.delivery.connector import IfExists
from data_export.delivery.deliver import Placed, deliver
from data_export.errors import ConfigError, TargetNotFound
from data_export.scratch import scratch
from data_export.wording import size_in_words

_log = logging.getLogger(__name__)
_COMPRESSED = {".gz", ".zst", ".bz2", ".xz"}
_JSON_LINES = {".jsonl", ".ndjson"}


class FilePlace(NamedTuple):
    """A file's root and its name below it."""

    root: Destination
    key: str

    @property
    def uri(self) -> str:
        return self.root.uri + self.key


def deliver_file(source: FilePlace, target: FilePlace, if_exists: IfExists) -> dict[str, Any]:
    """Leaves the source's bytes at the target, complete and verified; the same bytes there are not sent again.

    Streamed by way of a temporary file. Returns `uri`, `outcome`, `revision`, `bytes` and `sha256`.

    Raises:
        ConfigError: `if_exists` is not one of its three words.
        TargetNotFound: there is no such source file.
        DataExportError: whatever else the source or the target raises.
    """
    if if_exists not in get_args(IfExists):
        raise ConfigError(f"if_exists={if_exists!r} is not one of {', '.join(get_args(IfExists))}: write one of these")

    async def run(path: Path) -> tuple[Placed, Content]:
        async with source.root:
            await _fetch(source, path)
        content = Content.of_file(path, content_type(target.key))
        async with target.root:
            return await deliver(target.root, lambda n: revision_key(target.key, n), content, if_exists), content

    with scratch() as folder:
        placed, content = asyncio.run(run(folder / "file"))
    uri = target.root.uri + placed.key
    _log.info("%s: %s, %s", uri, placed.outcome, size_in_words(content.size))
    sums = {"bytes": content.size, "sha256": content.digests.sha256 or ""}
    return {"uri": uri, "outcome": placed.outcome, "revision": placed.revision, **sums}


async def _fetch(source: FilePlace, path: Path) -> None:
    try:
        with path.open("wb") as file:
            async for chunk in source.root.read(source.key):
                file.write(chunk)
    except TargetNotFound as error:
        raise TargetNotFound(f"there is no file to deliver: {error}; correct source_uri") from None


def revision_key(key: str, revision: int) -> str:
    """`folder/name.r2.json` of `folder/name.json`; `name.r2.json.gz` of `name.json.gz`."""
    if revision == 1:
        return key
    name = PurePosixPath(key)
    extensions = name.suffixes[-2 if name.suffix in _COMPRESSED else -1 :]
    stem = name.name.removesuffix("".join(extensions))
    return str(name.with_name(f"{stem}.r{revision}{''.join(extensions)}"))


def content_type(key: str) -> str:
    """The media type by the name's extension."""
    if PurePosixPath(key).suffix in _JSON_LINES:
        return "application/x-ndjson"
    found, encoding = mimetypes.guess_type(key, strict=False)
    return "application/octet-stream" if found is None or encoding else found
