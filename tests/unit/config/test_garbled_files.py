"""A garbled or hostile file of the allowed size: every parse of each DAG file pays for it, so its cost is counted."""

import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from data_export.config import moments
from data_export.config.load import load_customers
from data_export.config.problems.problems import MOST_PROBLEMS, ConfigProblem, first_of_many
from data_export.config.reading.file_text import CUSTOMER_FILE
from tests.customers import GOOD, SITE

_FILE = GOOD % "x"
_SIZE = CUSTOMER_FILE.bytes - 1000
_MOST_CALLS = 100_000  # of functions, ours and the libraries': some 10 ms


def repeated(pattern: str) -> str:
    """The pattern, `%x` in it counted up, until a file is full."""
    number = range(_SIZE // len(pattern))
    return "".join(pattern.replace("%x", f"{i:x}") for i in number)[:_SIZE].rpartition(pattern[-1])[0] + pattern[-1]


GARBLED = {
    "sites": _FILE.replace(SITE, repeated("x,")),
    "more sites than a run can have": _FILE.replace(SITE, ",".join(f"x{i}" for i in range(4000))),
    "mail addresses": _FILE.replace("storage_uri:", f"emails: [{repeated('x@y,')}], storage_uri:"),
    "unknown keys": _FILE + repeated("k%x: 1\n"),
    "a thousand unknown keys": _FILE + "".join(f"k{i}: 1\n" for i in range(1000)),
    "a thousand keys almost known": _FILE + "".join(f"timezon{i}: 1\n" for i in range(1000)),
    "unknown limits": _FILE + "limits:\n" + repeated("  max_window_days%x: 1\n"),
    "one key again and again": _FILE + repeated("x: 1\n"),
    "anchors": _FILE + "x: [" + repeated("&a,") + "]\n",
    "aliases": _FILE + "x: [" + repeated("*a,") + "]\n",
    "lists as keys": _FILE + repeated("? [a]\n: 1\n"),
    "lists": _FILE + "x: [" + repeated("[],") + "]\n",
    "depth": "a: " + repeated("["),
    "depth by indentation": "".join(" " * depth + "a:\n" for depth in range(300)),
    "documents": _FILE + repeated("---\n"),
    "a long key": _FILE + "? " + repeated("k") + "\n: 1\n",
    "a long key twice": _FILE + ("? " + "k" * 30_000 + "\n: 1\n") * 2,
    "a long address": _FILE.replace("bucket", repeated("a")),
    "a deep address": _FILE.replace("bucket/", "bucket/" + repeated("a/")),
    "a long interval": _FILE.replace("daily", repeated("daily")),
    "a long cron expression": _FILE.replace("daily", f"'{repeated('1,')}1 * * * *'"),
    "a long time zone": _FILE + f"timezone: {repeated('Europe/Pari')}\n",
    "a long number": _FILE + f"limits: {{max_window_days: {repeated('9')}}}\n",
}


@pytest.mark.parametrize("case", GARBLED)
def test_its_problems_and_what_they_cost_are_few(case: str, tmp_path: Path) -> None:
    text = GARBLED[case]
    assert len(text.encode()) <= CUSTOMER_FILE.bytes
    (tmp_path / "acme.yaml").write_text(text)
    load_customers(tmp_path)  # whose first call imports
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        loaded = load_customers(tmp_path)
    finally:
        sys.setprofile(None)
    assert 0 < len(loaded.problems) <= MOST_PROBLEMS + 1
    assert sum(len(str(problem)) for problem in loaded.problems) < 10_000
    assert calls < _MOST_CALLS


def test_the_problems_that_are_not_told_are_counted(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text(_FILE.replace(SITE, ",".join(f"x{i}" for i in range(1000))))
    problems = load_customers(tmp_path).problems
    assert [problem.key for problem in problems[:-1]] == [f"site_id[{i}]" for i in range(MOST_PROBLEMS)]
    assert str(problems[-1]) == f"{tmp_path}/acme.yaml: has 980 more problems: fix those above first"


def test_the_first_problems_of_a_file_are_told_whatever_kind_they_are(tmp_path: Path) -> None:
    keys = "".join(f"timezon{i}: 1\n" for i in range(100))
    (tmp_path / "acme.yaml").write_text(
        "interval: dayly\nexport_typ: x\n" + keys + _FILE.replace("interval: daily", "")
    )
    problems = load_customers(tmp_path).problems
    assert [problem.line for problem in problems[:-1]] == [*range(1, MOST_PROBLEMS + 1)]
    assert "has 82 more problems" in problems[-1].message


def test_a_file_with_too_many_values_says_where_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text(GARBLED["sites"])
    (problem,) = load_customers(tmp_path).problems
    assert (problem.line, problem.key) == (1, "site_id")
    assert problem.message == "is where the file passes 4,096 values: split it into several exports"


def test_a_long_list_of_sites_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text(GARBLED["more sites than a run can have"])
    (problem,) = load_customers(tmp_path).problems
    assert problem.message == "has more than 1024 items: split it over several files"


def test_a_long_path_is_refused_before_its_other_forms_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To put 28,000 combining marks in order takes more than a second."""
    seen = []
    monkeypatch.setattr(unicodedata, "normalize", lambda _form, text: seen.append(text) or text)
    for path in ("a" + "\u0301\u0316" * 14_000, "short"):
        (tmp_path / "acme.yaml").write_text(_FILE.replace("/x", f"/{path}"))
        load_customers(tmp_path)
    assert "/short" in seen
    assert max(map(len, seen)) < 100  # the platform's own addresses are looked at too


@pytest.mark.parametrize(
    ("right", "wrong", "line", "said"),
    [
        ("interval: daily", "interval daily", 2, "is not of the form `key: value`: write a colon after the key"),
        ("interval: daily", "interval:daily", 2, "a colon after the key, and a space after it"),
        ("start_date: 2025-03-16", "start_date:", 3, "start_date: is empty: write a date, e.g. 2025-03-16"),
        ("interval: daily", "interval: daily\ntimezone: Paris", 3, "did you mean Europe/Paris?"),
        ("interval: daily", "interval: daily\ntimezone: new york", 3, "did you mean America/New_York?"),
        ("interval: daily", "interval: daily\ntimezone: GMT+2", 3, "an offset has no daylight saving: write a place"),
        ("[433a60f6-9756-473e-b1e9-9e89e24bb787]", "[{A: 433a60f6-9756-473e-b1e9-9e89e24bb787}]", 1, "without the bra"),
    ],
)
def test_what_is_easily_mistyped_is_named_at_its_line(
    right: str, wrong: str, line: int, said: str, tmp_path: Path
) -> None:
    text = (GOOD % "acme").replace(right, wrong)
    assert text != GOOD % "acme"
    (tmp_path / "acme.yaml").write_text(text)
    (problem,) = load_customers(tmp_path).problems
    assert (problem.line, said in str(problem)) == (line, True), str(problem)


def test_a_wrong_zone_of_thousands_of_files_is_looked_up_once(tmp_path: Path) -> None:
    moments._near_zone.cache_clear()
    for number in range(20):
        (tmp_path / f"acme-{number}.yaml").write_text((GOOD % number) + "timezone: Europe/Parris\n")
    problems = load_customers(tmp_path).problems
    assert all("did you mean Europe/Paris?" in problem.message for problem in problems)
    assert (moments._near_zone.cache_info().misses, len(problems)) == (1, 20)


@pytest.mark.parametrize(("files", "problems", "lines"), [(0, 0, 0), (50, 20, 1000), (60, 20, 60 * 17), (900, 3, 900)])
def test_the_report_of_many_files_is_short(files: int, problems: int, lines: int, tmp_path: Path) -> None:
    found = [ConfigProblem(tmp_path / f"{file}", line, None, "x") for file in range(files) for line in range(problems)]
    told = first_of_many(found, tmp_path)
    assert len(told) == lines
    assert {problem.path for problem in told} == {problem.path for problem in found}, "every file is named"


def test_the_report_of_a_bad_mass_edit_says_how_many_files_it_leaves_out(tmp_path: Path) -> None:
    found = [ConfigProblem(tmp_path / f"{file}", line, None, "x") for file in range(5000) for line in range(20)]
    told = [str(problem) for problem in first_of_many(found, tmp_path)]
    assert told[:2] == [f"{tmp_path}/0:0: x", f"{tmp_path}/1:0: x"]
    assert told[1000:] == [
        f"{tmp_path}: has 4,000 more files with problems: `python -m data_export_airflow validate` lists all"
    ]
