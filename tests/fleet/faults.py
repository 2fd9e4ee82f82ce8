"""`python -m tests.fleet.faults`: what may happen to a fleet, while it exports; and whether every window arrived once.

Each fault is a method of `Trial` that ends with the fleet as it was. The order, and which of several processes is
struck, come from a seed, which is printed. What is not possible on this machine is said and left out.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from demo.rest import wait_for
from tests.fleet.topology import AIRFLOW, installed
from tests.fleet.trial import APIS, Trial, a_fleet


def short(trial: Trial) -> None:
    """About 100 seconds: every kind of fault that needs no longer."""
    trial.prepare()
    trial.trigger(1)
    time.sleep(trial.random.uniform(2, 6))
    trial.staging_full(8)
    for name in trial.fleet.workers:
        trial.say(f"{name} stops, and is away for 45 s")
        trial.fleet.stop(name)
    trial.trigger(1)
    began = time.monotonic()
    trial.kill(*APIS, *trial.random.sample(["scheduler", "dag-processor", "triggerer", "redis"], 4), seconds=10)
    trial.fleet.start("scheduler-2")
    time.sleep(max(0.0, began + 45 - time.monotonic()))
    for name in trial.fleet.workers:
        trial.fleet.start(name)
    trial.finish(180)
    trial.fleet.stop("scheduler-2")


def long(trial: Trial, api_away: float, workers_away: float) -> None:
    """All faults, in the order of the seed, each while windows are under way.

    What has nothing to do with workers strikes while they are away, so that the whole takes little more than that.
    """

    def shuffled(*faults: Callable[[], None]) -> list[Callable[[], None]]:
        return trial.random.sample(faults, len(faults))

    def kills(*names: str) -> list[Callable[[], None]]:
        return [partial(trial.kill, name) for name in names]

    def window_and(fault: Callable[[], None]) -> None:
        wait_for("the fleet is well", trial.well, 600, pause=2)
        trial.trigger(1)
        trial.wait(trial.random.uniform(1, 10))
        fault()

    others = shuffled(
        *kills(*AIRFLOW, "redis"), trial.restart_database, trial.lose_queue, lambda: trial.two_schedulers(30)
    )
    without_workers = [partial(window_and, fault) for fault in others]
    without_api = shuffled(*kills("scheduler", "redis", trial.random.choice(trial.fleet.workers)))
    faults = shuffled(
        *kills(*trial.fleet.workers),
        lambda: trial.kill(*APIS, seconds=api_away, meanwhile=without_api),
        lambda: trial.kill(*trial.fleet.workers, seconds=workers_away, meanwhile=without_workers),
        trial.lose_queue,
        trial.restart_database,
        lambda: trial.staging_full(30),
        lambda: trial.worker_full(30),
        lambda: trial.wrong_clock(60),
        trial.rolling_upgrade,
    )
    trial.prepare()
    for fault in faults:
        window_and(fault)
    trial.finish(3600)
    trial.say("every run is over")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.faults")
    parser.add_argument("--seed", type=int, default=None, help="default: another each time")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--api-away", type=float, default=900, metavar="SECONDS")
    parser.add_argument("--workers-away", type=float, default=2400, metavar="SECONDS")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args(arguments)
    if not installed():
        sys.stderr.write("no redis-server: apt-get install redis-server\n")
        return 1
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything ends with it
    began = time.monotonic()

    def say(line: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:6.0f} s  {line}\n")
        sys.stdout.flush()

    say(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder, a_fleet(Path(folder), options.workers) as trial:
        trial.random, trial.say = random.Random(seed), say
        say("the fleet is up")
        if options.short:
            short(trial)
        else:
            long(trial, options.api_away, options.workers_away)
        problems = trial.verify()
        say(f"{len(trial.runs)} runs of {len(trial.windows)} windows; {len(problems)} problems; seed {seed}")
        for problem in problems:
            say(problem)
        if problems and (kept := os.environ.get("FLEET_LOGS")):
            shutil.copytree(trial.fleet.state, kept, ignore=shutil.ignore_patterns("postgres", "homes"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
