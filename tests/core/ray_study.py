"""A study on a Ray cluster of two nodes on this machine, one worker of which is killed; see test_jobs.py.

Run as: python ray_study.py DATA OUT. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from ray_cluster import two_nodes
from study_work import PHOTO, PLAN, held, train_and_wait

from cytoforge.stages import study as stage


def main(data: Path, out: Path) -> None:
    """Make the study and say which worker was killed with which job."""
    cluster, _ = two_nodes(first=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    killed: list[str] = []

    def kill() -> None:
        path, deadline = held(out), time.monotonic() + 500
        while time.monotonic() < deadline and not killed:
            if path.is_file() and path.read_text().endswith("\n"):
                killed.extend(path.read_text().split())
                os.kill(int(killed[0]), signal.SIGKILL)
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    stage.train_generator = train_and_wait
    try:
        stage.study(data, out, PLAN, group=PHOTO, executor="ray")
    finally:
        killer.join()
        cluster.shutdown()
    print(json.dumps({"process": int(killed[0]), "job": killed[1], "own": os.getpid()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
