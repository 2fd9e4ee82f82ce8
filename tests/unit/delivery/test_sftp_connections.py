"""Which connection an operation gets, with sessions that open and fail when the test says so."""

import asyncio
from typing import Any, cast

import pytest

from data_export.delivery.sftp_connections import SftpConnections
from data_export.delivery.sftp_session import SftpSession
from data_export.errors import HostKeyMismatch, TargetUnavailable


class _Session:
    alive = True

    async def close(self) -> None:
        self.alive = False


class _Server:
    """Takes one connection; the refusals of the others come one after the other."""

    def __init__(self, refusal: Exception) -> None:
        self.refusal = refusal
        self.asked = 0

    async def open_session(self) -> SftpSession:
        self.asked += 1
        if self.asked == 1:
            return cast("Any", _Session())
        await asyncio.sleep(0.01 * self.asked)
        raise self.refusal


async def _work(connections: SftpConnections) -> SftpSession:
    async with connections.session() as session:
        await asyncio.sleep(0.2)
        return session


async def test_an_operation_that_is_refused_twice_goes_on_over_the_connection_that_works() -> None:
    server = _Server(TargetUnavailable("sftp.example.com: reset"))
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
