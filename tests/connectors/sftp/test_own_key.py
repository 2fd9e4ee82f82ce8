"""The way of an SFTP customer: `keys new`, the sheet's own line on a real OpenSSH, and a check that finds nothing."""

import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncssh
import pytest

from data_export.check.check import check_target
from data_export.config.platform import load_platform
from data_export.delivery.sftp.destination import SftpDestination
from data_export.handover.contents import Expected, make_sheet
from data_export.handover.key_pair import make_key_pair
from data_export.handover.render import markdown
from data_export.window import ExportWindow
from demo.servers.openssh import OpensshServer
from tests.connectors.sftp.logins import login_of
from tests.customers import export

DAY = datetime(2025, 3, 16, tzinfo=UTC)
pytestmark = pytest.mark.skipif(not OpensshServer.installed(), reason="OpenSSH's server is not installed")


class PlainServer(OpensshServer):
    """One that lets a user do whatever the key's own line allows."""

    allowed = ""

    def _write_config(self) -> Path:
        config = super()._write_config()
        config.write_text(re.sub(r"(?m)^(ForceCommand|ChrootDirectory).*$", "", config.read_text()))
        self.keys.client_key_path.with_name("authorized_keys").write_text(self.allowed)
        return config


async def test_the_line_of_the_sheet_lets_files_in_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_KEYS_DIR", str(tmp_path / "ours"))
    key = make_key_pair(tmp_path / "ours", "acme")
    server = PlainServer(tmp_path / "theirs")
    config = {
        "sftp_host": server.host,
        "sftp_port": server.port,
        "sftp_username": server.username,
        "sftp_private_key_path": "/opt/airflow/keys/acme",
        "sftp_host_key": server.host_key,
        "sftp_remote_path": f"{server.root}/exports",
        "export_images": True,
    }
    given = export(connector_type="sftp", connector_config=config)
    expected = [Expected(ExportWindow(DAY, DAY + timedelta(days=1)), None)]
    text = markdown(make_sheet("acme", given, load_platform(), expected, DAY, "duckdb"))
    (echo,) = re.findall(r"^(echo .*) >> ", text, re.MULTILINE)
    server.allowed = subprocess.run(["sh", "-c", echo], capture_output=True, text=True, check=True).stdout
    with server:
        login = login_of(server, private_key_path=str(key.path), passphrase=None)
        async with SftpDestination(login, f"{server.root}/exports") as target:
            assert await target.stat("nothing") is None
        options = {"known_hosts": None, "config": None, "agent_path": None, "client_keys": [str(key.path)]}
        async with asyncssh.connect(server.host, server.port, username=server.username, **options) as connection:
            assert "uid=" not in str((await connection.run("id", input="", timeout=10)).stdout)
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_connection("127.0.0.1", server.port)


def test_the_check_finds_nothing_then(tmp_path: Path) -> None:
    key = make_key_pair(tmp_path / "ours", "acme")
    server = PlainServer(tmp_path / "theirs")
    server.allowed = f'restrict,command="internal-sftp" {key.public}\n'
    with server:
        login = login_of(server, private_key_path=str(key.path), passphrase=None)
        results = check_target(SftpDestination(login, f"{server.root}/exports"))
    assert [one for one in results if not one.ok] == []
