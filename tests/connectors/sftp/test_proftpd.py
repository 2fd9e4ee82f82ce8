"""What ProFTPD does with some of its directives."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_export.content import Content, Digests
from data_export.delivery.base import Destination, StoredObject
from data_export.delivery.deliver import deliver
from data_export.delivery.sftp.destination import SftpDestination
from data_export.errors import ObjectExists, ObjectRefused
from demo.servers.foreign import ProftpdServer
from tests.connectors.contract import DATA_KEY, read_all
from tests.connectors.sftp.logins import login_of
from tests.connectors.sftp.unruly import SMALL, left_over


@pytest.fixture
def proftpd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProftpdServer]:
    if not ProftpdServer.installed():
        pytest.skip(f"no proftpd on this machine: install {ProftpdServer.packages} to run these")
    with ProftpdServer(tmp_path, request.param) as server:
        yield server


@pytest.mark.parametrize(
    ("proftpd", "computes"), [("", True), ("SFTPExtensions -checkFile", False)], indirect=["proftpd"]
)
async def test_a_server_that_computes_digests_is_not_read(proftpd: ProftpdServer, computes: bool) -> None:
    reads = []

    async def read(destination: Destination, stored: StoredObject) -> Digests:
        reads.append(stored.key)
        return SMALL.digests

    async with SftpDestination(login_of(proftpd), f"{proftpd.base}target") as destination:
        await destination.create(DATA_KEY, SMALL)
        assert (await deliver(destination, lambda _: DATA_KEY, SMALL, "replace", read=read)).outcome == "unchanged"
        assert reads == ([] if computes else [DATA_KEY])
        other = Content.of_bytes(bytes(SMALL.size))
        if computes:
            assert (await deliver(destination, lambda _: DATA_KEY, other, "replace", read=read)).outcome == "replaced"
            assert not reads
        assert await destination.digest("nothing", 1) is None


@pytest.mark.parametrize("proftpd", ["HiddenStores on"], indirect=True)
async def test_directly_a_second_creator_is_told_where_the_server_opens_what_is_there(proftpd: ProftpdServer) -> None:
    destination = SftpDestination(login_of(proftpd), f"{proftpd.base}target", upload="direct")
    async with destination:
        await destination.create(DATA_KEY, SMALL)
        with pytest.raises(ObjectExists):
            await destination.create(DATA_KEY, Content.of_bytes(b"other"))
        assert await read_all(destination, DATA_KEY) == SMALL.source


@pytest.mark.parametrize("proftpd", ['PathDenyFilter ":"', 'PathAllowFilter "^[a-zA-Z0-9/_.-]+$"'], indirect=True)
@pytest.mark.parametrize("upload", ["rename", "direct"])
async def test_a_filter_of_names_is_not_taken_for_a_missing_right(proftpd: ProftpdServer, upload: Any) -> None:
    async with SftpDestination(login_of(proftpd), f"{proftpd.base}target", upload=upload) as destination:
        with pytest.raises(
            ObjectRefused, match=r"the server refuses this name .*':', which every data file's name has"
        ):
            await destination.create(DATA_KEY, SMALL)
        assert not left_over(proftpd)
