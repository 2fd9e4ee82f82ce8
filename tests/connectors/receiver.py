"""A customer's system that is told by webhook, over TLS."""

import base64
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data_export.config.models import EXPORT, CustomerExport
from tests.pipeline.staged_run import export_to

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()


class Receiver:
    """A customer's system that answers what it is set to."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.status, self.location = 204, ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(outer.status)
                if outer.location:
                    self.send_header("location", outer.location)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_address[1]}/exports?a=1"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    made = (folder / "certificate.pem", folder / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(made[1]), "-out", str(made[0])],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return made


@pytest.fixture
def receiver(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    running = Receiver(*certificate)
    yield running
    running.close()


def noticed(url: str, secret: str = "env:DATA_EXPORT_SECRET_HOOK") -> CustomerExport:
    on = {"emails": ["bi@acme.example"], "webhook": {"url": url, "secret": secret}}
    return EXPORT.validate_python(export_to("cloud_storage").model_dump(mode="json") | {"on_delivery": on})
