"""A server ends without a trace whoever knocks while it does."""

import gc
import itertools
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from demo.servers.faults import FaultProxy
from demo.servers.sftp import SftpServer
from demo.servers.smtp import SmtpServer

SERVERS: dict[str, Callable[[Path], AbstractContextManager[Any]]] = {
    "faults": lambda folder: FaultProxy("http://127.0.0.1:1"),
    "sftp": SftpServer,
    "smtp": SmtpServer,
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_client_that_comes_at_the_end_leaves_nothing_open(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[object] = []
    gc.collect()
    monkeypatch.setattr(sys, "unraisablehook", lambda found: forgotten.append(found.exc_value))
    for delay in itertools.chain.from_iterable(itertools.repeat([0, 0.0003, 0.0006, 0.001, 0.002], 6)):
        clients: list[socket.socket] = []
        with SERVERS[name](tmp_path) as server:
            knocking = threading.Thread(target=_knock, args=(server.port, clients))
            knocking.start()
            time.sleep(delay)
        knocking.join()
        for client in clients:
            client.close()
    gc.collect()
    assert forgotten == []


def _knock(port: int, clients: list[socket.socket]) -> None:
    for _ in range(20):
        clients.append(socket.socket())
        with suppress(OSError):
            clients[-1].connect(("127.0.0.1", port))
