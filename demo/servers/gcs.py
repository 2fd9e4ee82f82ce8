"""A Cloud Storage server for demo and tests."""

import contextlib
import io
import json
import logging
import threading
from email.parser import BytesParser
from functools import partial
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import BadRequest, NotFound
from gcp_storage_emulator.handlers import buckets
from gcp_storage_emulator.server import RequestHandler, Router
from gcp_storage_emulator.storage import RESUMABLE_DIR, Storage

_read_data = server._read_data


def _read_upload_at_once(handler: RequestHandler, query: dict[str, list[str]]) -> Any:
    """What a request holds; the emulator reads an upload as mail, line by line, which is most of what it costs."""
    if handler.headers.get_content_type() != "multipart/related":
        return _read_data(handler, query)
    between = f"\r\n--{handler.headers.get_boundary()}".encode()
    _, meta, media, _ = (b"\r\n" + handler.rfile.read()).split(between)
    headers, _, content = media.partition(b"\r\n\r\n")
    return {
        "meta": json.loads(meta.partition(b"\r\n\r\n")[2]),
        "content": content,
        "content-type": BytesParser().parsebytes(headers.lstrip()).get_content_type(),
    }


server._read_data = _read_upload_at_once


class _Storage(Storage):
    """Writes its index once, at the end, and adds the pieces of an upload to a file.

    The emulator writes the index anew at every object, and what it has of an upload at every piece: both are quadratic.
    """

    def _write_config_to_file(self) -> None:
        pass

    def get_resumable_byte_count(self, file_id: str) -> int:
        path = self._unfinished(file_id)
        return path.stat().st_size if path.exists() else 0

    def add_to_resumable_upload(
        self, file_id: str, content: bytes | None, total_size: int | None = None, expected_start: int | None = None
    ) -> bytes | None:
        """All that was sent, once that is `total_size`."""
        held = self.get_resumable_byte_count(file_id)
        if expected_start not in (None, held):
            raise BadRequest(f"Invalid Content-Range start: expected {held}, got {expected_start}")
        path = self._unfinished(file_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(content or b"")
        if total_size is None or path.stat().st_size < total_size:
            return None
        return path.read_bytes()[:total_size]

    def _unfinished(self, file_id: str) -> Path:
        return Path(self._store._disk_path(self._object_path(RESUMABLE_DIR, self.safe_id(file_id))))

    def get_file_obj(self, bucket_name: str, file_name: str) -> dict[str, Any]:
        """Finds no file that somebody removed from the folder, which the emulator's index does not notice."""
        if not self._is_there(bucket_name, file_name):
            raise NotFound
        found: dict[str, Any] = super().get_file_obj(bucket_name, file_name)
        return found

    def _list_live_candidates(self, bucket_name: str, prefix: str | None = None) -> list[tuple[str, dict[str, Any]]]:
        listed = super()._list_live_candidates(bucket_name, prefix)
        return [(name, found) for name, found in listed if self._is_there(bucket_name, name)]

    def _is_there(self, bucket_name: str, file_name: str) -> bool:
        return bool(self._store.exists_file(self._object_path(bucket_name, file_name)))

    def save(self) -> None:
        super()._write_config_to_file()


class _Handler(RequestHandler):
    """Handles one request at a time, as the emulator expects, but neither reads nor writes the network meanwhile."""

    rfile: Any
    wfile: Any

    def __init__(self, lock: threading.Lock, *args: Any) -> None:
        self._lock = lock
        super().__init__(*args)

    def _handle(self) -> None:
        network = self.rfile, self.wfile
        self.rfile = io.BytesIO(self._body())
        self.wfile = answer = io.BytesIO()
        with self._lock:
            Router(self).handle(self.command)
        self.rfile, self.wfile = network
        with contextlib.suppress(ConnectionError):  # the client went away, which is its right
            self.wfile.write(answer.getbuffer())

    def send_response(self, code: int, message: str | None = None) -> None:
        """Some clients, such as rclone, ask for another answer than 308, which they take for a redirection."""
        asked = code == HTTPStatus.PERMANENT_REDIRECT and self.headers.get("X-GUploader-No-308") == "yes"
        super().send_response(*(HTTPStatus.OK, "OK") if asked else (code, message))
        if asked:
            self.send_header("X-Http-Status-Code-Override", str(code))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return bytes(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        self.headers["Content-Length"] = str(len(body))  # as the emulator expects it
        return body

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 - the standard library's names


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # the default of 5 refuses clients that open many connections at once


class GcsServer:
    """Serves the objects kept under `folder` while the `with` block lasts.

    Everybody may do everything, no signature is checked and preconditions are ignored, as in the emulator beneath:
    put a `FaultProxy` in front where that matters. Clients find it by `STORAGE_EMULATOR_HOST=<url>`.
    """

    def __init__(self, folder: Path, port: int = 0, *, listen: str = "127.0.0.1") -> None:
        self.host = "127.0.0.1"
        self.folder = folder
        self._port = port
        self._listen = listen

    def __enter__(self) -> Self:
        for name in ("gcp_storage_emulator", "api.object"):  # they call every look for an absent object an error
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._storage = _Storage(data_dir=str(self.folder.resolve()))
        handler = partial(_Handler, threading.Lock(), self._storage)
        self._server = _Server((self._listen, self._port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="gcs", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._storage.save()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def create_bucket(self, name: str) -> None:
        """Makes the bucket unless it is there."""
        if self._storage.get_bucket(name) is None:
            buckets.create_bucket(name, self._storage)
