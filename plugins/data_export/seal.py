"""Signatures on what travels between the tasks of a run, so that whoever can edit it in Airflow cannot change the run.

Airflow keeps plans and results as XComs, which roles may edit that may edit nothing else. Each is signed for its run
(HMAC-SHA256), and a task uses none that it cannot verify.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_export import layout
from data_export.content import Content
from data_export.delivery.base import Store
from data_export.errors import ConfigError, ObjectExists, SignatureRejected, TargetNotFound

SIGNATURE = "signature"
KEY_VARIABLE = "DATA_EXPORT_SIGNING_KEY"
_SHORTEST = 32


@dataclass(frozen=True)
class Seal:
    """Signs and verifies the values of one run.

    Args:
        keys: the first one signs; a signature by any of them is good.
        run: what identifies the run: a value of another run is refused.
    """

    keys: Sequence[bytes] = field(repr=False)
    run: Sequence[str]

    def sign(self, kind: str, value: Mapping[str, Any], of: str = "") -> dict[str, Any]:
        """The value with its signature in the key `signature`.

        Args:
            kind: what it is, such as `plan`.
            of: what in the run it belongs to: Airflow keeps the result of a task that is marked as done after a clear,
                which is of what the run did before.
        """
        return {**value, SIGNATURE: self._signature(self.keys[0], kind, of, value)}

    def open(self, kind: str, value: Any, of: str = "") -> dict[str, Any]:
        """The value that was signed as this kind, without its signature; as earlier versions did, also of nothing.

        Raises:
            SignatureRejected: it has no signature, or was changed since, or is another run's or another kind, or of
                something else.
        """
        if isinstance(value, Mapping):
            content = {key: item for key, item in value.items() if key != SIGNATURE}
            given = str(value.get(SIGNATURE, "")).encode()
            good = (self._signature(key, kind, each, content) for key in self.keys for each in (of, ""))
            if any(hmac.compare_digest(given, signature.encode()) for signature in good):
                return content
        raise SignatureRejected(
            f"the {kind} of run {' '.join(self.run)} is not what an earlier task of this run signed: it was changed in "
            f"Airflow, or {KEY_VARIABLE} differs between workers or was replaced: clear the run from `prepare` on"
        )

    def _signature(self, key: bytes, kind: str, of: str, value: Mapping[str, Any]) -> str:
        whole = [kind, *self.run, *([of] if of else []), value]
        text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def keys_of_environment(environ: Mapping[str, str]) -> list[bytes]:
    """The keys in `DATA_EXPORT_SIGNING_KEY`, separated by commas; empty where it is not set.

    Raises:
        ConfigError: a key is too short to resist guessing.
    """
    keys = [key.strip().encode() for key in environ.get(KEY_VARIABLE, "").split(",") if key.strip()]
    if any(len(key) < _SHORTEST for key in keys):
        raise ConfigError(
            f"environment variable {KEY_VARIABLE} has a key of fewer than {_SHORTEST} characters: make one with "
            'python3 -c "import secrets; print(secrets.token_hex(32))" and set it alike on all workers'
        )
    return keys


async def key_in_staging(staging: Store) -> bytes:
    """The installation's own key, in the staging area, where no user of Airflow can read it; made when it is missing.

    Raises:
        DataExportError: staging cannot be read or written.
    """
    async with staging:
        for _ in range(2):
            try:
                key = b"".join([chunk async for chunk in staging.read(layout.SIGNING_KEY)])
            except TargetNotFound:
                try:
                    await staging.create(layout.SIGNING_KEY, Content.of_bytes(secrets.token_hex(32).encode()))
                except ObjectExists:  # another task was quicker
                    continue
            else:
                if len(key) >= _SHORTEST:
                    return key
                raise ConfigError(f"{staging.uri}{layout.SIGNING_KEY} holds no signing key: remove it, to have it made")
    raise ConfigError(f"{staging.uri}{layout.SIGNING_KEY} cannot be read after it was made: is staging one place?")
