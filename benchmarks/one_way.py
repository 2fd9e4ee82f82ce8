"""Runs one way of a benchmark in this process, and says what it cost, as JSON; imports do not count.

PYTHONPATH=plugins python -m benchmarks.one_way data_path_peers.copy_json <dsn> <folder> <site> ...
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import psutil


def main(function: str, dsn: str, folder: str, *sites: str) -> None:
    module, name = function.split(".")
    way: Callable[[str, list[UUID], Path], str | None] = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    process = psutil.Process()
    before, began = process.cpu_times(), time.monotonic()
    note = way(dsn, [UUID(site) for site in sites], Path(folder))
    wall, after = time.monotonic() - began, process.cpu_times()
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024  # of this process alone, which ru_maxrss is not
    cpu = after.user + after.system - before.user - before.system
    print(json.dumps({"wall": wall, "client": cpu, "peak": peak, "note": note}))


if __name__ == "__main__":
    main(*sys.argv[1:])
