"""What the commands cost before they do anything: `PYTHONPATH=plugins python -m benchmarks.startup`.

Each command runs in a process of its own, with an own home of Airflow, a customer file, and no server that answers:
what is measured is the start, in CPU seconds of the process and its children, and seconds on the clock. "first" is the
first start where nothing is compiled yet, not even the standard library; "then" is the median of the next ones.
"""

import argparse
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import copy

ROOT = Path(__file__).parents[1]
NAME = "cloud-storage-gs"
SITE = "433a60f6-9756-473e-b1e9-9e89e24bb787"
COMMANDS: dict[str, Sequence[str]] = {
    "validate": ("validate",),
    "new": ("new", "other-{number}", "--target", "gs://customer-bucket/exports/", "--site", SITE),
    "plan": ("plan", "--no-source"),
    "sheet": ("sheet", NAME),
    "keys new": ("keys", "new", "bench-{number}", "--folder", "{keys}"),
    "check --host-key": ("check", "--host-key", "127.0.0.1:1"),
    "check": ("check", NAME),
    "run": ("run", "{file}", "--from", "2025-03-16", "--to", "2025-03-17"),
    "backfill": ("backfill", NAME, "--from", "2025-03-16", "--to", "2025-03-17", "--dry-run"),
    "status": ("status",),
    "files": ("files", NAME),
    "verify": ("verify", NAME, "--from", "2025-03-16", "--to", "2025-03-17"),
    "status over HTTP": ("status",),
    "files over HTTP": ("files", NAME),
}
OVER_HTTP = {"DATA_EXPORT_AIRFLOW_URL": "http://127.0.0.1:1", "DATA_EXPORT_AIRFLOW_TOKEN": "none"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *COMMANDS], help="commands; default: all")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--first", action="store_true", help="measure the first start too, which compiles everything")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="data-export-startup-") as scratch:
        at_database = prepared(Path(scratch))
        print("| command | " + ("first, CPU s | " if options.first else "") + "then, CPU s | seconds |")
        print("|---|---|---|" + ("---|" if options.first else ""))
        for name in options.names or COMMANDS:
            places = {"file": Path(scratch) / "customers" / f"{NAME}.yaml", "keys": Path(scratch) / "keys"}
            environment = at_database | (OVER_HTTP if name.endswith("over HTTP") else {})
            first = ""
            if options.first:
                with tempfile.TemporaryDirectory(prefix="data-export-bytecode-") as bytecode:
                    cpu, _ = measured(COMMANDS[name], places, environment | {"PYTHONPYCACHEPREFIX": bytecode})
                    first = f"{cpu:.1f} | "
            measured(COMMANDS[name], places, environment)
            found = [measured(COMMANDS[name], places, environment) for _ in range(options.repeat)]
            cpu, seconds = (statistics.median(column) for column in zip(*found, strict=True))
            print(f"| `{name}` | {first}{cpu:.2f} | {seconds:.2f} |", flush=True)


def prepared(scratch: Path) -> dict[str, str]:
    """The environment of an installation of its own, whose database is a file."""
    customers = scratch / "customers"
    customers.mkdir()
    copy(ROOT / "include" / "examples" / f"{NAME}.yaml", customers)
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@bench.example", "-C", str(customers)]
    for arguments in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "-m", "empty"]):
        subprocess.run([*git, *arguments], check=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW_")}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "plugins"), str(ROOT)]),
        "AIRFLOW_HOME": str(scratch / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{scratch}/airflow.db",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "DATA_EXPORT_CUSTOMERS_DIR": str(customers),
        "DATA_EXPORT_STATE_DIR": str(scratch),
    }
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=environment, check=True, capture_output=True)
    return environment


_numbers = itertools.count()


def measured(command: Sequence[str], places: Mapping[str, object], environment: dict[str, str]) -> tuple[float, float]:
    """CPU seconds and seconds of one start, which may fail since nothing answers, but not break off."""
    arguments = [part.format(**places, number=next(_numbers)) for part in command]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "data_export_airflow", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if "Traceback" in done.stderr or "usage:" in done.stderr:
        sys.exit(f"{' '.join(arguments)} broke off: {done.stderr[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds


if __name__ == "__main__":
    main()
