"""`new`: a customer file from the connector's commented example."""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_CONFIG = "connector_config."
_KEY = re.compile(r"( *)([a-z_]+):(.*)")
_PLAIN = re.compile(r"[A-Za-z0-9/](?:[\w./@+-]|:(?=\S))*", re.ASCII)  # what YAML reads back as it is
_TARGETS = (
    "gs://bucket/folder/, s3://bucket/folder/, abfs://container@account/folder/, sftp://user@host:port/folder, or mail "
    "addresses"
)

#: A text, or a list of texts, by dotted key: `connector_config.storage_uri`.
Values = Mapping[str, str | list[str]]


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "new",
        help="write a commented customer file",
        description="It asks nothing, writes nothing that validate would refuse, and replaces no file. Every flag that "
        "is missing is listed at once.",
    )
    parser.add_argument("name", metavar="NAME", help="name of the export and its file: 1 to 63 of a-z, 0-9 and -")
    parser.add_argument("--site", action="append", metavar="UUID", help="site to export; once for each")
    parser.add_argument("--target", help=_TARGETS)
    parser.add_argument(
        "--connector", metavar="{gs,s3,sftp,email}", help="kind of target; default: the kind that --target has"
    )
    parser.add_argument(
        "--interval", default="daily", help="once, hourly, daily (default), weekly, monthly, or a cron expression"
    )
    parser.add_argument("--timezone", default="UTC", help="zone in which windows are cut; default: UTC")
    parser.add_argument("--start-date", metavar="DATE", help="the first window starts here; default: today in UTC")
    parser.add_argument("--no-images", action="store_true", help="do not export images")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other key, e.g. export_type=work-orders-states or connector_config.sftp_host_key='ssh-ed25519 AAAA'",
    )
    parser.add_argument("--json", action="store_true", help="print one object: file, dag_id, next")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from data_export.config.fields import NAME, quoted
    from data_export.config.models import dag_id
    from data_export.config.platform import customers_dir
    from data_export.errors import ConfigError

    name = options.name
    path = customers_dir() / f"{name}.yaml"
    if not NAME.fullmatch(name):
        raise ConfigError(f"{quoted(name)} is not an export's name: use 1 to 63 of a-z, 0-9 and '-', not '-' first")
    if path.exists():
        raise ConfigError(f"{path} is there already: edit it, or choose another name")
    text, problems = _draft(path, options)
    if problems:
        print(*problems, "nothing was written", sep="\n", file=sys.stderr)
        return 2
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        where = "create the folder so that you may write there, or set DATA_EXPORT_CUSTOMERS_DIR"
        raise ConfigError(f"{path} cannot be written ({error.strerror}): {where}") from None
    program = "python -m data_export_airflow"
    steps = (
        (f"{program} plan", "what it will do; its own comments explain every key"),
        (f"{program} check {name}", "tries source, target and mail"),
        (f"airflow dags unpause {dag_id(name)}", "once the file is where Airflow reads it"),
        (f"{program} backfill {name} --from DAY --to DAY", "for windows of the past"),
    )
    if options.json:
        done = {"file": str(path), "dag_id": dag_id(name), "next": [command for command, _ in steps]}
        print(json.dumps(done, indent=2), file=options.out)
        return 0
    width = max(len(command) for command, _ in steps)
    lines = [f"  {command:<{width}}  {meaning}" for command, meaning in steps]
    print(f"{path} is written. Next:", *lines, sep="\n", file=options.out)
    return 0


def _draft(path: Path, options: argparse.Namespace) -> tuple[str, list[str]]:
    """The file's text, and all that is wrong: where the target is, what the other flags lack is listed all the same."""
    try:
        text = _text(options)
    except ValueError as wrong:
        readable = [setting for setting in options.set if "=" in setting and not setting.startswith(_CONFIG)]
        other = {"target": "gs://bucket/", "connector": None, "set": readable}
        found = _problems(path, _text(argparse.Namespace(**vars(options) | other)))
        return "", [str(wrong), *(line for line in found if not line.startswith("--target"))]
    return text, _problems(path, text)


def _text(options: argparse.Namespace) -> str:
    """The file's text.

    Raises:
        ValueError: the connector is missing or is not known, or a flag is not of its form.
    """
    from datetime import UTC, datetime

    from data_export.config.fields import quoted, quoted_address
    from data_export.config.load import load_customer
    from data_export.config.platform import ROOT

    files = sorted((ROOT / "include" / "examples").glob("*.yaml"))
    examples = {load_customer(path).scheme: path for path in files}
    found, target = _from_target(options.target or "")
    connector = options.connector or found
    if not connector:
        what = f"{quoted_address(options.target)} is not one" if options.target else "is missing"
        raise ValueError(f"--target: {what}: give {_TARGETS}")
    if connector not in examples:
        raise ValueError(f"{quoted(connector)} is not a connector: use one of {', '.join(examples)}")
    if found and found != connector:
        raise ValueError(f"--target is an address of {quoted(found)}, not of {connector}: leave --connector out")
    example = examples[connector].read_text(encoding="utf-8")
    values: dict[str, str | list[str]] = {"interval": options.interval, "timezone": options.timezone, **target}
    values["start_date"] = options.start_date or str(datetime.now(UTC).date())
    if options.site:
        values["site_id"] = " ".join(options.site).replace(",", " ").split()
    if "export_images:" in example:
        values[_CONFIG + "export_images"] = "false" if options.no_images else "true"
    for setting in options.set:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {key}: write KEY=VALUE")
        values[key.strip()] = value.strip()
    return "\n".join(_filled(example.splitlines(), values)) + "\n"


def _from_target(target: str) -> tuple[str | None, dict[str, str | list[str]]]:
    """The connector that a target belongs to, None where it does not say, and the keys that it stands for."""
    from data_export.delivery.registry import CONNECTORS

    for connector_type, connector in CONNECTORS.items():
        keys = connector.keys_of(target)
        if keys is not None:
            kind = target.partition("://")[0] if "://" in target else connector_type
            return kind, {_CONFIG + key: value for key, value in keys.items()}
    return (target.partition("://")[0] if "://" in target else None), {}


def _filled(example: list[str], values: Values) -> Iterator[str]:
    """The example's lines with these values.

    A key without a value becomes a comment: what an example shows of another customer is in force nowhere.
    """
    left, section, given = dict(values), "", False
    connector = next(line for line in example if line.startswith("connector_type:"))
    for line in example:
        match = _KEY.fullmatch(line)
        if match is None:
            if not line.lstrip().startswith("- "):
                yield line
            elif not given:
                yield _comment(line)
            continue
        indent, key, rest = match.groups()
        section = section if indent else f"{key}." if not rest else ""
        path = section + key if indent else key
        given = path in left
        if given:
            yield f"{indent}{key}: {_spelled(left.pop(path))}"
        elif not indent and any(other.startswith(section or "/") for other in left):
            yield line
            for other in [each for each in left if each.startswith(section)]:
                name = other.removeprefix(section)
                if not any(each.startswith(f"  {name}:") for each in example):  # or it gets its place below
                    yield f"  {name}: {_spelled(left.pop(other))}"
        else:
            yield line if line == connector else _comment(line)
    yield from _added(left)


def _added(values: Values) -> Iterator[str]:
    """Lines of keys and sections that the example does not have."""
    last = ""
    for path, value in sorted(values.items(), key=lambda item: ("." in item[0], item[0])):
        section, _, key = path.rpartition(".")
        if section != last:
            yield f"{section}:"
        last = section
        yield f"{'  ' if section else ''}{key}: {_spelled(value)}"


def _spelled(value: str | list[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_spelled, value))}]"
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _comment(line: str) -> str:
    text = line.lstrip()
    return f"{line[: len(line) - len(text)]}# {text}"


def _problems(path: Path, text: str) -> list[str]:
    """What `validate` would say of the text at this place, each problem with the flag that fixes it."""
    from data_export.config.validate import check_files
    from data_export.scratch import scratch

    flags = {"site_id": "--site", "interval": "--interval", "timezone": "--timezone", "start_date": "--start-date"}
    flags |= dict.fromkeys((_CONFIG + "storage_uri", _CONFIG + "emails"), "--target")
    with scratch("data-export-new-") as folder:
        draft = folder / path.name
        draft.write_text(text, encoding="utf-8")
        found = check_files([draft], beside=path.parent).problems
    errors = [(problem.key or "", problem.message) for problem in found if problem.is_error]
    return [
        f"{flags.get(key.partition('[')[0], f'--set {key}') if key else path}: {message}" for key, message in errors
    ]
