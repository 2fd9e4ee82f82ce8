from collections.abc import Iterator
from pathlib import Path

import pytest

from data_export.delivery.sftp import SftpDestination, SftpLogin
from demo.servers.openssh import OpensshServer
from demo.servers.sftp import SftpServer
from tests.connectors.contract import Connect, DestinationContract, Stored

Server = SftpServer | OpensshServer


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


def login_of(server: Server, **changes: object) -> SftpLogin:
    values = {
        "host": server.host,
        "port": server.port,
        "username": server.username,
        "private_key_path": str(server.private_key_path),
        "passphrase": server.passphrase,
        "host_key": server.host_key,
    }
    return SftpLogin(**(values | changes))  # type: ignore[arg-type]


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
