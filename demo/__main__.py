"""The embedded demo: `python -m demo {run,up,servers}`."""

import argparse
import logging
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import httpx

from data_export.config.platform import ROOT, customers_dir, state_dir
from data_export.errors import DataExportError
from demo.airflow import USER
from demo.ls import show_files
from demo.platform import EmbeddedPlatform, Ports
from demo.run import demo
from demo.session import Sayer, running

COMPOSE_PORTS = Ports(postgres=5432, gcs=9023, s3=9000, sftp=2222, smtp=1025, abfs=10000)


def main() -> int:
    """Runs one command; 0 is success, 1 a failure told on standard error."""
    options = _parser().parse_args()
    # aiosmtpd warns of a name of its own, at every mail.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's `&` hands SIGINT down as ignored
        signal.signal(number, _interrupt)
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        if options.kept:
            print(f"\n{options.kept}", flush=True)
        return 0 if options.stays else 130
    except (RuntimeError, TimeoutError, httpx.HTTPError, DataExportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="start everything, deliver four days to every target, show it, stop")
    run.set_defaults(command=_run, stays=False, kept="")
    up = commands.add_parser("up", help="start everything and stay until Ctrl-C")
    state = state_dir()  # of which `make clean` removes the usual one alone: any other may hold more than ours
    end = "`make clean` removes it" if state.resolve() == ROOT / ".state" else "remove that folder to begin anew"
    kept = (
        f"Kept in {state}: Airflow's runs and all that customers received.\n"
        f"`make ls` shows where, `make up` goes on from there, {end}."
    )
    up.set_defaults(command=_up, stays=True, kept=kept)
    ls = commands.add_parser("ls", help="show where each customer's files are, and how to look at them")
    ls.set_defaults(command=_ls, stays=False, kept="")
    servers = commands.add_parser("servers", help="only the servers, on fixed ports, until Ctrl-C")
    servers.add_argument("--host", default="127.0.0.1", help="address to listen on")
    servers.add_argument("--name", default=socket.gethostname(), help="name by which others reach this machine")
    servers.set_defaults(command=_servers, stays=True, kept="stopped")
    return parser


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(_options: argparse.Namespace) -> int:
    with Sayer() as say:
        problems = demo(state_dir(), say)
    for problem in problems:
        print(f"NOT DELIVERED: {problem}", file=sys.stderr)
    say("FAILED" if problems else "all of it is there, byte for byte as the source says")
    print(
        "\n  make ls      where each customer's files are, and how to look at them\n"
        "  make answer  loads them and answers a question\n"
        "  make up      the same servers and Airflow, to look around: the page Data exports shows these deliveries"
    )
    return 1 if problems else 0


def _ls(_options: argparse.Namespace) -> int:
    print(*show_files(state_dir().absolute()), sep="\n")
    return 0


def _up(_options: argparse.Namespace) -> int:
    say = Sayer()
    with ExitStack() as stack:
        with say:
            session = stack.enter_context(running(state_dir(), say))
        airflow = session.airflow
        print(
            f"""
  Airflow:   {airflow.url}
  sign in:   {USER} / {airflow.password}

  Try it:    unpause data_export__demo_timeline_gs, then Trigger > Backfill, 2025-03-16 to 2025-03-18
             copy a file in {customers_dir()}: its DAG is there within 30 seconds
  files:     `make ls` shows where those of each customer are
  mail:      {session.platform.smtp.folder}
  logs:      {airflow.logs}
  commands:  . {airflow.settings_file}   then `airflow` and `python -m data_export_airflow` work here

  Ctrl-C stops everything.
""",
            flush=True,
        )
        while True:
            airflow.check()
            time.sleep(1)


def _servers(options: argparse.Namespace) -> int:
    """Writes what Airflow must know to `compose.env` in the state folder, last of all."""
    state: Path = state_dir()
    settings = state / "compose.env"
    settings.unlink(missing_ok=True)
    with EmbeddedPlatform(state, options.host, COMPOSE_PORTS) as platform:
        platform.fill()
        lines = (f"{name}='{value}'\n" for name, value in platform.environment(options.name).items())
        settings.touch(mode=0o600)
        settings.write_text("".join(lines))
        print(f"servers on {options.host}, ports {COMPOSE_PORTS._asdict()}; Airflow's settings: {settings}", flush=True)
        while True:
            time.sleep(60)


if __name__ == "__main__":
    sys.exit(main())
