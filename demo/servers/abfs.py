"""Azure Blob Storage for demo and tests: Azurite, Microsoft's emulator (`npm install azurite`)."""

import base64
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from demo.guard import Guard

ACCOUNT = "demo"
_QUIET = ("--silent", "--disableTelemetry", "--disableProductStyleUrl", "--skipApiVersionCheck")
KEY = base64.b64encode(b"the key of the demo's account").decode()


class AbfsServer:
    """Serves the account `demo` while the `with` block lasts; with `keeps`, what it holds stays in the folder.

    It ends with this process, however that ends. With a certificate and its key it speaks TLS, and takes tokens of
    Microsoft Entra ID whoever signed them.
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        listen: str = "127.0.0.1",
        keeps: bool = False,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self.folder, self.port, self._listen, self._keeps = folder, port or _free_port(), listen, keeps
        self._certificate = certificate

    @staticmethod
    def executable() -> str | None:
        """Azurite's blob server: the environment variable AZURITE, or `azurite-blob` on the PATH."""
        return os.environ.get("AZURITE") or shutil.which("azurite-blob")

    @classmethod
    def installed(cls) -> bool:
        return cls.executable() is not None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        program = self.executable()
        if program is None:
            raise FileNotFoundError("no azurite-blob: npm install -g azurite, or set AZURITE to it")
        secure = []
        if self._certificate:
            secure = ["--oauth", "basic", "--cert", str(self._certificate[0]), "--key", str(self._certificate[1])]
        self._guard = Guard().__enter__()
        where = ["--location", str(self.folder)] if self._keeps else ["--inMemoryPersistence"]
        self._process = subprocess.Popen(
            [program, *where, *secure, *_QUIET, "--blobHost", self._listen, "--blobPort", str(self.port)],
            env=os.environ | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            start_new_session=True,  # Ctrl-C must not end it before what still delivers to it
        )
        self._guard.watch(self._process.pid)
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise TimeoutError(f"Azurite does not listen on port {self.port}")
            time.sleep(0.05)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._guard.__exit__()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def pid(self) -> int:
        """Process id of the server, which leads a session of its own."""
        return self._process.pid

    @property
    def url(self) -> str:
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self.port}"

    def create_bucket(self, name: str) -> None:
        """Makes the container unless it is there."""
        from azure.core.exceptions import ResourceExistsError
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient(f"{self.url}/{ACCOUNT}", KEY) as service:
            try:
                service.create_container(name)
            except ResourceExistsError:
                return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
