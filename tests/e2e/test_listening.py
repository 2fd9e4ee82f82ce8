"""`make up` is for this machine alone."""

import os
from collections.abc import Iterable

import psutil
import pytest

from demo.guard import members
from demo.session import Session

pytestmark = pytest.mark.e2e
LOOPBACK = ("127.", "::1", "::ffff:127.")


def listening(processes: Iterable[int]) -> dict[str, str]:
    """Address and port of each listening socket, with the process's command line."""
    found = {}
    for number in processes:
        process = psutil.Process(number)
        for socket in process.net_connections("inet"):
            if socket.status == psutil.CONN_LISTEN:
                found["{}:{}".format(*socket.laddr)] = " ".join(process.cmdline())[:100]
    return found


def test_nothing_listens_to_other_machines(session: Session) -> None:
    """Airflow's components, its log servers included, and all servers of the platform, most of them in this process."""
    postmaster = int((session.platform.postgres.data / "postmaster.pid").read_text().split()[0])
    azurite = [session.platform.abfs.pid] if session.platform.abfs else []
    found = listening([os.getpid(), postmaster, *azurite, *members(session.airflow.processes().values())])
    servers = session.platform
    ports = {server.port for server in (servers.postgres, servers.gcs, servers.s3, servers.sftp, servers.smtp)}
    ports |= {servers.abfs.port} if servers.abfs else set()
    ports.add(int(session.airflow.url.rpartition(":")[2]))
    assert ports <= {int(address.rpartition(":")[2]) for address in found}
    assert {address: line for address, line in found.items() if not address.startswith(LOOPBACK)} == {}
