"""Which connection an operation gets, with sessions that open and fail when the test says so."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from data_export.delivery.sftp.sessions import pool as sftp_connections
from data_export.delivery.sftp.sessions.pool import SftpConnections
from data_export.delivery.sftp.sessions.session import SftpSession
from data_export.delivery.sftp.wire.packets import Limits
from data_export.errors import AccessDenied, HostKeyMismatch, TargetUnavailable


class _Session:
    alive = True
    client = SimpleNamespace(limits=Limits())

    async def close(self) -> None:
        self.alive = False

    def abort(self) -> None:
        self.alive = False


class _Server:
    """Takes one connection; the refusals of the others come one after the other, or all at once."""

    def __init__(self, refusal: Exception, *, at_once: bool = False) -> None:
        self.refusal: Exception | None = refusal
        self.at_once = at_once
        self.asked = 0

    async def open_session(self) -> SftpSession:
        self.asked += 1
        if self.asked == 1 or self.refusal is None:
            return cast("Any", _Session())
        await asyncio.sleep(0.01 if self.at_once else 0.01 * self.asked)
        raise self.refusal


async def _work(connections: SftpConnections) -> SftpSession:
    async with connections.session() as session:
        await asyncio.sleep(0.2)
        return session


@pytest.mark.parametrize("at_once", [False, True])
async def test_an_operation_that_is_refused_twice_goes_on_over_the_connection_that_works(at_once: bool) -> None:
    server = _Server(TargetUnavailable("sftp.example.com: reset"), at_once=at_once)
    connections = SftpConnections(server.open_session, limit=4, share=1)
    await connections.open()
    sessions = await asyncio.gather(*(_work(connections) for _ in range(8)))
    assert len(set(map(id, sessions))) == 1
    assert server.asked == 4
    await connections.close()


async def test_another_host_key_is_never_done_without() -> None:
    server = _Server(HostKeyMismatch("sftp.example.com shows another key"))
    connections = SftpConnections(server.open_session, limit=2, share=1)
    await connections.open()
    with pytest.raises(HostKeyMismatch):
        await asyncio.gather(*(_work(connections) for _ in range(4)))
    await connections.close()


@pytest.mark.parametrize(
    ("refusal", "asked"),
    [(TargetUnavailable("sftp.example.com: reset"), 3), (AccessDenied("sftp.example.com refuses user 'u'"), 2)],
)
async def test_a_line_that_was_refused_is_tried_again_later_but_not_after_a_refused_login(
    refusal: Exception, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sftp_connections, "_REST_SECONDS", 0.3)
    server = _Server(refusal)
    connections = SftpConnections(server.open_session, limit=2, share=1)
    await connections.open()
    await asyncio.gather(*(_work(connections) for _ in range(4)))
    assert server.asked == 2
    server.refusal = None
    await asyncio.sleep(0.3)
    sessions = await asyncio.gather(*(_work(connections) for _ in range(4)))
    assert len(set(map(id, sessions))) == asked - 1
    assert server.asked == asked
    await connections.close()


async def test_a_connection_that_breaks_is_opened_anew_once_for_all_who_need_it() -> None:
    server = _Server(TargetUnavailable("sftp.example.com: reset"))
    connections = SftpConnections(server.open_session, limit=1, share=8)
    await connections.open()
    broken = await _work(connections)
    await broken.close()
    server.refusal = None
    sessions = await asyncio.gather(*(_work(connections) for _ in range(8)))
    assert broken not in sessions
    assert len(set(map(id, sessions))) == 1
    assert server.asked == 2
    await connections.close()


async def test_connections_that_were_too_many_are_taken_back_when_more_operations_are() -> None:
    server = _Server(TargetUnavailable("sftp.example.com: reset"))
    server.refusal = None
    connections = SftpConnections(server.open_session, limit=3, share=1)
    await asyncio.gather(*(_work(connections) for _ in range(3)))
    await connections.narrow(1)
    assert connections.alive == 1
    connections.widen(2)
    sessions = await asyncio.gather(*(_work(connections) for _ in range(8)))
    assert len(set(map(id, sessions))) == connections.alive == 2
    connections.widen(8)
    sessions = await asyncio.gather(*(_work(connections) for _ in range(8)))
    assert len(set(map(id, sessions))) == connections.alive == 3
    await connections.close()
