"""The demo's client of Airflow's REST API."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from demo import rest
from demo.airflow import Airflow

ROLLED_BACK = b'{"detail":{"reason":"Database error","orig_error":"deadlock detected"}}'


@contextmanager
def answering(*answers: tuple[int, bytes]) -> Iterator[tuple[rest.AirflowApi, list[str]]]:
    """A client of a server that gives these answers, and the requests it got."""
    left, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_PATCH(self) -> None:
            asked.append(self.path)
            status, body = left.pop(0)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test says what was asked."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        api = rest.AirflowApi(f"http://127.0.0.1:{server.server_port}", "nobody", "nothing")
        try:
            yield api, asked
        finally:
            api.close()
            server.shutdown()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "_PAUSES", (0.0, 0.0))


def test_what_the_database_rolled_back_is_asked_for_again() -> None:
    with answering((500, ROLLED_BACK), (200, b'{"state": "failed"}')) as (api, asked):
        assert api.request("PATCH", "/dags/a/dagRuns/b", json={"state": "failed"}) == {"state": "failed"}
    assert asked == ["/api/v2/dags/a/dagRuns/b"] * 2


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([(500, ROLLED_BACK)] * 3, "deadlock detected"),
        ([(500, b"another fault")], "another fault"),
        ([(422, b'"Database error"')], "422"),
    ],
    ids=["it does not end", "a fault of the server", "a refusal"],
)
def test_what_does_not_end_or_is_something_else_is_an_error(answers: list[tuple[int, bytes]], words: str) -> None:
    with answering(*answers) as (api, asked), pytest.raises(httpx.HTTPStatusError, match=words):
        api.request("PATCH", "/dags/a/dagRuns/b", json={})
    assert len(asked) == len(answers)


@pytest.mark.parametrize(("status", "refused"), [(500, False), (401, True)])
def test_a_server_that_cannot_sign_anybody_in_yet_is_not_ready(status: int, refused: bool) -> None:
    """Airflow empties its file of passwords for a moment, when it adds one."""

    def sign_in() -> None:
        httpx.Response(status, request=httpx.Request("POST", "http://airflow/auth/token")).raise_for_status()

    server: Any = SimpleNamespace(check=lambda: None, api=SimpleNamespace(sign_in=sign_in))
    with pytest.raises(httpx.HTTPStatusError) if refused else nullcontext():
        assert Airflow.ready(server) is False
