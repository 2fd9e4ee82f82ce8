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

from data_export.config.platform import ROOT, state_dir
from demo.ls import GCS_FOLDER

_FEWEST = 10


def load(folder: Path) -> pa.Table:
    """One row for each analysis in the newest state of each work order, which several files may have."""
    sys.path.insert(0, str(ROOT / "include" / "loaders" / "python"))  # what customers get
    from delivered import data_files  # type: ignore[import-not-found]
    from frames import arrow_tables  # type: ignore[import-not-found]

    files = data_files(folder) if folder.is_dir() else []
    if not files:
        raise SystemExit(f"{folder} holds no data files: run `make demo` first, or name another folder")
    tables = arrow_tables(folder)
    print(f"{tables['work_order'].num_rows:,} work orders in {len(files)} files of {folder}")
    return tables["analysis"]


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
