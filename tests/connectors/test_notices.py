"""Notices: what a receiver gets, over TLS, and can check; addresses that are refused; repeats with one id for a day."""

import asyncio
import base64
import json
import re
import smtplib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import pytest

from data_export.config.models import EXPORT, CustomerExport
from data_export.config.platform import MailSettings
from data_export.delivery import webhook
from data_export.delivery.local.store import LocalStore
from data_export.errors import ConfigError, TargetRefused, TargetUnavailable
from data_export.pipeline import notice
from data_export.pipeline.notice import LONGEST, Means, record, send_left
from data_export.receipt import Receipt
from data_export.window import ExportWindow
from demo.servers.smtp import SmtpServer
from tests.pipeline.staged_run import NOW, export_to

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
MAIL = MailSettings.model_validate(
    {"from": "exports@platform.example", "platform": "Inspecto", "contact": "data@platform.example"}
)
DOC = Path(__file__).parents[2] / "docs" / "notices.md"


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


SNIPPETS = {"python": ["python", "-c"], "javascript": ["node", "-e"], "bash": ["bash", "-c"]}


def accepts(language: str, secret: str, headers: dict[str, str], body: bytes) -> bool:
    found = re.search(rf"```{language}\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert found
    given = [secret, *(headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))]
    # node drops its own first argument, and bash takes the first one for its name
    first = {"python": [], "javascript": ["--", "script"], "bash": ["script"]}[language]
    if language == "javascript":
        first = ["script"]
    return not subprocess.run([*SNIPPETS[language], found[1], *first, *given], input=body, check=False).returncode


@pytest.mark.parametrize("language", SNIPPETS)
def test_the_receiver_can_check_who_sent_it(receiver: Receiver, language: str) -> None:
    body = '{"é": 1}'.encode()
    webhook.post(receiver.url, f"{OTHER_SECRET} {SECRET}", "msg_1", body, private=True)
    ((headers, received),) = receiver.requests
    assert (received, headers["webhook-id"], headers["content-type"]) == (body, "msg_1", "application/json")
    assert accepts(language, SECRET, headers, received)
    assert accepts(language, OTHER_SECRET, headers, received)
    assert not accepts(language, "whsec_" + base64.b64encode(bytes(32)).decode(), headers, received)
    assert not accepts(language, SECRET, headers, received + b" ")
    assert not accepts(language, SECRET, headers | {"webhook-id": "msg_2"}, received)
    old = {"webhook-timestamp": "1700000000"}
    assert not accepts(language, SECRET, webhook.signed_headers(SECRET, "msg_1", 1_700_000_000, body) | old, body)


def test_check_reaches_the_receiver_and_sends_nothing(receiver: Receiver) -> None:
    (good,) = webhook.check_webhook(receiver.url, SECRET, private=True)
    (secret,) = webhook.check_webhook(receiver.url, "word", private=True)
    (private,) = webhook.check_webhook(receiver.url, SECRET)
    (closed,) = webhook.check_webhook("https://localhost:1/", SECRET, private=True)
    assert (good.ok, secret.ok, private.ok, closed.ok) == (True, False, False, False)
    assert "not a public address" in private.detail
    assert receiver.requests == []


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 410, 429, 500, 503])
def test_what_is_no_2xx_is_not_taken_and_redirects_are_not_followed(receiver: Receiver, status: int) -> None:
    receiver.status, receiver.location = status, receiver.url if status < 400 else ""
    with pytest.raises(TargetUnavailable, match=str(status)):
        webhook.post(receiver.url, SECRET, "msg_1", b"{}", private=True)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "127.1", "0x7f000001", "2130706433", "0", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1",
     "192.168.1.1", "172.16.0.1", "100.64.0.1", "169.254.169.254", "[fd00:ec2::254]", "[fe80::1]",
     "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[::127.0.0.1]", "168.63.129.16", "224.0.0.1", "255.255.255.255",
     "192.0.0.192", "192.88.99.1", "[fec0::1]", "[::ffff:0:7f00:1]", "[64:ff9b:1::a00:1]", "[5f00::1]", "[3fff::1]"],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused_before_anything_is_sent(receiver: Receiver, host: str) -> None:
    port = receiver.url.split(":")[2].split("/")[0]
    with pytest.raises((TargetRefused, TargetUnavailable), match=r"not a public address|not found"):
        webhook.post(f"https://{host}:{port}/", SECRET, "msg_1", b"{}")
    assert receiver.requests == []


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert webhook.is_public(address)


def test_a_name_that_leads_elsewhere_a_moment_later_does_not(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second look at the name would find this machine; there is none, the checked address is connected to."""
    asked: list[str] = []
    connected: list[str] = []

    def resolve(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        address = "93.184.215.14" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(TargetUnavailable):
        webhook.post(receiver.url, SECRET, "msg_1", b"{}")
    assert (asked, connected) == (["localhost"], ["93.184.215.14"])


def test_one_public_address_of_several_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 443)) for one in ("93.184.215.14", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(TargetRefused, match=r"10\.0\.0\.1"):
        webhook.post("https://hooks.example/", SECRET, "msg_1", b"{}")


def test_a_certificate_of_nobody_is_refused(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(TargetUnavailable, match="certificate"):
        webhook.post(receiver.url, SECRET, "msg_1", b"{}", private=True)


def test_one_that_answers_a_byte_at_a_time_is_broken_off(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setattr(webhook, "_WHOLE_SECONDS", 1)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            with tls.wrap_socket(listening.accept()[0], server_side=True) as client:
                while not stop.wait(0.1):
                    try:
                        client.send(b"H")
                    except OSError:
                        return

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        with pytest.raises(TargetUnavailable):
            webhook.post(f"https://localhost:{listening.getsockname()[1]}/", SECRET, "m", b"{}", private=True)
        stop.set()
        dripping.join(5)


@pytest.mark.parametrize(
    "url",
    ["http://hooks.example/", "https://user:word@hooks.example/", "https:///x", "ftp://hooks.example", "https://a/#b",
     "https://a/ b", "https://a/\r\nx: y", "https://a:0/", "https://a:99999/", "//a", "https://é.example/"],
)  # fmt: skip
def test_other_addresses_are_refused_in_the_file(url: str) -> None:
    with pytest.raises(ConfigError):
        webhook.checked_url(url)
    with pytest.raises(ValueError, match="webhook"):
        noticed(url)


@pytest.mark.parametrize("secret", ["word", "whsec_", "whsec_%%%", "whsec_c2hvcnQ=", "whsec_" + "A" * 400])
def test_a_secret_of_another_form_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        webhook.signed_headers(secret, "msg_1", 1, b"")
    assert secret not in str(refusal.value).replace("`whsec_`", "").replace("'whsec_'", "") or secret == "whsec_"


def test_a_secret_in_the_file_is_refused() -> None:
    with pytest.raises(ValueError, match="is the secret itself"):
        noticed("https://hooks.example/", SECRET)


def noticed(url: str, secret: str = "env:DATA_EXPORT_SECRET_HOOK") -> CustomerExport:
    on = {"emails": ["bi@acme.example"], "webhook": {"url": url, "secret": secret}}
    return EXPORT.validate_python(export_to("cloud_storage").model_dump(mode="json") | {"on_delivery": on})


class Noticing:
    """An export's notices, with its receiver and a mail server."""

    def __init__(self, folder: Path, url: str, server: SmtpServer) -> None:
        self.staging = LocalStore(folder / "staging")
        self.on = noticed(url).on_delivery
        self.server = server
        self.means = Means(MAIL, self.connect, lambda _on: SECRET, private=True)

    def connect(self) -> smtplib.SMTP:
        return smtplib.SMTP(self.server.host, self.server.port, timeout=10)

    def deliver(self, sha256: str = "ab" * 32, timezone: str = "UTC") -> None:
        asyncio.run(record(receipt(sha256), self.staging, NOW, timezone))

    def send(self, later: timedelta = timedelta(), window: ExportWindow | None = None) -> int:
        return asyncio.run(send_left("acme", self.on, self.staging, self.means, NOW + later, window=window))


def receipt(sha256: str) -> Receipt:
    site = {
        "site_id": "433a60f6-9756-473e-b1e9-9e89e24bb787",
        "name": "Lille Nord",
        "work_orders": 3,
        "quarantined": 0,
        "bytes": 9,
        "sha256": sha256,
        "uri": "gs://acme/x.json",
        "outcome": "created",
    }
    window = {"start": "2025-03-16T00:00:00+00:00", "end": "2025-03-17T00:00:00+00:00"}
    return Receipt.model_validate(
        {
            "export": "acme",
            "export_type": "work-orders-timeline",
            "window": window,
            "connector": "gs",
            "target": "gs://acme/",
            "config_hash": "0",
            "sites": [site],
            "delivered_at": "2025-06-01T00:00:00+00:00",
        }
    )


@pytest.fixture
def noticing(tmp_path: Path, receiver: Receiver) -> Iterator[Noticing]:
    with SmtpServer(tmp_path / "mail") as server:
        yield Noticing(tmp_path, receiver.url, server)


def test_each_window_is_one_webhook_and_one_mail_with_the_receipt(noticing: Noticing, receiver: Receiver) -> None:
    noticing.deliver()
    assert (noticing.send(), noticing.send()) == (1, 0)
    ((headers, body),) = receiver.requests
    assert Receipt.model_validate(json.loads(body)) == receipt("ab" * 32)
    (mail,) = noticing.server.messages()
    assert (mail["To"], headers["webhook-id"] in mail["Message-ID"]) == ("bi@acme.example", True)
    assert "3 work orders" in str(mail)
    noticing.deliver()  # a repeat of the window with the same files
    assert noticing.send() == 0
    noticing.deliver("cd" * 32)
    assert noticing.send() == 1
    assert receiver.requests[1][0]["webhook-id"] != headers["webhook-id"]


def test_files_that_changed_and_changed_back_are_three_notices(noticing: Noticing, receiver: Receiver) -> None:
    for sha256 in ("ab" * 32, "cd" * 32, "ab" * 32):
        noticing.deliver(sha256)
        noticing.deliver(sha256)  # `close` repeated
        assert (noticing.send(), noticing.send()) == (1, 0)
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 3


def test_a_notice_that_was_kept_by_a_close_that_died_is_one(noticing: Noticing, tmp_path: Path) -> None:
    """As are those that an earlier version kept, which did not note the window's last one."""
    noticing.deliver()
    for path in (tmp_path / "staging" / "told").rglob("*"):
        path.is_file() and path.unlink()
    noticing.deliver()
    assert (noticing.send(), noticing.send()) == (1, 0)
    noticing.deliver()
    assert noticing.send() == 0


def test_a_run_sends_the_notices_of_its_own_window_alone(noticing: Noticing, receiver: Receiver) -> None:
    """Another run's file may name other people by now."""
    noticing.deliver()
    own = receipt("ab" * 32).export_window
    assert noticing.send(window=ExportWindow(own.end, own.end + timedelta(days=1))) == 0
    assert receiver.requests == []
    assert (noticing.send(window=own), len(receiver.requests)) == (1, 1)


def test_what_was_sent_is_not_read_again(noticing: Noticing, receiver: Receiver, tmp_path: Path) -> None:
    noticing.deliver()
    assert noticing.send() == 1
    (kept,) = (tmp_path / "staging" / "notices" / "acme").iterdir()
    assert kept.read_bytes() == b""
    noticing.deliver()  # a repeat
    assert noticing.send() == 0
    assert len(receiver.requests) == 1


def test_a_notice_speaks_the_customers_language(noticing: Noticing) -> None:
    noticing.deliver(timezone="Europe/Paris")
    noticing.send()
    (mail,) = noticing.server.messages()
    assert mail["Reply-To"] == "data@platform.example"
    assert mail["Subject"] == ("Inspecto export delivered: acme, 2025-03-16 01:00 to 2025-03-17 01:00 (Europe/Paris)")
    body = mail.get_body(["plain"])
    assert body is not None
    text = body.get_content()
    for said in (
        "; 2025-03-16 00:00 to 2025-03-17 00:00 UTC)",
        "Lille Nord: gs://acme/x.json",
        "Write to data@platform",
    ):
        assert said in text, said


def test_it_is_repeated_with_one_id_and_given_up_after_a_day_once(noticing: Noticing, receiver: Receiver) -> None:
    noticing.deliver()
    receiver.status = 503
    for later in (timedelta(), timedelta(hours=1), LONGEST):
        with pytest.raises(TargetUnavailable, match="503"):
            noticing.send(later)
    with pytest.raises(TargetRefused, match="given up"):
        noticing.send(LONGEST + timedelta(minutes=1))
    assert noticing.send(LONGEST + timedelta(minutes=20)) == 0
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
    assert len({body for _, body in receiver.requests}) == 1
    assert len(receiver.requests) == 4
    assert len(noticing.server.messages()) == 1  # who has it gets no second one


def test_what_cannot_be_read_keeps_no_other_notice_back(noticing: Noticing, tmp_path: Path) -> None:
    noticing.deliver()
    (tmp_path / "staging" / "notices" / "acme" / "msg_0.json").write_text("{")
    assert noticing.send() == 1


def test_a_receiver_that_is_back_gets_what_is_left(noticing: Noticing, receiver: Receiver) -> None:
    noticing.deliver()
    noticing.deliver("cd" * 32)
    receiver.status = 500
    with pytest.raises(TargetUnavailable):
        noticing.send()
    receiver.status = 200
    assert noticing.send(timedelta(hours=20)) == 2


def test_a_receiver_that_takes_long_keeps_no_notice_behind_the_same_one(
    noticing: Noticing, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(step=40)  # the first notice is tried, and after it 80 of 60 seconds are over
    monkeypatch.setattr(notice, "monotonic", lambda: next(clock))
    for number in range(4):
        noticing.deliver(f"{number}" * 64)
    receiver.status = 503
    for _ in range(40):
        with pytest.raises(TargetUnavailable, match=r"answered 503; other notices wait, since these took long"):
            noticing.send()
    assert len(receiver.requests) == 40
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 4


def test_what_is_left_goes_when_the_file_names_nobody_any_more(noticing: Noticing, receiver: Receiver) -> None:
    noticing.deliver()
    receiver.status = 500
    with pytest.raises(TargetUnavailable):
        noticing.send()
    assert asyncio.run(send_left("acme", None, noticing.staging, noticing.means, NOW)) == 1
    assert len(receiver.requests) == 1


def test_a_notice_that_staging_does_not_keep_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "staging").write_text("a file in place of the folder")
    with pytest.raises(TargetRefused, match="a file is in the place of a folder"):
        asyncio.run(record(receipt("ab" * 32), LocalStore(tmp_path / "staging"), NOW))
