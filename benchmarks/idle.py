"""`python -m benchmarks.idle`: CPU seconds a minute of a fleet that has nothing to do, without and with health checks.

Runs docker-compose.yaml's services as `make fleet` does, with one worker and the demo's exports, all paused.
"""

import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from demo.guard import members
from tests.fleet.faults import a_fleet
from tests.fleet.topology import Fleet

_SETTLE, _SECONDS = 90, 120
_EVERY = {"30s": 30, "1m": 60}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder, a_fleet(Path(folder), workers=1) as trial:
        fleet = trial.fleet
        time.sleep(_SETTLE)  # all DAG files are parsed, and what was due has run
        without, checks = _during(fleet, checked=False), dict.fromkeys(fleet.processes, 0.0)
        with_checks = _during(fleet, checked=True, spent=checks)
    _show("service", "without checks", "with checks", "the checks")
    for name, seconds in without.items():
        _show(name, f"{seconds:.2f}", f"{with_checks[name]:.2f}", f"{checks.get(name, 0):.2f}")
    sums = (sum(without.values()), sum(with_checks.values()), sum(checks.values()))
    _show("all", *(f"{each:.2f}" for each in sums))


def _during(fleet: Fleet, *, checked: bool, spent: dict[str, float] | None = None) -> dict[str, float]:
    """CPU seconds a minute, by service; `spent` gets those of the checks themselves."""
    before, began, due = _spent(fleet), time.monotonic(), dict.fromkeys(fleet.processes, 0.0)
    while (passed := time.monotonic() - began) < _SECONDS:
        for name in fleet.processes if checked else ():
            check = fleet.services[name.partition("-1")[0]].get("healthcheck")
            if check and name != "redis" and passed >= due[name]:
                fleet.healthy(name)
                due[name] += _EVERY[check["interval"]]
                if spent is not None:
                    spent[name] += fleet.check_seconds[name] * 60 / _SECONDS
        time.sleep(1)
    after, minutes = _spent(fleet), (time.monotonic() - began) / 60
    return {name: (after[name] - before[name]) / minutes for name in before}


def _spent(fleet: Fleet) -> dict[str, float]:
    pids = {name: process.pid for name, process in fleet.processes.items()}
    pids["postgres"] = int((fleet.postgres.data / "postmaster.pid").read_text().split()[0])
    return {name: sum(map(_seconds, members([pid]))) for name, pid in pids.items()}


def _seconds(pid: int) -> float:
    with suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def _show(*cells: str) -> None:
    sys.stdout.write("".join(f"{cell:>16}" for cell in cells) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
