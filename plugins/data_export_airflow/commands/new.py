"""`new`: a customer file from the connector's example."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

_CONFIG = "connector_config."


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "new",
        help="write a commented customer file",
        description="On a terminal it asks for what is not given. It writes nothing that validate would refuse, and "
        "replaces no file.",
    )
    parser.add_argument("name", metavar="NAME", help="name of the export and its file: 1 to 63 of a-z, 0-9 and -")
    parser.add_argument(
        "--connector", metavar="{gs,s3,sftp,email}", help="kind of target; default: what the target tells"
    )
    parser.add_argument("--site", action="append", metavar="UUID", help="site to export; once for each")
    parser.add_argument(
        "--target", help="gs://bucket/folder/, s3://bucket/folder/, sftp://user@host:port/folder, or mail addresses"
    )
    parser.add_argument("--interval", help="once, hourly, daily (default), weekly, monthly, or a cron expression")
    parser.add_argument("--timezone", help="zone in which windows are cut; default: UTC")
    parser.add_argument("--start-date", metavar="DATE", help="the first window starts here; default: today")
    parser.add_argument("--no-images", action="store_true", help="do not export images")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other key, e.g. export_type=work-orders-states or connector_config.sftp_host_key='ssh-ed25519 AAAA'",
    )
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from data_export.config.models import dag_id
    from data_export.config.new import free_path, new_file
    from data_export.config.platform import customers_dir
    from data_export.config.problems.problems import BrokenFile

    try:
        free_path(options.name, customers_dir())  # before anything is asked
        scheme, values = _values(options)
        path = new_file(options.name, scheme, values, customers_dir())
    except (_WrongUsage, EOFError) as wrong:
        print(f"{wrong or 'stopped'}: nothing was written", file=sys.stderr)
        return 2
    except BrokenFile as broken:
        print(*broken.problems, "nothing was written", sep="\n", file=sys.stderr)
        return 1
    program, name = "python -m data_export_airflow", options.name
    steps = (
        (f"{program} plan", "what it will do; its own comments explain every key"),
        (f"{program} check {name}", "tries source, target and mail"),
        (f"airflow dags unpause {dag_id(name)}", "once the file is where Airflow reads it"),
        (f"{program} backfill {name} --from DAY --to DAY", "for windows of the past"),
    )
    width = max(len(command) for command, _ in steps)
    lines = [f"  {command:<{width}}  {meaning}" for command, meaning in steps]
    print(f"{path} is written. Next:", *lines, sep="\n", file=options.out)
    return 0


class _WrongUsage(Exception):
    """Something needed is missing or is not what it should be, and nobody can be asked."""


def _values(options: argparse.Namespace) -> tuple[str, dict[str, str | list[str]]]:
    """Connector and keys: flags first, then answers, then what is usual."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from pydantic import TypeAdapter

    from data_export.config.example import examples
    from data_export.config.fields import HostKey
    from data_export.config.moments import Interval, Moment, TimeZone
    from data_export.config.new import target_values

    schemes, extra = list(examples()), _pairs(options.set)
    interval, zone = _checked(TypeAdapter(Interval)), _checked(TypeAdapter(TimeZone))
    moment = _checked(TypeAdapter(Moment))
    scheme = _scheme(options.connector, options.target, schemes)
    values: dict[str, str | list[str]] = {}
    values["site_id"] = _asked(options.site and " ".join(options.site), "--site", "uuids, spaces between them", _uuids)
    values |= _asked(
        options.target, "--target", _EXAMPLES.get(scheme, "address"), lambda text: target_values(scheme, text)
    )
    if scheme == "sftp" and _CONFIG + "conn_id" not in extra:
        for key, check in (("sftp_private_key_path", str), ("sftp_host_key", _checked(TypeAdapter(HostKey)))):
            flag = f"--set {_CONFIG}{key}"
            values[_CONFIG + key] = _asked(extra.get(_CONFIG + key), flag, _EXAMPLES[key], check)
    values["interval"] = _asked(options.interval, "--interval", "daily, weekly, ..., or cron", interval, "daily")
    values["timezone"] = _asked(options.timezone, "--timezone", "such as Europe/Paris", zone, "UTC")
    today = datetime.now(ZoneInfo(str(values["timezone"]))).date().isoformat()
    values["start_date"] = _asked(options.start_date, "--start-date", "the first window starts here", moment, today)
    if values["interval"] == "once":
        values["end_date"] = _asked(extra.get("end_date"), "--set end_date", "the window ends here, exclusive", moment)
    if scheme != "email":
        values[_CONFIG + "export_images"] = "false" if options.no_images else "true"
    return scheme, values | extra


def _scheme(connector: str | None, target: str | None, schemes: list[str]) -> str:
    from data_export.config.new import scheme_of

    flag, hint = "--connector", ", ".join(schemes)
    if connector is None and target is not None:
        connector = scheme_of(target)
        flag = f"--target {target!r}" if connector else flag
        hint += ", which --target does not tell" if not connector else ""
    found: str = _asked(connector, flag, hint, _one_of(schemes))
    return found


_EXAMPLES = {
    "gs": "gs://bucket/folder/",
    "s3": "s3://bucket/folder/",
    "sftp": "sftp://user@host:port/folder",
    "email": "mail addresses, spaces between them",
    "sftp_private_key_path": "our private key on the workers",
    "sftp_host_key": "as `check --host-key HOST` shows it, compared with what its administrator says",
}


def _asked(given: str | None, flag: str, hint: str, check: Callable[[str], Any], default: str | None = None) -> Any:
    """The given value, or the answer of a person, or the default where there is nobody to ask."""
    if given is not None or not sys.stdin.isatty():
        text = given or default
        if text is None:
            raise _WrongUsage(f"{flag} is missing ({hint})")
        try:
            return check(text)
        except ValueError as error:
            raise _WrongUsage(f"{flag}: {error}") from None
    label = flag.rpartition(".")[2].removeprefix("--set ").removeprefix("--").replace("_", " ")
    while True:
        answer = input(f"{label} ({hint}){f' [{default}]' if default else ''}: ").strip() or default
        try:
            if answer:
                return check(answer)
        except ValueError as error:
            print(f"  {error}", file=sys.stderr)


def _checked(adapter: Any) -> Callable[[str], str]:
    """A check that gives the text back as it was written."""
    from pydantic import ValidationError

    def check(text: str) -> str:
        try:
            adapter.validate_python(text)
        except ValidationError as verdict:
            error = verdict.errors(include_url=False)[0]
            raise ValueError(str(error.get("ctx", {}).get("error", error["msg"]))) from None
        return text

    return check


def _one_of(choices: list[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is not one of {', '.join(choices)}")
        return text

    return check


def _uuids(text: str) -> list[str]:
    from uuid import UUID

    found = text.replace(",", " ").split()
    for site in found:
        try:
            UUID(site)
        except ValueError:
            raise ValueError(f"{site!r} is not a uuid: copy it whole") from None
    return found


def _pairs(settings: list[str]) -> dict[str, str]:
    pairs = [setting.partition("=") for setting in settings]
    if wrong := next((key for key, equals, _ in pairs if not equals), None):
        raise _WrongUsage(f"--set {wrong}: write KEY=VALUE")
    return {key.strip(): value.strip() for key, _, value in pairs}
