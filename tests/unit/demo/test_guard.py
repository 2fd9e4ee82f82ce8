"""What watches over the demo's processes ends with its `with` block."""

import multiprocessing
import subprocess
import time

import pytest

from demo.guard import Guard


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_that_keeps_the_pipe_open_does_not_keep_the_guard() -> None:
    """As the processes of OpenLineage's listener do."""
    fork = multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,))
    with Guard(grace=1) as guard:
        watched = subprocess.Popen(["sleep", "60"], start_new_session=True)
        guard.watch(watched.pid)
        fork.start()
    ended = fork.is_alive()
    fork.kill()
    fork.join()
    assert watched.wait(5) != 0
    assert ended, "the guard waited for the fork"
