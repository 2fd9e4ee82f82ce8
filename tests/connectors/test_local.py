import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data_export.content import Content
from data_export.delivery.local.store import LocalStore, _named
from data_export.errors import AccessDenied, PermanentError, TargetFull, TargetRefused
from tests.connectors.contract import DATA_KEY, Connect, StoreContract, Stored


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "new" / "root"


@pytest.fixture
def link_base_url(root: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class TestLocal(StoreContract):
    @pytest.fixture
    def connect(self, root: Path, link_base_url: str) -> Connect:
        return lambda: LocalStore(root, link_base_url=link_base_url)

    @pytest.fixture
    def stored(self, root: Path) -> Stored:
        return lambda key: (root / key).read_bytes() if (root / key).exists() else None

    async def test_nothing_is_left_beside_the_objects(self, root: Path) -> None:
        async with LocalStore(root) as store:
            await store.create("folder/object", Content.of_bytes(b"x"))
            await store.replace("folder/object", Content.of_bytes(b"y"))
        assert [path.name for path in root.rglob("*")] == ["folder", "object"]

    async def test_no_links_without_a_file_server(self, root: Path) -> None:
        async with LocalStore(root) as store:
            with pytest.raises(PermanentError, match=r"set staging\.uri"):
                await store.sign(DATA_KEY, timedelta(hours=1), "a.json")

    async def test_what_a_killed_process_left_is_unseen_and_removed_a_day_later(self, root: Path) -> None:
        script = (
            "import asyncio, os, sys; from pathlib import Path; from data_export.content import Content\n"
            "from data_export.delivery.local import store\n"
            "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
            "asyncio.run(store.LocalStore(Path(sys.argv[1])).create('a/b', Content.of_bytes(b'x' * 9999)))"
        )
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", script, str(root)], env=environment, check=False)
        assert done.returncode == -9
        (left,) = (root / "a").iterdir()
        async with LocalStore(root) as store:
            assert await store.stat("a/b") is None
            assert [found.key async for found in store.list("")] == []
            await store.create("a/b", Content.of_bytes(b"x"))
            assert left.exists()  # it could be a write under way
            os.utime(left, (time.time() - 25 * 3600,) * 2)
            await store.replace("a/b", Content.of_bytes(b"y"))
        assert not left.exists()

    async def test_symbolic_link_out_of_the_root_is_refused(self, root: Path, tmp_path: Path) -> None:
        async with LocalStore(root) as store:
            (root / "out").symlink_to(tmp_path)
            with pytest.raises(TargetRefused, match="symbolic link"):
                await store.create("out/object", Content.of_bytes(b"x"))

    async def test_file_in_the_place_of_a_folder(self, root: Path) -> None:
        async with LocalStore(root) as store:
            await store.create("a", Content.of_bytes(b"x"))
            with pytest.raises(TargetRefused, match="in the place of a folder"):
                await store.create("a/b", Content.of_bytes(b"x"))

    async def test_names_of_unfinished_files_and_long_names_are_refused(self, root: Path) -> None:
        async with LocalStore(root) as store:
            for key in (".partial-x", "x" * 300):
                with pytest.raises(TargetRefused):
                    await store.create(key, Content.of_bytes(b"x"))

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    async def test_read_only_folder(self, root: Path) -> None:
        async with LocalStore(root) as store:
            root.chmod(0o555)
            with pytest.raises(AccessDenied, match="change its rights"):
                await store.create("a/b", Content.of_bytes(b"x"))

    def test_full_disk(self) -> None:
        with (
            pytest.raises(TargetFull, match="make room"),
            _named("x"),
            Path("/dev/full").open("wb", buffering=0) as file,
        ):
            file.write(b"x")
