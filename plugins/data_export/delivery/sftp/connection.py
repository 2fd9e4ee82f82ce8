"""The login that an Airflow connection brings, what its server is asked first, and what its owner sets up."""

import base64
import hashlib
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_export.check.results import CheckResult
from data_export.check.shared_steps import FOLDER, OPENS, PROBE, WRITE, Step
from data_export.delivery.base import Destination
from data_export.delivery.connector import Connections, require_type
from data_export.delivery.handed_over import Handover
from data_export.delivery.sftp import SFTP_PORT
from data_export.delivery.sftp.host_keys import host_keys
from data_export.delivery.sftp.login import SftpLogin
from data_export.errors import ConfigError, DataExportError

if TYPE_CHECKING:
    from data_export.delivery.sftp.config import SftpConfig

_RENAME = Step("rename", "renames one file onto another, which shows how the server does that")
_BY_HAND = "OUR_PUBLIC_KEY and OUR_USER are those of connection {}: write them in by hand"
_SFTP_TEXTS = ("host_key", "private_key", "key_file", "private_key_passphrase")


def login_of_connection(conn_id: str, connections: Connections) -> SftpLogin:
    """Reads the keys of the SFTP and SSH connection types: private_key, key_file, private_key_passphrase, host_key."""
    found = connections.read(conn_id)
    require_type(found, "sftp", "ssh")
    extra = found.extra_dejson
    if isinstance(extra.get("host_key"), list):
        with suppress(ValueError):  # then it is no text
            extra = extra | {"host_key": host_keys(extra["host_key"])}
    texts = {key: _text_of(conn_id, extra, key) for key in _SFTP_TEXTS}
    if not (found.host and found.login):
        raise ConfigError(f"Airflow connection {conn_id!r} lacks host or login: give both")
    if not texts["host_key"]:
        raise ConfigError(
            f"Airflow connection {conn_id!r} has no host_key in its extra: add the server's public key "
            f"(`python -m data_export_airflow check --host-key {found.host}` shows it)"
        )
    connections.mask(texts["private_key"])
    return SftpLogin(
        host=found.host,
        port=found.port or SFTP_PORT,
        username=found.login,
        private_key=texts["private_key"] or None,
        private_key_path=texts["key_file"] or None,
        passphrase=texts["private_key_passphrase"],
        password=found.password,
        host_key=texts["host_key"],
    )


def _text_of(conn_id: str, extra: dict[str, Any], key: str) -> str | None:
    """The text at a key of the extra.

    Raises:
        ConfigError: it is something else.
    """
    value = extra.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"Airflow connection {conn_id!r} has a {key} in its extra that is no text: put it in quotes")
    return value


async def check_renaming(target: Destination, results: Sequence[CheckResult]) -> list[CheckResult]:
    """What the server makes of a rename, once a file could be written."""
    from data_export.delivery.sftp.destination import SftpDestination

    if not isinstance(target, SftpDestination) or not any(one.ok for one in results if one.step == WRITE.of("target")):
        return []
    try:
        return [CheckResult(_RENAME.of("target"), True, await target.ways_to_rename())]
    except DataExportError as error:
        return [CheckResult(_RENAME.of("target"), False, str(error))]


def handed_over(config: "SftpConfig") -> Handover:
    """Of a server that an Airflow connection names the owner knows the address; it is not looked up."""
    renames = (_RENAME,) if config.sftp_upload == "rename" else ()
    values = {
        "user": config.sftp_username or "OUR_USER",
        "host": config.sftp_host or "",
        "port": config.sftp_port,
        "path": config.sftp_remote_path,
        "host_keys": [_fingerprint(line) for line in (config.sftp_host_key or "").splitlines()],
        "direct": config.sftp_upload == "direct",
    }
    host, port = config.sftp_host or "YOUR_SERVER", f":{config.sftp_port}" * (config.sftp_port != SFTP_PORT)
    server = f"sftp://YOUR_USER@{f'[{host}]' if ':' in host else host}{port}"
    folder = re.sub(r'(["\\])', r"\\\1", config.sftp_remote_path.rstrip("/"))
    # Not rsync, which needs a shell on the server.
    mirror = f'mirror --exclude-glob inputs/ --exclude-glob .data-export-* "{folder}/" {{folder}}'
    return Handover(
        (OPENS, FOLDER, *PROBE, *renames),
        Path(__file__).parent / "templates" / "handover.md",
        values,
        fetch=f"lftp -c {shlex.quote(f'open {server}; {mirror}')}",
        place=f"your SFTP server {values['host']}, folder {config.sftp_remote_path}".replace(" ,", ","),
        root=f"{config.sftp_remote_path.rstrip('/')}/",
        still_open=[_BY_HAND.format(config.conn_id)] if config.conn_id else (),
        key_path=None if config.conn_id else config.sftp_private_key_path,
    )


def _fingerprint(line: str) -> str:
    """`ssh-ed25519 SHA256:...`, as `ssh-keygen -l` shows a public key."""
    kind, text = line.split()[:2]
    digest = hashlib.sha256(base64.b64decode(text)).digest()
    return f"{kind} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
