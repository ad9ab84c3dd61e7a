"""Two Dask workers on this machine, one of which is killed while jobs run; see test_jobs.py.

Run as: python dask_workers.py FOLDER. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import grid_work
from distributed import LocalCluster

from cytoforge.core.jobs import Job, run_jobs

JOBS = [Job({"n": n, "seconds": 1.0}) for n in range(8)]


def begun(folder: Path) -> list[tuple[str, int]]:
    """Keys and processes of jobs that are begun and not finished."""
    return [
        (path.parent.name, int(path.read_text().split()[0]))
        for path in folder.glob("*/begun.txt")
        if path.read_text() and not (path.parent / "finished.txt").exists()
    ]


def main(folder: Path) -> None:
    """Do the jobs and say what happened."""
    lost: list[str] = []
    before: list[str] = []

    def kill() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not lost:
            for key, process in begun(folder)[:1]:
                before.extend(grid_work.done(folder))
                os.kill(process, signal.SIGKILL)
                lost.append(key)
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        os.environ["DASK_SCHEDULER_ADDRESS"] = cluster.scheduler_address
        killer.start()
        results = run_jobs(grid_work.square, JOBS, folder, "dask")
        killer.join()
    print(json.dumps({"results": results, "lost": lost, "before": before}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
