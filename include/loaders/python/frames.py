"""The newest state of each work order as typed tables: pyarrow, and from it pandas and polars. All in memory.

    tables = arrow_tables(Path("acme"), zone="Europe/Paris")
    tables["analysis"].to_pandas(types_mapper=pandas.ArrowDtype)
    polars.from_arrow(tables["analysis"])

The tables and columns are those of the SQL loaders' views that `questions.sql` needs, so it runs on them in DuckDB:
without the view `work_item`, and without columns that hold what is nested, such as `work_items`.
"""

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from delivered import DataFile, Number, data_files, newest

_MOMENT = pa.timestamp("us", "UTC")
_DATES = ("create_date", "update_date", "corrected_date")
_ITEM = {
    "export_type": pa.string(),
    "site_id": pa.string(),
    "work_order_id": pa.string(),
    "work_item_id": pa.string(),
    "work_item_name": pa.string(),
}
_INPUT = _ITEM | {
    "attempt": pa.int64(),
    "input_id": pa.string(),
    "create_date": _MOMENT,
    "week": pa.date32(),
    "minutes_after_creation": pa.float64(),
    "image": pa.string(),
}
SCHEMAS = {
    "work_order": {
        "export_type": pa.string(),
        "window_start": _MOMENT,
        "window_end": _MOMENT,
        "revision": pa.int64(),
        "id": pa.string(),
        "name": pa.string(),
        "site_id": pa.string(),
        "create_date": _MOMENT,
        "update_date": _MOMENT,
        "metadata": pa.string(),
        "progress_score": pa.float64(),
        "week": pa.date32(),
    },
    "input": _INPUT | {"metadata": pa.string()},
    "data_check": _INPUT | {"check_name": pa.string(), "code": pa.int64(), "check_level": pa.string()},
    "analysis": _INPUT
    | {
        "task_name": pa.string(),
        "analyzed_value": pa.string(),
        "corrected_value": pa.string(),
        "corrected_date": _MOMENT,
        "message": pa.string(),
        "is_conformity_validated": pa.bool_(),
        "is_first": pa.bool_(),
    },
}
_Row = dict[str, Any]

_CHECK = pa.struct({"check": pa.string(), "code": pa.int64(), "level": pa.string()})
_JOB = pa.struct(
    {
        "task_name": pa.string(),
        "analyzed_value": pa.string(),
        "corrected_value": pa.string(),
        "corrected_date": _MOMENT,
        "message": pa.string(),
        "is_conformity_validated": pa.bool_(),
    }
)
_ENTRY = pa.struct(
    {
        "id": pa.string(),
        "create_date": _MOMENT,
        "file_extension": pa.string(),
        "metadata": pa.string(),
        "data_conformity": pa.list_(_CHECK),
        "job_conformity": pa.list_(_JOB),
    }
)
#: A whole record, nested as delivered, with metadata and values as JSON text.
RECORD = pa.schema(
    {
        "id": pa.string(),
        "name": pa.string(),
        "site_id": pa.string(),
        "create_date": _MOMENT,
        "update_date": _MOMENT,
        "metadata": pa.string(),
        "progress_score": pa.float64(),
        "work_items": pa.list_(pa.struct({"id": pa.string(), "name": pa.string(), "input": pa.list_(_ENTRY)})),
    }
)


def nested(value: Any, key: str = "") -> Any:
    """A parsed record as a row of `RECORD`."""
    if isinstance(value, dict):
        return {name: nested(entry, name) for name, entry in value.items()}
    if isinstance(value, list):
        return [nested(entry) for entry in value]
    if value is None or key == "metadata":
        return value
    if key in {"analyzed_value", "corrected_value"}:
        return _json(value)
    convert = {"progress_score": float, "code": int} | dict.fromkeys(_DATES, datetime.fromisoformat)
    return convert.get(key, lambda entry: entry)(value)


def arrow_tables(root: Path, zone: str = "UTC") -> dict[str, pa.Table]:
    """The tables of `SCHEMAS` from all data files below a folder. Weeks begin on Monday in `zone`."""
    rows: dict[str, list[_Row]] = {name: [] for name in SCHEMAS}
    for file, record in newest(data_files(root)):
        for table, row in _rows(file, record, ZoneInfo(zone)):
            rows[table].append(row)
    return {
        name: pa.Table.from_pylist(rows[name], pa.schema(list(columns.items()))) for name, columns in SCHEMAS.items()
    }


def _rows(file: DataFile, record: _Row, zone: ZoneInfo) -> Iterator[tuple[str, _Row]]:
    created = _moment(record["create_date"])
    order: _Row = {name: record[name] for name in ("id", "name", "site_id", "metadata")}
    for name in ("export_type", "window_start", "window_end", "revision"):
        order[name] = getattr(file, name)
    order |= {"create_date": created, "update_date": _moment(record["update_date"]), "week": _week(created, zone)}
    score = record.get("progress_score")
    yield "work_order", order | {"progress_score": None if score is None else float(score)}
    for item in record["work_items"]:
        firsts: dict[str | None, int] = {}
        for attempt, entry in enumerate(item["input"], 1):
            row = _input(file, record, item, entry) | {"attempt": attempt}
            taken = row["create_date"]
            row["week"] = _week(taken or created, zone)
            if taken and created:
                row["minutes_after_creation"] = (taken - created).total_seconds() / 60
            yield "input", row | {"metadata": entry["metadata"]}
            for found in entry["data_conformity"] or ():
                code = found["code"]
                checked = {"check_name": found["check"], "code": None if code is None else int(code)}
                yield "data_check", row | checked | {"check_level": found["level"]}
            for job in entry["job_conformity"]:
                is_first = firsts.setdefault(job["task_name"], attempt) == attempt
                values: _Row = {name: _json(job[name]) for name in ("analyzed_value", "corrected_value")}
                values["corrected_date"] = _moment(job["corrected_date"])
                yield "analysis", row | job | values | {"is_first": is_first}


def _input(file: DataFile, record: _Row, item: _Row, entry: _Row) -> _Row:
    return {
        "export_type": file.export_type,
        "site_id": record["site_id"],
        "work_order_id": record["id"],
        "work_item_id": item["id"],
        "work_item_name": item["name"],
        "input_id": entry["id"],
        "create_date": _moment(entry["create_date"]),
        "image": f"{record['site_id']}/inputs/{entry['id']}{entry['file_extension'] or ''}",
    }


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _week(moment: datetime | None, zone: ZoneInfo) -> date | None:
    if moment is None:
        return None
    try:
        day = moment.astimezone(zone).date()
    except OverflowError:  # the first or last day of the calendar, which another zone does not have
        day = moment.date()
    return day - timedelta(days=day.weekday())


def _json(value: Any) -> str | None:
    """A value that may be text, number or boolean, as JSON text: one column has one type."""
    if value is None or isinstance(value, Number):
        return value
    return json.dumps(value, ensure_ascii=False)
