"""Writes a customer's first file, once it is right."""

import tempfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from data_export.config.example import Values, examples, filled
from data_export.config.fields import NAME, quoted, quoted_address
from data_export.config.problems.problems import BrokenFile
from data_export.config.validate import check_files
from data_export.errors import ConfigError

_SFTP = "sftp"
_EMAIL = "email"
_WHERE = "create it so that you may write there, or set DATA_EXPORT_CUSTOMERS_DIR"


def new_file(name: str, scheme: str, values: Values, folder: Path) -> Path:
    """Writes `<folder>/<name>.yaml` from the example of the connector, and returns it. Never replaces a file.

    Raises:
        ConfigError: no such connector, or the file or folder is in the way.
        BrokenFile: with every problem of what would have been written; nothing is.
    """
    known = examples()
    if scheme not in known:
        raise ConfigError(f"connector {quoted(scheme)} is not one of {', '.join(known)}: name one of these")
    path, text = free_path(name, folder), filled(known[scheme], values)
    _check(path, text)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}): {_WHERE}") from None
    return path


def free_path(name: str, folder: Path) -> Path:
    """Where the file of a new export goes.

    Raises:
        ConfigError: it cannot be an export's name, there is such a file, or no folder for it.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"{quoted(name)} is no export's name: use 1 to 63 of a-z, 0-9 and '-', not '-' first")
    path = folder / f"{name}.yaml"
    if path.exists():
        raise ConfigError(f"{path} is there already: edit it, or choose another name")
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: {_WHERE}")
    return path


def scheme_of(target: str) -> str | None:
    """Which connector serves a target as it is written on the command line; None where nothing tells."""
    scheme, found, _ = target.partition("://")
    return scheme if found else _EMAIL if "@" in target else None


def target_values(scheme: str, target: str) -> dict[str, str | list[str]]:
    """The keys that a target stands for: `gs://bucket/folder/`, `sftp://user@host:22/folder`, or mail addresses.

    Raises:
        ValueError: the address of another connector, a password in it, or a port that is none.
    """
    if scheme != (written := scheme_of(target) or scheme):
        raise ValueError(f"{quoted_address(target)} is an address of {written}, not of {scheme}: leave --connector out")
    if scheme == _EMAIL:
        return {"connector_config.emails": [address for address in target.replace(",", " ").split() if address]}
    if scheme != _SFTP:
        return {"connector_config.storage_uri": target}
    parts = urlsplit(target)
    if parts.password is not None:
        raise ValueError("the target has a password: SFTP servers are entered with a key, leave the password out")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(
            f"{quoted_address(target)} has a port that is none: write 1 to 65535, or leave it out"
        ) from None
    found = {
        "sftp_host": parts.hostname,
        "sftp_port": str(port) if port else None,
        "sftp_username": unquote(parts.username) if parts.username else None,
        "sftp_remote_path": unquote(parts.path) or None,
    }
    return {f"connector_config.{key}": value for key, value in found.items() if value is not None}


def _check(path: Path, text: str) -> None:
    with tempfile.TemporaryDirectory(prefix="data-export-new-") as scratch:
        draft = Path(scratch) / path.name
        draft.write_text(text, encoding="utf-8")
        problems = check_files([draft], beside=path.parent).problems
    # Without lines: there is no file to look them up in.
    told = [replace(problem, path=path, line=None) for problem in problems if problem.is_error]
    if told:
        raise BrokenFile(told)
