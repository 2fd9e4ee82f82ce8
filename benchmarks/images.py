"""Seconds to deliver many images over SFTP, beside the tools that people use for it.

    PYTHONPATH=plugins python -m benchmarks.images [--images 5000] [--bytes 102400] [--rtt-ms 0]

Every contender sends the same local files to a folder of its own on one server, then again, when nothing has changed.
Seconds are those of the whole process. What arrived is counted and compared in size; a contender that is not installed
is named. The server is OpenSSH where it is installed; `--rtt-ms` puts a network of that round trip before it.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from uuid import UUID

from demo.servers.loop_thread import LoopThread
from demo.servers.openssh import OpensshServer
from demo.servers.sftp import SftpServer

SITE = UUID("433a60f6-9756-473e-b1e9-9e89e24bb787")
Server = OpensshServer | SftpServer


@dataclass(frozen=True)
class Work:
    """What every contender gets: files in `<images>/<site>/inputs/`, a server, a key without passphrase."""

    images: Path
    listed: Path
    server: Server
    port: int
    key: Path
    known_hosts: Path

    @property
    def ssh(self) -> str:
        return f"-i {self.key} -o UserKnownHostsFile={self.known_hosts} -o StrictHostKeyChecking=yes"


def ours(work: Work, target: str) -> list[str]:
    arguments = (work.images, work.listed, work.port, work.server.username, work.key, work.server.host_key, target)
    return [sys.executable, "-m", "benchmarks.images", "--ours", *map(str, arguments)]


def rclone(work: Work, target: str) -> list[str]:
    return [
        *("rclone", "copy", f"{work.images}/{SITE}/inputs", f":sftp:{target}/{SITE}/inputs", "--config="),
        *(f"--sftp-host={work.server.host}", f"--sftp-port={work.port}", f"--sftp-user={work.server.username}"),
        *(f"--sftp-key-file={work.key}", f"--sftp-known-hosts-file={work.known_hosts}", "--sftp-shell-type=none"),
        *("--transfers=32", "--checkers=32", "--sftp-disable-hashcheck"),
    ]


def lftp(work: Work, target: str) -> list[str]:
    return [
        *("lftp", "-c"),
        f'set sftp:connect-program "ssh -a -x {work.ssh}"; set cmd:fail-exit yes; '
        f"open -u {work.server.username}, sftp://{work.server.host}:{work.port}; "
        f"mirror --reverse --parallel=8 {work.images}/{SITE}/inputs {target}/{SITE}/inputs",
    ]


def sftp(work: Work, target: str) -> list[str]:
    batch = work.images.with_name("batch")
    folders = "".join(f"-mkdir {folder}\n" for folder in (target, f"{target}/{SITE}", f"{target}/{SITE}/inputs"))
    batch.write_text(f"{folders}put {work.images}/{SITE}/inputs/* {target}/{SITE}/inputs/\n")
    address = f"{work.server.username}@{work.server.host}"
    return ["sftp", *work.ssh.split(), "-P", str(work.port), "-q", "-b", str(batch), address]


def paramiko(work: Work, target: str) -> list[str]:
    program = """
import os, paramiko, sys
host, port, user, key, known_hosts, images, target = sys.argv[1:]
with paramiko.SSHClient() as client:
    client.load_host_keys(known_hosts)
    client.connect(host, int(port), user, key_filename=key, allow_agent=False, look_for_keys=False)
    sftp, path = client.open_sftp(), ""
    for part in target.strip("/").split("/"):
        path += "/" + part
        try: sftp.mkdir(path)
        except OSError: pass
    for name in os.listdir(images):
        sftp.put(f"{images}/{name}", f"{target}/{name}")
"""
    where = (f"{work.images}/{SITE}/inputs", f"{target}/{SITE}/inputs")
    login = (work.server.host, work.port, work.server.username, work.key, work.known_hosts)
    return [sys.executable, "-c", program, *map(str, (*login, *where))]


CONTENDERS: dict[str, Callable[[Work, str], list[str]]] = {
    "this service": ours,
    "rclone": rclone,
    "lftp": lftp,
    "sftp -b": sftp,
    "paramiko, one by one": paramiko,
}


async def copy(images: str, listed: str, port: str, username: str, key: str, host_key: str, target: str) -> None:
    """What the `copy_images` task does."""
    from data_export.delivery.local.store import LocalStore
    from data_export.delivery.sftp.destination import SftpDestination, SftpLogin
    from data_export.images import copy_images, source_key_of

    login = SftpLogin("127.0.0.1", username, host_key, int(port), private_key_path=key)
    async with LocalStore(Path(images)) as source, SftpDestination(login, target, connections=4) as destination:
        copied = await copy_images(
            Path(listed),
            site_id=SITE,
            source=source,
            source_key=source_key_of("{site_id}/inputs/{input_id}{file_extension}", SITE),
            destination=destination,
        )
    print(copied)


@contextmanager
def far_away(port: int, rtt: float) -> Iterator[int]:
    """A port that leads to `port` over a network with a round trip of `rtt` seconds and no limit of bandwidth."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while chunk := await reader.read(1 << 16):
            loop.call_later(rtt / 2, writer.write, chunk)
        loop.call_later(rtt / 2, writer.close)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(asyncio.CancelledError, OSError):
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(connect, "127.0.0.1", 0)

    thread = LoopThread("network")
    yield thread.run(listen()).sockets[0].getsockname()[1]
    thread.close()


def prepare(folder: Path, server: Server, port: int, count: int, size: int) -> Work:
    import asyncssh
    import pyarrow as pa
    import pyarrow.parquet as pq

    inputs, random = folder / "images" / str(SITE) / "inputs", Random(1)
    inputs.mkdir(parents=True)
    ids = [str(UUID(int=random.getrandbits(128), version=4)) for _ in range(count)]
    for input_id in ids:
        (inputs / f"{input_id}.png").write_bytes(random.randbytes(size))
    listed = folder / "images.parquet"
    pq.write_table(pa.table({"input_id": ids, "file_extension": [".png"] * count}), listed)
    key, known_hosts = folder / "key", folder / "known_hosts"
    asyncssh.read_private_key(server.private_key_path, server.passphrase).write_private_key(key)
    key.chmod(0o600)
    known_hosts.write_text(f"[{server.host}]:{port} {server.host_key}\n")
    return Work(folder / "images", listed, server, port, key, known_hosts)


def run(command: list[str]) -> tuple[float, float]:
    """Seconds by the clock, and of the client's CPU."""
    began, used = time.perf_counter(), os.times()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"})
    if done.returncode:
        sys.exit(f"{command[0]} failed: {(done.stderr or done.stdout)[-2000:]}")
    now = os.times()
    cpu = now.children_user + now.children_system - used.children_user - used.children_system
    return time.perf_counter() - began, cpu


def check(folder: Path, count: int, size: int) -> None:
    sizes = [path.stat().st_size for path in folder.rglob("*.png")]
    if sizes != [size] * count:
        sys.exit(f"{folder}: {len(sizes)} of {count} images arrived whole")


def race(work: Work, count: int, size: int) -> None:
    reference: list[float] = []
    print(f"{'':22}{'first s':>9}{'ratio':>7}{'CPU s':>7}{'MB/s':>8}{'again s':>9}{'ratio':>7}")
    for number, (name, command) in enumerate(CONTENDERS.items()):
        folder = f"target-{number}"
        arguments = command(work, f"{work.server.base}{folder}")
        if shutil.which(arguments[0]) is None:
            print(f"{name:22}  not installed")
            continue
        (first, cpu), (again, _) = run(arguments), run(arguments)
        check(work.server.root / folder, count, size)
        shutil.rmtree(work.server.root / folder)
        reference = reference or [first, again]
        print(
            f"{name:22}{first:9.1f}{first / reference[0]:7.2f}{cpu:7.1f}{count * size / first / 1e6:8.1f}"
            f"{again:9.1f}{again / reference[1]:7.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--bytes", type=int, default=100 << 10)
    parser.add_argument("--rtt-ms", type=float, default=0)
    options = parser.parse_args()
    kind = OpensshServer if OpensshServer.installed() else SftpServer
    with tempfile.TemporaryDirectory() as name, kind(Path(name) / "server") as server:
        print(
            f"{options.images:,} images of {options.bytes:,} bytes, {kind.__name__}, {options.rtt_ms:g} ms round trip"
        )
        with far_away(server.port, options.rtt_ms / 1000) as port:
            port = port if options.rtt_ms else server.port
            race(prepare(Path(name), server, port, options.images, options.bytes), options.images, options.bytes)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        asyncio.run(copy(*sys.argv[2:]))
    else:
        main()
