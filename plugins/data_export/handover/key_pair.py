"""Our key for a customer's SFTP server: made once, its private half never shown, its public half found again."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from data_export.config.fields import NAME, quoted
from data_export.config.platform import ROOT
from data_export.errors import ConfigError

_PUBLIC = re.compile(r"((?:ssh|ecdsa|sk)-[a-z0-9@.-]+) ([A-Za-z0-9+/]{40,}={0,3})(?: .*)?", re.ASCII)
_LONGEST = 16_384  # bytes of a file with a public key: that of RSA with 16,384 bits has 2,800
_WRITABLE_BY_OTHERS = 0o022


class KeyPair(NamedTuple):
    """`path` is the private half; `public` the line for `authorized_keys`."""

    path: Path
    public: str


def keys_dir() -> Path:
    """Where keys are written: `DATA_EXPORT_KEYS_DIR`, or `keys` of this checkout."""
    return Path(os.environ.get("DATA_EXPORT_KEYS_DIR") or ROOT / "keys")


def make_key_pair(folder: Path, name: str) -> KeyPair:
    """Makes an ed25519 key, readable by its owner alone, and `<name>.pub` beside it. Replaces nothing.

    The folder is made if it is missing, for its owner alone.

    Raises:
        ConfigError: the name is not valid, one of the files is there, or others may write to the folder.
    """
    if not NAME.fullmatch(name):
        rule = "must be 1-63 characters of a-z, 0-9 and '-', and must not start with '-'"
        raise ConfigError(f"{quoted(name)} is not the name of a key, which {rule}: use the export's name")
    path, public = folder / name, folder / f"{name}.pub"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & _WRITABLE_BY_OTHERS:
            raise ConfigError(f"{folder} can be written by others, who could exchange keys: `chmod go-w {folder}`")
        for each in (path, public):
            if os.path.lexists(each):
                raise ConfigError(_already(each, path))
        return _written(path, public, f"data-export-{name}")
    except OSError as error:
        fix = "name a folder that you may write to with --folder or DATA_EXPORT_KEYS_DIR"
        raise ConfigError(f"{folder}: no key can be written ({error.strerror}): {fix}") from None


def _already(there: Path, path: Path) -> str:
    again = f"`ssh-keygen -y -f {path} > {path}.pub` makes its public half anew"
    fix = again if there == path else "remove it if its key is gone"
    return f"{there} is there already, and a key is never replaced: take another name, or keep it ({fix})"


def _written(path: Path, public: Path, comment: str) -> KeyPair:
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
    line = key.export_public_key().decode().strip()
    _write(path, key.export_private_key(), 0o600)
    try:
        _write(public, f"{line}\n".encode(), 0o644)
    except OSError:
        path.unlink()
        raise
    return KeyPair(path, line)


def _write(path: Path, data: bytes, mode: int) -> None:
    """On disk before it returns: a public half that is sent must have its private one. Never another's file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        path.unlink()  # half a key is none, and would be kept as one
        raise


def public_half(private: str, folders: Iterable[Path]) -> str | None:
    """The public key of a private one on the workers, from `<its name>.pub` beside it or in one of the folders.

    Nothing but a public key is ever given, whatever the file holds; its comment is left out.
    """
    path = Path(private)
    for folder in (path.parent, *folders):
        with suppress(OSError, UnicodeError, ValueError):
            with (folder / f"{path.name}.pub").open("rb") as file:
                found = _PUBLIC.fullmatch(file.read(_LONGEST).decode("ascii").strip())
            if found:
                return f"{found[1]} {found[2]} data-export"
    return None
