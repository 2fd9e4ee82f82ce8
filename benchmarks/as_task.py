"""Runs our side of a benchmark as a task of a worker does, which has imported its libraries before it forks.

    PYTHONPATH=plugins python -m benchmarks.as_task benchmarks.images --ours ...

The last line says what it spent after that, as JSON: seconds by the clock, and seconds of CPU.
"""

import gc
import json
import os
import runpy
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

PRELOAD = Path(__file__).parents[1] / "deploy" / "preload"


def main(module: str, *arguments: str) -> None:
    with TemporaryDirectory() as home:
        os.environ["AIRFLOW_HOME"] = home
        sys.path.insert(0, str(PRELOAD))
        import airflow_local_settings  # noqa: F401 - what it does at its import is what we are after

        gc.collect()
        gc.freeze()  # as Airflow's executors do before they fork
        sys.argv[1:] = arguments
        wall, cpu = time.perf_counter(), time.process_time()
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))


if __name__ == "__main__":
    main(*sys.argv[1:])
