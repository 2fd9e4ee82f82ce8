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
_SITE = "site to export, once for each; a name is what people read: --site 'Paris Nord=433a60f6-...'"
_TARGETS = (
    "gs://bucket/folder/, s3://bucket/folder/, abfs://container@account/folder/, sftp://user@host:port/folder, or mail "
    "addresses"
)
_KINDS = "{gs,s3,abfs,sftp,email}"
_FLAGS = {"interval": "--interval", "timezone": "--timezone", "start_date": "--start-date"}
_FLAGS |= dict.fromkeys((_CONFIG + "storage_uri", _CONFIG + "emails"), "--target")
#: A text, a list or a mapping of texts, by dotted key: `connector_config.storage_uri`.
Value = str | list[str] | dict[str, str]
Values = Mapping[str, Value]


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "new",
        help="write a commented customer file",
        description="It asks nothing, writes nothing that validate would refuse, and replaces no file. Every flag that "
        "is missing is listed at once.",
    )
    parser.add_argument("name", metavar="NAME", help="name of the export and its file: 1 to 63 of a-z, 0-9 and -")
    parser.add_argument("--site", action="append", metavar="[NAME=]UUID", help=_SITE)
    parser.add_argument("--target", help=_TARGETS)
    parser.add_argument("--connector", metavar=_KINDS, help="kind of target; default: the kind that --target has")
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
        help="any other key, e.g. export_type=work-orders-states or on_delivery.emails='[bi@acme.example]'",
    )
    parser.add_argument("--json", action="store_true", help="print one object: file, dag_id, next")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from data_export.config.fields import NAME, name_meant, quoted
    from data_export.config.models import dag_id
    from data_export.config.platform import customers_dir
    from data_export.errors import ConfigError

    name = options.name
    path = customers_dir() / f"{name}.yaml"
    if not NAME.fullmatch(name):
        meant = name_meant(Path(f"{name.removesuffix('.yaml')}.yaml"))
        hint = f" (did you mean {meant}?)" if meant else ""
        rule = "use 1 to 63 of a-z, 0-9 and '-', not '-' first"
        raise ConfigError(f"{quoted(name)} is not an export's name{hint}: {rule}")
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
        fix = "create the folder so that you may write there, or set DATA_EXPORT_CUSTOMERS_DIR"
        raise ConfigError(f"{path} cannot be written ({error.strerror}): {fix}") from None
    program, dag = "python -m data_export_airflow", dag_id(name)
    steps = [
        (f"{program} plan", "what it will do; its own comments explain every key"),
        (f"{program} check {name}", "tries source, target and mail"),
        (f"airflow dags unpause {dag}", "once the file is where Airflow reads it"),
    ]
    if "interval: once" not in text.splitlines():
        steps.append((f"{program} backfill {name} --from DAY --to DAY", "for windows of the past"))
    if options.json:
        done = {"file": str(path), "dag_id": dag, "next": [command for command, _ in steps]}
        print(json.dumps(done, indent=2), file=options.out)
        return 0
    width = max(len(command) for command, _ in steps) + 2
    lines = [f"  {command:<{width}}{meaning}" for command, meaning in steps]
    print(f"{path} is written. Next:", *lines, sep="\n", file=options.out)
    return 0


def _draft(path: Path, options: argparse.Namespace) -> tuple[str, list[str]]:
    """The file's text, and all that is wrong: where the target is, what the other flags lack is listed all the same."""
    try:
        text = _text(options)
    except ValueError as wrong:
        said = {"site_id": options.site, "start_date": options.start_date}
        keys = {setting.partition("=")[0].strip(): setting for setting in options.set if "=" in setting}
        readable = [keys[key] for key in keys if not key.startswith(_CONFIG) and not said.get(key)]
        named = any("=" in site for site in options.site or ())
        other = {"target": "gs://bucket/", "connector": None, "set": readable, "site": None if named else options.site}
        found = _problems(path, _text(argparse.Namespace(**vars(options) | other)))
        asked = ("--target", "--site") if named else ("--target",)
        return "", [str(wrong), *(line for line in found if not line.startswith(asked))]
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

    examples = {load_customer(path).scheme: path for path in sorted((ROOT / "include/examples").glob("*.yaml"))}
    found, target = _from_target(options.target or "")
    connector = options.connector or found
    if target and found not in examples:  # another tool's spelling, or of demos: `_problems` says what to write
        found = connector = "gs"
    if found not in examples and (options.target or not connector):
        what = f"{quoted_address(options.target)} is not one" if options.target else "is missing"
        raise ValueError(f"--target: {what}: give {_TARGETS}")
    if connector not in examples:
        raise ValueError(f"{quoted(connector)} is not a connector: use one of {', '.join(examples)}")
    if found and found != connector:
        raise ValueError(f"--target is of {quoted(found)}, not {connector}: leave --connector out, or give {_TARGETS}")
    example = examples[connector].read_text(encoding="utf-8")
    values: dict[str, Value] = {"interval": options.interval, "timezone": options.timezone, **target}
    values["start_date"] = options.start_date or str(datetime.now(UTC).date())
    if options.site:
        values["site_id"] = _sites(options.site)
    said = {*target, *["site_id"] * bool(options.site), *["start_date"] * bool(options.start_date)}
    if "export_images:" in example:
        values[_CONFIG + "export_images"] = "false" if options.no_images else "true"
    for setting in options.set:
        key, equals, value = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ValueError(f"--set {key}: write KEY=VALUE")
        if key in said:
            raise ValueError(f"--set {key}: is given twice, by another flag or --set: leave one out")
        said.add(key)
        items = [item for one in value[1:-1].split(",") if (item := one.strip(" '\""))]
        values[key] = items if value[:1] + value[-1:] == "[]" else value  # as YAML has a list, in quotes or not
    return "\n".join(_filled(example.splitlines(), values)) + "\n"


def _sites(given: list[str]) -> list[str] | dict[str, str]:
    """The uuids, or by their names where the sites have some.

    Raises:
        ValueError: only some have a name, or two have the same.
    """
    if not any("=" in site for site in given):
        return " ".join(given).replace(",", " ").split()
    named: dict[str, str] = {}
    for site in given:
        name, equals, uuid = (part.strip() for part in site.partition("="))
        if not equals or "=" in uuid:
            raise ValueError(f"--site {site}: write NAME=UUID, once for each site, and give each of them a name")
        if name in named:
            raise ValueError(f"--site {site}: another site has that name: give each its own")
        named[name] = uuid
    return named


def _from_target(target: str) -> tuple[str | None, dict[str, str | list[str]]]:
    """The connector that a target belongs to, None where it is of none, and the keys that it stands for."""
    from data_export.delivery.registry import CONNECTORS

    for connector_type, connector in CONNECTORS.items():
        keys = connector.keys_of(target)
        if keys is not None:
            kind = target.partition("://")[0] if "://" in target else connector_type
            return kind, {_CONFIG + key: value for key, value in keys.items()}
    return None, {}


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
            names = [each.removeprefix(section) for each in left if each.startswith(section)]
            others = [name for name in names if not any(each.startswith(f"  {name}:") for each in example)]
            yield from (f"  {one}" for one in _added({name: left.pop(section + name) for name in others}))
        else:
            yield line if line == connector else _comment(line)
    yield from _added(left)


def _added(values: Values) -> Iterator[str]:
    """Lines of keys and sections that the example does not have."""
    last: list[str] = []
    for path, value in sorted(values.items(), key=lambda item: ("." in item[0], item[0])):
        *sections, key = path.split(".")
        for depth, section in enumerate(sections):
            if sections[: depth + 1] != last[: depth + 1]:
                yield f"{'  ' * depth}{section}:"
        last = sections
        yield f"{'  ' * len(sections)}{key}: {_spelled(value)}"


def _spelled(value: Value) -> str:
    if isinstance(value, dict):
        names = {json.dumps(name, ensure_ascii=False): _spelled(uuid) for name, uuid in value.items()}
        return f"{{{', '.join(f'{name}: {uuid}' for name, uuid in names.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_spelled, value))}]"
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _comment(line: str) -> str:
    return re.sub("^ *", r"\g<0># ", line)


def _problems(path: Path, text: str) -> list[str]:
    """What `validate` would say of the text at this place, each problem with the flag that fixes it."""
    from data_export.config.validate import check_files
    from data_export.scratch import scratch

    with scratch() as folder:
        draft = folder / path.name
        draft.write_text(text, encoding="utf-8")
        found = check_files([draft], beside=path.parent).problems
    return [f"{_flag(each.key) if each.key else path}: {each.message}" for each in found if each.is_error]


def _flag(key: str) -> str:
    if key.startswith("site_id"):
        return f"--site {key.partition('.')[2]}".strip()
    return _FLAGS.get(key.partition("[")[0], f"--set {key}")
