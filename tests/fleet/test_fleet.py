"""docker-compose.yaml's services, run: workers know little, checks cost little, an API server may be away."""

import os
import random
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
import pytest

from data_export.config.load import load_named
from data_export.config.models import dag_id
from data_export.layout import data_key
from data_export.window import ExportWindow
from demo.data import build
from demo.expected import expected_file
from demo.guard import members
from demo.rest import wait_for
from demo.targets import received
from tests.fleet import __main__ as command
from tests.fleet.conftest import CommandLines
from tests.fleet.faults import short
from tests.fleet.topology import Fleet
from tests.fleet.trial import Trial

pytestmark = pytest.mark.e2e
EXPORT = "demo-timeline-gs"
WINDOWS = [
    ExportWindow(datetime(2025, 3, 17, hour, tzinfo=UTC), datetime(2025, 3, 17, hour + 6, tzinfo=UTC))
    for hour in (0, 6)
]


def tries(fleet: Fleet, run: str) -> set[int]:
    """How often the tasks of a run were tried, once it is over and well."""

    def state() -> str | None:
        found = str(fleet.api.run(dag_id(EXPORT), run)["state"])
        return found if found in ("success", "failed") else None

    assert wait_for("the run is over", state, 240) == "success"
    return {one["try_number"] for one in fleet.api.task_instances(dag_id(EXPORT), run)}


def trigger(fleet: Fleet, window: ExportWindow) -> str:
    wait_for("the DAG", lambda: dag_id(EXPORT) in fleet.api.dag_ids(), 90)
    fleet.api.unpause(dag_id(EXPORT))
    return fleet.api.trigger(dag_id(EXPORT), **{"from": window.start.isoformat(), "to": window.end.isoformat()})


def test_a_worker_exports_with_the_little_it_knows(fleet: Fleet) -> None:
    secrets = {name: fleet.env[name] for name in fleet.env if name.endswith(("_PASSWORD", "_KEY", "_SECRET"))}
    known: dict[str, set[str]] = {}
    run = trigger(fleet, WINDOWS[0])
    worker = fleet.processes["worker-1"].pid
    for process in map(psutil.Process, members([worker])):
        environment = "\n".join(f"{name}={value}" for name, value in process.environ().items())
        known[process.name()] = {name for name, value in secrets.items() if value in environment}
        assert "SQL_ALCHEMY_CONN=postgresql" not in environment.replace("RESULT_BACKEND", "")
    assert set.union(*known.values()) == {"REDIS_PASSWORD", "CELERY_RESULTS_PASSWORD"}
    assert tries(fleet, run) == {1}
    export = load_named(EXPORT, Path(fleet.env["CUSTOMERS_DIR"]))
    target, window = received(fleet.platform, export), WINDOWS[0]
    assert target is not None
    for site in export.sites:
        wanted = expected_file(build(), site, export.export_type, window.start, window.end)
        assert target.read(data_key(site, export.export_type, window)) == wanted


def test_its_database_login_sees_results_alone(fleet: Fleet) -> None:
    login = f"host=127.0.0.1 port={fleet.postgres.port} user=celery password={fleet.env['CELERY_RESULTS_PASSWORD']}"
    for database in ("airflow", "postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(f"{login} dbname={database}")
    with psycopg.connect(f"{login} dbname=celery") as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert {name for (name,) in tables} == {"celery_taskmeta", "celery_tasksetmeta"}
        rights = "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user"
        assert connection.execute(rights).fetchone() == (False, False, False)


def test_results_of_celery_s_tasks_go_after_a_day(fleet: Fleet) -> None:
    """By the command that the documentation gives to cron."""
    clean = "import sys; from data_export_airflow.commands.cli import main; sys.exit(main(['clean-database']))"
    with psycopg.connect(fleet.postgres.dsn("celery"), autocommit=True) as connection:

        def ids() -> set[int]:
            return {number for (number,) in connection.execute("SELECT id FROM celery_taskmeta").fetchall()}

        before = ids()
        connection.execute(
            "UPDATE celery_taskmeta SET date_done = now() - interval '2 days' WHERE id = %s", [min(before)]
        )
        fleet.run_python("cli", clean)
        assert before - ids() == {min(before)}
    assert len(before) > 1


def test_init_runs_again_whatever_became_of_the_first_user(fleet: Fleet) -> None:
    with psycopg.connect(fleet.postgres.dsn("airflow"), autocommit=True) as connection:
        connection.execute("UPDATE ab_user SET username = 'anna'")
        fleet.start("init")
        code = fleet.processes.pop("init").wait(300)
        users = connection.execute("SELECT username FROM ab_user").fetchall()
        connection.execute("UPDATE ab_user SET username = %s", [fleet.env["AIRFLOW_ADMIN_USERNAME"]])
    assert (code, users) == (0, [("anna",)]), fleet.log("init")


def test_health_checks_cost_less_than_a_fifth_of_a_second_a_minute(fleet: Fleet) -> None:
    assert fleet.healthy()
    for name, seconds in fleet.check_seconds.items():
        interval = fleet.services[name.partition("-1")[0]]["healthcheck"]["interval"]
        assert seconds * {"30s": 2, "1m": 1}[interval] < 0.2, name


def test_what_has_ended_starts_again_and_status_shows_it(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "STATUS", tmp_path / "fleet.json")
    assert command.main(["status"]) == 1
    os.kill(fleet.processes["triggerer"].pid, signal.SIGKILL)
    fleet.processes["triggerer"].wait()
    command.supervise(fleet)
    command.main(["status"])
    shown = capsys.readouterr().out
    assert "triggerer has ended with -9, starting it again" in shown
    rows = {words[0]: words for line in shown.splitlines() if (words := line.split())}
    assert rows.keys() >= fleet.processes.keys()
    assert all(rows[name][1] == str(process.pid) for name, process in fleet.processes.items())
    assert rows["scheduler"][3] == "healthy"
    if os.getuid() == 0:
        assert (rows["worker-1"][2], rows["scheduler"][2]) == ("50001", "root")
    wait_for("all are healthy", fleet.healthy, 120, pause=2)
    command.supervise(fleet)
    assert command.main(["status"]) == 0


def test_an_api_server_that_is_away_costs_no_try(fleet: Fleet) -> None:
    """Handed out meanwhile, a task asks again until it is back."""
    fleet.kill("execution-api")
    run = trigger(fleet, WINDOWS[1])

    def waits() -> bool:
        return "Starting call to" in fleet.log("worker-1") or "ConnectError" in fleet.log("worker-1")

    wait_for("the worker asks in vain", waits, 60)
    with pytest.raises(TimeoutError):  # Airflow's own settings give up after ten seconds
        wait_for("the run ends", lambda: fleet.api.run(dag_id(EXPORT), run)["state"] == "failed", 20)
    fleet.start("execution-api")
    assert tries(fleet, run) == {1}


def test_every_window_arrives_once_whatever_happens_meanwhile(trial: Trial) -> None:
    """The short version of `make fleet-faults`; its seed is in the output of a failure."""
    seed = random.SystemRandom().randrange(10**6)
    trial.random, trial.say = random.Random(seed), lambda line: sys.stdout.write(f"{line}\n")
    trial.say(f"seed {seed}")
    short(trial)
    assert trial.verify() == []


def test_no_secret_was_on_a_command_line(fleet: Fleet, command_lines: CommandLines) -> None:
    """Not when anything started, either: any user of a machine can read them."""
    secrets = {value for name, value in fleet.env.items() if name.endswith(("_PASSWORD", "_KEY", "_SECRET"))}
    assert len(command_lines.seen) > 20
    assert [line for line in command_lines.seen.copy() if any(secret in line for secret in secrets)] == []
