"""`make answer`: loads what was delivered, as a customer would, and answers a question with it.

    python -m demo.answer [FOLDER]

FOLDER is where the data files are, by default what `make demo` delivered to Cloud Storage. The question: on which tasks
is the AI's analysis corrected most often?
"""

import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as reader

from data_export.config.platform import state_dir
from demo.ls import GCS_FOLDER

#: Named, not guessed: a value that is a number in one record may be a text or nothing in the next.
_JOB = pa.struct([("task_name", pa.string()), ("corrected_date", pa.string()), ("is_conformity_validated", pa.bool_())])
_INPUT = pa.struct([("id", pa.string()), ("job_conformity", pa.list_(_JOB))])
_SCHEMA = pa.schema([("id", pa.string()), ("work_items", pa.list_(pa.struct([("input", pa.list_(_INPUT))])))])


_FEWEST = 10


def load(folder: Path) -> pa.Table:
    """One row for each job of every data file: work order, task, whether a person corrected it."""
    options = reader.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="ignore")
    files = [path for path in sorted(folder.glob("*/data/*/*.json")) if path.stat().st_size]
    if not files:
        raise SystemExit(f"{folder} holds no data files: run `make demo` first, or name another folder")
    orders = pa.concat_tables(reader.read_json(path, parse_options=options) for path in files)
    print(f"{orders.num_rows:,} work orders in {len(files)} files of {folder}")
    items = _exploded(orders["work_items"])
    jobs = _exploded(_exploded(items, "input"), "job_conformity")
    return pa.table({name: pc.struct_field(jobs, name) for name in ("task_name", "corrected_date")})


def _exploded(column: pa.ChunkedArray | pa.Array, field: str | None = None) -> pa.Array:
    """The items of all lists, one after the other."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pc.list_flatten(pc.struct_field(whole, field) if field else whole)


def main() -> int:
    default = state_dir() / GCS_FOLDER / "demo-customer" / "deepomatic" / "production"
    jobs = load(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
    tasks = Counter(jobs["task_name"].to_pylist())
    corrected = Counter(jobs.filter(pc.is_valid(jobs["corrected_date"]))["task_name"].to_pylist())
    print("On which tasks is the AI's analysis corrected most often?\n")
    print(f"  {'task':<32}{'jobs':>8}{'corrected':>12}{'share':>8}")
    often = [task for task, number in tasks.items() if number >= _FEWEST]  # a share of one job says nothing
    for task in sorted(often, key=lambda name: -corrected[name] / tasks[name]):
        print(f"  {task:<32}{tasks[task]:>8,}{corrected[task]:>12,}{corrected[task] / tasks[task]:>8.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
