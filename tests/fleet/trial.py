"""What may happen to a fleet while it exports, and whether every window arrived once."""

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx

from data_export.config.load import load_named
from data_export.config.models import CustomerExport, dag_id
from data_export.window import ExportWindow
from demo.data import DAYS, FIRST_DAY, build
from demo.mailbox import mails_about
from demo.platform import EmbeddedPlatform
from demo.rest import wait_for
from demo.run import NAMES
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.strict import s3_error
from demo.targets import received
from demo.verify import missing_of
from tests.fleet.topology import AIRFLOW, Fleet
from tests.unit.deploy.compose_file import ROOT

APIS = ("api-server", "execution-api")
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
_HOURS = 4
#: What each task does before it makes its own folder.
_REMOVE = """
import tempfile
from pathlib import Path
from data_export.scratch import remove_abandoned
remove_abandoned(Path(tempfile.gettempdir()))
"""


class Staging:
    """In front of the staging area: while `full`, its server has no room for another byte."""

    full = False

    async def __call__(self, request: Exchange, forward: Forward) -> Answer:
        if self.full and request.method in ("PUT", "POST"):
            return s3_error(507, "XMinioStorageFull", "Storage backend has reached its minimum free drive threshold.")
        return await forward(request)


@contextmanager
def a_fleet(folder: Path, workers: int) -> Iterator["Trial"]:
    """A fleet with the demo's platform and customers, and its staging area behind `Staging`."""
    state, customers, rules = folder, folder / "customers", Staging()
    for path in (customers, state / "services"):
        path.mkdir()
    for name in NAMES:
        shutil.copy(ROOT / "include" / "customers" / f"{name}.yaml", customers)
    with EmbeddedPlatform(state / "platform") as platform:
        platform.fill()
        with FaultProxy(platform.s3.url, rules) as proxy:
            staging = platform.environment()["AIRFLOW_CONN_EXPORT_STAGING"].replace(platform.s3.url, proxy.url)
            settings = {"AIRFLOW_CONN_EXPORT_STAGING": staging}
            with Fleet(state / "services", platform, customers, workers, settings) as fleet:
                yield Trial(fleet, rules)


class Trial:
    """Exports while faults happen; `verify` says at the end what is not as it must be.

    `random` decides all that is left to chance.
    """

    def __init__(self, fleet: Fleet, staging: Staging) -> None:
        self.fleet, self.staging = fleet, staging
        self.random = random.Random(0)
        #: Takes a line for each step.
        self.say: Callable[[str], object] = lambda _: None
        customers = Path(fleet.env["CUSTOMERS_DIR"])
        self.exports: dict[str, CustomerExport] = {
            path.stem: load_named(path.stem, customers) for path in sorted(customers.glob("demo-*.yaml"))
        }
        first = FIRST_DAY + timedelta(days=1)
        self._left = [
            ExportWindow(start, start + timedelta(hours=_HOURS))
            for start in (first + timedelta(hours=_HOURS * number) for number in range((DAYS - 1) * 24 // _HOURS))
        ]
        self.windows: list[ExportWindow] = []
        self.runs: list[tuple[str, str]] = []

    def prepare(self) -> None:
        """Waits for the exports' DAGs, and unpauses them."""
        wanted = set(map(dag_id, self.exports))
        wait_for("the DAGs", lambda: self.fleet.api.dag_ids() >= wanted, 300)
        for name in wanted:
            self.fleet.api.request("PATCH", f"/dags/{name}", json={"is_paused": False})

    def trigger(self, count: int = 1) -> None:
        """Asks every export for some windows that nobody has asked for yet, in the order of the seed."""
        for _ in range(min(count, len(self._left))):
            window = self._left.pop(self.random.randrange(len(self._left)))
            self.windows.append(window)
            for name in self.exports:
                bounds = {"from": window.start.isoformat(), "to": window.end.isoformat()}
                self.runs.append((dag_id(name), self.fleet.api.trigger(dag_id(name), **bounds)))

    def finish(self, seconds: float) -> None:
        """Waits until every run is over; what has ended meanwhile starts again, as Docker starts it."""

        def over() -> bool:
            self.supervise()
            return all(state in ("success", "failed") for state in self.states().values())

        wait_for("every run is over", over, seconds, pause=2)

    def states(self) -> dict[tuple[str, str], str]:
        with suppress(httpx.HTTPError):
            found = self.fleet.api.runs(map(dag_id, self.exports))
            states = {(run["dag_id"], run["dag_run_id"]): str(run["state"]) for run in found}
            return {run: states.get(run, "gone") for run in self.runs}
        return dict.fromkeys(self.runs, "unknown")

    def wait(self, seconds: float) -> None:
        """Lets the time pass; what ends meanwhile starts again."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.supervise()
            time.sleep(min(left, 2))

    def well(self) -> bool:
        """Whether all that runs is healthy; what has ended starts again."""
        self.supervise()
        return self.fleet.healthy()

    def supervise(self) -> None:
        for name, process in [*self.fleet.processes.items()]:
            if (code := process.poll()) is not None:
                self.say(f"{name} has ended with {code}: started again")
                self.fleet.start(name)

    # The faults.

    def kill(self, *names: str, seconds: float = 0, meanwhile: Sequence[Callable[[], None]] = ()) -> None:
        """Kills services, and starts them some seconds later; other faults may strike meanwhile, spread over them."""
        for name in names:
            self.say(f"kill -9 {name}" + (f", away for {seconds:.0f} s" if seconds else ""))
            self.fleet.kill(name)
        back, pause = time.monotonic() + seconds, seconds / (len(meanwhile) + 1)
        for number, fault in enumerate(meanwhile, 1):
            self.wait(back - seconds + number * pause - time.monotonic())
            fault()
        self.wait(back - time.monotonic())
        for name in names:
            self.say(f"{name} is back")
            self.fleet.start(name)

    def restart_database(self) -> None:
        """Ends scheduler, dag-processor and triggerer, too, as it does everywhere."""
        self.say("restart of Airflow's database")
        self.fleet.postgres.restart()

    def lose_queue(self) -> None:
        """Redis dies, and its disk with it."""
        self.say("kill -9 redis, and its data are gone")
        self.fleet.kill("redis")
        shutil.rmtree(self.fleet.home("redis") / "appendonlydir")
        self.fleet.start("redis")

    def two_schedulers(self, seconds: float) -> None:
        self.say(f"a second scheduler for {seconds:.0f} s, and the first one killed meanwhile")
        self.fleet.start("scheduler-2")
        self.wait(seconds / 2)
        self.fleet.kill("scheduler")
        self.wait(seconds / 2)
        self.fleet.start("scheduler")
        wait_for("the first scheduler is back", lambda: self.fleet.healthy("scheduler"), 300, pause=2)
        self.fleet.stop("scheduler-2")

    def staging_full(self, seconds: float) -> None:
        self.say(f"staging is full for {seconds:.0f} s")
        self.staging.full = True
        self.wait(seconds)
        self.staging.full = False

    def worker_full(self, seconds: float) -> None:
        """A worker's disk without a byte left."""
        name = self.random.choice(self.fleet.workers)
        if name not in self.fleet.disks:
            self.say("a worker's full disk: not tried, since only root may give it one of its own")
            return
        self.say(f"the disk of {name} is full for {seconds:.0f} s")
        filler = self.fleet.scratch(name) / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        self.wait(seconds)
        filler.unlink()

    def wrong_clock(self, seconds: float) -> None:
        """A worker whose clock is an hour ahead or behind."""
        name, offset = self.random.choice(self.fleet.workers), self.random.choice(("+3600", "-3600"))
        if not FAKETIME.exists():
            self.say("a wrong clock: not tried, since there is no libfaketime (apt-get install faketime)")
            return
        self.say(f"the clock of {name} is {offset} s off for {seconds:.0f} s")
        self.fleet.kill(name)
        self.fleet.more[name] = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        self.fleet.start(name)
        self.wait(seconds)
        self.fleet.kill(name)
        del self.fleet.more[name]
        self.fleet.start(name)

    def rolling_upgrade(self) -> None:
        """Each component ends as it is asked to and starts anew, one after the other."""
        for name in (*AIRFLOW, *self.fleet.workers):
            self.say(f"restart of {name}")
            self.fleet.stop(name)
            self.fleet.start(name)
            wait_for(f"{name} is healthy", partial(self.fleet.healthy, name), 300, pause=2)

    # What must be true at the end.

    def verify(self) -> list[str]:
        """A line for each run, file, image, mail or left-over that is not as it must be."""
        platform, data = self.fleet.platform, build()
        problems = [f"{dag} {run} is {state}" for (dag, run), state in self.states().items() if state != "success"]
        problems += missing_of(platform, data, self.exports, self.windows)
        for name, export in self.exports.items():
            target = received(platform, export)
            if target is None:
                problems += self._mails(name)
                continue
            left = [one for one in target.names() if "/.data-export-" in f"/{one}" or ".r2." in one]
            problems += [f"{name}: {target.uri}{one} was left or delivered twice" for one in left]
        return problems + self._events() + self._scratch()

    def _mails(self, name: str) -> Iterator[str]:
        for window in self.windows:
            if (count := len(mails_about(self.fleet.platform, name, window))) != 1:
                yield f"{name}: {count} mails about {window}"

    def _events(self) -> list[str]:
        """A run that ended twice, or without a receipt."""
        found = self.fleet.api.request("GET", "/assets/events", params={"limit": 1000})["asset_events"]
        ended = [(event["source_dag_id"], event["source_run_id"]) for event in found]
        return [f"{run} has {ended.count(run)} receipts" for run in self.runs if ended.count(run) != 1]

    def _scratch(self) -> list[str]:
        """Scratch of killed tasks is not locked, so that the next task removes it: here at once."""
        problems = []
        for name in self.fleet.workers:
            folder = self.fleet.scratch(name)
            for path in folder.glob("data-export-scratch-*"):
                os.utime(path, (0, 0))
            self.fleet.run_python(name, _REMOVE)
            problems += [f"{path} is locked" for path in folder.glob("data-export-scratch-*")]
        return problems
