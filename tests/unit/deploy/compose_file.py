"""docker-compose.yaml as Compose reads it: anchors merged, variables filled in."""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
# ${NAME}, ${NAME:-default}, ${NAME:?message}, and $$ for a dollar sign.
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\})")


def new_env() -> ModuleType:
    """deploy/new_env.py, which is a script and no package."""
    spec = importlib.util.spec_from_file_location("new_env", ROOT / "deploy" / "new_env.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dotenv(text: str) -> dict[str, str]:
    """The variables of an env file: NAME=value or NAME='value'."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}


def variables(text: str) -> dict[str, str | None]:
    """Every variable that the file asks for, with its default; None where there is none."""
    found = (match for match in _VARIABLE.finditer(text) if match["name"])
    return {match["name"]: match["text"] if match["kind"] == "-" else None for match in found}


def compose(environment: Mapping[str, str]) -> Any:
    """The file with `environment` filled in; KeyError where a variable has neither value nor default."""

    def value(match: re.Match[str]) -> str:
        if match["name"] is None:
            return "$"
        if match["kind"] == "-":
            return environment.get(match["name"]) or str(match["text"])
        return environment[match["name"]]

    def fill(node: Any) -> Any:
        # After parsing, as Compose does it: what is filled in stays text, whatever it looks like.
        if isinstance(node, dict):
            return {key: fill(child) for key, child in node.items()}
        if isinstance(node, list):
            return [fill(child) for child in node]
        return _VARIABLE.sub(value, node) if isinstance(node, str) else node

    return fill(yaml.safe_load((ROOT / "docker-compose.yaml").read_text()))


def filled_env(name: str = ".env") -> dict[str, str]:
    """What deploy/new_env.py makes of .env.example, or of service.env.example."""
    return dotenv(new_env().filled((ROOT / f"{name}.example").read_text()))
