"""What the fields mean, and how a customer loads the files: the loader kit by engine, with commands for these files."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from data_export.config.models import CustomerExport
from data_export.config.platform import ROOT
from data_export.delivery.handed_over import Handover
from data_export.layout import Encoding

RECORD_SCHEMA = ROOT / "include" / "schemas" / "record.schema.json"
LOADERS = ROOT / "include" / "loaders"
#: Of each file in the archive, so that the same kit gives the same bytes.
_DATE = (2020, 1, 1, 0, 0, 0)


class Delivered(NamedTuple):
    """What the commands need to know. `pattern` finds the data files below `folder`, for DuckDB.

    `fetch` copies them there; DuckDB's part of the sheet has it for all, unless one engine is shown alone.
    """

    folder: str
    fetch: str
    pattern: str
    zone: str
    is_timeline: bool
    encoding: Encoding
    is_mailed: bool
    is_alone: bool


class Engine(NamedTuple):
    """An engine, its folder of the kit, and what to run."""

    folder: str
    title: str
    words: str
    commands: str = ""
    after: str = ""
    language: str = "sh"


def engines(given: Delivered, wanted: str | None = None) -> tuple[Engine, ...]:
    """All engines of the kit, or the wanted one."""
    return tuple(ENGINES[name](given) for name in ENGINES if wanted in (None, name))


def kit(wanted: str | None = None) -> Iterator[tuple[str, str]]:
    """`(path, text)` of each file that the engine needs, below `loaders/`; of all engines if none is wanted."""
    folders = {wanted, "python"} if wanted in ("postgresql", "spark") else {wanted}
    for path in sorted(LOADERS.rglob("*")):
        parts = path.relative_to(LOADERS).parts
        if path.suffix in (".sql", ".py", ".sh") and (wanted is None or len(parts) == 1 or parts[0] in folders):
            yield "/".join(parts), path.read_text(encoding="utf-8")


def kit_zip(wanted: str | None = None) -> bytes:
    """The same as an archive with one folder, `loaders`; always the same bytes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in kit(wanted):
            archive.writestr(zipfile.ZipInfo(f"loaders/{path}", _DATE), text, zipfile.ZIP_DEFLATED)
    return made.getvalue()


_ZONE = "UPDATE reporting SET zone = '%s'"
_NEWEST = "SELECT id, name, update_date, progress_score FROM work_order ORDER BY update_date DESC LIMIT 3"
_FIRST_TIME_RIGHT = (
    "SELECT task_name, week, first_photos, first_photos_undecided AS undecided, validated_first_pct, uncorrected_pct "
    "FROM first_time_right ORDER BY task_name, week"
)
_READINGS = (
    "`validated_first_pct` says how often field work was right at the first photo, `uncorrected_pct` how often the "
    "automatic analysis was right. They differ, so say which one you show. Photos on which nobody decided are counted "
    "in `undecided` and are in neither side of the first."
)
_STATES = (
    "`first_time_right` and the other questions need the first photo of each work item. This export has the last one "
    "only: ask us for `work-orders-timeline` if you need them."
)
_NOT_OF_A_MAIL = (
    "It reads a bucket, and these files come by mail: use another loader, or ask us for "
    "`connector_type: cloud_storage`."
)


def _duckdb(given: Delivered) -> Engine:
    load = "load_parquet.sql" if given.encoding == "parquet" else "load.sql"
    run = f"duckdb {given.folder}.duckdb"
    lines = [
        "pip install duckdb-cli",
        *([given.fetch] if given.fetch else []),
        f"{run} -f loaders/duckdb/create.sql -f loaders/questions.sql",
        f'{run} -c "{_ZONE % given.zone}"',
        f"{run} -cmd \"SET VARIABLE delivered = '{given.pattern}'\" -f loaders/duckdb/{load}",
        f'{run} -c "{_NEWEST}"',
        *([f'{run} -c "{_FIRST_TIME_RIGHT}"'] if given.is_timeline else []),
        f'{run} -c "FROM missing_window"',
    ]
    first = (
        f"The second command copies the data files, without the images, to the folder `{given.folder}`. Their names "
        "have `:`, which Windows does not allow: run the commands in WSL there."
    )
    if not given.fetch:
        first = f"Save the data files in the folder `{given.folder}` first."
    words = f"The newest state of each work order in five minutes, with DuckDB 1.3 or newer. {first}"
    repeat = "Repeat the copy and the load" if given.fetch else "Repeat the load"
    after = (
        f"{repeat} for every delivery: what is loaded already is not loaded twice, in any order. `work_order`, "
        "`work_item`, `input`, `data_check` and `analysis` show the newest state, `delivered_record` has the history. "
        "The last command should show no row: each would be a window whose file is not loaded. "
    )
    return Engine("duckdb", "DuckDB", words, "\n".join(lines), after + (_READINGS if given.is_timeline else _STATES))


def _postgresql(given: Delivered) -> Engine:
    lines = (
        *([given.fetch] if given.fetch and given.is_alone else []),
        "pip install 'psycopg[binary]' pyarrow",
        'psql -q "$DSN" -f loaders/postgresql/create.sql -f loaders/questions.sql',
        f'psql -q "$DSN" -c "{_ZONE % given.zone}"',
        f'python loaders/python/postgresql.py "$DSN" {given.folder}',
        *([f'psql "$DSN" -c "{_FIRST_TIME_RIGHT}"'] if given.is_timeline else []),
    )
    bash = f'`bash loaders/postgresql/load.sh "$DSN" {given.folder}` does the same'
    after = "" if given.encoding == "parquet" else f"Without Python, {bash}, and reads every file each time."
    words = f"PostgreSQL 14 or newer, from the folder `{given.folder}`; `DSN` is the address of your database."
    return Engine("postgresql", "PostgreSQL", words, "\n".join(lines), after)


def _in_place(folder: str, title: str, edit: str, how: str = "", **packed: str) -> Callable[[Delivered], Engine]:
    """Of an engine that reads the bucket itself; `packed` says by encoding what else is to be done."""
    packed = {"parquet": "It reads no Parquet: use another loader, or ask us for `file_format: json`."} | packed

    def made(given: Delivered) -> Engine:
        if given.is_mailed:
            return Engine(folder, title, _NOT_OF_A_MAIL)
        run = f"run `{folder}/create.sql` and `questions.sql`{how}, then `{folder}/load.sql` on your schedule"
        return Engine(folder, title, f"Put {edit}, and {run}. {packed.get(given.encoding, '')}".rstrip())

    return made


def _spark(_: Delivered) -> Engine:
    words = (
        "Spark 4. Run `spark/create.sql` and `questions.sql`, then `python/spark.py`, which also reads names with `:` "
        "that Hadoop refuses."
    )
    return Engine("spark", "Spark and Databricks", words)


def _python(given: Delivered) -> Engine:
    lines = (
        "from pathlib import Path",
        "from frames import arrow_tables",
        f'tables = arrow_tables(Path("{given.folder}"), zone="{given.zone}")',
        'orders, analyses = tables["work_order"], tables["analysis"]',
    )
    words = (
        f"In memory, with the columns of the views. Copy the data files to the folder `{given.folder}`, set "
        "`PYTHONPATH=loaders/python`, and run in Python:"
    )
    return Engine("python", "pandas, polars, pyarrow", words, "\n".join(lines), language="python")


#: Each folder of the kit, in the order of the sheet.
ENGINES: dict[str, Callable[[Delivered], Engine]] = {
    "duckdb": _duckdb,
    "postgresql": _postgresql,
    "bigquery": _in_place(
        "bigquery",
        "BigQuery",
        "your bucket into `bigquery/load.sql`",
        " by the command that the first begins with",
        gzip="Write `compression = 'GZIP'` there, and end the URIs with `.json.gz`.",
        zstd="It does not read `.json.zst`: use another loader, or ask us for `compression: gzip`.",
    ),
    "snowflake": _in_place("snowflake", "Snowflake", "your bucket and storage integration into `snowflake/create.sql`"),
    "spark": _spark,
    "python": _python,
}


def loading(name: str, export: CustomerExport, handed: Handover, engine: str | None) -> dict[str, Any]:
    """What the templates show of loading: `engines` with their commands, and the files of the `kit`."""
    given = Delivered(
        name,
        handed.fetch.replace("{folder}", name),
        _pattern(name, export),
        export.timezone,
        export.export_type == "work-orders-timeline",
        export.encoding,
        bool(export.connector_config.recipients()),
        engine is not None,
    )
    return {
        "engines": [each._asdict() for each in engines(given, engine)],
        "kit": [{"path": path, "text": text.rstrip("\n")} for path, text in kit(engine)],
    }


def _pattern(name: str, export: CustomerExport) -> str:
    """Which files DuckDB loads; the folder of images is never looked into."""
    ending = "parquet" if export.file_format == "parquet" else "json*"
    if export.connector_config.recipients():
        return f"{name}/*.{ending}"
    return f"{name}/**/data/{export.export_type}/*.{ending}"


def fields() -> Iterator[dict[str, str]]:
    """Each field of a record by its path, from the schema that customers get."""
    return _fields(json.loads(RECORD_SCHEMA.read_text(encoding="utf-8")), "")


def _fields(schema: dict[str, Any], above: str) -> Iterator[dict[str, str]]:
    for key, field in schema.get("properties", {}).items():
        path, nested = f"{above}{key}", field.get("items", {})
        kinds = [field["type"]] if isinstance(field["type"], str) else field["type"]
        named = {
            "array": "list",
            "string": {"date-time": "timestamp"}.get(fmt := field.get("format", ""), fmt) or "text",
        }
        kind = " or ".join(named.get(each, each) for each in kinds)
        examples = [json.dumps(each, ensure_ascii=False) for each in field.get("examples", [])[:1]]
        yield {"path": path, "type": kind, "meaning": field["description"], "example": "".join(examples)}
        yield from _fields(nested, f"{path}[].")
