"""What the way to an SFTP server can do wrong, done to the connector."""

import asyncio
import socket
import time
from pathlib import Path

import asyncssh
import pytest

from data_export.delivery.sftp.destination import SftpDestination, SftpLogin
from data_export.errors import (
    HostKeyMismatch,
    TargetUnavailable,
)
from demo.servers.sftp import SftpServer
from tests.connectors.contract import DATA_KEY
from tests.connectors.sftp.logins import login_of
from tests.connectors.sftp.unruly import BIG, SMALL, Unruly, left_over, target
from tests.connectors.tcp_proxy import TcpProxy


class TestNetwork:
    async def unavailable(self, login: SftpLogin, **options: float) -> str:
        with pytest.raises(TargetUnavailable) as failed:
            async with SftpDestination(login, "/", **options):  # type: ignore[arg-type] # seconds only
                pass
        return str(failed.value)

    async def test_dead_port(self, server: SftpServer) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            told = await self.unavailable(login_of(server, port=unused.getsockname()[1]))
        assert told.partition(": ")[2] == "Connection refused: is it up, and reachable from the workers?"

    async def test_unknown_name(self, server: SftpServer) -> None:
        assert "nowhere.invalid:22" in await self.unavailable(login_of(server, host="nowhere.invalid", port=22))

    async def test_server_that_says_nothing(self, server: SftpServer) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            began = time.monotonic()
            login = login_of(server, port=silent.getsockname()[1])
            await self.unavailable(login, connect_timeout=0.3)
            assert time.monotonic() - began < 12

    async def test_dropped_before_login_is_tried_again(self, server: SftpServer) -> None:
        async with TcpProxy(server.port) as proxy:
            proxy.drop = 2
            async with SftpDestination(login_of(server, port=proxy.port), "/") as destination:
                assert await destination.stat("nothing") is None
            proxy.drop = 99
            await self.unavailable(login_of(server, port=proxy.port))
            assert proxy.accepted < 10

    async def test_reset_in_the_middle_of_a_file(self, server: SftpServer, place: Path) -> None:
        async with TcpProxy(server.port) as proxy:
            proxy.cut_after = 2 << 20
            async with SftpDestination(login_of(server, port=proxy.port), "/target") as destination:
                with pytest.raises(TargetUnavailable, match=DATA_KEY):
                    await destination.create(DATA_KEY, BIG)
                assert not place.exists()
                assert left_over(server)
                await destination.create(DATA_KEY, BIG)  # on a new connection
                assert proxy.accepted == 2
        assert place.read_bytes() == BIG.source
        assert not left_over(server)

    async def test_stalled_in_the_middle_of_a_file(self, server: SftpServer, place: Path, unruly: type[Unruly]) -> None:
        unruly.write_seconds = 0.02
        async with (
            TcpProxy(server.port) as proxy,
            SftpDestination(login_of(server, port=proxy.port), "/target", stall_timeout=0.4) as destination,
        ):
            writing = asyncio.create_task(destination.create(DATA_KEY, BIG))
            await asyncio.sleep(0.2)
            looks = [asyncio.create_task(destination.stat(f"{number}")) for number in range(20)]
            proxy.holding = True
            began = time.monotonic()
            results = await asyncio.gather(writing, *looks, return_exceptions=True)
            assert time.monotonic() - began < 12
            assert isinstance(results[0], TargetUnavailable)
            assert "does not answer in time" in str(results[0])
            proxy.holding = False
            assert await destination.stat(DATA_KEY) is None
        assert not place.exists()

    async def test_a_server_that_does_not_tell_its_room(self, server: SftpServer, unruly: type[Unruly]) -> None:
        unruly.refused = {"block": asyncssh.SFTPFailure("no")}
        unruly.statvfs_seconds = 30
        async with target(server, stall_timeout=0.3) as destination:
            began = time.monotonic()
            with pytest.raises(TargetUnavailable):
                await destination.create(DATA_KEY, SMALL)
            assert time.monotonic() - began < 12

    async def test_a_slow_server_is_not_taken_for_a_dead_one(self, server: SftpServer, place: Path) -> None:
        async with TcpProxy(server.port) as proxy:
            login = login_of(server, port=proxy.port)
            async with SftpDestination(login, "/target", stall_timeout=0.4) as destination:
                proxy.pause = 0.03
                began = time.monotonic()
                await destination.create(DATA_KEY, BIG)
                assert time.monotonic() - began > 4 * 0.4
        assert place.read_bytes() == BIG.source

    async def test_all_fail_at_once_and_one_connection_serves_the_next(self, server: SftpServer) -> None:
        async with (
            TcpProxy(server.port) as proxy,
            SftpDestination(login_of(server, port=proxy.port), "/target") as destination,
        ):
            proxy.holding = True
            looks = [asyncio.create_task(destination.stat(f"{number}")) for number in range(50)]
            await asyncio.sleep(0.05)
            proxy.holding = False
            proxy.cut()
            assert all(
                isinstance(one, TargetUnavailable) for one in await asyncio.gather(*looks, return_exceptions=True)
            )
            assert await asyncio.gather(*(destination.stat(f"{number}") for number in range(50))) == [None] * 50
            assert proxy.accepted == 2
            await server_gone(proxy, destination)

    @pytest.mark.parametrize("allowed", [1, 3, None])
    async def test_many_operations_share_the_connections_that_the_server_allows(
        self, server: SftpServer, allowed: int | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with TcpProxy(server.port) as proxy:
            proxy.allowed = allowed
            login = login_of(server, port=proxy.port)
            async with SftpDestination(login, "/target", connections=4, concurrency=8) as destination:
                assert await asyncio.gather(*(destination.stat(f"{number}") for number in range(2))) == [None] * 2
                assert proxy.most == 1  # few operations need no more
                await asyncio.gather(*(destination.create(f"{number}.png", BIG) for number in range(24)))
            assert proxy.most == (allowed or 4)
        assert len(list((server.root / "target").glob("*.png"))) == 24
        assert ("takes no further connection" in caplog.text) == (allowed is not None)

    async def test_a_further_connection_that_shows_another_host_key_is_not_done_without(
        self, server: SftpServer, tmp_path: Path
    ) -> None:
        with SftpServer(tmp_path / "impostor") as impostor:
            async with TcpProxy(server.port) as proxy:
                login = login_of(server, port=proxy.port)
                async with SftpDestination(login, "/target", connections=2, concurrency=2) as destination:
                    proxy.target = impostor.port
                    with pytest.raises(HostKeyMismatch):
                        await asyncio.gather(*(destination.stat(f"{number}") for number in range(2)))


async def server_gone(proxy: TcpProxy, destination: SftpDestination) -> None:
    """While nobody answers, all share the few connection attempts of one."""
    proxy.drop = 99
    proxy.cut()
    before = proxy.accepted
    failed = await asyncio.gather(*(destination.stat(f"{number}") for number in range(50)), return_exceptions=True)
    assert all(isinstance(one, TargetUnavailable) for one in failed)
    assert proxy.accepted - before < 10
