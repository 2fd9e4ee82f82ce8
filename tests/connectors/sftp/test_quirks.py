"""What SFTP servers do in their own way, which none of the tests' own servers does by itself."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncssh
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_export.content import Content, Digests
from data_export.delivery.base import Destination
from data_export.delivery.deliver import deliver
from data_export.delivery.local.store import LocalStore
from data_export.delivery.sftp import leftovers, transfer
from data_export.delivery.sftp.destination import SftpDestination
from data_export.delivery.sftp.errors import TooManyAtOnce
from data_export.errors import (
    AccessDenied,
    ObjectExists,
    ObjectRefused,
    TargetFull,
    TargetRefused,
    TargetUnavailable,
    VerificationFailed,
)
from data_export.images import copy_images
from demo.servers.foreign import ProftpdServer
from demo.servers.openssh import OpensshServer
from demo.servers.sftp import SftpServer
from tests.connectors.contract import DATA_KEY, SITE, read_all
from tests.connectors.kill_kit import SOURCE_KEY
from tests.connectors.sftp.logins import Server, login_of
from tests.connectors.sftp.test_contract import SftpContract
from tests.connectors.sftp.unruly import SMALL, Unruly, left_over, target


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_LATE_SECONDS", (0.05, 0.1, 0.2))


class FailureForMissing(asyncssh.SFTPServer):
    """Answers "Failure" where the protocol has "no such file"."""

    def __getattribute__(self, name: str) -> object:
        found = super().__getattribute__(name)
        if name not in ("stat", "lstat", "open", "remove", "rename", "posix_rename", "mkdir", "rmdir", "scandir"):
            return found

        def failing(*args: object) -> object:
            try:
                return found(*args)
            except (FileNotFoundError, asyncssh.SFTPNoSuchFile):
                raise asyncssh.SFTPFailure("Failure") from None

        return failing


class TestFailureForMissing(SftpContract):
    big_bytes = 1 << 20
    many = 30

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with SftpServer(tmp_path_factory.mktemp("failure"), sftp=FailureForMissing) as server:
            yield server


NO = [asyncssh.SFTPPermissionDenied("no"), asyncssh.SFTPFailure("no"), asyncssh.SFTPNoSuchFile("no")]


@pytest.mark.parametrize("refusal", [*NO, asyncssh.SFTPBadMessage("no"), asyncssh.SFTPInvalidFilename("no")])
async def test_a_server_that_refuses_names_with_a_dot(
    server: SftpServer, unruly: type[Unruly], place: Path, refusal: Exception
) -> None:
    def no_dots(self: Unruly, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if path.rpartition(b"/")[2].startswith(b".") and pflags & asyncssh.FXF_WRITE:
            raise refusal
        return Unruly.open(self, path, pflags, attrs)

    unruly.open = no_dots  # type: ignore[method-assign] # the fault
    async with target(server) as destination:
        for write in (destination.create, destination.replace):
            with pytest.raises(TargetRefused, match=r"begin with a dot.*`sftp_upload: direct`"):
                await write(DATA_KEY, SMALL)
    assert not [path for path in server.root.rglob("*") if path.is_file()]
    async with target(server, upload="direct") as destination:
        await destination.create(DATA_KEY, SMALL)
    assert place.read_bytes() == SMALL.source


@pytest.mark.parametrize("refusal", [asyncssh.SFTPFailure("Invalid argument"), asyncssh.SFTPPermissionDenied("no")])
async def test_a_server_that_cannot_sync(server: SftpServer, unruly: type[Unruly], refusal: Exception) -> None:
    asked = []

    def fsync(_self: Unruly, _file: object) -> None:
        asked.append(1)
        raise refusal

    unruly.fsync = fsync  # type: ignore[method-assign,assignment] # the fault
    async with target(server) as destination:
        for key in ("a", "b", DATA_KEY):
            await destination.create(key, SMALL)
        assert len(asked) == 1
    unruly.full = True
    async with target(server) as destination:
        if type(refusal) is asyncssh.SFTPFailure:
            with pytest.raises(TargetFull):
                await destination.create("c", SMALL)


class TestDropBox:
    @pytest.fixture
    def handed_over(self, unruly: type[Unruly]) -> list[bytes]:
        taken: list[bytes] = []

        def close(self: Unruly, file_obj: object) -> None:
            name = file_obj.name  # type: ignore[attr-defined] # a plain file
            writes = file_obj.writable()  # type: ignore[attr-defined]
            asyncssh.SFTPServer.close(self, file_obj)
            if writes:
                taken.append(name)
                Path(name.decode()).unlink()

        unruly.close = close  # type: ignore[method-assign,assignment] # the drop box
        return taken

    @pytest.mark.parametrize("upload", ["rename", "direct"])
    async def test_it_is_handed_a_file_once_and_the_fix_is_named(
        self, server: SftpServer, handed_over: list[bytes], upload: str
    ) -> None:
        async with target(server, upload=upload) as destination:
            with pytest.raises(TargetRefused, match="for a drop box set `sftp_upload: direct` and `verify: none`"):
                await deliver(destination, lambda _: DATA_KEY, SMALL, "replace")
        assert len(handed_over) == 1

    async def test_unverified_it_gets_every_file_once(self, server: SftpServer, handed_over: list[bytes]) -> None:
        async with target(server, upload="direct", verify="none") as destination:
            for key in (DATA_KEY, "second", DATA_KEY):
                assert (await deliver(destination, lambda _, key=key: key, SMALL, "replace")).outcome == "created"
        assert [name.decode().rpartition("/")[2] for name in handed_over] == [
            DATA_KEY.rpartition("/")[2],
            "second",
            DATA_KEY.rpartition("/")[2],
        ]

    async def test_unverified_a_block_that_is_refused_fails(self, server: SftpServer, unruly: type[Unruly]) -> None:
        unruly.refused = {"block": asyncssh.SFTPFailure("Failure")}
        async with target(server, upload="direct", verify="none") as destination:
            with pytest.raises(TargetUnavailable):
                await destination.create(DATA_KEY, SMALL)

    @pytest.mark.parametrize("verify", ["size", "read-back"])
    @pytest.mark.parametrize("moved", [False, True])
    async def test_one_that_takes_the_file_a_little_later_is_known_too(
        self, server: SftpServer, unruly: type[Unruly], monkeypatch: pytest.MonkeyPatch, verify: Any, moved: bool
    ) -> None:
        """Away, or to another name, between our look and the rename or the reading."""
        monkeypatch.setattr(leftovers, "_SWAP_SECONDS", 0.01)
        taken = []

        def stat(self: Unruly, path: bytes) -> asyncssh.SFTPAttrs:
            found = Unruly.stat(self, path)
            if path.endswith(b".tmp"):
                taken.append(path)
                file = Path(self.map_path(path).decode())
                file.rename(f"{file}.received") if moved else file.unlink()
            return found

        unruly.stat = stat  # type: ignore[method-assign] # the drop box
        async with target(server, verify=verify) as destination:
            with pytest.raises(TargetRefused, match="for a drop box set"):
                await deliver(destination, lambda _: DATA_KEY, SMALL, "replace")
        assert len(taken) == 1


LATE = ["not there yet", "empty at first", "without a size", "empty for ever", "never whole"]


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("upload", ["rename", "direct"])
async def test_what_a_server_says_of_a_new_file_may_come_late(
    server: SftpServer, unruly: type[Unruly], late: str, upload: str
) -> None:
    looks: dict[bytes, int] = {}

    def stat(self: Unruly, path: bytes) -> asyncssh.SFTPAttrs:
        found = Unruly.stat(self, path)
        if found.type != asyncssh.FILEXFER_TYPE_REGULAR or not found.size:
            return found
        looks[path] = looks.get(path, 0) + 1
        if late == "without a size":
            return asyncssh.SFTPAttrs(type=found.type, mtime=found.mtime, atime=found.mtime)
        if looks[path] < 3 or late in ("empty for ever", "never whole"):
            if late == "not there yet":
                raise asyncssh.SFTPNoSuchFile("no")
            size = int(late == "never whole")
            return asyncssh.SFTPAttrs(size=size, type=found.type, mtime=found.mtime, atime=found.mtime)
        return found

    unruly.stat = stat  # type: ignore[method-assign] # the fault
    async with target(server, upload=upload) as destination:
        if late == "never whole":
            with pytest.raises(VerificationFailed, match="changes files as it takes them"):
                await destination.create(DATA_KEY, SMALL)
            return
        assert (await destination.create(DATA_KEY, SMALL)).digests.size == SMALL.size
        await asyncio.sleep(0)
        for _ in range(3):
            found = await destination.stat(DATA_KEY)
        assert found is not None
        assert found.digests.size == SMALL.size
        assert (await deliver(destination, lambda _: DATA_KEY, SMALL, "replace")).outcome == "unchanged"


@pytest.mark.parametrize("size", [None, 0])
async def test_a_size_that_is_not_known_does_not_hide_a_cut_file(
    server: SftpServer, unruly: type[Unruly], size: int | None
) -> None:
    def stat(self: Unruly, path: bytes) -> asyncssh.SFTPAttrs:
        found = Unruly.stat(self, path)
        return asyncssh.SFTPAttrs(size=size, type=found.type, mtime=found.mtime, atime=found.mtime)

    unruly.stat, unruly.lost_after = stat, 0  # type: ignore[method-assign] # the fault
    async with target(server) as destination:
        with pytest.raises(VerificationFailed):
            await destination.create(DATA_KEY, SMALL)


class TestLimits:
    """Of files that are open at once, which servers tell in their own words, or not at all."""

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
        refused = self.limit(unruly, 4, refusal)
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
        self.limit(unruly, 0, asyncssh.SFTPPermissionDenied("maximum concurrent transfers exceeded"))
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
        refused = self.limit(unruly, 3, asyncssh.SFTPFailure("Failure"))
        async with target(server, connections=4, concurrency=3) as destination:
            await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(50)))
        assert not refused

    async def test_of_reading(self, server: SftpServer, unruly: type[Unruly]) -> None:
        async with target(server) as destination:
            await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(30)))
        unruly.write_seconds = 0
        for refusal in (asyncssh.SFTPFailure("Failure"), asyncssh.SFTPPermissionDenied("too many open files")):
            refused = self.limit(unruly, 4, refusal)
            async with target(server, concurrency=16) as destination:
                found = await asyncio.gather(*(read_all(destination, f"{number}.png") for number in range(30)))
            assert set(found) == {SMALL.source}
            assert refused

    @staticmethod
    def limit(unruly: type[Unruly], most: int, refusal: asyncssh.SFTPError) -> list[bytes]:
        opened, refused = [0], []

        def open_few(self: Unruly, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
            if opened[0] >= most:
                refused.append(path)
                raise refusal
            file = Unruly.open(self, path, pflags, attrs)
            opened[0] += 1
            return file

        def close(self: Unruly, file_obj: object) -> None:
            opened[0] -= 1
            asyncssh.SFTPServer.close(self, file_obj)

        unruly.write_seconds = 0.002
        unruly.open, unruly.close = open_few, close  # type: ignore[method-assign,assignment] # the limit
        return refused

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

    async def read(destination: Destination, key: str) -> Digests:
        reads.append(key)
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


async def test_a_connection_that_ends_every_25_files_is_resumed(
    server: SftpServer, unruly: type[Unruly], tmp_path: Path
) -> None:
    files: dict[int, int] = {}

    def opened(self: Unruly, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        connection = self.channel.get_connection()
        files[id(self)] = files.get(id(self), 0) + 1
        if files[id(self)] > 25:
            connection.abort()
            raise asyncssh.SFTPConnectionLost("enough")
        return Unruly.open(self, path, pflags, attrs)

    unruly.open = opened  # type: ignore[method-assign] # the fault
    ids = [str(UUID(int=number)) for number in range(120)]
    listed = tmp_path / "images.parquet"
    pq.write_table(pa.table({"input_id": ids, "file_extension": [".png"] * len(ids)}), listed)
    for input_id in ids:
        path = tmp_path / "images" / SOURCE_KEY(input_id, ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(input_id.encode())
    async with LocalStore(tmp_path / "images") as source, target(server) as destination:
        copied = await copy_images(
            listed, site_id=SITE, source=source, source_key=SOURCE_KEY, destination=destination, last_try=False
        )
    assert copied.copied + copied.already_there == 120
    for path in left_over(server):  # what the server made of a request after its connection had ended
        os.utime(path, (0, 0))
    async with target(server) as destination:
        await destination.create(f"{SITE}/inputs/later.png", SMALL)
    assert not left_over(server)
