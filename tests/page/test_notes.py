"""The note of a run, in Airflow's own tables."""

import threading
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from airflow.models.taskinstance import TaskInstance
from markdown_it import MarkdownIt
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from data_export.receipt import Receipt, is_summary
from data_export_airflow.alerting.listeners import (
    FAILED,
    LONGEST_NOTE,
    as_note,
    is_ours,
    on_dag_run_failed,
    on_dag_run_success,
)
from data_export_airflow.metadata import guards
from data_export_airflow.metadata.guards import _NOTES, note_retries, note_retry
from tests.page.history import SITE, History

START, END = datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC)
ABOUT = " · [About this error](/data-exports/errors.html#"


def receipt(orders: int) -> Receipt:
    images = {"site_id": SITE, "copied": 3, "already_there": 1200, "kept": 1, "missing_at_source": 4}
    site = {"site_id": SITE, "work_orders": orders, "quarantined": 1, "bytes": 3_100_000, "sha256": "", "uri": ""}
    return Receipt.model_validate(
        {
            "export": "acme",
            "export_type": "work-orders-timeline",
            "window": {"start": START.isoformat(), "end": END.isoformat()},
            "connector": "gs",
            "target": "gs://acme/",
            "config_hash": "",
            "sites": [site | {"outcome": "kept", "images": images}],
            "delivered_at": END.isoformat(),
            "refused_recipients": ["b***@customer.example"],
        }
    )


@pytest.mark.parametrize(
    ("before", "renewed"),
    [
        (None, True),
        ("1 site, 2 work orders, 0.0 MB", True),
        ("1 site, 2 work orders, 312 B, 2 images (0 new), 0 missing", True),
        (receipt(1_204).summary(), True),
        ("1 site, 2 work orders, 0.0 MB: Ann has asked the customer", False),
        ("checked by Ann", False),
    ],
)
def test_a_note_of_ours_is_renewed_and_one_of_a_person_stays(
    history: History, before: str | None, renewed: bool
) -> None:
    run = history.run(history.export("acme"), START, END)
    history.result(run, "close", "return_value", receipt(7).to_dict(), map_index=-1, state="success")
    run.note = before
    history.session.commit()
    on_dag_run_success(run, "")
    files = (
        "/data-exports/export.html?dag=data_export__acme&run={}&before=2025-03-17T00%3A00%3A00%2B00%3A00#files-title"
    )
    noted = f"{receipt(7).summary()} · [Files]({files.format(quote(run.run_id, safe=''))})"
    assert run.note == (noted if renewed else before)
    assert is_ours(run.note) == (renewed or not before)


def test_a_summary_is_known_by_its_words() -> None:
    assert receipt(1_204).summary() == (
        "1 site, 1,204 work orders, 3.1 MB, 1,208 images (3 new), 4 missing, 1 images kept that differ, "
        "1 files kept that differ, 1 records quarantined, 1 recipients refused"
    )
    assert is_summary(receipt(1_204).summary())


REASON = {"error": "AccessDenied", "message": "grant storage.objects.create"}


@pytest.mark.parametrize(
    ("before", "renewed"),
    [(None, True), ("Retrying: deliver: TargetUnavailable: 503 (try 9 of 9)", True), ("Failed: see with Ann", False)],
)
def test_a_failed_run_says_why_as_the_page_does(history: History, before: str | None, renewed: bool) -> None:
    run = history.run(history.export("acme"), START, END, "failed")
    history.result(run, "deliver", "failure", REASON)
    run.note = before
    history.session.commit()
    on_dag_run_failed(run, "")
    assert run.note == (
        f"Failed: deliver: AccessDenied: `grant storage.objects.create`{ABOUT}accessdenied)" if renewed else before
    )


def test_a_run_whose_task_is_tried_again_says_why_and_when(history: History) -> None:
    note_retries()
    run = history.run(history.export("acme"), START, END, "running")
    history.retry(run, "deliver", "TargetUnavailable: sftp.acme.example: refused", 3, 90, END)
    _NOTES.submit(int).result()  # until what was submitted before is over
    history.session.expire_all()
    words = "deliver: TargetUnavailable: `sftp.acme.example: refused (try 4 of 9 at 2025-03-17 00:01:30 UTC)`"
    assert run.note == f"Retrying: {words}{ABOUT}targetunavailable)"
    assert is_ours(run.note)


def test_a_thousand_sites_that_fail_a_try_at_once_renew_the_note_once(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what fails after a look at them takes another."""
    note_retries()
    run = history.run(history.export("acme"), START, END, "running")
    for site in range(20):
        history.result(run, "deliver", "failure", None, map_index=site, state="running")
    sites = history.session.scalars(select(TaskInstance).order_by(TaskInstance.map_index)).all()
    looks: list[str] = []
    kept, gate = guards.note_retry, threading.Event()
    monkeypatch.setattr(guards, "note_retry", lambda *run: (looks.append(run[1]), kept(*run)))
    _NOTES.submit(gate.wait, 30)
    for site in sites[:-1]:
        site.state, site.retry_reason = "up_for_retry", "TargetUnavailable: refused"
        history.session.commit()
    gate.set()
    _NOTES.submit(int).result()
    assert looks == [run.run_id]
    sites[-1].state, sites[-1].retry_reason = "up_for_retry", "TargetUnavailable: refused"
    history.session.commit()
    _NOTES.submit(int).result()
    assert looks == [run.run_id] * 2


def test_a_note_is_written_though_the_database_fails_once(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    note_retries()
    run = history.run(history.export("acme"), START, END, "running")
    ended = [OperationalError("select 1", {}, Exception("the connection was closed"))]

    def written(tag: str, words: str) -> str:
        if ended:
            raise ended.pop()
        return as_note(tag, words)

    monkeypatch.setattr(guards, "as_note", written)
    history.retry(run, "deliver", "TargetUnavailable: refused", 3, 90, END)
    _NOTES.submit(int).result()
    history.session.expire_all()
    assert ended == []
    assert str(run.note).startswith("Retrying: deliver: TargetUnavailable: ")


def test_and_leaves_what_a_person_wrote(history: History) -> None:
    run = history.run(history.export("acme"), START, END, "running")
    run.note = "Ann calls them"
    history.retry(run, "deliver", "TargetUnavailable: refused", 3, 90, END)
    note_retry(run.dag_id, run.run_id)
    history.session.expire_all()
    assert run.note == "Ann calls them"


@pytest.mark.parametrize("end", ["", "`", "``", "\\", " ", "<", "[", "\n\n"])
@pytest.mark.parametrize(
    "words",
    [
        "[sign in](https://evil.example)",
        "![x](https://evil.example/x.png)",
        "https://evil.example/a(b)",
        "www.evil.example",
        "ann@evil.example",
        "<https://evil.example>",
        "<img src=x onerror=alert(1)><script>alert(1)</script>",
        "# heading",
        "a\n# heading\n\n- item\n\n> quote\n\n---",
        "`](https://evil.example)",
        "``` `[x](https://evil.example)` ```",
        "a\\`[x](https://evil.example)",
        "[x]: https://evil.example\n\n[x]",
        "| a | b |\n|---|---|\n| c | d |",
        "**bold** _thin_ ~~gone~~ &lt;b&gt; &#96;",
        "\u202eevil\u2066\x1b[31m",
        "`" * 990,
        "[x](https://evil.example) " * 60,
    ],
)
def test_foreign_words_in_a_note_are_words_only(words: str, end: str) -> None:
    note = as_note(FAILED, f"deliver: AccessDenied: {words}{end}")
    assert len(note) <= LONGEST_NOTE
    assert note.isprintable()
    assert is_ours(note)
    paragraph, inline, close = MarkdownIt().parse(note)
    assert (paragraph.type, close.type) == ("paragraph_open", "paragraph_close")
    head, code, dot, link, about, end_of_link = inline.children or ()
    assert (head.type, head.content, code.type) == ("text", "Failed: deliver: AccessDenied: ", "code_inline")
    assert (dot.type, link.type, about.content, end_of_link.type) == (
        "text",
        "link_open",
        "About this error",
        "link_close",
    )
    assert link.attrs == {"href": "/data-exports/errors.html#accessdenied"}
