"""A Ray cluster of two nodes on this machine that loses one of them while jobs run; see test_jobs.py.

Run as: python ray_cluster.py FOLDER. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grid_work
from ray.cluster_utils import Cluster

from cytoforge.core.jobs import Job, run_jobs

JOBS = [Job({"n": n, "seconds": 1.0}) for n in range(8)]


def begun_on(raylet: int, folder: Path) -> list[str]:
    """Keys of jobs that a worker of this node has begun and not finished."""
    return [
        path.parent.name
        for path in folder.glob("*/parent.txt")
        if path.read_text().strip() == str(raylet) and not (path.parent / "finished.txt").exists()
    ]


def two_nodes(first: int = 2, attempts: int = 4) -> tuple[Cluster, Any]:
    """A cluster with `first` processors on its first node, and its second node, which has one.

    Ray gives a node 30 s to start, too little where all cores are busy.
    """
    while True:
        cluster = Cluster()
        try:
            cluster.add_node(num_cpus=first, include_dashboard=False)
            second = cluster.add_node(num_cpus=1)
            cluster.wait_for_nodes(120)
            return cluster, second
        except Exception:
            cluster.shutdown()
            attempts -= 1
            if not attempts:
                raise


def main(folder: Path) -> None:
    """Do the jobs and say what happened."""
    cluster, second = two_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    raylet = second.all_processes["raylet"][0].process.pid
    lost: list[str] = []
    before: list[str] = []

    def kill() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not lost:
            lost.extend(begun_on(raylet, folder))
            time.sleep(0.05)
        before.extend(grid_work.done(folder))
        cluster.remove_node(second, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        results = run_jobs(grid_work.square, JOBS, folder, "ray")
    finally:
        killer.join()
        cluster.shutdown()
    print(json.dumps({"results": results, "lost": lost, "before": before}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
