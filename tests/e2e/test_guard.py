"""Nothing that the demo starts outlives it, whatever ends the demo."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from demo.guard import members

ROOT = Path(__file__).parents[2]
# A child that ignores SIGTERM and has, as Airflow's running tasks have, a grandchild in a process group of its own.
CHILD = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
print("up", flush=True)
time.sleep(600)
"""
PARENT = f"""
import subprocess, sys, time
from demo.guard import Guard
with Guard(grace=0.5) as guard:
    child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE, start_new_session=True)
    guard.watch(child.pid)
    child.stdout.readline()
    print(child.pid, flush=True)
    time.sleep(600 if sys.argv[1:] else 0)
"""


def _session(parent: subprocess.Popen[str]) -> int:
    assert parent.stdout is not None
    return int(parent.stdout.readline())


def _gone_within(session: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while members([session]) and time.monotonic() < until:
        time.sleep(0.05)
    return not members([session])


def test_a_killed_demo_leaves_no_process() -> None:
    command = [sys.executable, "-c", PARENT, "stay"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        session = _session(parent)
        assert len(members([session])) == 2
        os.kill(parent.pid, signal.SIGKILL)
        assert _gone_within(session, 10)


def test_an_ended_demo_leaves_no_process() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        session = _session(parent)
        assert parent.wait(20) == 0
    assert members([session]) == []


def test_who_interrupts_it_is_told_what_is_stopped_and_kept(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "demo", "up"]
    environment = os.environ | {"DATA_EXPORT_STATE_DIR": str(tmp_path / "state")}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert any("the source holds" in line for line in demo.stdout)  # Airflow is being prepared meanwhile
        demo.send_signal(signal.SIGINT)
        said = demo.stdout.read()
        assert demo.wait(60) == 0
    stopping, stopped, kept = (
        said.find(words)
        for words in ("stopping Airflow", "everything is stopped", f"Kept in {tmp_path}/state: Airflow's runs")
    )
    assert 0 <= stopping < stopped < kept, said
