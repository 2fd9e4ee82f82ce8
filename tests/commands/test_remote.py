"""`status`, `files` and `verify` of a running Airflow, from where its database is out of reach."""

import json
import threading
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.models.errors import ParseImportError

from data_export.errors import ConfigError
from data_export_airflow.alerting.callbacks import AUDIT_DAG
from data_export_airflow.commands.cli import main
from data_export_airflow.connections import airflow_api
from data_export_airflow.page import remote as page
from tests.commands.test_files import DAY, FIRST, acme, deliver, target
from tests.page.conftest import _tables, address, airflow, db, history, token
from tests.page.history import History

__all__ = ["_tables", "acme", "address", "airflow", "db", "history", "target"]
NAMES = ("URL", "TOKEN", "USERNAME", "PASSWORD")
CANARY = "canary-7c1f"


def environment(monkeypatch: pytest.MonkeyPatch, **given: str) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in NAMES:
        monkeypatch.delenv(f"DATA_EXPORT_AIRFLOW_{name}", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(f"DATA_EXPORT_AIRFLOW_{name}", value)


@pytest.fixture
def remote(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows asks the API server, and would not reach a database."""
    environment(monkeypatch, URL=f"{address}/", TOKEN=token("admin"))

    def out_of_reach() -> None:
        raise AssertionError("the database was asked")

    monkeypatch.setattr("data_export_airflow.metadata.airflow_database.airflow_database", out_of_reach)


def asked(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def instants(value: Any) -> Any:
    """With every instant as one, since a web server spells UTC as Z."""
    if isinstance(value, dict):
        return {key: instants(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [instants(inner) for inner in value]
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) and value[:2] == "20" else value
    except ValueError:
        return value


def test_status_is_what_the_database_says(
    history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    deliver(history, acme, target, FIRST, FIRST + DAY, b"1\n")
    line = "include/customers/globex.yaml:3: interval: 'dayly' is not known: use daily"
    history.session.add(ParseImportError(filename="globex.yaml.py", bundle_name="x", stacktrace=f"1 problem\n{line}"))
    history.session.commit()
    here = asked(capsys, "status", code=1)
    request.getfixturevalue("remote")
    capsys.readouterr()  # Airflow's, as it starts
    there = asked(capsys, "status", code=1)
    assert [export["state"] for export in there["exports"]] == ["incomplete", "broken"]
    moving = ("lag_seconds", "late_seconds")
    for found in (here, there):
        found.pop("as_of")
        for export in found["exports"]:
            assert {export.pop(name) is None for name in moving} <= {True, False}
    assert instants(there) == instants(here)
    assert main(["status"]) == 1
    assert "2 exports: 1 incomplete, 1 broken" in capsys.readouterr().out


@pytest.mark.parametrize("most", [10_000, 1, 2])
@pytest.mark.parametrize("asking", [[], ["--from", "2025-03-17"], ["--window", "2025-03-16T12:00"]])
def test_files_are_what_the_database_says(
    history: History,
    acme: str,
    target: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    asking: list[str],
    most: int,
) -> None:
    """However many files one answer holds; two windows begin together, of which one was run by hand."""
    monkeypatch.setattr(page, "_FILES", most)
    by_hand = {"run_id": "manual", "run_type": "manual", "logical_date": None}
    for first, days in ((0, 1), (1, 1), (1, 2), (2, 1), (3, 1)):
        run = by_hand if days == 2 else {}
        deliver(history, acme, target, FIRST + first * DAY, FIRST + (first + days) * DAY, b"1\n" * days, **run)
    here = asked(capsys, "files", "acme", *asking)
    request.getfixturevalue("remote")
    capsys.readouterr()
    assert asked(capsys, "files", "acme", *asking) == here != []


@pytest.mark.usefixtures("remote")
def test_verify_looks_at_the_target_and_tells_of_the_last_audit(
    history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = deliver(history, acme, target, FIRST, FIRST + DAY, b"1\n")
    run = history.run(AUDIT_DAG, FIRST, FIRST + DAY, "failed", run_id="manual", run_type="manual", logical_date=None)
    history.result(run, "audit", "acme", {"at": str(FIRST), "damaged": 0, "objects": 4}, state="success")
    path.write_bytes(b"2\n")
    assert main(["verify", "acme", "--from", "2025-03-16", "--to", "2025-03-17"]) == 1
    said = capsys.readouterr().out
    assert "1 file: 1 other content" in said
    assert "the audit of 2025-03-16 found 4 objects as they were delivered" in said


@pytest.mark.usefixtures("remote")
@pytest.mark.parametrize(("words", "said"), [(None, 1), ("", 1), ("the audit\x1b[2J", 2)])
def test_verify_prints_no_words_that_move_the_cursor(
    history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    words: str | None, said: int,
) -> None:  # fmt: skip
    from data_export_airflow.connections import airflow_api

    given = airflow_api.ask

    def ask(url: str, path: str, *more: Any, **asked: Any) -> Any:
        return {"words": words} if path.endswith("/audit") else given(url, path, *more, **asked)

    monkeypatch.setattr(airflow_api, "ask", ask)
    deliver(history, acme, target, FIRST, FIRST + DAY, b"1\n")
    assert main(["verify", "acme", "--from", "2025-03-16", "--to", "2025-03-17"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == said
    assert "\x1b" not in lines[-1]


@pytest.mark.usefixtures("remote")
def test_verify_keeps_its_verdict_where_the_audit_cannot_be_read(
    history: History, acme: str, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from data_export_airflow.connections import airflow_api

    given = airflow_api.ask

    def ask(url: str, path: str, *words: Any, **asked: Any) -> Any:
        if path.endswith("/audit"):
            raise ConfigError("Airflow refuses who asks")
        return given(url, path, *words, **asked)

    monkeypatch.setattr(airflow_api, "ask", ask)
    deliver(history, acme, target, FIRST, FIRST + DAY, b"1\n")
    assert main(["verify", "acme", "--from", "2025-03-16", "--to", "2025-03-17"]) == 0
    said = capsys.readouterr()
    assert said.out == "1 file: 1 ok\n"
    assert said.err.splitlines()[-1] == "what the last audit found is not known: Airflow refuses who asks"


@pytest.mark.usefixtures("remote")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["status", "acne"], "Airflow knows no export 'acne' (did you mean acme?)"),
        (["files", "acne"], "Airflow knows no export 'acne' (did you mean acme?): correct the name"),
        (["files", "../acme"], "Airflow knows no export '../acme'"),
        (["files", "acme?x#y"], "Airflow knows no export 'acme?x#y'"),
        (["files", "acme", "--from", "2025-03-17", "--to", "2025-03-16"], "--to 2025-03-16 is not after --from"),
        (["files", "acme", "--window", "tomorrow"], "tomorrow"),
    ],
)
def test_mistakes_are_one_line(
    history: History, acme: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ConfigError: ")
    assert said in line


def test_a_name_and_a_password_are_enough(
    history: History, acme: str, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from airflow.configuration import conf

    file = conf.get("core", "simple_auth_manager_passwords_file")
    password = json.loads(Path(str(file)).read_text())["admin"]
    environment(monkeypatch, URL=address, USERNAME="admin", PASSWORD=password)
    assert [export["name"] for export in asked(capsys, "status", code=1)["exports"]] == ["acme"]
    environment(monkeypatch, URL=address, USERNAME="admin", PASSWORD=CANARY)
    assert main(["status"]) == 1
    said = capsys.readouterr().err
    assert "refuses who asks" in said
    assert CANARY not in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"TOKEN": CANARY}, "refuses who asks ("),
        ({"TOKEN": f"{CANARY}\n{CANARY}"}, "DATA_EXPORT_AIRFLOW_TOKEN is no token of Airflow's"),
        ({"TOKEN": f"{CANARY}é"}, "DATA_EXPORT_AIRFLOW_TOKEN is no token of Airflow's"),
        ({"USERNAME": "admin", "PASSWORD": f"{CANARY}é\n"}, "refuses who asks ("),
        ({}, "set DATA_EXPORT_AIRFLOW_TOKEN, or DATA_EXPORT_AIRFLOW_USERNAME and DATA_EXPORT_AIRFLOW_PASSWORD"),
        ({"TOKEN": CANARY, "URL": "{address}/elsewhere"}, "gives no answer of the page Data exports"),
        ({"TOKEN": CANARY, "URL": f"http://user:{CANARY}@127.0.0.1:1"}, "http://127.0.0.1:1 does not answer ("),
        ({"TOKEN": CANARY, "URL": "127.0.0.1:1"}, "127.0.0.1:1 does not answer ("),
        ({"TOKEN": CANARY, "URL": "http://[half"}, "http://[half, a name not known here ("),
    ],
)
def test_who_is_not_let_in_or_finds_nobody_is_told_what_to_set(
    address: str,
    given: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment(
        monkeypatch, **{"URL": address} | {name: value.format(address=address) for name, value in given.items()}
    )
    assert main(["status"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert CANARY not in line


@pytest.mark.parametrize(
    ("url", "address", "is_refused"),
    [
        ("http://airflow.platform.example", "8.8.8.8", True),
        ("HTTP://localhost@airflow.platform.example:8080/", "2001:4860:4860::8888", True),
        ("http://8.8.8.8", "8.8.8.8", True),
        ("https://airflow.platform.example", "8.8.8.8", False),
        ("http://airflow.platform.example", "10.1.2.3", False),
        ("http://api-server.airflow:8080", "fd00::7", False),
        ("http://localhost:8080", "127.0.0.1", False),
        ("http://[::1]:8080", "::1", False),
        ("http://airflow.tailnet.example", "100.64.1.2", False),
        ("http://airflow.platform.example", "::ffff:8.8.8.8", True),
    ],
)
def test_a_password_goes_over_the_internet_with_tls_alone(
    url: str,
    address: str,
    is_refused: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def send(*_: Any, **__: Any) -> None:
        raise httpx.ConnectError("nobody is asked in tests")

    def resolve(host: str, port: int | None) -> list[Any]:
        assert host in url
        return [(None, None, None, "", ("127.0.0.1", port)), (None, None, None, "", (address, port))]

    monkeypatch.setattr(httpx.Client, "send", send)
    monkeypatch.setattr(airflow_api, "getaddrinfo", resolve)
    environment(monkeypatch, URL=url, USERNAME="monitoring", PASSWORD=CANARY)
    assert main(["status"]) == 1
    assert ("write https://" if is_refused else "nobody is asked") in capsys.readouterr().err


@pytest.mark.parametrize("host", ["nowhere.invalid", "airflow..example", f"{'a' * 64}.example", "xn--a"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_name_that_nobody_knows_is_one_line(
    host: str, scheme: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment(monkeypatch, URL=f"{scheme}://{host}", USERNAME="monitoring", PASSWORD=CANARY)
    assert main(["status"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ConfigError: ")
    assert host in line
    assert CANARY not in line


@pytest.mark.parametrize("host", ["nowhere.invalid", "127.0.0.1"])
def test_a_proxy_gets_no_password_in_clear(
    host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it would know the name or not."""
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_error(403)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    environment(monkeypatch, URL=f"http://{host}:1", USERNAME="monitoring", PASSWORD=CANARY)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    assert main(["status"]) == 1
    server.shutdown()
    server.server_close()
    assert asked == []
    said = "a name not known here" if host == "nowhere.invalid" else "does not answer (connection refused)"
    assert said.lower() in capsys.readouterr().err.lower().replace("[errno 111] ", "")


def test_a_user_with_fewer_rights_is_told_which(
    history: History, acme: str, airflow: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {"/data-exports/api/status": (403, {}, b'{"detail": "It takes the right to read assets."}')}
    with serving(answers) as url:
        environment(monkeypatch, URL=url, TOKEN="x")
        assert main(["status"]) == 1
    assert "refuses who asks (It takes the right to read assets.)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "headers", "body", "said"),
    [
        (302, {"Location": "https://login.example/"}, b"", "sends elsewhere, to https://login.example/"),
        (302, {"Location": "https://login.example/\x1b[2J"}, b"", "does not answer (Invalid URL in location header"),
        (200, {}, b"<html>a login page</html>", "gives no answer of the page Data exports (HTTP 200)"),
        (200, {}, b"[]", "gives no answer of the page Data exports (HTTP 200)"),
        (502, {}, b"Bad Gateway", "cannot answer now (HTTP 502): try again in a minute, and look at the API server's"),
        (500, {}, b"{}", "cannot answer now (HTTP 500)"),
        (429, {}, b'{"detail": "slow down"}', "cannot answer now (slow down)"),
        (200, {}, b'{"status": "ok"}', "gives no answer of the page Data exports (HTTP 200)"),
        (
            503,
            {},
            b'{"detail": "Airflow\'s database is too slow"}',
            "cannot answer now (Airflow's database is too slow)",
        ),
        (404, {}, b'{"detail": "Not Found"}', "let DATA_EXPORT_AIRFLOW_URL be the address of an API server"),
    ],
)
def test_what_is_no_answer_of_the_page_is_told(
    status: int,
    headers: dict[str, str],
    body: bytes,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving({"/data-exports/api/status": (status, headers, body)}) as url:
        environment(monkeypatch, URL=url, TOKEN=CANARY)
        assert main(["status"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert "\x1b" not in line
    assert CANARY not in line


class serving:  # noqa: N801 - used as a function
    """A server with these answers by path."""

    def __init__(self, answers: dict[str, tuple[int, dict[str, str], bytes]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body = answers[self.path]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
