"""A check opens a link of its own as a customer does, whoever signs it."""

import base64
import functools
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import google.auth.iam
import pytest
from google.auth import impersonated_credentials
from google.auth.credentials import AnonymousCredentials
from multidict import CIMultiDict

from data_export.check.check import check_staging
from data_export.check.results import CheckResult
from data_export.delivery.base import Store
from data_export.delivery.local.store import LocalStore
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.gcs import GcsServer
from demo.servers.s3 import S3Server
from demo.servers.strict import s3_error
from tests.connectors.gcs.stores import gcs_store, key_credentials
from tests.connectors.s3.stores import s3_store
from tests.connectors.s3.test_links import role_session

HOURS = timedelta(hours=2)
SIGNED = r"[?&]X-(Amz|Goog)-Signature="


class AsOurselves(impersonated_credentials.Credentials):
    """Another account, whose token this test need not fetch; it signs through Google as in life."""

    def refresh(self, request: Any) -> None:
        self.token = "token"


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    with GcsServer(tmp_path_factory.mktemp("gcs")) as server:
        server.create_bucket("staging")
        yield server


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server) -> str:
    name = f"staging-{uuid4().hex}"
    s3.create_bucket(name)
    return name


@pytest.fixture
def signer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, bytes], None]]:
    """Google's signBlob; the fixture sets what it answers."""
    said: list[tuple[int, bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(said[-1][0])
            self.end_headers()
            self.wfile.write(said[-1][1])

        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(google.auth.iam, "_IAM_SIGN_ENDPOINT", f"http://127.0.0.1:{server.server_port}/{{}}:signBlob")
    yield lambda status, body: said.append((status, body))
    server.shutdown()
    server.server_close()


def of_link(store: Store) -> CheckResult:
    results = check_staging(store, HOURS)
    others = [result for result in results if result.step != "staging: link" and not result.ok]
    assert others == []
    (link,) = (result for result in results if result.step == "staging: link")
    return link


class TestWhoeverSigns:
    @pytest.mark.parametrize("kind", ["key", "role"])
    def test_s3(self, s3: S3Server, bucket: str, kind: str) -> None:
        session = role_session(timedelta(hours=6)) if kind == "role" else None
        with FaultProxy(s3.url) as proxy:
            link = of_link(s3_store(proxy.url, f"s3://{bucket}/x/", session))
            assert link.ok
            assert link.detail.startswith("works for 2 hours; only this network knows its host 127.0.0.1")
            (fetched,) = proxy.requests("GET", SIGNED)
        assert "Authorization" not in fetched.headers
        assert fetched.headers["Range"] == "bytes=0-0"

    @pytest.mark.parametrize("kind", ["key", "impersonated"])
    def test_cloud_storage(self, gcs: GcsServer, signer: Callable[[int, bytes], None], kind: str) -> None:
        signer(200, json.dumps({"signedBlob": base64.b64encode(b"signature").decode()}).encode())
        account = AsOurselves(AnonymousCredentials(), "x@p.iam.gserviceaccount.com", [])
        with FaultProxy(gcs.url) as proxy:
            store = gcs_store(proxy.url, "gs://staging/x/", key_credentials() if kind == "key" else account)
            assert of_link(store).ok
            assert len(proxy.requests("GET", SIGNED)) == 1

    @pytest.mark.parametrize(
        ("status", "body", "words"),
        [
            (403, b'{"error": "signBlob denied\\u202e"}', r"signBlob denied\\u202e.*serviceAccountTokenCreator"),
            (200, b"<html>sign in</html>", "no proper answer from Google's signer"),
            (403, b"<html>sign in</html>", "no proper answer from Google's signer"),
            (200, b"{}", "no proper answer from Google's signer"),
        ],
    )
    def test_a_signer_that_refuses(
        self, gcs: GcsServer, signer: Callable[[int, bytes], None], status: int, body: bytes, words: str
    ) -> None:
        signer(status, body)
        account = AsOurselves(AnonymousCredentials(), "x@p.iam.gserviceaccount.com", [])
        link = of_link(gcs_store(gcs.url, "gs://staging/x/", account))
        assert not link.ok
        assert pytest.RaisesExc(Exception, match=words).matches(Exception(link.detail)), link.detail

    def test_a_folder_that_a_file_server_shows(self, tmp_path: Path) -> None:
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}"
            assert of_link(LocalStore(tmp_path, link_base_url=url)).ok
            assert "answered with 404" in of_link(LocalStore(tmp_path, link_base_url=f"{url}/elsewhere")).detail
            server.shutdown()
        assert "cannot be opened" in of_link(LocalStore(tmp_path, link_base_url=url)).detail
        assert "no web address" in of_link(LocalStore(tmp_path, link_base_url=tmp_path.as_uri())).detail


GOOGLE = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>no</Message><Details>%s</Details></Error>"


class TestLinksThatDoNotOpen:
    @pytest.mark.parametrize(
        ("status", "body", "fix"),
        [
            (403, s3_error(403, "SignatureDoesNotMatch", "The request signature we calculated").body, "the secret"),
            (400, s3_error(400, "AuthorizationQueryParametersError", "the region 'x' is wrong").body, "region_name"),
            (400, s3_error(400, "AuthorizationHeaderMalformed", "expecting 'eu-west-1'").body, "region_name"),
            (301, s3_error(301, "PermanentRedirect", "use the endpoint").body, "region_name"),
            (403, s3_error(403, "AccessDenied", "Request has expired").body, "clock"),
            (403, s3_error(403, "AccessDenied", "Request is not yet valid").body, "clock"),
            (403, s3_error(403, "RequestTimeTooSkewed", "The difference").body, "clock"),
            (400, s3_error(400, "ExpiredToken", "The provided token has expired.").body, "must be renewed"),
            (403, s3_error(403, "InvalidAccessKeyId", "no").body, "correct the key"),
            (403, s3_error(403, "AccessDenied", "x with an explicit deny in a resource-based policy").body, "a policy"),
            (403, s3_error(403, "AccessDenied", "not authorized to perform: kms:Decrypt").body, "kms:Decrypt"),
            (403, s3_error(403, "AccessDenied", "Access Denied").body, "s3:GetObject"),
            (403, GOOGLE % (b"AccessDenied", b"x@y does not have storage.objects.get access"), "storage.objects.get"),
            (403, GOOGLE % (b"SecurityPolicyViolated", b"Request violates VPC Service Controls."), "a policy"),
            (400, GOOGLE % (b"ExpiredToken", b"Request signature expired at: then"), "clock"),
            (503, s3_error(503, "SlowDown", "Please reduce").body, "try again"),
            (407, b"<html><b>Proxy</b> \x1b[31m sign in</html>", r"Proxy \\x1b[31m sign in"),
            (404, b"", "answered with 404"),
        ],
    )
    def test_is_said_with_the_servers_words(
        self, s3: S3Server, bucket: str, status: int, body: bytes, fix: str
    ) -> None:
        with FaultProxy(s3.url) as proxy:
            proxy.answer(status, body, method="GET", path=SIGNED, times=9)
            link = of_link(s3_store(proxy.url, f"s3://{bucket}/x/"))
        assert not link.ok
        assert fix.replace("\\\\", "\\") in link.detail
        assert str(status) in link.detail
        assert "Signature=" not in link.detail

    @pytest.mark.parametrize("minutes", [-15, 15])
    def test_says_how_wrong_the_clock_is(self, s3: S3Server, bucket: str, minutes: int) -> None:
        async def expired(request: Exchange, forward: Forward) -> Answer:
            if "X-Amz-Signature" not in request.url.query:
                return await forward(request)
            there = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
            return Answer(403, CIMultiDict({"Date": there}), s3_error(403, "AccessDenied", "Request has expired").body)

        with FaultProxy(s3.url, expired) as proxy:
            link = of_link(s3_store(proxy.url, f"s3://{bucket}/x/"))
        assert f"s {'ahead' if minutes < 0 else 'behind'})" in link.detail

    def test_a_sign_in_page_is_not_the_file(self, s3: S3Server, bucket: str) -> None:
        with FaultProxy(s3.url) as proxy:
            proxy.answer(200, b"<html>", method="GET", path=SIGNED)
            link = of_link(s3_store(proxy.url, f"s3://{bucket}/x/"))
        assert "opens something else" in link.detail

    def test_a_host_that_nobody_finds(self, s3: S3Server, bucket: str) -> None:
        session = boto3.Session("key", "secret", region_name="eu-west-3")
        with FaultProxy(s3.url) as proxy:
            proxy.stall(method="GET", path=SIGNED)
            proxy.reset_request(method="GET", path=SIGNED)
            store = s3_store(proxy.url, f"s3://{bucket}/x/", session)
            signed = store.sign

            async def elsewhere(*args: Any) -> str:
                return (await signed(*args)).replace(proxy.url, "http://nobody.invalid")

            store.sign = elsewhere  # type: ignore[method-assign]
            link = of_link(store)
        assert "cannot be opened: nobody.invalid does not answer" in link.detail
