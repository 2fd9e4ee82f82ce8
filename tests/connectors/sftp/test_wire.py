"""What the client makes of servers that speak the protocol, and of those that do not."""

import asyncio
import random
from pathlib import Path

import pytest

from data_export.content import Content
from data_export.delivery.sftp import transfer
from data_export.delivery.sftp.destination import SftpDestination
from data_export.delivery.sftp.sessions.session import SftpSession
from data_export.delivery.sftp.wire import blocks
from data_export.delivery.sftp.wire.packets import CREATING
from data_export.errors import TargetRefused
from demo.servers.openssh import OpensshServer
from tests.connectors.sftp.logins import login_of

pytestmark = pytest.mark.skipif(
    not OpensshServer.installed(), reason="no /usr/sbin/sshd on this machine: install openssh-server to run these"
)


@pytest.mark.parametrize(("options", "known"), [("", True), ("-P limits", False)])
async def test_openssh_is_known_by_the_limits_that_it_tells(tmp_path: Path, options: str, known: bool) -> None:
    with OpensshServer(tmp_path, sftp_options=options) as server:
        session = await SftpSession.open(login_of(server), 15, 15, asyncio.Semaphore(8))
        assert session.is_openssh == known
        assert (session.client.limits.handles > 0) == known
        client, path = session.client, f"{server.base}file"
        handle = await client.open(path, CREATING)
        asked = [client.write(handle, 1000 * number, bytes(1000)) for number in range(200)]
        closed, found = client.close(handle), client.stat(path)
        await asyncio.gather(*asked, closed)
        assert (await found).size == 200_000
        await session.close()


@pytest.mark.parametrize(
    "said",
    [
        "true",
        "printf 'Welcome, there is no SFTP here'",
        r"printf '\0\0\0\5\2\0\0\0\2'",
        r"printf '\0\0\0\5\145\0\0\0\1'",
    ],
    ids=["nothing", "a banner", "version 2", "an answer before the first request"],
)
async def test_a_server_that_does_not_speak_it(tmp_path: Path, said: str) -> None:
    with OpensshServer(tmp_path, subsystem=said) as server, pytest.raises(TargetRefused, match="not use SFTP"):
        async with SftpDestination(login_of(server), "target"):
            pass


async def test_what_a_server_says_on_the_side_is_no_answer(tmp_path: Path) -> None:
    with OpensshServer(tmp_path, subsystem="echo aside >&2; exec /usr/lib/openssh/sftp-server") as server:
        async with SftpDestination(login_of(server), "target") as destination:
            assert await destination.stat("nothing") is None


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr"])
async def test_packets_are_ours_where_the_cipher_is_gcm(tmp_path: Path, cipher: str) -> None:
    """And asyncssh's own for other ciphers, and while keys are exchanged."""
    with OpensshServer(tmp_path, settings=f"Ciphers {cipher}\nRekeyLimit 3M") as server:
        session = await SftpSession.open(login_of(server), 15, 15, asyncio.Semaphore(8))
        session._connection._rekey_bytes = 2 << 20  # asyncssh's own limit, else a gigabyte
        client, keys = session.client, set[object]()
        handle, data = await client.open(f"{server.base}file", CREATING), random.Random(1).randbytes(16 << 20)
        for offset in range(0, len(data), 1 << 20):
            await asyncio.gather(
                *(client.write(handle, at, data[at : at + 99_999]) for at in range(offset, offset + (1 << 20), 99_999))
            )
            keys.add(session._connection._send_encryption)
        await client.close(handle)
        await session.close()
        assert len(keys) > 3
        assert (client.outlet.sent > 8 << 20) == ("gcm" in cipher)
        assert (server.root / "file").read_bytes()[: len(data)] == data


@pytest.mark.parametrize("settings", ["", "MaxSessions 1"])
async def test_a_big_file_goes_over_two_channels_where_the_server_allows_it(
    tmp_path: Path, settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_BIG_BYTES", 4 << 20)
    monkeypatch.setattr(blocks, "_SYNC_BYTES", 2 << 20)
    path = tmp_path / "file"
    path.write_bytes(random.Random(1).randbytes(12 << 20))
    with OpensshServer(tmp_path, settings=settings) as server:
        async with SftpDestination(login_of(server), f"{server.base}target") as destination:
            for _ in range(2):
                await destination.replace("file", Content.of_file(path))
            async with destination._connections.session() as session:
                second = await session.second()
            assert (second is None) == bool(settings)
            assert second is None or second.outlet.sent > 4 << 20
        assert (server.root / "target" / "file").read_bytes() == path.read_bytes()
        assert [found.name for found in (server.root / "target").iterdir()] == ["file"]
