"""Keys stay below their root, whoever made them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from data_export.config.fields import path_inside
from data_export.errors import ConfigError, TargetRefused


def checked_key(key: str) -> str:
    """The key, unless it could leave its root or is no name at all.

    Raises:
        TargetRefused: an empty key, `..`, `.` or empty parts, `/` at an end, backslashes, control characters.
    """
    try:
        if not key or key != path_inside(key).strip("/"):
            raise ValueError(f"{key!r} begins or ends with '/' or is empty")
    except ValueError as error:
        raise TargetRefused(f"object name {error}") from None
    return key


def checked_prefix(prefix: str) -> str:
    """The beginning of keys, or the empty string for all of them; refused where `checked_key` would refuse."""
    if prefix.strip("/"):
        checked_key(prefix.removesuffix("/"))
    elif prefix:
        raise TargetRefused(f"object name prefix {prefix!r} begins with '/'")
    return prefix


@dataclass(frozen=True, slots=True)
class BucketRoot:
    """A folder of a bucket, e.g. `gs://bucket/folder/`; `prefix` is empty or ends with `/`."""

    scheme: str
    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str, scheme: str) -> Self:
        """
        Raises:
            ConfigError: another scheme, no bucket, or a folder that `path_inside` refuses.
        """
        parts = urlsplit(uri)
        if parts.scheme != scheme or not parts.netloc:
            raise ConfigError(f"{uri!r} is not the address of a bucket: write {scheme}://bucket/folder/")
        try:
            folder = path_inside(parts.path).strip("/")
        except ValueError as error:
            raise ConfigError(f"{uri}: {error}") from None
        return cls(scheme, parts.netloc, f"{folder}/" if folder else "")

    @property
    def uri(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.prefix}"

    def name(self, key: str) -> str:
        """The object's name in the bucket; raises as `checked_key` does."""
        return self.prefix + checked_key(key)

    def key(self, name: str) -> str:
        return name.removeprefix(self.prefix)

    def address(self, key: str) -> str:
        """What messages call the object."""
        return self.uri + key


def leaves(root: Path, key: str) -> bool:
    """Whether a symbolic link on the way to the key leads out of the local folder `root`."""
    folder, *names = str(root), *key.split("/")[:-1]
    for name in names:
        folder += f"/{name}"
        if os.path.islink(folder):  # noqa: PTH114 - a Path for each folder of each image costs more than the look
            try:
                return not Path(root, *names).resolve().is_relative_to(root.resolve())
            except (RuntimeError, OSError):  # a link to itself, which leads nowhere
                return True
    return False
