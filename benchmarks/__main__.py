"""Measures every table of benchmarks/README.md on this machine, one after the other, and writes that page.

    make bench                      # all tables; two hours and more on two cores
    make bench ONLY="images page"   # the tables of that name, or whose names begin so; the page keeps the others

Each table is what its command prints, unchanged. Leave the machine alone meanwhile: a table that begins beside other
work says so. The page is written after each table; one whose command fails stays as it was, which is said at the end.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.measure import ROOT, rclone_program

PAGE = Path(__file__).with_name("README.md")
#: No requirements of ours: each with what prints its version, and how the tables call it.
_PROGRAMS = {
    "rclone": ("rclone version", "rclone"),
    "lftp": ("lftp --version", "lftp"),
    "OpenSSH": ("/usr/sbin/sshd -V", "OpensshServer"),
    "SeaweedFS": ("weed version", "SeaweedServer"),
    "Azurite": ("azurite-blob --version", "AbfsServer"),
    "Chromium": ("chromium --version", "Chromium"),
    "Redis": ("redis-server --version", "redis"),
}
_VERSION = re.compile(r"\d+(\.\d+)+\w*")
_QUIET = 10.0  # percent of the processors, above which other work counts
_PATIENCE = 60  # seconds to wait for the work of the table before to end


@dataclass(frozen=True, slots=True)
class Table:
    """One run of a module of this folder."""

    name: str
    title: str
    command: str  # after `python -m benchmarks.`
    about: str


TABLES = (
    Table(
        "data-path",
        "Extract and transform",
        "data_path --scale 0.4 --peers",
        "The same files, written in other ways. The source is a production database, so its CPU seconds count most. "
        "sling and dlt only copy the five tables, without nesting or order; by connectorx JSON comes as text.",
    ),
    Table(
        "data-path-one-site",
        "Extract and transform as one site grows",
        "data_path --one-site 1000 10000 100000 1000000",
        "Each size is one site in one window, extracted and transformed by one process.",
    ),
    Table(
        "images-sftp",
        "Images over SFTP, no distance",
        "images --images 2000",
        "The service writes each image under a temporary name, syncs it to disk, checks it and renames it. rclone as "
        "it comes, 4 at once, renames too; nobody else syncs. Our first line is that of a task of a worker, "
        "whose libraries are imported before it is forked; from a shell, Python's start is part of it.",
    ),
    Table(
        "images-sftp-far",
        "Images over SFTP, 20 ms away",
        "images --images 500 --rtt-ms 20",
        "The same with a network between us and the server.",
    ),
    Table(
        "images-cloud",
        "Images to the clouds",
        "images_cloud --rounds 5",
        "The emulators share the processors, and some are slower than either client: CPU seconds say most. Again, both "
        "compare the local files' checksums with those that the server lists; rclone by `--checksum`, without which it "
        "trusts size and time.",
    ),
    Table(
        "images-cloud-far",
        "Images to the clouds, 20 ms away",
        "images_cloud --images 500 --rtt-ms 20 --rounds 5",
        "The same with a network between us and the servers.",
    ),
    Table(
        "images-by-server",
        "Images that the cloud copies by itself",
        "images_cloud --only gs s3 --by-server --rounds 5",
        "Nothing but requests goes over our network. Azure is not here: its emulator does not know Put Blob From URL.",
    ),
    Table(
        "images-by-server-far",
        "Images that the cloud copies by itself, 20 ms away",
        "images_cloud --only gs s3 --by-server --images 500 --rtt-ms 20 --rounds 5",
        "The same with a network between us and the servers.",
    ),
    Table(
        "images-many",
        "Very many images",
        "images_many --only gs s3",
        "Whether rate and memory stay what they were at the beginning. One run each, on a server of its own.",
    ),
    Table(
        "file",
        "One large file to each connector",
        "one_file --bytes 1073741824 --rounds 5",
        "With the file's checksums verified, which the service has from the step before; to S3 and Azure rclone makes "
        "an MD5 beforehand, in one line. Over SFTP the service also syncs the file to disk, and again reads it at the "
        "target, as OpenSSH has no digests; the others trust its size and time. A server of S3 that is not known to "
        "refuse a second writer, as SeaweedFS, is looked at once more after a moment, which is part of ours.",
    ),
    Table(
        "file-far",
        "One large file, 20 ms away",
        "one_file --bytes 536870912 --rounds 5 --rtt-ms 20",
        "The same with a network between us and the server.",
    ),
    Table(
        "formats",
        "Formats of a data file",
        "formats",
        "From the service's own snapshot, beside the tools that a customer would convert JSON Lines with.",
    ),
    Table(
        "startup",
        "Start of the commands",
        "startup --first",
        "Nothing answers, so that this is what a command costs before it does its work.",
    ),
    Table(
        "overhead",
        "What a run costs Airflow",
        "overhead",
        "The floor is a DAG of the same tasks that do nothing, on the same Airflow, in turns with ours.",
    ),
    Table(
        "overhead-awake",
        "What a run costs Airflow, where the scheduler sleeps less",
        "overhead --idle-sleep 0.25",
        "The same with `AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME=0.25`: a run is over sooner, idling costs more.",
    ),
    Table(
        "midnight",
        "The midnight of 500 exports",
        "midnight",
        "All are due at one moment, of one site with 20 work orders and 5 images each. The emulators of target, image "
        "store and staging share the cores.",
    ),
    Table(
        "fleet",
        "Thousands of exports",
        "fleet --exports 5000",
        "What the dag-processor spends, and how soon a changed customer file shows.",
    ),
    Table("idle", "A fleet with nothing to do", "idle", "CPU seconds a minute of each service."),
    Table(
        "page",
        "The page *Data exports*",
        "page",
        "5,000 exports with a year of daily runs; the browser is a real Chromium.",
    ),
)

HEAD = """\
# Benchmarks

Every table below is what its command printed, and `make bench` makes all of them anew, in this order, one after the
other. Read the ratios within a table: seconds are those of one machine, and a ratio between 0.9 and 1.1 says that two
are as fast as each other. What the tables mean for a deployment is in [docs/deploy.md](../docs/deploy.md).

To run one of them, give your shell what `make bench` has:

```sh
export PATH=$PWD/.venv/bin:$PATH PYTHONPATH=plugins
```
"""


def machine() -> str:
    """The machine in one line: cores, memory, system, versions."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    memory = psutil.virtual_memory().total / 2**30
    release = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return (
        f"{os.cpu_count()} cores of {model.partition(': ')[2] or platform.machine()}, {memory:.0f} GiB of memory, "
        f"{release}, Python {platform.python_version()}"
    )


def _program(command: str) -> str | None:
    """Where the command's program is; None where it is not installed."""
    name = command.split()[0]
    return shutil.which(rclone_program() if name == "rclone" else name)


def versions(shown: str) -> str:
    """This service's commit, and the versions of the other programs that a table names."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    found = [f"this service at {done.stdout.strip()}"] if done.stdout else []
    for name, (command, called) in _PROGRAMS.items():
        if called in shown and (program := _program(command)):
            done = subprocess.run([program, *command.split()[1:]], capture_output=True, text=True)
            version = _VERSION.search(done.stdout + done.stderr)
            found.append(f"{name} {version.group() if version else 'of an unknown version'}")
    return "; ".join(found)


def measure(table: Table) -> str | None:
    """Runs one command, showing what it prints; returns its section of the page, None where it failed."""
    until = time.monotonic() + _PATIENCE
    while (busy := psutil.cpu_percent(5)) > _QUIET and time.monotonic() < until:
        pass
    began = time.monotonic()
    print(f"== {table.title}: python -m benchmarks.{table.command}", flush=True)
    command = [sys.executable, "-m", *shlex.split(f"benchmarks.{table.command}")]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return None
    print(done.stdout, flush=True)
    took = (time.monotonic() - began) / 60
    beside = f", beside other work that took {busy:.0f} % of the processors" if busy > _QUIET else ""
    lines = done.stdout.strip("\n")
    shown = lines if lines.startswith("|") else f"```text\n{lines}\n```"
    return (
        f"{_title(table)}{table.about}\n\n`python -m benchmarks.{table.command}`, "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {took:.0f} minutes{beside}; {versions(shown)}:\n\n{shown}\n"
    )


def _title(table: Table) -> str:
    return f"## {table.title}\n\n"


def on_the_page() -> dict[str, str]:
    """The sections that the page has, by the name of their table."""
    text, found = PAGE.read_text(), {}
    for table in TABLES:
        if _title(table) in text:
            found[table.name] = _title(table) + text.split(_title(table))[1].split("\n## ")[0].rstrip("\n") + "\n"
    return found


def main(names: list[str]) -> None:
    beginnings = tuple(name for name in names if name not in {table.name for table in TABLES})
    chosen = [table for table in TABLES if not names or table.name in names or table.name.startswith(beginnings)]
    if not chosen:
        raise SystemExit(f"no table begins with {' or '.join(names)}: {', '.join(table.name for table in TABLES)}")
    if missing := [name for name, (command, _) in _PROGRAMS.items() if _program(command) is None]:
        print(f"not installed, so a table lacks it or fails: {', '.join(missing)}", flush=True)
    failed = []
    for table in chosen:
        if (section := measure(table)) is None:
            failed.append(f"python -m benchmarks.{table.command}")
            continue
        sections = on_the_page() | {table.name: section}
        head = f"{HEAD}\nThe machine: {machine()}.\n"
        PAGE.write_text("\n".join([head, *(sections[each.name] for each in TABLES if each.name in sections)]))
    if failed:
        raise SystemExit(f"failed, so that the page has their last tables: {'; '.join(failed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
