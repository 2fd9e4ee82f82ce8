"""How much at once: what SFTP servers allow, which they say in their own words or not at all, and what we ask for."""

import asyncio
from pathlib import Path

import asyncssh
import pytest

from data_export.content import Content
from data_export.delivery.sftp.destination import SftpDestination
from data_export.delivery.sftp.errors import TooManyAtOnce
from data_export.delivery.sftp.wire.client import SftpClient
from data_export.errors import AccessDenied
from demo.servers.foreign import ProftpdServer
from demo.servers.openssh import OpensshServer
from demo.servers.sftp import SftpServer
from tests.connectors.contract import DATA_KEY, read_all
from tests.connectors.sftp.logins import login_of
from tests.connectors.sftp.unruly import BIG, SMALL, Unruly, left_over, target
from tests.connectors.tcp_proxy import TcpProxy

REFUSALS = [
    asyncssh.SFTPFailure("Failure"),
    asyncssh.SFTPFailure("too many open files"),
    asyncssh.SFTPPermissionDenied("Permission denied"),
]


def limit_open_files(unruly: type[Unruly], most: int, refusal: asyncssh.SFTPError, late: float = 0) -> list[bytes]:
    opened, refused = [0], []

    def open_few(self: Unruly, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if opened[0] >= most:
            refused.append(path)
            raise refusal
        file = Unruly.open(self, path, pflags, attrs)
        opened[0] += 1
        return file

    def close(self: Unruly, file_obj: object) -> None:
        asyncssh.SFTPServer.close(self, file_obj)
        if late and len(refused) < 3:
            asyncio.get_running_loop().call_later(late, forget)
        else:
            forget()  # before it is answered: whoever hears that a file is closed may open another

    def forget() -> None:
        opened[0] -= 1

    unruly.write_seconds = 0.002
    unruly.open, unruly.close = open_few, close  # type: ignore[method-assign,assignment] # the limit
    return refused


class TestLimits:
    """Of files that are open at once."""

    @pytest.mark.parametrize(
        "refusal",
        [
            asyncssh.SFTPFailure("Failure"),
            asyncssh.SFTPFailure("Too many open files"),
            asyncssh.SFTPFailure("Too many open files in system"),
            asyncssh.SFTPPermissionDenied("maximum concurrent transfers exceeded"),
            asyncssh.SFTPPermissionDenied("Permission denied"),
            asyncssh.SFTPFailure("Transfer limit reached"),
            asyncssh.SFTPFailure("Quota of open handles exceeded"),
            asyncssh.SFTPPermissionDenied("The number of simultaneous uploads is limited to 3"),
        ],
        ids=str,
    )
    async def test_fewer_go_on(self, server: SftpServer, unruly: type[Unruly], refusal: asyncssh.SFTPError) -> None:
        refused = limit_open_files(unruly, 4, refusal)
        async with target(server, connections=2, concurrency=32) as destination:
            await destination.create("first", SMALL)
            await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(40)))
            seen = len(refused)
            await asyncio.gather(*(destination.create(f"{number}-2.png", SMALL) for number in range(10)))
        assert len(refused) == seen, "not remembered"
        assert len(list((server.root / "target").iterdir())) == 51
        assert not left_over(server)

    async def test_a_server_that_takes_not_even_one_says_so_in_its_words(
        self, server: SftpServer, unruly: type[Unruly]
    ) -> None:
        limit_open_files(unruly, 0, asyncssh.SFTPPermissionDenied("maximum concurrent transfers exceeded"))
        async with target(server) as destination:
            with pytest.raises(TooManyAtOnce, match="maximum concurrent transfers exceeded"):
                await destination.create(DATA_KEY, SMALL)

    async def test_a_missing_right_is_not_taken_for_a_limit(self, server: SftpServer, unruly: type[Unruly]) -> None:
        unruly.refused = {"write": asyncssh.SFTPPermissionDenied("Permission denied")}
        async with target(server) as destination:
            found = await asyncio.gather(
                *(destination.create(f"{number}.png", SMALL) for number in range(20)), return_exceptions=True
            )
        assert {type(error) for error in found} == {AccessDenied}

    async def test_no_more_than_max_open_files(self, server: SftpServer, unruly: type[Unruly]) -> None:
        refused = limit_open_files(unruly, 3, asyncssh.SFTPFailure("Failure"))
        async with target(server, connections=4, concurrency=3) as destination:
            await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(50)))
        assert not refused

    async def test_of_reading(self, server: SftpServer, unruly: type[Unruly]) -> None:
        async with target(server) as destination:
            await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(30)))
        unruly.write_seconds = 0
        for refusal in (asyncssh.SFTPFailure("Failure"), asyncssh.SFTPPermissionDenied("too many open files")):
            refused = limit_open_files(unruly, 4, refusal)
            async with target(server, concurrency=16) as destination:
                found = await asyncio.gather(*(read_all(destination, f"{number}.png") for number in range(30)))
            assert set(found) == {SMALL.source}
            assert refused

    async def test_a_server_may_count_for_a_moment_what_is_closed(
        self, server: SftpServer, unruly: type[Unruly]
    ) -> None:
        limit_open_files(unruly, 2, asyncssh.SFTPPermissionDenied("Permission denied"), late=0.4)
        async with target(server, connections=4, concurrency=4) as destination:
            await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(4)))
        assert len(list((server.root / "target").iterdir())) == 4

    @pytest.mark.parametrize("options", ["", "-P limits"])
    async def test_of_openssh(self, tmp_path: Path, options: str) -> None:
        """Told by `limits@openssh.com`, or found out by a bare "Failure"."""
        if not OpensshServer.installed():
            pytest.skip("no /usr/sbin/sshd on this machine: install openssh-server to run these")
        with OpensshServer(tmp_path, open_files=16, sftp_options=options) as server:
            async with SftpDestination(login_of(server), f"{server.base}target", connections=2) as destination:
                await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(200)))
                assert await read_all(destination, "7.png") == SMALL.source
            assert len(list((server.root / "target").iterdir())) == 200

    async def test_of_proftpd(self, tmp_path: Path) -> None:
        if not ProftpdServer.installed():
            pytest.skip(f"no proftpd on this machine: install {ProftpdServer.packages} to run these")
        with ProftpdServer(tmp_path, "MaxTransfersPerUser STOR 2") as server:
            async with SftpDestination(
                login_of(server), f"{server.base}target", connections=4, concurrency=4
            ) as destination:
                big = Content.of_bytes(bytes(1 << 20))
                await asyncio.gather(*(destination.create(f"{number}.png", big) for number in range(12)))
            assert len(list((server.root / "target").iterdir())) == 12


@pytest.mark.usefixtures("forgetful")
async def test_a_limit_with_no_word_is_found_out_where_files_have_their_final_names(
    server: SftpServer, unruly: type[Unruly]
) -> None:
    limit_open_files(unruly, 4, asyncssh.SFTPFailure("Failure"))
    async with target(server, upload="direct", concurrency=16) as destination:
        await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(40)))
        assert destination._gate.allowed <= 4
    assert len(list((server.root / "target").iterdir())) == 40


async def test_a_big_file_that_is_tried_alone_has_the_time_it_needs(
    server: SftpServer, unruly: type[Unruly], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_export.delivery.sftp.sessions.gate._EMPTIES_SECONDS", 0.5)
    limit_open_files(unruly, 1, asyncssh.SFTPPermissionDenied("Permission denied"))
    unruly.write_seconds = 0.4
    big = Content.of_bytes(bytes(1 << 20))
    async with target(server, concurrency=2) as destination:
        await asyncio.gather(*(destination.create(f"{number}.png", big) for number in range(3)))
    assert len(list((server.root / "target").iterdir())) == 3


async def test_files_that_take_longer_than_one_waits_for_them_arrive_at_a_limit_with_no_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_export.delivery.sftp.sessions.gate._EMPTIES_SECONDS", 0.2)
    if not OpensshServer.installed():
        pytest.skip("no /usr/sbin/sshd on this machine: install openssh-server to run these")
    big = Content.of_bytes(bytes(1 << 20))
    with OpensshServer(tmp_path, open_files=16, sftp_options="-P limits") as server:
        async with TcpProxy(server.port) as proxy:
            proxy.pause = 0.01  # seconds for each file
            login, place = login_of(server, port=proxy.port), f"{server.base}target"
            async with SftpDestination(login, place, concurrency=32) as destination:
                await asyncio.gather(*(destination.create(f"{number}.png", big) for number in range(40)))
                assert destination._gate.allowed <= 16
        assert len(list((server.root / "target").iterdir())) == 40


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("refusal", REFUSALS[:2], ids=str)
@pytest.mark.parametrize("connections", [1, 4])
async def test_a_bad_moment_is_made_good(
    server: SftpServer,
    unruly: type[Unruly],
    monkeypatch: pytest.MonkeyPatch,
    refusal: asyncssh.SFTPError,
    connections: int,
) -> None:
    monkeypatch.setattr("data_export.delivery.sftp.sessions.gate._BEARS_ONE_MORE", 10)
    limit_open_files(unruly, 2, refusal)
    async with target(server, connections=connections, concurrency=16) as destination:
        await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(40)))
        assert destination._gate.allowed <= 4
        limit_open_files(unruly, 64, refusal)
        await asyncio.gather(*(destination.create(f"{number}.jpg", SMALL) for number in range(400)))
        assert destination._gate.allowed == 16
        assert destination._connections.alive == connections
    assert len(list((server.root / "target").iterdir())) == 440


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
async def test_a_lasting_limit_is_tried_so_seldom_that_it_costs_nothing(
    server: SftpServer, unruly: type[Unruly], refusal: asyncssh.SFTPError
) -> None:
    limit_open_files(unruly, 5, refusal)
    async with target(server, concurrency=16) as destination:
        known = 0
        while destination._gate.allowed > 5:
            await asyncio.gather(*(destination.create(f"{known + number}.png", SMALL) for number in range(40)))
            known += 40
        refused = limit_open_files(unruly, 5, refusal)
        await asyncio.gather(*(destination.create(f"{number}.jpg", SMALL) for number in range(400)))
        assert 3 <= destination._gate.allowed <= 6
    assert 1 <= len(refused) <= 20, "where the machine is busy, several meet each trial of one more"
    assert len(list((server.root / "target").iterdir())) == known + 400


@pytest.mark.parametrize(("files", "content", "most"), [(1, SMALL, 2), (1, BIG, 12), (3, BIG, 12), (16, BIG, 32)])
async def test_blocks_are_asked_for_ahead_within_a_share_of_the_connection(
    server: SftpServer, monkeypatch: pytest.MonkeyPatch, files: int, content: Content, most: int
) -> None:
    ahead, seen, ask = set[object](), [0], SftpClient.read

    def read(client: SftpClient, handle: bytes, offset: int, size: int) -> asyncio.Future[bytes]:
        answer = ask(client, handle, offset, size)
        ahead.add(answer)
        answer.add_done_callback(ahead.discard)
        seen.append(len(ahead))
        return answer

    monkeypatch.setattr(SftpClient, "read", read)
    async with SftpDestination(login_of(server), "/target", connections=1) as destination:
        for number in range(files):
            await destination.create(f"{number}", content)
        found = await asyncio.gather(*(read_all(destination, f"{number}") for number in range(files)))
    assert found == [content.source] * files
    assert most <= max(seen) <= most + 2  # the last blocks of a file that has just ended may still be counted
