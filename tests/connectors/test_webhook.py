"""The webhook: what a receiver gets and can check, and addresses that are refused."""

import base64
import errno
import re
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from data_export.delivery import webhook
from data_export.errors import ConfigError, TargetRefused, TargetUnavailable
from tests.connectors.receiver import OTHER_SECRET, SECRET, Receiver, certificate, noticed, receiver

__all__ = ["certificate", "receiver"]
DOC = Path(__file__).parents[2] / "docs" / "notices.md"
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


def test_an_address_where_nothing_listens_gives_way_to_the_next(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up, connect = socket.getaddrinfo, socket.create_connection
    addresses, asked = ["127.0.0.2", "127.0.0.1"], list[tuple[str, float]]()

    def resolve(host: str, port: int, *more: int, **named: int) -> list[Any]:
        hosts = addresses if host == "localhost" else [host]
        return [entry for one in hosts for entry in look_up(one, port, *more, **named)]

    def connect_and_note(address: tuple[str, int], seconds: float) -> socket.socket:
        asked.append((address[0], seconds))
        return connect(address, seconds)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect_and_note)
    webhook.post(receiver.url, SECRET, "msg_1", b"{}", private=True)
    assert len(receiver.requests) == 1
    assert asked == [("127.0.0.2", 7.5), ("127.0.0.1", 7.5)]
    port = int(receiver.url.split(":")[2].split("/")[0])
    with webhook._connected(addresses, port) as connected:
        assert connected.gettimeout() == 15  # to answer, it has the time that it had
    addresses.pop()
    with pytest.raises(TargetUnavailable, match="ConnectionRefusedError"):
        webhook.post(receiver.url, SECRET, "msg_1", b"{}", private=True)


def test_of_many_addresses_each_that_is_tried_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A packet that is lost is sent again after a second: as many shares as a load balancer has addresses are less."""
    waited: list[float] = []
    passed = [0.0]

    def slow(_address: tuple[str, int], seconds: float) -> socket.socket:
        waited.append(seconds)
        passed[0] += seconds
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", slow)
    monkeypatch.setattr("data_export.delivery.webhook.time.monotonic", lambda: passed[0])
    with pytest.raises(TimeoutError):
        webhook._connected([f"192.0.2.{number}" for number in range(16)], 443)
    assert (min(waited), sum(waited)) == (3, 18)


def test_addresses_that_cannot_be_reached_at_all_cost_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight of a family for which the worker has no route."""
    ours, theirs = socket.socketpair()

    def routed(address: tuple[str, int], _seconds: float) -> socket.socket:
        if ":" in address[0]:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        return ours

    monkeypatch.setattr(socket, "create_connection", routed)
    with ours, theirs:
        assert webhook._connected([*(f"2001:db8::{n}" for n in range(8)), "192.0.2.1"], 443) is ours


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
