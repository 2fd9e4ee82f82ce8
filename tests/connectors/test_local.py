import asyncio
import errno
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from data_export.content import Content
from data_export.delivery.local import store as local_store
from data_export.delivery.local.store import LocalStore
from data_export.errors import (
    AccessDenied,
    DataExportError,
    ObjectRefused,
    PermanentError,
    TargetFull,
    TargetRefused,
    TargetUnavailable,
    os_errors_of,
)
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


@pytest.mark.parametrize("replace", [False, True])
async def test_a_folder_that_is_removed_as_empty_before_its_first_file_is_there_is_made_at_the_next_try(
    root: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    """Another process tidies the target; to say that the target is gone would end the run for good."""

    def between(partial: Path, chunks: Iterator[bytes]) -> Any:
        partial.parent.rmdir()
        return write(partial, chunks)

    write = local_store._write
    content = Content.of_bytes(b"x")
    async with LocalStore(root) as store:
        put = store.replace if replace else store.create
        with monkeypatch.context() as tidied:
            tidied.setattr(local_store, "_write", between)
            with pytest.raises(TargetUnavailable, match="was removed as an empty folder meanwhile: try again"):
                await put("site/data/a.json", content)
        await put("site/data/a.json", content)


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

    async def test_empty_folders_of_staging_go_a_day_later(self, root: Path) -> None:
        key, kept = "runs/acme/window/site/inputs/image.jpg", "runs/acme/other/site/data.json"
        async with LocalStore(root) as store:
            for one in (key, kept):
                await store.create(one, Content.of_bytes(b"x"))
            await store.delete(key)
            (root / "lost+found").mkdir()
            for path in root.rglob("*"):
                os.utime(path, (time.time() - 49 * 3600,) * 2)
            (root / "runs" / "acme" / "young").mkdir()
            os.utime(root / "runs" / "acme", (time.time() - 49 * 3600,) * 2)
            assert await store.tidy(["runs"]) == 0
            assert (root / key).parent.is_dir()  # not all of the store: as a target's, it may be a customer's
            assert await store.tidy([""]) == 0
            assert {path.name for path in (root / "runs" / "acme").iterdir()} == {"other", "young"}
            await store.delete(kept)
            for path in (root / "runs").rglob("*"):
                os.utime(path, (time.time() - 49 * 3600,) * 2)
            await store.tidy([""])
        assert [*(root / "runs").iterdir()] == []
        assert (root / "lost+found").is_dir()

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

    async def test_a_pipe_is_refused_and_waited_for_by_nobody(self, root: Path) -> None:
        async with LocalStore(root) as store:
            os.mkfifo(root / "pipe")
            async with asyncio.timeout(2):
                for look in (store.stat, store.glance, lambda key: anext(store.read(key))):
                    with pytest.raises(ObjectRefused, match="a folder, a pipe or a device"):
                        await look("pipe")
                assert [found.key async for found in store.list("")] == ["pipe"]  # so that it can be removed
                await store.delete("pipe")

    async def test_a_link_to_itself(self, root: Path) -> None:
        async with LocalStore(root) as store:
            (root / "loop").symlink_to(root / "loop")
            for key in ("loop/object", "loop"):
                with pytest.raises(DataExportError):
                    await store.stat(key)

    @pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK])
    async def test_a_file_system_without_hard_links(
        self, root: Path, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(Path, "hardlink_to", refuse)
        async with LocalStore(root) as store:
            with pytest.raises(TargetRefused, match="this file system makes no hard links"):
                await store.create("a", Content.of_bytes(b"x"))
            assert [*root.iterdir()] == []

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EINVAL])
    async def test_a_folder_that_cannot_be_synced_has_its_file(
        self, root: Path, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened, synced = os.open, os.fsync

        def is_folder(descriptor: int) -> bool:
            return stat.S_ISDIR(os.fstat(descriptor).st_mode)

        def refuse_open(path: Any, *flags: Any, **more: Any) -> int:
            if number == errno.EACCES and path == root / "a":
                raise PermissionError(number, os.strerror(number))
            return opened(path, *flags, **more)

        def refuse_sync(descriptor: int) -> None:
            if number == errno.EINVAL and is_folder(descriptor):
                raise OSError(number, os.strerror(number))
            synced(descriptor)

        monkeypatch.setattr(os, "open", refuse_open)
        monkeypatch.setattr(os, "fsync", refuse_sync)
        async with LocalStore(root) as store:
            await store.create("a/b", Content.of_bytes(b"x"))
            assert (root / "a" / "b").read_bytes() == b"x"

    @pytest.mark.skipif(os.geteuid() != 0, reason="who is not root cannot be somebody else")
    def test_what_may_not_be_read_is_not_nothing(self, root: Path) -> None:
        """As another user, in a process of its own, with folders that only root may enter."""
        (root / "open" / "closed").mkdir(parents=True)
        (root / "open" / "closed" / "object").write_text("x")
        (root / "open" / "closed").chmod(0o700)
        script = (
            "import asyncio, os, sys; from pathlib import Path; from data_export.content import Content\n"
            "from data_export.delivery.local.store import LocalStore; from data_export.errors import AccessDenied\n"
            "store, key, one = LocalStore(Path(sys.argv[1])), 'open/closed/object', Content.of_bytes(b'y')\n"
            "async def listed(): return [found async for found in store.list('')]\n"
            "async def held():\n"
            "    async with store.folder_for_a_while('open/closed/deep'): pass\n"
            "stat, glance = (lambda: store.stat(key)), (lambda: store.glance(key))\n"
            "create = lambda: store.create(key, one)\n"
            "import concurrent.futures.thread; os.setuid(65534)\n"
            "for ask in (stat, glance, create, listed, held):\n"
            "    try: print(asyncio.run(ask()))\n"
            "    except AccessDenied: print('denied')\n"
        )
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        run = [sys.executable, "-c", script, str(root)]
        done = subprocess.run(run, env=environment, check=False, capture_output=True, text=True)
        assert done.stdout.split() == ["denied"] * 5, done.stderr

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
            os_errors_of("x"),
            Path("/dev/full").open("wb", buffering=0) as file,
        ):
            file.write(b"x")
