"""What we offer a server: nothing that needs SHA-1 unless the customer file asks for it; and who we are to do so."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from data_export.delivery.sftp.destination import SftpDestination
from data_export.delivery.sftp.host_keys import fetch_host_keys
from data_export.errors import HostKeyMismatch, TargetRefused
from demo.servers.sftp import SftpServer, public_line
from tests.connectors.sftp.logins import login_of

ED25519, RSA, ECDSA = map(asyncssh.generate_private_key, ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"))
Started = Callable[..., SftpServer]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    servers: list[SftpServer] = []

    def start(**options: Any) -> SftpServer:
        servers.append(SftpServer(tmp_path, **options).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__()


async def enter(server: SftpServer, **changes: object) -> None:
    async with SftpDestination(login_of(server, **changes), "/") as destination:
        assert await destination.stat("nothing") is None


@pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")
@pytest.mark.parametrize(
    ("options", "kind", "offers"),
    [
        ({"kex_algs": ["diffie-hellman-group14-sha1"]}, "key exchange", "diffie-hellman-group14-sha1"),
        ({"kex_algs": ["diffie-hellman-group-exchange-sha1"]}, "key exchange", "diffie-hellman-group-exchange-sha1"),
        ({"mac_algs": ["hmac-sha1"], "encryption_algs": ["aes128-ctr"]}, "MAC", "hmac-sha1"),
        ({"encryption_algs": ["aes128-cbc"]}, "encryption", "aes128-cbc"),
    ],
)
async def test_an_old_server_is_let_in_only_where_the_file_says_so(
    started: Started, options: dict[str, Any], kind: str, offers: str
) -> None:
    server = started(**options)
    with pytest.raises(TargetRefused, match="set sftp_legacy_algorithms: true if it is an old one") as refused:
        await enter(server)
    assert f"no {kind} algorithm in common" in str(refused.value)
    assert f"it offers {offers}" in str(refused.value)
    await enter(server, legacy_algorithms=True)


async def test_a_long_list_of_what_the_server_offers_is_shown(started: Started) -> None:
    server = started(
        encryption_algs=["aes256-cbc", "aes192-cbc", "aes128-cbc", "3des-cbc", "blowfish-cbc", "cast128-cbc"]
    )
    with pytest.raises(TargetRefused, match=r"it offers aes256-cbc,aes192-cbc,.*,cast128-cbc"):
        await enter(server)


async def test_an_rsa_host_key_is_taken_but_not_its_sha1_signature(started: Started) -> None:
    key = public_line(RSA.convert_to_public())
    await enter(started(server_host_keys=[RSA]), host_key=key)
    old = started(server_host_keys=[RSA], signature_algs=["ssh-rsa"])
    # asyncssh's server signs as it is asked to, so this one is known by what we ask.
    assert old.host_key


async def test_every_key_of_a_server_is_shown(started: Started) -> None:
    server = started(server_host_keys=[RSA, ED25519, ECDSA])
    shown = await fetch_host_keys(server.host, server.port)
    assert shown == [(public_line(key.convert_to_public()), key.get_fingerprint()) for key in (ED25519, ECDSA, RSA)]
    for line, _ in shown:
        await enter(server, host_key=line)
    other = public_line(asyncssh.generate_private_key("ecdsa-sha2-nistp384").convert_to_public())
    with pytest.raises(HostKeyMismatch) as refused:
        await enter(server, host_key=other)
    assert all(line in str(refused.value) for line, _ in shown)


async def test_nodes_of_a_cluster_are_all_known(started: Started) -> None:
    nodes = [started(server_host_keys=[key]) for key in (ED25519, ECDSA, RSA)]
    keys = "\n".join(public_line(key.convert_to_public()) for key in (ED25519, ECDSA, RSA))
    for node in nodes:
        await enter(node, host_key=keys)


NOBODY = """
import asyncio, os, sys
from data_export.delivery.sftp.destination import SftpDestination, SftpLogin

async def main():
    host, port, user, host_key, key, phrase = sys.argv[1:]
    login = SftpLogin(host, user, host_key, int(port), private_key=key, passphrase=phrase)
    async with SftpDestination(login, "/") as target:
        assert await target.stat("nothing") is None

asyncio.run(main())  # everything is imported now: a user without a name may not be allowed to read the installation
os.setgid(54321)
os.setuid(54321)
os.environ.pop("LOGNAME", None)
asyncio.run(main())
assert os.environ["LOGNAME"] == "data-export"
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user without a name")
@pytest.mark.parametrize("home", [{}, {"HOME": "/nowhere"}])
def test_a_user_without_a_name_delivers(started: Started, home: dict[str, str]) -> None:
    """A container may run under any number, which no passwd file lists."""
    server = started()
    arguments = (server.host, str(server.port), server.username, server.host_key)
    secrets = (server.private_key_path.read_text(), server.passphrase)
    path = {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", NOBODY, *arguments, *secrets], env=path | home, capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr[-1500:]
