from __future__ import annotations

import errno
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import read_json, sha256_file
from cytoforge.core.jobs import DONE, Job, mixture, run_jobs
from cytoforge.stages.study import study


@pytest.fixture
def square(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("grid_work").square  # type: ignore[no-any-return]


def _times(folder: Path, name: str) -> dict[str, int]:
    return {path.parent.name: len(path.read_text().splitlines()) for path in folder.glob(f"*/{name}.txt")}


def test_key_depends_on_content_alone() -> None:
    assert Job({"a": 1, "b": 2}).key == Job({"b": 2, "a": 1}).key
    assert Job({"a": 1}).key != Job({"a": 2}).key
    # sha256 of {"a":1}, as any other program computes it
    assert Job({"a": 1}).key == "015abd7f5cc57a2d"
    with pytest.raises(ConfigError, match="JSON"):
        _ = Job({"a": float("nan")}).key


def test_results_come_in_order_and_only_what_is_missing_is_done(square: Any, tmp_path: Path) -> None:
    jobs = [Job({"n": n}) for n in (3, 1, 2, 3)]
    first = run_jobs(square, jobs[:2], tmp_path)
    every = run_jobs(square, jobs, tmp_path)
    assert [result["square"] for result in every] == [9, 1, 4, 9]
    assert every[:2] == first
    assert set(_times(tmp_path, "finished").values()) == {1}
    note = json.loads((tmp_path / jobs[0].key / DONE).read_text())
    assert len(note["result_sha256"]) == 64
    assert note["minutes"] >= 0
    assert note["threads"] == 1
    assert note["versions"]["torch"] == torch.__version__


def test_results_of_other_versions_are_read_and_told(
    square: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [Job({"n": n}) for n in range(3)]
    before = run_jobs(square, jobs, tmp_path)
    places = [tmp_path / job.key for job in jobs]
    assert mixture(places) is None
    assert capsys.readouterr().err == ""
    note = json.loads((places[0] / DONE).read_text())
    older = {**note, "device": "NVIDIA H100", "versions": {**note["versions"], "torch": "2.9.0"}}
    (places[0] / DONE).write_text(json.dumps(older))
    oldest = {name: note[name] for name in ("result_sha256", "started", "minutes", "host", "process")}
    (places[1] / DONE).write_text(
        json.dumps({**oldest, "result_sha256": sha256_file(places[1] / "result.json")})
    )
    assert run_jobs(square, jobs, tmp_path, title="squares") == before
    told = mixture(places)
    assert told is not None
    assert ", torch 2.9.0, NVIDIA H100, threads 1" in told
    assert "1 with versions that were not recorded" in told
    assert f"warning: squares: {told}" in capsys.readouterr().err
    assert set(_times(tmp_path, "finished").values()) == {1}


@pytest.mark.parametrize("damage", ["truncated", "other number", "no DONE", "empty DONE"])
def test_damaged_results_are_done_again(square: Any, tmp_path: Path, damage: str) -> None:
    jobs = [Job({"n": 4}), Job({"n": 5})]
    before = run_jobs(square, jobs, tmp_path)
    place = tmp_path / jobs[0].key
    result = place / "result.json"
    if damage == "truncated":
        result.write_bytes(result.read_bytes()[:5])
    elif damage == "other number":
        result.write_text(result.read_text().replace("16", "17"))
    elif damage == "no DONE":
        (place / DONE).unlink()
    else:
        (place / DONE).write_text("")
    assert run_jobs(square, jobs, tmp_path) == before
    assert _times(tmp_path, "finished") == {jobs[0].key: 2, jobs[1].key: 1}


@pytest.mark.parametrize("executor", ["serial", "loky"])
def test_a_failing_job_keeps_no_other_from_being_done(square: Any, tmp_path: Path, executor: Any) -> None:
    jobs = [Job({"n": 1, "fails": "data"}), Job({"n": 2}), Job({"n": 3})]
    with pytest.raises(DataError, match=f"{jobs[0].key}.*1 is no cell"):
        run_jobs(square, jobs, tmp_path, executor, workers=1)
    assert sorted(_times(tmp_path, "finished")) == sorted(job.key for job in jobs[1:])
    with pytest.raises(DataError, match="no cell"):
        run_jobs(square, jobs, tmp_path)
    assert set(_times(tmp_path, "finished").values()) == {1}
    with pytest.raises(RuntimeError, match=r"(?s)nobody foresaw.*"):
        run_jobs(square, [Job({"n": 1, "fails": "bug"})], tmp_path)


def test_a_full_disk_is_told_without_a_traceback(tmp_path: Path) -> None:
    def full(_parameters: Any, folder: Path) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "x.npy"))

    job = Job({"n": 1})
    with pytest.raises(DataError, match=rf"^{job.key}: No space left on device: .*x\.npy; free some space"):
        run_jobs(full, [job], tmp_path)


def test_changed_parameters_are_refused(square: Any, tmp_path: Path) -> None:
    job = Job({"n": 1})
    run_jobs(square, [job], tmp_path)
    (tmp_path / job.key / "parameters.json").write_text('{"n": 2}')
    with pytest.raises(DataError, match="other parameters"):
        run_jobs(square, [job], tmp_path)


def test_senseless_requests_are_refused(square: Any, tmp_path: Path) -> None:
    jobs = [Job({"n": 1})]
    with pytest.raises(ConfigError, match="--executor"):
        run_jobs(square, jobs, tmp_path, "slurm")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="1 or more"):
        run_jobs(square, jobs, tmp_path, "loky", workers=0)
    with pytest.raises(ConfigError, match="one job at a time"):
        run_jobs(square, jobs, tmp_path, workers=2)


def test_processes_give_the_table_of_a_serial_run(square: Any, tmp_path: Path) -> None:
    jobs = [Job({"n": n}) for n in range(6)]
    serial = run_jobs(square, jobs, tmp_path / "serial")
    assert run_jobs(square, jobs, tmp_path / "loky", "loky", workers=2) == serial
    assert {result["threads"] for result in serial} == {1}


def test_jobs_of_a_dead_worker_are_done_by_others_and_none_twice(square: Any, tmp_path: Path) -> None:
    jobs = [Job({"n": n}) for n in range(5)]
    jobs.insert(3, Job({"n": 7, "fails": "once", "seconds": 0.3}))
    results = run_jobs(square, jobs, tmp_path, "loky", workers=2)
    assert [result["square"] for result in results] == [0, 1, 4, 49, 9, 16]
    begun = _times(tmp_path, "begun")
    assert begun[jobs[3].key] == 2
    assert _times(tmp_path, "finished") == {job.key: 1 for job in jobs}
    before = (tmp_path / jobs[3].key / "done.txt").read_text().split()
    assert before
    assert {begun[key] for key in before} == {1}


def test_the_job_of_a_worker_that_is_told_to_stop_is_dealt_out_again(square: Any, tmp_path: Path) -> None:
    jobs = [Job({"n": 0}), Job({"n": 1, "fails": "stopped"}), Job({"n": 2})]
    results = run_jobs(square, jobs, tmp_path, "loky", workers=2)
    assert [result["square"] for result in results] == [0, 1, 4]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(square, [Job({"n": 3, "fails": "stopped"})], tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(square, [Job({"n": 4, "fails": "stopped"})], tmp_path, "loky", workers=1)


@pytest.mark.slow
def test_one_worker_of_ray_does_one_job_at_a_time_and_not_here(
    square: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    jobs = [Job({"n": n, "seconds": 0.5}) for n in range(3)]
    results = run_jobs(square, jobs, tmp_path, "ray", workers=1)
    assert [result["square"] for result in results] == [0, 1, 4]
    assert all(int((tmp_path / job.key / "begun.txt").read_text()) != os.getpid() for job in jobs)
    notes = [read_json(tmp_path / job.key / DONE) for job in jobs]
    spans = sorted((note["started"], note["started"] + 60 * note["minutes"]) for note in notes)
    assert all(end <= begin + 0.01 for (_, end), (begin, _) in pairwise(spans))


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["ray_cluster", "dask_workers"])
def test_a_cluster_that_loses_a_worker_gives_the_serial_table(
    square: Any, tmp_path: Path, cluster: str
) -> None:
    pytest.importorskip(cluster.partition("_")[0])
    script = Path(__file__).parent / f"{cluster}.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path / "grid"], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    jobs = [Job({"n": n, "seconds": 1.0}) for n in range(8)]
    quick = [Job({"n": n, "seconds": 0}) for n in range(8)]
    assert told["results"] == run_jobs(square, quick, tmp_path / "serial")
    begun = _times(tmp_path / "grid", "begun")
    assert {begun[key] for key in told["before"]} <= {1}
    assert begun.keys() == {job.key for job in jobs}
    assert _times(tmp_path / "grid", "finished") == {job.key: 1 for job in jobs}
    assert len(told["lost"]) == 1
    assert begun[told["lost"][0]] == 2


def test_a_ray_cluster_that_loses_a_worker_gives_the_tables_of_a_serial_study(
    tiny_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes; the worker is killed when its generator is trained and not yet finished."""
    pytest.importorskip("ray")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    work = importlib.import_module("study_work")
    serial, spread = tmp_path / "serial", tmp_path / "ray"
    script = Path(__file__).parent / "ray_study.py"
    done = subprocess.run(
        [sys.executable, script, tiny_cells, spread],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    study(tiny_cells, serial, work.PLAN, group=work.PHOTO)
    for name in ("scores.csv", "comparisons.csv"):
        assert (spread / name).read_bytes() == (serial / name).read_bytes()
    notes = {path.parent.name: json.loads(path.read_text()) for path in spread.glob(f"jobs/*/{DONE}")}
    assert notes.keys() == {path.parent.name for path in serial.glob(f"jobs/*/{DONE}")}
    assert told["job"] in notes
    assert not {told["process"], told["own"]} & {note["process"] for note in notes.values()}
