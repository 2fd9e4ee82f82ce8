"""SFTP servers, the embedded one and OpenSSH: the contract of a destination, and what a server may forbid."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data_export.content import Content
from data_export.delivery.deliver import deliver
from data_export.delivery.sftp.destination import SftpDestination
from data_export.delivery.sftp.leftovers import TEMPORARY_PREFIX
from data_export.errors import AccessDenied, ObjectExists, TargetNotFound, TargetRefused, TransientError
from demo.servers.foreign import ForeignServer, ProftpdServer, RcloneServer
from demo.servers.openssh import OpensshServer
from demo.servers.sftp import SftpServer
from tests.connectors.contract import DATA_KEY, Connect, DestinationContract, Stored, read_all
from tests.connectors.sftp.logins import Server, login_of

Forbidding = Callable[[str], SftpDestination]
SMALL = Content.of_bytes(b"content")
OTHER = Content.of_bytes(b"other content")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    with SftpServer(tmp_path_factory.mktemp("embedded")) as server:
        yield server


@pytest.fixture(scope="module")
def openssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpensshServer]:
    if not OpensshServer.installed():
        pytest.skip("no /usr/sbin/sshd on this machine: install openssh-server to run these")
    with OpensshServer(tmp_path_factory.mktemp("openssh")) as server:
        yield server


@pytest.mark.skipif(not (OpensshServer.installed() and RcloneServer.installed()), reason="needs sshd and rclone")
async def test_sshd_may_hand_over_to_another_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with OpensshServer(tmp_path, subsystem=f"rclone serve sftp --stdio {tmp_path}/files") as server:
        async with SftpDestination(login_of(server), "/target") as destination:
            await destination.create(DATA_KEY, SMALL)
            with pytest.raises(ObjectExists):
                await destination.create(DATA_KEY, OTHER)
            assert "connections do not see each other's new files" in await destination.ways_to_rename()
    assert "rename takes the place of files: new names are claimed first" in caplog.text


class SftpContract(DestinationContract):
    big_bytes = 6 << 20  # some 24 blocks: asyncssh's Python ciphers on both sides make more of it slow, not truer
    many = 150

    @pytest.fixture
    def connect(self, server: Server, tmp_path: Path) -> Connect:
        return lambda: SftpDestination(login_of(server), f"{server.base}{tmp_path.name}/target")

    @pytest.fixture
    def root(self, server: Server, tmp_path: Path) -> Path:
        return server.root / tmp_path.name / "target"

    @pytest.fixture
    def stored(self, root: Path) -> Stored:
        return lambda key: (root / key).read_bytes() if (root / key).exists() else None


class TestSftp(SftpContract):
    @pytest.fixture
    def server(self, embedded: SftpServer) -> Server:
        return embedded


class TestOpenssh(SftpContract):
    @pytest.fixture
    def server(self, openssh: OpensshServer) -> Server:
        return openssh

    async def test_a_link_that_leads_nowhere_is_named(self, connect: Connect, root: Path) -> None:
        (root / DATA_KEY).parent.mkdir(parents=True)
        (root / DATA_KEY).symlink_to("/nowhere")
        async with connect() as destination:
            with pytest.raises(TargetRefused, match=f"{DATA_KEY} is a symbolic link to a file that is missing"):
                await destination.create(DATA_KEY, SMALL)


@pytest.fixture(scope="module", params=[ProftpdServer, RcloneServer], ids=lambda kind: kind.program)
def foreign(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignServer]:
    kind: type[ForeignServer] = request.param
    if not kind.installed():
        pytest.skip(f"no {kind.program} on this machine: install {kind.packages} to run these")
    with kind(tmp_path_factory.mktemp(kind.program)) as server:
        yield server


class TestForeign(SftpContract):
    """Servers of other makers, which read the protocol in their own way."""

    big_bytes = 2 << 20
    many = 60
    second = (ObjectExists, TransientError)  # rclone's server breaks one of two uploads that end at once

    @pytest.fixture
    def server(self, foreign: ForeignServer) -> Server:
        if isinstance(foreign, RcloneServer):  # without posix-rename the name is free for an instant
            self.while_replaced = (TransientError, TargetNotFound)
        return foreign


async def test_one_server_for_all_connections_shows_each_what_another_makes(openssh: OpensshServer) -> None:
    async with SftpDestination(login_of(openssh), f"{openssh.base}view") as destination:
        said = await destination.ways_to_rename()
        assert said == (
            "a rename never takes the place of a file, so of two runs at once one gets a new name; "
            "a file is replaced at once"
        )
    assert not (openssh.root / "view").exists()


class TestOpensshThatForbids:
    """`internal-sftp` started with options that take operations away."""

    @pytest.fixture
    def forbidding(self, openssh: OpensshServer, tmp_path: Path) -> Iterator[Forbidding]:
        (tmp_path / "keys").symlink_to(openssh.private_key_path.parent)
        servers: list[OpensshServer] = []

        def start(options: str) -> SftpDestination:
            servers.append(OpensshServer(tmp_path, sftp_options=options).__enter__())
            return SftpDestination(login_of(servers[-1]), f"{servers[-1].base}target")

        yield start
        for server in servers:
            server.__exit__()

    async def test_writing(self, forbidding: Forbidding) -> None:
        async with forbidding("-R") as destination:
            assert await destination.stat(DATA_KEY) is None
            with pytest.raises(AccessDenied, match="target' of sftp://"):
                await destination.create(DATA_KEY, SMALL)

    async def test_every_block_of_a_file(self, forbidding: Forbidding, caplog: pytest.LogCaptureFixture) -> None:
        """Also of those that are refused after the first, nobody's log has a word of asyncio's."""
        async with forbidding("-P write") as destination:
            with pytest.raises(AccessDenied, match="Permission denied"):
                await destination.create(DATA_KEY, Content.of_bytes(bytes(600_000)))
        gc.collect()
        assert "never retrieved" not in caplog.text

    async def test_renaming(self, forbidding: Forbidding) -> None:
        async with forbidding("-P rename,posix-rename,hardlink") as destination:
            with pytest.raises(TargetRefused, match="`sftp_upload: direct`"):
                await destination.create(DATA_KEY, SMALL)
            assert await destination.stat(DATA_KEY) is None

    async def test_replacing_at_once(self, forbidding: Forbidding, tmp_path: Path) -> None:
        async with forbidding("-P posix-rename") as a, forbidding("-P posix-rename") as b:
            for one in (a, b):  # who comes to a folder takes what is unfinished there for left over
                await one.replace("first.json", SMALL)
            for number in range(30):
                key = f"{number}.json"
                await a.create(key, Content.of_bytes(b"old"))
                await asyncio.gather(
                    deliver(a, lambda _: key, SMALL, "replace"),  # noqa: B023 - called at once
                    deliver(b, lambda _: key, OTHER, "replace"),  # noqa: B023
                )
        assert len([path for path in tmp_path.rglob("target/*") if path.suffix == ".json"]) == 31
        assert not list(tmp_path.rglob(f"target/{TEMPORARY_PREFIX}*"))

    @pytest.mark.parametrize("extensions", ["posix-rename", "posix-rename,fsync,statvfs,limits,hardlink", "opendir"])
    async def test_extensions(self, forbidding: Forbidding, extensions: str, tmp_path: Path) -> None:
        async with forbidding(f"-P {extensions}") as destination:
            await destination.create(DATA_KEY, SMALL)
            with pytest.raises(ObjectExists):
                await destination.create(DATA_KEY, OTHER)
            await destination.replace(DATA_KEY, OTHER)
            assert await read_all(destination, DATA_KEY) == OTHER.source
        assert [path.name for path in tmp_path.rglob("target/**/*") if path.is_file()] == [DATA_KEY.rpartition("/")[2]]
