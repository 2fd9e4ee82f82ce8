"""`python -m tests.fleet [WORKERS]`: the demo's servers and docker-compose.yaml's services, until Ctrl-C."""

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from demo.platform import EmbeddedPlatform
from tests.fleet.topology import Fleet, installed
from tests.unit.deploy.compose_file import ROOT


def main(workers: int) -> int:
    """Everything is gone afterwards."""
    if not installed():
        sys.stderr.write("no redis-server: apt-get install redis-server\n")
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
                sys.stdout.write(f"{fleet.url}  {user} / {password}\n")
                sys.stdout.write(f"customer files: {customers}\nlogs: {state}/services\n")
                sys.stdout.flush()
                while True:
                    _supervise(fleet)
                    time.sleep(10)


def _supervise(fleet: Fleet) -> None:
    """What has ended starts again, as Docker would start it; with a line that says so."""
    for name in [*fleet.processes]:
        if (code := fleet.processes[name].poll()) is not None:
            sys.stdout.write(f"{name} has ended with {code}, starting it again\n")
            fleet.start(name)
    sys.stdout.flush()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
    except KeyboardInterrupt:
        sys.stdout.write("stopped\n")
