"""Writes `.env` and `service.env` from their examples, with new secrets: `python3 deploy/new_env.py`.

Needs nothing but Python.
"""

import base64
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def new_secret(name: str) -> str:
    """A secret fit for the variable `name`."""
    if name == "AIRFLOW__CORE__FERNET_KEY":
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    # Hexadecimal, since some are parts of a URL; 64 bytes are what signing tokens with HS512 asks for.
    return secrets.token_hex(64 if name == "AIRFLOW__API_AUTH__JWT_SECRET" else 24)


def filled(example: str) -> str:
    """The text with a new secret after every `NAME=` that has no value."""
    return "".join(
        f"{line}{new_secret(line[:-1])}\n" if line.endswith("=") and not line.startswith("#") else f"{line}\n"
        for line in example.splitlines()
    )


def main(folder: Path = ROOT) -> str | None:
    """Writes the files, readable by their owner alone; returns what went wrong, and then wrote none."""
    paths = [folder / name for name in (".env", "service.env")]
    for path in paths:
        if path.exists():
            return f"{path} exists: what it holds is in use; move it away first to begin anew"
    for path in paths:
        path.touch(mode=0o600)
        path.write_text(filled(path.with_name(f"{path.name}.example").read_text()))
    return None


if __name__ == "__main__":
    sys.exit(main())
