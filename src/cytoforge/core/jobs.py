"""Many independent jobs, here or on a cluster, each done once.

One job is a mapping of JSON values. Its folder is named by the hash of that mapping:

```
folder/<key>/parameters.json   what was asked for
             result.json       what came out
             DONE              written last: SHA-256 of result.json, start, minutes, host, process, threads,
                               versions
             ...               whatever else the work leaves there
```

A job with an intact DONE is read, never done again, so the same call goes on after an interruption, and a
table from a laptop and one from a cluster are the same files. Results of other versions or another number of
threads are read too, but not silently, see `mixture`. Whoever works on a job holds a lock on its
folder; the system frees it when the process dies, so that a killed worker blocks nothing and two workers
never finish the same job. Folder and lock need a file system that all workers share.

Executors are joblib's: `serial` here, `loky` in processes of this machine, `ray` and `dask` where the
environment variables RAY_ADDRESS and DASK_SCHEDULER_ADDRESS say, or on this machine where they are unset.
"""

from __future__ import annotations

import json
import os
import platform
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import joblib
from filelock import FileLock

from cytoforge.core.device import computing_threads, surroundings
from cytoforge.core.errors import ConfigError, CytoforgeError, DataError
from cytoforge.core.executors import Executor
from cytoforge.core.files import environment_fault, read_json, sha256_bytes, sha256_file, write_json
from cytoforge.core.progress import progress, silent, tell

Work = Callable[[Mapping[str, Any], Path], Mapping[str, Any]]
"""(parameters, folder of the job) -> result, both JSON; a function of a module that workers can import."""

DONE = "DONE"
_PARAMETERS, _RESULT, _LOCK = "parameters.json", "result.json", ".lock"
_FRUITLESS = 3
_LEAST_ON_CLUSTER = 2


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        parameters: JSON values that name it wholly; equal parameters are the same job.
    """

    parameters: Mapping[str, Any]

    @property
    def key(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the parameters as JSON with sorted keys.

        Raises:
            ConfigError: they hold something that JSON has not, such as NaN or an array.

        Example:
            >>> Job({"a": 1, "b": [2]}).key == Job({"b": [2], "a": 1}).key
            True
        """
        try:
            text = json.dumps(dict(self.parameters), sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"parameters of a job must be JSON values: {error}.") from error
        return sha256_bytes(text.encode())[:16]


def run_jobs(
    work: Work,
    jobs: Sequence[Job],
    folder: Path,
    executor: Executor = "serial",
    workers: int | None = None,
    title: str = "jobs",
    threads: int = 1,
) -> list[dict[str, Any]]:
    """Results of the jobs, in their order; those that are finished in `folder` are only read.

    A job that fails does not keep the others from being done. Where workers die (killed, out of memory, a
    lost node), their unfinished jobs are done again by others.

    Args:
        work: what a job does.
        jobs: which; equal ones are done once.
        folder: where each leaves its folder.
        executor: where they are done.
        workers: how many at once, 1 or more; None takes what the executor offers. `serial` has one.
        title: what the progress bar says.
        threads: that each job computes with; the same for every executor: another number gives other bits.

    Raises:
        ConfigError: executor or workers make no sense, the executor's package is missing, or workers die
            again and again.
        DataError: `folder` holds other parameters under the key of a job.
        CytoforgeError: a job failed; the error is of its class. All others are finished.
        RuntimeError: a job failed in a way that nobody foresaw; the message holds its traceback.
    """
    _check(executor, workers, threads)
    folder = folder.resolve()
    places = {job.key: folder / job.key for job in jobs}
    for job in jobs:
        _begin(job, places[job.key])
    waiting = [place for place in places.values() if _finished(place) is None]
    with progress(title, len(places)) as advance:
        advance(len(places) - len(waiting))
        failures = _do(work, waiting, executor, workers, threads, advance)
    if failures:
        raise _summary(failures, len(places))
    results = {key: _finished(place) for key, place in places.items()}
    lost = [key for key, result in results.items() if result is None]
    if lost:
        raise DataError(f"{folder / lost[0]} lost its result while the jobs ran; run the same command again.")
    if mixed := mixture(places.values()):
        tell(f"warning: {title}: {mixed}")
    return [dict(results[job.key] or {}) for job in jobs]


def mixture(places: Iterable[Path]) -> str | None:
    """What to tell a reader of finished jobs that were not all computed alike, None where they were.

    Args:
        places: folders of finished jobs.
    """
    found = Counter(_computed_with(place) for place in places)
    if len(found) < 2:
        return None
    counts = "; ".join(f"{count} with {text}" for text, count in sorted(found.items()))
    return (
        f"results of other versions, devices or threads are mixed: {counts}. Remove the folders of the jobs "
        "that should be done again."
    )


def _computed_with(place: Path) -> str:
    """Versions, device and threads in the words of a job's DONE; early versions of cytoforge wrote none."""
    note = read_json(place / DONE)
    if "versions" not in note:
        return "versions that were not recorded"
    versions = note["versions"]
    device = note.get("device", "cpu")
    return (
        f"cytoforge {versions['cytoforge']}, torch {versions['torch']}, {device}, threads {note['threads']}"
    )


def perform(work: Work, place: Path, threads: int) -> CytoforgeError | RuntimeError | None:
    """Do one job unless it is done: what went wrong, or None. Runs in the worker.

    Args:
        work: what the job does.
        place: its folder, with parameters.json.
        threads: to compute with.
    """
    try:
        with FileLock(place / _LOCK), computing_threads(threads), silent():
            if _finished(place) is None:
                _finish(work, place)
    except CytoforgeError as error:
        return type(error)(f"{place.name}: {error}")
    except Exception as error:
        fault = environment_fault(error) if isinstance(error, OSError) else None
        if fault is not None:
            return DataError(f"{place.name}: {fault}")
        return RuntimeError(f"job {place} failed:\n{traceback.format_exc()}")
    return None


def _in_worker(
    work: Work, place: Path, threads: int, command: tuple[str, int]
) -> CytoforgeError | RuntimeError | None:
    """`perform` where a worker that is told to stop does not stop the command: its job is dealt out again.

    With one worker joblib may do the jobs in the process of the `command` (host and number), which does stop.
    """
    try:
        return perform(work, place, threads)
    except KeyboardInterrupt:
        if command == _this_process():
            raise
        raise RuntimeError(f"the worker of {place} was told to stop") from None


def _this_process() -> tuple[str, int]:
    return platform.node(), os.getpid()


def _finish(work: Work, place: Path) -> None:
    start, clock = time.time(), time.monotonic()
    (place / DONE).unlink(missing_ok=True)
    write_json(place / _RESULT, dict(work(read_json(place / _PARAMETERS), place)))
    note = {
        "result_sha256": sha256_file(place / _RESULT),
        "started": round(start, 3),
        "minutes": round((time.monotonic() - clock) / 60, 4),
        "host": platform.node(),
        "process": os.getpid(),
        **surroundings(),
    }
    write_json(place / DONE, note)


def _finished(place: Path) -> dict[str, Any] | None:
    """The result, or None where there is none or where it is not what DONE says."""
    if not (place / DONE).is_file() or not (place / _RESULT).is_file():
        return None
    try:
        intact = read_json(place / DONE)["result_sha256"] == sha256_file(place / _RESULT)
        result = read_json(place / _RESULT) if intact else None
    except (DataError, KeyError, TypeError):
        return None
    return result if isinstance(result, dict) else None


def _begin(job: Job, place: Path) -> None:
    asked = json.loads(json.dumps(dict(job.parameters)))
    path = place / _PARAMETERS
    if not path.is_file():
        write_json(path, asked)
    elif read_json(path) != asked:
        raise DataError(f"{path} holds other parameters than its name says; remove the folder {place}.")


def _do(
    work: Work,
    places: Sequence[Path],
    executor: Executor,
    workers: int | None,
    threads: int,
    advance: Callable[[int], None],
) -> list[CytoforgeError | RuntimeError]:
    if executor == "serial" or not places:
        failures = []
        for place in places:
            failures.append(perform(work, place, threads))
            advance(1)
        return [failure for failure in failures if failure is not None]
    least = 1 if executor == "loky" else _LEAST_ON_CLUSTER
    with _backend(executor, workers, threads) as offered:
        return _spread(work, places, offered, least, threads, advance)


def _spread(
    work: Work,
    places: Sequence[Path],
    offered: Callable[[], int],
    least: int,
    threads: int,
    advance: Callable[[int], None],
) -> list[CytoforgeError | RuntimeError]:
    """Do jobs by joblib's current backend; what its dying workers leave over is dealt out again.

    joblib is told of `least` workers and handed no more jobs than are `offered`: with one worker it would do
    all in this process, which is not on the cluster.
    """
    waiting, fruitless, command = list(places), 0, _this_process()
    while True:
        count = offered()
        parallel = _Watched(advance, n_jobs=max(least, count), pre_dispatch=count, batch_size=1)
        try:
            found = parallel(joblib.delayed(_in_worker)(work, place, threads, command) for place in waiting)
            return [failure for failure in found if failure is not None]
        except Exception as error:  # `perform` raises nothing: workers died, or were told to stop
            left = [place for place in waiting if _finished(place) is None]
            advance(len(waiting) - len(left) - parallel.told)
            fruitless = fruitless + 1 if len(left) == len(waiting) else 0
            if fruitless == _FRUITLESS:
                raise ConfigError(
                    f"the workers died {_FRUITLESS} times without finishing any of {len(left)} jobs, such as "
                    f"{left[0]} ({type(error).__name__}: {error}). They may need more memory than there is: "
                    "give fewer --workers, or use --executor serial."
                ) from error
            waiting = left


class _Watched(joblib.Parallel):  # type: ignore[misc]
    """joblib's Parallel, which tells how many tasks are done as they are done."""

    def __init__(self, advance: Callable[[int], None], **settings: Any) -> None:
        super().__init__(**settings)
        self.told = 0
        self._advance = advance

    def print_progress(self) -> None:
        done = int(self.n_completed_tasks)
        self._advance(done - self.told)
        self.told = done


@contextmanager
def _backend(executor: Executor, workers: int | None, threads: int) -> Iterator[Callable[[], int]]:
    """Make joblib use the executor; yields a function that says how many jobs it can do at once now."""
    place = {"loky": _loky, "ray": _ray, "dask": _dask}[executor]
    with place(workers) as offered, joblib.parallel_config(backend=executor):
        yield lambda: max(1, offered() // (threads if workers is None else 1))


@contextmanager
def _loky(workers: int | None) -> Iterator[Callable[[], int]]:
    yield lambda: workers or joblib.cpu_count()


@contextmanager
def _ray(workers: int | None) -> Iterator[Callable[[], int]]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise _missing("ray") from error
    register_ray()
    address = os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": "error"}
    if address:
        ray.init(address=address, **quiet)
    else:
        processors = None if workers is None else max(_LEAST_ON_CLUSTER, workers)
        ray.init(address="local", num_cpus=processors, include_dashboard=False, **quiet)

    def offered() -> int:
        there = int(ray.cluster_resources().get("CPU", 1))
        _require_cluster(there)
        return min(workers or there, there)

    try:
        yield offered
    finally:
        ray.shutdown()


@contextmanager
def _dask(workers: int | None) -> Iterator[Callable[[], int]]:
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise _missing("dask") from error
    with ExitStack() as stack:
        address: Any = os.environ.get("DASK_SCHEDULER_ADDRESS")
        remote = bool(address)
        if not remote:
            address = stack.enter_context(
                LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            )
        client = stack.enter_context(Client(address))

        def offered() -> int:
            there = sum(client.nthreads().values())
            if remote:
                _require_cluster(there)
            return workers or there

        yield offered


def _require_cluster(processors: int) -> None:
    """Joblib and Ray's pool take one processor for no cluster."""
    if processors < _LEAST_ON_CLUSTER:
        raise ConfigError(
            f"a cluster needs {_LEAST_ON_CLUSTER} processors at least, this one has {processors} now; use "
            "--executor loky on its machine, or serial."
        )


def _missing(executor: str) -> ConfigError:
    return ConfigError(
        f"--executor {executor} needs packages that are not installed: pip install 'cytoforge[cluster]'."
    )


def _check(executor: str, workers: int | None, threads: int) -> None:
    if executor not in get_args(Executor):
        raise ConfigError(f"--executor: expected serial, loky, ray or dask, got {executor!r}.")
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers: expected 1 or more, got {workers}.")
    if workers is not None and workers > 1 and executor == "serial":
        raise ConfigError("--workers: the executor serial does one job at a time; add --executor loky.")
    if threads < 1:
        raise ConfigError(f"threads: expected 1 or more, got {threads}.")


def _summary(failures: Sequence[CytoforgeError | RuntimeError], total: int) -> Exception:
    """The first failure, with how many there are."""
    first = failures[0]
    if len(failures) == 1:
        return first
    return type(first)(f"{len(failures)} of {total} jobs failed; the first: {first}")
