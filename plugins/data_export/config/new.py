"""Writes a customer's first file, once it is right."""

import tempfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from data_export.config.example import Values, examples, filled
from data_export.config.fields import NAME, quoted
from data_export.config.load import load_files
from data_export.config.problems import BrokenFile
from data_export.errors import ConfigError

_SFTP = "sftp"
_EMAIL = "email"


def new_file(name: str, scheme: str, values: Values, folder: Path) -> Path:
    """Writes `<folder>/<name>.yaml` from the example of the connector, and returns it. Never replaces a file.

    Raises:
        ConfigError: no such connector, or the file or folder is in the way.
        BrokenFile: with every problem of what would have been written; nothing is.
    """
    known = examples()
    if scheme not in known:
        raise ConfigError(f"connector {quoted(scheme)} is not one of {', '.join(known)}: name one of these")
    if not NAME.fullmatch(name):
        raise ConfigError(f"{quoted(name)} is no export's name: use 1 to 63 of a-z, 0-9 and '-', not '-' first")
    path, text = folder / f"{name}.yaml", filled(known[scheme], values)
    if path.exists():
        raise ConfigError(f"{path} is there already: edit it, or choose another name")
    _check(path, text)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    return path


def scheme_of(target: str) -> str | None:
    """Which connector serves a target as it is written on the command line; None where nothing tells."""
    scheme, found, _ = target.partition("://")
    return scheme if found else _EMAIL if "@" in target else None


def target_values(scheme: str, target: str) -> dict[str, str | list[str]]:
    """The keys that a target stands for: `gs://bucket/folder/`, `sftp://user@host:22/folder`, or mail addresses.

    Raises:
        ValueError: a password in it, or a port that is none.
    """
    if scheme == _EMAIL:
        return {"connector_config.emails": [address for address in target.replace(",", " ").split() if address]}
    if scheme != _SFTP:
        return {"connector_config.storage_uri": target}
    parts = urlsplit(target)
    if parts.password is not None:
        raise ValueError("the target has a password: SFTP servers are entered with a key, leave the password out")
    found = {
        "sftp_host": parts.hostname,
        "sftp_port": str(parts.port) if parts.port else None,
        "sftp_username": unquote(parts.username) if parts.username else None,
        "sftp_remote_path": unquote(parts.path) or None,
    }
    return {f"connector_config.{key}": value for key, value in found.items() if value is not None}


def _check(path: Path, text: str) -> None:
    with tempfile.TemporaryDirectory(prefix="data-export-new-") as scratch:
        draft = Path(scratch) / path.name
        draft.write_text(text, encoding="utf-8")
        problems = load_files([draft], beside=path.parent).problems
    # Without lines: there is no file to look them up in.
    told = [replace(problem, path=path, line=None) for problem in problems if problem.is_error]
    if told:
        raise BrokenFile(told)
