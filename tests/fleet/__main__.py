"""`python -m tests.fleet {up [WORKERS] | status | down}`: the services of docker-compose.yaml, and the demo's servers.

`up` stays until Ctrl-C or `down`, starts again what ends, and keeps a file for `status`, of the repository it runs in.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from demo.guard import members
from demo.platform import EmbeddedPlatform
from tests.fleet.topology import Fleet, installed
from tests.unit.deploy.compose_file import ROOT

STATUS = ROOT / ".state" / "fleet.json"
_PAUSE = 10.0


def up(workers: int) -> int:
    """Everything is gone afterwards."""
    if not installed():
        sys.stderr.write("no redis-server: apt-get install redis-server\n")
        return 1
    if running := _read():
        sys.stderr.write(f"a fleet runs already, as process {running['pid']}: python -m tests.fleet down\n")
        return 1
    signal.signal(signal.SIGTERM, _interrupt)
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        state, customers = Path(folder), Path(folder) / "customers"
        shutil.copytree(ROOT / "include" / "customers", customers)
        (state / "services").mkdir()
        with EmbeddedPlatform(state / "platform") as platform:
            platform.fill()
            with Fleet(state / "services", platform, customers, workers) as fleet:
                user, password = (fleet.env[f"AIRFLOW_ADMIN_{name}"] for name in ("USERNAME", "PASSWORD"))
                _say(f"{fleet.url}  {user} / {password}")
                _say(f"customer files: {customers}\nlogs: {state}/services")
                try:
                    while True:
                        supervise(fleet)
                        time.sleep(_PAUSE)
                except KeyboardInterrupt:
                    _say("stopping: tasks that run may end, for a minute")
                    fleet.wind_down(60)
                finally:
                    STATUS.unlink(missing_ok=True)
    _say("stopped")
    return 0


def supervise(fleet: Fleet) -> None:
    """What has ended starts again, as Docker would start it, with a line that says so; the rest is looked at."""
    for name in [*fleet.processes]:
        if (code := fleet.processes[name].poll()) is not None:
            _say(f"{name} has ended with {code}, starting it again")
            fleet.start(name)
    healthy = {name: fleet.healthy(name) for name in fleet.processes if name != "redis"}
    services = {name: _service(process.pid, healthy.get(name)) for name, process in fleet.processes.items()}
    STATUS.parent.mkdir(exist_ok=True)
    new = STATUS.with_suffix(".new")
    own = {"pid": os.getpid(), "since": psutil.Process().create_time(), "url": fleet.url, "looked": time.time()}
    new.write_text(json.dumps(own | {"services": services}))
    new.replace(STATUS)


def _service(pid: int, healthy: bool | None) -> dict[str, Any]:
    found: dict[str, Any] = {"pid": pid, "healthy": healthy, "processes": 0, "mb": 0, "cpu": 0.0}
    for each in members([pid]):
        with suppress(psutil.Error):
            process = psutil.Process(each)
            times = process.cpu_times()
            found["processes"] += 1
            found["mb"] += process.memory_info().rss // 2**20
            found["cpu"] += times.user + times.system
    with suppress(psutil.Error):
        found |= {"since": psutil.Process(pid).create_time(), "user": psutil.Process(pid).username()}
    return found


def status() -> int:
    """What runs, one service a line; exit code 1 where something does not, or no fleet is up."""
    if (found := _read()) is None:
        _say("no fleet is up: python -m tests.fleet up")
        return 1
    _say(f"{found['url']}, process {found['pid']}, looked at {time.time() - found['looked']:.0f} s ago")
    _say(f"{'service':<15}{'pid':>8}  {'user':<10}{'health':<11}{'up s':>7}{'processes':>11}{'MB':>6}{'CPU s':>8}")
    for name, one in found["services"].items():
        health = {True: "healthy", False: "unhealthy", None: "-"}[one["healthy"]]
        seconds = time.time() - one.get("since", time.time())
        row = f"{name:<15}{one['pid']:>8}  {one.get('user', '-'):<10}{health:<11}{seconds:>7.0f}"
        _say(f"{row}{one['processes']:>11}{one['mb']:>6}{one['cpu']:>8.1f}")
    return int(any(one["healthy"] is False or not one["processes"] for one in found["services"].values()))


def down() -> int:
    """Ends the fleet that is up, and waits until it is gone."""
    if (found := _read()) is None:
        _say("no fleet is up")
        return 0
    process = psutil.Process(found["pid"])
    process.terminate()
    process.wait(180)
    return 0


def _read() -> dict[str, Any] | None:
    """What the fleet that is up wrote last; None where there is none."""
    with suppress(OSError, ValueError, psutil.Error):
        found: dict[str, Any] = json.loads(STATUS.read_text())
        if psutil.Process(found["pid"]).create_time() == found["since"]:
            return found
    return None


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up").add_argument("workers", type=int, nargs="?", default=3)
    commands.add_parser("status")
    commands.add_parser("down")
    options = parser.parse_args(arguments)
    if options.command == "up":
        try:
            return up(options.workers)
        except KeyboardInterrupt:  # before all was up
            _say("stopped")
            return 1
    return {"status": status, "down": down}[options.command]()


if __name__ == "__main__":
    sys.exit(main())
