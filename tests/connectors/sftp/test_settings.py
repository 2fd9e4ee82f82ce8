"""What a customer file says of an SFTP server is what the connector does."""

import asyncio
from typing import Any

import asyncssh
import pytest

from data_export.config.models import EXPORTS
from data_export.config.platform import PlatformSettings
from data_export.delivery.base import Destination
from data_export.errors import VerificationFailed
from data_export_airflow.connections.clients import destination
from demo.servers.sftp import SftpServer
from tests.connectors.contract import DATA_KEY, SITE
from tests.connectors.sftp.unruly import SMALL, Unruly
from tests.connectors.tcp_proxy import TcpProxy


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, server: SftpServer) -> dict[str, Any]:
    monkeypatch.setenv("DATA_EXPORT_SECRET_SFTP", server.passphrase)
    return {
        "sftp_host": server.host,
        "sftp_port": server.port,
        "sftp_username": server.username,
        "sftp_private_key_path": str(server.private_key_path),
        "sftp_private_key_passphrase": "env:DATA_EXPORT_SECRET_SFTP",
        "sftp_host_key": server.host_key,
        "sftp_remote_path": "/target",
        "export_images": True,
    }


def opened(settings: dict[str, Any], **sftp: object) -> Destination:
    export = {
        "site_id": [str(SITE)],
        "export_type": "work-orders-timeline",
        "interval": "daily",
        "start_date": "2025-03-16",
        "connector_type": "sftp",
        "connector_config": settings | sftp,
    }
    return destination("customer", EXPORTS["sftp"].model_validate(export), PlatformSettings())


async def test_verify(settings: dict[str, Any], unruly: type[Unruly]) -> None:
    unruly.flips_bits = True
    async with opened(settings) as by_size:
        await by_size.create(DATA_KEY, SMALL)
    async with opened(settings, verify="read-back") as by_content:
        with pytest.raises(VerificationFailed, match="not what was sent"):
            await by_content.replace(DATA_KEY, SMALL)


async def test_sftp_upload(settings: dict[str, Any], unruly: type[Unruly]) -> None:
    unruly.refused = {"rename": asyncssh.SFTPPermissionDenied("no")}
    async with opened(settings, sftp_upload="direct") as target:
        await target.create(DATA_KEY, SMALL)


async def test_max_connections(settings: dict[str, Any], server: SftpServer) -> None:
    async with TcpProxy(server.port) as proxy:
        async with opened(settings, sftp_port=proxy.port, max_connections=3) as target:
            await asyncio.gather(*(target.create(f"{number}.png", SMALL) for number in range(64)))
        assert proxy.most == 3
