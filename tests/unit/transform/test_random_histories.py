"""Random sources: the data path and the oracle agree on every byte, and every line is valid."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_export.source import database as source_database
from tests.unit.oracle import expected_file
from tests.unit.source_kit import SITE, STATES, TIMELINE, WINDOW, SourceDatabase

PAGE = json.loads((Path(__file__).parent / "golden" / "page-schema.json").read_text())
VALID = jsonschema.Draft202012Validator(PAGE, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
OTHER_SITE = UUID(int=7)


def between(first: str, last: str) -> st.SearchStrategy[datetime]:
    return st.datetimes(datetime.fromisoformat(first), datetime.fromisoformat(last), timezones=st.just(UTC))


# Small pools, so that ties, shared texts and boundary instants are the rule.
instants = st.one_of(
    st.none(),
    st.sampled_from(
        [WINDOW.start, WINDOW.end, WINDOW.start - timedelta(microseconds=1), WINDOW.end - timedelta(seconds=1)]
    ),
    between("2025-03-15", "2025-03-18"),
)
any_instant = st.one_of(instants, between("0001-01-02", "9999-12-30"))
texts = st.one_of(
    st.none(),
    st.sampled_from(["", "a", "é", "\u2028", "😀", 'q"\\', "\x01\t\n\x7f", "null"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
)
plain_json = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**25), 10**25), st.floats(allow_nan=False, allow_infinity=False)
)
json_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
scalars = st.one_of(
    st.none(),
    st.sampled_from(["0.0", "-0.0", "1e400", "12345678901234567890"]),
    (plain_json | json_texts).map(json.dumps),
)
nested = st.recursive(
    plain_json | json_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(json_texts, inner, max_size=3),
    max_leaves=5,
)
objects = st.one_of(st.none(), st.just("null"), st.dictionaries(json_texts, nested, max_size=3).map(json.dumps))
extensions = st.sampled_from([None, "", ".png", ".jpeg", ".tar.gz"])
uuids = st.uuids() | st.integers(1, 6).map(lambda number: UUID(int=number << 120))


@st.composite
def histories(draw: st.DrawFn) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("work_order", "work_item", "input", "data_conformity", "job_conformity")
    }
    for order in draw(st.lists(uuids, max_size=4, unique=True)):
        rows["work_order"].append(
            {
                "id": order,
                "name": draw(texts),
                "site_id": draw(st.sampled_from([SITE, SITE, SITE, OTHER_SITE])),
                "create_date": draw(instants),
                "update_date": draw(instants),
                "metadata": draw(objects),
                "progress_score": draw(st.none() | st.floats()),
            }
        )
    for item in draw(st.lists(uuids, max_size=5, unique=True)) if rows["work_order"] else []:
        parent = draw(st.sampled_from(rows["work_order"]))["id"]
        position = draw(st.none() | st.integers(0, 2))
        rows["work_item"].append({"id": item, "work_order_id": parent, "name": draw(texts), "position": position})
    for shot in draw(st.lists(uuids, max_size=6, unique=True)) if rows["work_item"] else []:
        rows["input"].append(
            {
                "id": shot,
                "work_item_id": draw(st.sampled_from(rows["work_item"]))["id"],
                "create_date": draw(instants),
                "file_extension": draw(extensions),
                "metadata": draw(objects),
            }
        )
    for row in rows["input"]:
        for _ in range(draw(st.integers(0, 3))):
            check = {
                "input_id": row["id"],
                "check": draw(texts),
                "code": draw(st.none() | st.integers(0, 2)),
                "level": draw(texts),
            }
            rows["data_conformity"].append(check)
        for _ in range(draw(st.integers(0, 4))):
            rows["job_conformity"].append(
                {
                    "input_id": row["id"],
                    "task_name": draw(st.sampled_from([None, "ctx", "Ctx", "geo"])),
                    "analyzed_value": draw(scalars),
                    "corrected_value": draw(scalars),
                    "corrected_date": draw(any_instant),
                    "message": draw(texts),
                    "is_conformity_validated": draw(st.none() | st.booleans()),
                }
            )
    return rows


@pytest.fixture
def tiny_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of a few rows, so that work orders lie across their borders."""
    monkeypatch.setattr(source_database, "BATCH_BYTES", 200)


@pytest.mark.usefixtures("tiny_batches")
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=histories())
def test_every_byte_is_the_oracles(
    source: SourceDatabase, tmp_path: Path, history: dict[str, list[dict[str, Any]]]
) -> None:
    source.clear()
    for table, rows in history.items():
        source.insert(table, rows)
    # A site of which the source knows nothing is an error of its own.
    source.insert("work_order", [{"id": UUID(int=99), "site_id": SITE}])
    for export_type in (TIMELINE, STATES):
        expected = expected_file(source.dsn, SITE, WINDOW.start, WINDOW.end, states=export_type == STATES)
        shutil.rmtree(tmp_path)
        exported = source.export(tmp_path, export_type)
        assert exported.data == expected
        assert exported.result.work_orders == expected.count(b"\n")
        for line in exported.data.splitlines():
            VALID.validate(json.loads(line))
