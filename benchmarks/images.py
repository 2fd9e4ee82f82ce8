"""Seconds to deliver many images over SFTP, beside the tools that people use for it.

    PYTHONPATH=plugins python -m benchmarks.images [--images 5000] [--bytes 102400] [--rtt-ms 0] [--rounds 5]
                                                  [--only "this service" "rclone as it comes"]

Every contender sends the same local files to a folder of its own on one server, then again, when nothing has changed;
in each round all of them in turn, and the table has the medians. rclone and lftp are there in the way that is quickest
at no distance, and in the one that is quickest far away; `sftp -b` and paramiko send all of it again. Our first line is
that of a task of a worker, which has imported its libraries before it forks; from a shell, their import is part of it.
What arrived is counted and compared in size; a contender that is not installed is named. The server is OpenSSH where it
is installed; `--rtt-ms` puts a network of that round trip before it.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from uuid import UUID

from benchmarks.measure import Spent, as_task, in_turn, print_table, rclone_program, run
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
    login = (work.port, work.server.username, work.key, work.server.host_key)
    return ["--ours", *map(str, (work.images, work.listed, *login, target))]


def rclone(*ways: str) -> "Contender":
    def command(work: Work, target: str) -> list[str]:
        login = (f"--sftp-host={work.server.host}", f"--sftp-port={work.port}", f"--sftp-user={work.server.username}")
        keys = (f"--sftp-key-file={work.key}", f"--sftp-known-hosts-file={work.known_hosts}")
        # OpenSSH has no digests, nor a shell here to make some with.
        never = ("--config=", "--sftp-shell-type=none", "--sftp-disable-hashcheck")
        where = (f"{work.images}/{SITE}/inputs", f":sftp:{target}/{SITE}/inputs")
        return [rclone_program(), "copy", *where, *login, *keys, *never, *ways]

    return command


def lftp(at_once: int) -> "Contender":
    def command(work: Work, target: str) -> list[str]:
        return [
            *("lftp", "-c"),
            f'set sftp:connect-program "ssh -a -x {work.ssh}"; set cmd:fail-exit yes; '
            f"open -u {work.server.username}, sftp://{work.server.host}:{work.port}; "
            f"mirror --reverse --parallel={at_once} {work.images}/{SITE}/inputs {target}/{SITE}/inputs",
        ]

    return command


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


#: The command that sends the images to a folder.
Contender = Callable[[Work, str], list[str]]
CONTENDERS: dict[str, Contender] = {
    "this service": lambda work, target: as_task("benchmarks.images", *ours(work, target)),
    "the same from a shell": lambda work, target: [sys.executable, "-m", "benchmarks.images", *ours(work, target)],
    "rclone as it comes": rclone(),  # 4 at once
    "rclone, 32 at once": rclone("--transfers=32", "--checkers=32", "--inplace"),  # without a rename after each
    "lftp, 8 at once": lftp(8),
    "lftp, 32 at once": lftp(32),
    "sftp -b": sftp,
    "paramiko, one by one": paramiko,
}
_ONE_BY_ONE = ("sftp -b", "paramiko, one by one")  # take minutes far away


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

    under_way = set[asyncio.Task[None] | None]()  # asyncio lets go of a connection whose client has hung up

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way.add(asyncio.current_task())
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(asyncio.CancelledError, OSError):
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
        under_way.discard(asyncio.current_task())

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(connect, "127.0.0.1", 0)

    thread = LoopThread("network")
    yield thread.run(listen()).sockets[0].getsockname()[1]
    thread.close()


def write_images(folder: Path, count: int, size: int) -> Path:
    """Writes them to `images/<site>/inputs/`; returns the list that names them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    inputs, random = folder / "images" / str(SITE) / "inputs", Random(1)
    inputs.mkdir(parents=True)
    ids = [str(UUID(int=random.getrandbits(128), version=4)) for _ in range(count)]
    for input_id in ids:
        (inputs / f"{input_id}.png").write_bytes(random.randbytes(size))
    listed = folder / "images.parquet"
    pq.write_table(pa.table({"input_id": ids, "file_extension": [".png"] * count}), listed)
    return listed


def prepare(folder: Path, server: Server, port: int, count: int, size: int) -> Work:
    import asyncssh

    listed = write_images(folder, count, size)
    key, known_hosts = folder / "key", folder / "known_hosts"
    asyncssh.read_private_key(server.private_key_path, server.passphrase).write_private_key(key)
    key.chmod(0o600)
    known_hosts.write_text(f"[{server.host}]:{port} {server.host_key}\n")
    return Work(folder / "images", listed, server, port, key, known_hosts)


def check(folder: Path, count: int, size: int) -> None:
    sizes = [path.stat().st_size for path in folder.rglob("*.png")]
    if sizes != [size] * count:
        sys.exit(f"{folder}: {len(sizes)} of {count} images arrived whole")


def race(work: Work, count: int, size: int, rounds: int, only: list[str]) -> None:
    times: dict[str, list[tuple[Spent, Spent]]] = {name: [] for name in only}
    for _, number, name in in_turn(only, rounds):
        folder = f"target-{number}"
        arguments = CONTENDERS[name](work, f"{work.server.base}{folder}")
        if shutil.which(arguments[0]) is None:
            continue
        first = run(arguments)
        check(work.server.root / folder, count, size)
        times[name].append((first, run(arguments)))
        check(work.server.root / folder, count, size)
        shutil.rmtree(work.server.root / folder)
    print_table(times, count * size)


def open_server(folder: Path) -> Server:
    """OpenSSH where it is installed, which lets all of them connect at once; by itself it turns some of 32 away."""
    return OpensshServer(folder, settings="MaxStartups 100") if OpensshServer.installed() else SftpServer(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--bytes", type=int, default=100 << 10)
    parser.add_argument("--rtt-ms", type=float, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS)
    options = parser.parse_args()
    only = options.only or [name for name in CONTENDERS if not (options.rtt_ms and name in _ONE_BY_ONE)]
    with tempfile.TemporaryDirectory() as name, open_server(Path(name) / "server") as server:
        print(
            f"{options.images:,} images of {options.bytes:,} bytes, {type(server).__name__}, "
            f"{options.rtt_ms:g} ms round trip, medians of {options.rounds}"
        )
        with far_away(server.port, options.rtt_ms / 1000) as port:
            port = port if options.rtt_ms else server.port
            work = prepare(Path(name), server, port, options.images, options.bytes)
            race(work, options.images, options.bytes, options.rounds, only)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        asyncio.run(copy(*sys.argv[2:]))
    else:
        main()
