"""What servers, sources and files say reaches terminal, log, mail, page and DAG docs as harmless text only."""

import logging
import re
import sys
import unicodedata
from argparse import ArgumentParser, Namespace
from datetime import UTC, date, datetime
from email import message_from_bytes
from email.policy import default
from types import SimpleNamespace
from typing import Any

import asyncssh
import pytest
from markdown_it import MarkdownIt

from data_export import errors
from data_export.alerts.alert import Alert, as_text, compose
from data_export.alerts.failure import Failure, failure_alert
from data_export.check.results import CheckResult, Results, row
from data_export.config.problems.problems import BrokenFile
from data_export.delivery.gcs import errors as gcs
from data_export.delivery.s3 import errors as s3
from data_export.delivery.sftp import errors as sftp
from data_export.errors import AccessDenied, DataExportError, ObjectRefused, line_of
from data_export.images.left_out import Failures
from data_export.images.listing import ListedImage
from data_export.wording import as_code, harmless, visible
from data_export_airflow.alerting import listeners
from data_export_airflow.commands import cli
from data_export_airflow.dags.factory import describe, describe_broken
from tests.customers import export

#: Colours, a title and a link for terminals, a new line, backspaces, bidi overrides, nothing visible, half a character.
HOSTILE = (
    "\x1b[2J\x1b]8;;http://evil.example\x07\r\n2026 INFO all is well\b\b\x9b31m \u202eexe.gpj\u2066"
    "\u200b\ufeff\u3164\x85\u2028\ud800\U000e0041<img src=x>"
)
MARKDOWN = "`![x](http://evil.example/pixel)` ``<img src=http://evil.example>``` | [y](javascript:z)"
SITE = "433a60f6-9756-473e-b1e9-9e89e24bb787"
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DataExportError)]


def is_harmless(text: str) -> bool:
    return text.isprintable() and not any(unseen in text for unseen in "\u3164\u2800\u034f\ufe0f\U000e0100")


class TestHarmless:
    def test_nothing_invisible_is_left_of_any_character(self) -> None:
        for code in range(sys.maxunicode + 1):
            shown = harmless(f"a{chr(code)}b")
            assert is_harmless(shown), hex(code)
            assert unicodedata.category(chr(code)) in ("Cc", "Zl", "Zp", "Zs") or shown != "ab"

    def test_says_what_was_there(self) -> None:
        assert harmless("a\x1b[1m\u202eb\r\n c\udcff été 漢字 👍") == "a\\x1b[1m\\u202eb c\\udcff été 漢字 👍"
        assert visible("a\nb\tc") == "a\\nb\\tc"

    def test_is_short(self) -> None:
        assert len(harmless("\x1b" * 100_000)) == 300
        assert harmless("a" * 1000, 10) == "aaaaaaa..."
        assert len(line_of(AccessDenied("é" * 100_000))) == 2000
        assert len(str(AccessDenied("x" * 100_000))) < 10_000

    @pytest.mark.parametrize("text", [HOSTILE, MARKDOWN, "`", "``", "a`", "`a", "a\n\n# b", " a ", "\\`", "", "~~~"])
    def test_no_markup_leaves_a_code_span(self, text: str) -> None:
        html = MarkdownIt("commonmark", {"html": True}).enable("table").render(f"- **Target**: {as_code(text)} end")
        inner = html.partition("<code>")[2].rpartition("</code>")
        assert "<" not in inner[0], html
        assert inner[2].strip() == "end</li>\n</ul>" or not text, html


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_error_of_the_service_says_it_raw(kind: type[DataExportError]) -> None:
    error = kind(f"the server says {HOSTILE}") if kind is not BrokenFile else BrokenFile([])
    for said in (str(error), line_of(error), f"{kind('x')} {error}"):
        assert is_harmless(said)
        assert "evil.example" in said


class TestOutlets:
    def test_terminal(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(options: Namespace) -> int:
            raise AccessDenied(f"s3://bucket/: {HOSTILE}")

        def parser() -> ArgumentParser:
            made = ArgumentParser()
            made.set_defaults(command=fail)
            return made

        monkeypatch.setattr(cli, "parser", parser)
        assert cli.main([]) == 1
        shown = capsys.readouterr().err
        assert shown.endswith("\n")
        assert is_harmless(shown[:-1])

    def test_check_on_terminal_log_and_page(self) -> None:
        results = Results([CheckResult(f"target: {HOSTILE}", True, f"identity {HOSTILE}")])
        with results.step("target: s3:PutObject", HOSTILE):
            raise AccessDenied(HOSTILE)
        assert all(is_harmless(row(result)) for result in results)
        assert all(is_harmless(str(value)) for result in results for value in result.to_dict().values())

    def test_log_and_the_page_s_copy(self, caplog: pytest.LogCaptureFixture) -> None:
        kept: dict[str, Any] = {}
        task = SimpleNamespace(site_id=SITE)
        context = {
            "task": task,
            "ti": SimpleNamespace(xcom_pull=lambda **_: None),
            "params": {},
            "dag_run": SimpleNamespace(data_interval_start=None, data_interval_end=None),
        }
        instance = SimpleNamespace(
            dag_id="data_export__acme", xcom_push=kept.__setitem__, get_template_context=lambda: context
        )
        with caplog.at_level(logging.INFO):
            listeners.on_task_instance_failed(instance, AccessDenied(HOSTILE))
        assert is_harmless(kept["failure"]["message"])
        assert all(is_harmless(record.getMessage()) for record in caplog.records)
        assert "evil.example" in caplog.text

    def test_receipt_and_log_of_an_image(self, caplog: pytest.LogCaptureFixture) -> None:
        failures = Failures()
        failures.add(ListedImage("a.png", "a.png"), ObjectRefused(HOSTILE), 0)
        assert is_harmless(failures.lines[0])
        assert all(is_harmless(record.getMessage()) for record in caplog.records)

    def test_mail_in_text_html_and_headers(self) -> None:
        alert = failure_alert(Failure("acme", "dag", "deliver", "AccessDenied", HOSTILE, "https://airflow.example/"))
        (mail,) = compose(alert, "exports@platform.example", ["bob@platform.example"], date(2025, 3, 17))
        raw = message_from_bytes(mail.as_bytes(), policy=default)
        for part in raw.iter_parts():
            assert all(map(is_harmless, str(part.get_content()).splitlines()))
        html = raw.get_body(["html"])
        assert html is not None
        assert "<img" not in html.get_content()

    def test_a_subject_adds_no_header(self) -> None:
        alert = Alert("failure", ("acme",), "cause", f"failed\r\nBcc: eve@evil.example\r\n\r\n{HOSTILE}", "lead")
        (mail,) = compose(alert, "exports@platform.example", ["bob@platform.example"], date(2025, 3, 17))
        raw = message_from_bytes(mail.as_bytes(), policy=default)
        assert raw["Bcc"] is None
        assert is_harmless(str(raw["Subject"]))
        assert as_text(alert).startswith("lead")

    @pytest.mark.parametrize("connector", ["sftp", "cloud_storage"])
    def test_dag_docs_load_nothing(self, connector: str) -> None:
        folder = "a`![x](http:evil.example)`<img src=q>``"
        key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
        named = {"sftp_username": "u", "sftp_private_key_path": "/k", "sftp_host_key": key}
        sftp_keys = named | {"sftp_host": "h.example", "sftp_remote_path": f"/{folder}"}
        keys = sftp_keys if connector == "sftp" else {"storage_uri": f"gs://bucket/{folder}"}
        made = export(connector_type=connector, connector_config=keys | {"export_images": False})
        html = MarkdownIt("commonmark", {"html": True}).render(describe("acme", made, [MARKDOWN]))
        assert "<img" not in html
        assert re.findall("<a [^>]*", html) == ['<a href="/data-exports/export.html?dag=data_export__acme"']
        assert "evil.example" in html

    def test_dag_docs_of_a_broken_file_load_nothing(self) -> None:
        html = MarkdownIt("commonmark", {"html": True}).render(describe_broken("acme", [MARKDOWN]))
        assert "<img" not in html
        assert "<a " not in html


class TestServers:
    def test_s3(self) -> None:
        from botocore.exceptions import ClientError

        for code in ("AccessDenied", "SignatureDoesNotMatch", f"Odd{HOSTILE}"):
            answer: Any = {
                "Error": {"Code": code, "Message": HOSTILE},
                "ResponseMetadata": {"HTTPStatusCode": 403},
            }
            assert is_harmless(str(s3.explain(ClientError(answer, "PutObject"), "b", "s3://b/a", "s3:PutObject")))

    def test_token_server(self) -> None:
        from google.auth.exceptions import RefreshError

        assert is_harmless(str(gcs.explain(RefreshError(f"invalid_grant {HOSTILE}"), "b", "gs://b/")))

    def test_sftp(self) -> None:
        error = asyncssh.SFTPFailure(HOSTILE)
        assert is_harmless(sftp.named(error))
        assert is_harmless(str(sftp.translate(error, "sftp://h/a", "u")))


def test_dates_stay_readable() -> None:
    assert harmless(f"{datetime(2025, 3, 16, tzinfo=UTC):%Y-%m-%d %H:%M:%S} UTC") == "2025-03-16 00:00:00 UTC"
