"""Which server we talk to: the host keys that are pinned, as they are written down, and those that a server shows."""

import asyncio
import base64
import binascii
import getpass
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, WithJsonSchema

from data_export.delivery.sftp import server_address
from data_export.delivery.sftp.errors import unavailable
from data_export.errors import ConfigError, DataExportError, HostKeyMismatch, TargetRefused

if TYPE_CHECKING:
    import asyncssh

# Of each kind a server has at most one key.
_RSA = ["rsa-sha2-512", "rsa-sha2-256"]
_KINDS = (
    ["ssh-ed25519"],
    *([f"ecdsa-sha2-nistp{bits}"] for bits in (256, 384, 521)),
    [*_RSA, "ssh-rsa"],
)


_KEY_TYPE = re.compile(
    r"ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com"
)


def host_keys(value: object) -> str:
    """The public keys of a server, `<type> <base64>` each on a line of its own; comments are dropped.

    Args:
        value: one text, of one key a line, or a list of such texts: a cluster has several, and a rotation two.

    Raises:
        ValueError: no key at all, a fingerprint, a private key, a line that begins with the host, a damaged key, or
            two keys on one line.
    """
    texts: list[str] = []
    for text in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(text, str):
            raise ValueError("is not a public host key: write a text such as `ssh-ed25519 AAAA...`, or a list of texts")
        texts += [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return "\n".join(dict.fromkeys(map(_host_key, texts or [""])))


def _host_key(line: str) -> str:
    kind, encoded, comment = [*line.split(None, 2), "", "", ""][:3]
    if kind.startswith(("SHA256:", "MD5:")):
        raise ValueError("is a fingerprint: write the public key itself, e.g. `ssh-ed25519 AAAA...`")
    if kind.startswith("@"):
        raise ValueError(
            "has a marker such as @cert-authority, which is not supported: write the keys of the server's nodes, "
            "e.g. `ssh-ed25519 AAAA...`"
        )
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    if not _KEY_TYPE.fullmatch(kind) or not blob.startswith(len(kind).to_bytes(4, "big") + kind.encode()):
        raise ValueError(
            "is not a public host key: write its type and base64 text, e.g. `ssh-ed25519 AAAA...`, "
            "without a host name before it"
        )
    end = 0
    while end < len(blob):  # its fields, each behind its length
        end += 4 + int.from_bytes(blob[end : end + 4], "big")
    if end > len(blob):
        raise ValueError("is cut, or broken in two by a blank: write the whole key on one line")
    if any(_KEY_TYPE.search(word) or word.startswith("AAAA") for word in comment.split()):
        raise ValueError("has more than one key on a line: write a list, with one key in each item")
    return f"{kind} {encoded}"


_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT, "minItems": 1}
HostKeys = Annotated[str, BeforeValidator(host_keys), WithJsonSchema({"anyOf": [_TEXT, _TEXTS]})]


def pinned_keys(text: str, server: str) -> "list[asyncssh.SSHKey]":
    """The keys of a text that has one on each line.

    Raises:
        ConfigError: one of them is not a public key.
    """
    import asyncssh

    try:
        return [asyncssh.import_public_key(line) for line in host_keys(text).splitlines()]
    except (ValueError, asyncssh.KeyImportError) as error:
        words = "is not a whole public key" if isinstance(error, asyncssh.KeyImportError) else str(error)
        raise ConfigError(f"host key {text[:30]!r} of {server} {words}") from None


async def fetch_host_keys(host: str, port: int, timeout: float = 15) -> list[tuple[str, str]]:
    """Every key that the server shows now, with its fingerprint, for a person to compare; nothing is trusted or sent.

    Raises:
        TargetUnavailable: no SSH server answers there.
        TargetRefused: it shows none that can be pinned.
    """
    import asyncssh

    have_a_name()
    answers = [await _fetch(host, port, timeout, algorithms) for algorithms in _KINDS]
    found = [(line_of_key(one), one.get_fingerprint()) for one in answers if isinstance(one, asyncssh.SSHKey)]
    if not found:
        for answer in answers:
            if isinstance(answer, Exception):
                raise unavailable(server_address(host, port), answer)
        raise TargetRefused(f"{server_address(host, port)} shows no host key: it cannot be pinned")
    return found


async def _fetch(
    host: str, port: int, timeout: float, algorithms: Sequence[str]
) -> "asyncssh.SSHKey | Exception | None":
    """The server's key of a kind; None or, where it hangs up instead of saying so, an error means that it has none."""
    import asyncssh

    try:
        async with asyncio.timeout(timeout):
            return await asyncssh.get_server_host_key(host, port, config=None, server_host_key_algs=algorithms)
    except (asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost, ConnectionResetError) as error:
        return None if "host key" in str(error) else error
    except (TimeoutError, OSError, asyncssh.Error) as error:
        raise unavailable(server_address(host, port), error) from None


async def why_no_key_fits(
    host: str, port: int, pinned: "list[asyncssh.SSHKey]", timeout: float
) -> DataExportError | None:
    """Why a server hangs up on us: many do so, without a word, where they have no key of the type that is pinned.

    None where its keys are not the reason.
    """
    import asyncssh

    server = server_address(host, port)
    try:
        if not isinstance(await _fetch(host, port, timeout, ()), asyncssh.SSHKey):
            return None
        shown = await fetch_host_keys(host, port, timeout)
        common = {line for line, _ in shown} & {line_of_key(key) for key in pinned}
        if not common:
            return mismatch(server, pinned, " and ".join(f"{mark} ({line})" for line, mark in shown))
        if all(line.startswith("ssh-rsa ") for line in common):
            if isinstance(await _fetch(host, port, timeout, _RSA), asyncssh.SSHKey):
                return None
            return TargetRefused(
                f"{server} signs with its RSA key by SHA-1 only (it offers ssh-rsa): have the server updated, pin "
                "another of its keys, or set sftp_legacy_algorithms: true if it is an old one"
            )
    except DataExportError:
        pass  # it does not answer at all
    return None


def mismatch(server: str, pinned: "list[asyncssh.SSHKey]", shown: str) -> HostKeyMismatch:
    """
    Args:
        shown: the server's key, as messages show it.
    """
    ours = " and ".join(key.get_fingerprint() for key in pinned)
    return HostKeyMismatch(
        f"{server} shows host key {shown}, but {ours} is pinned: nothing was sent. Ask its administrator whether the "
        "key was changed, or belongs to another node of a cluster; only then add the new one to sftp_host_key, which "
        "may be a list (or to host_key of the Airflow connection)"
    )


def shown_key(key: "asyncssh.SSHKey") -> str:
    """Fingerprint and key, as messages show them."""
    return f"{key.get_fingerprint()} ({line_of_key(key)})"


def line_of_key(key: "asyncssh.SSHKey") -> str:
    return " ".join(key.export_public_key().decode().split()[:2])


def have_a_name() -> None:
    """asyncssh asks who runs us, though nothing is made of it; a container's user may have neither name nor home."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = "data-export"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"
