# SPDX-License-Identifier: GPL-3.0-or-later
"""Driving a pipeline: what checkpoints and previews may cost, and what a stop saves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from backend import driver, memory, storage, worker
from backend.driver import Listener, Run, Stopped, drive
from backend.pipelines.progress import Pipeline, Progress, Snapshot
from backend.settings import KINDS, NerfSettings

SETTINGS = NerfSettings(dataset="toy")


def steady(seconds: float, checkpoint: float = 0.0, preview: float = 0.0) -> tuple[Run, dict[str, float]]:
    """A pipeline of 2 ms steps whose checkpoints and previews take so long, and the time it spent on each."""
    spent = {"checkpoint": 0.0, "preview": 0.0, "snapshots": 0, "previews": 0}

    def snapshot() -> Snapshot:
        time.sleep(checkpoint)
        spent["checkpoint"] += checkpoint
        spent["snapshots"] += 1
        return Snapshot({"v": torch.zeros(1)}, {})

    def picture() -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
        time.sleep(preview)
        spent["preview"] += preview
        spent["previews"] += 1
        return np.zeros((2, 2, 3), np.uint8)

    def run(settings: NerfSettings, out: Path, resume: Snapshot | None) -> Pipeline:
        start, step = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            time.sleep(0.002)
            step += 1
            yield Progress("train", step, 0, 0.5, preview=picture, snapshot=snapshot)
        return {"steps": step}

    return run, spent


def go(run: Run, folder: Path, listener: Listener | None = None) -> dict[str, object]:
    return drive("nerf", run, SETTINGS, folder, folder / "result", listener or Listener())


def test_checkpoints_and_previews_keep_to_their_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(driver, "PREVIEW_SECONDS", 0.0)
    run, spent = steady(3.0, checkpoint=0.02, preview=0.02)
    go(run, tmp_path, Listener(preview=lambda picture: None))
    assert spent["snapshots"] >= 1 and spent["checkpoint"] <= 0.03 * 3.0 + 0.02
    assert spent["previews"] >= 1 and spent["preview"] <= 0.04 * 3.0 + 0.02


def test_previews_come_twice_a_second_and_none_where_nobody_looks(tmp_path: Path) -> None:
    run, spent = steady(1.8)
    go(run, tmp_path, Listener(preview=lambda picture: None))
    assert 3 <= spent["previews"] <= 4 and spent["snapshots"] == 0  # a checkpoint every ten seconds
    run, spent = steady(0.1)
    (tmp_path / "other").mkdir()
    go(run, tmp_path / "other")
    assert spent["previews"] == 0


def test_each_phase_begins_with_a_preview_so_that_the_last_one_shows_the_end(tmp_path: Path) -> None:
    def run(settings: NerfSettings, out: Path, resume: Snapshot | None) -> Pipeline:
        for step in range(1, 10):
            phase = "train" if step < 9 else "mesh"
            yield Progress(phase, step, 0, step / 10, preview=lambda: np.full((2, 2, 3), step, np.uint8))  # noqa: B023
        yield Progress("mesh", 9, 0, 0.9)
        return {}

    seen: list[int] = []
    go(run, tmp_path, Listener(preview=lambda shown: seen.append(int(shown[0, 0, 0]))))
    assert seen == [1, 9]


def test_a_stop_saves_the_state_unless_that_takes_long(tmp_path: Path) -> None:
    run, spent = steady(60.0)
    with pytest.raises(Stopped):
        go(run, tmp_path, Listener(stopping=lambda: True))
    assert storage.has_checkpoint(tmp_path) and spent["snapshots"] == 1
    attempt = driver._Attempt("nerf", run, SETTINGS, tmp_path, Listener(stopping=lambda: True))
    attempt._checkpoints.cost = driver.LONG_CHECKPOINT
    with pytest.raises(Stopped):
        attempt.go(None)
    assert spent["snapshots"] == 1


def test_a_stopped_pipeline_is_closed(tmp_path: Path) -> None:
    closed = []

    def run(settings: NerfSettings, out: Path, resume: Snapshot | None) -> Pipeline:
        try:
            while True:
                yield Progress("train", 0, 0, 0.0)
        finally:
            closed.append(True)

    with pytest.raises(Stopped):
        go(run, tmp_path, Listener(stopping=lambda: True))
    assert closed == [True]


def test_the_result_says_what_made_it_and_leftovers_of_a_crash_are_not_in_it(tmp_path: Path) -> None:
    (tmp_path / "result.part").mkdir()
    (tmp_path / "result.part" / "leftover").write_text("half")
    run, _ = steady(0.01)
    content = go(run, tmp_path)
    assert content == storage.read_result(tmp_path / "result")
    assert (content["format"], content["kind"], content["seed"], content["sha256"]) == (1, "nerf", 0, {})
    assert content["settings"]["dataset"] == "toy"  # type: ignore[index]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_running_out_of_memory_is_recognised(error: Exception, expected: bool) -> None:
    assert driver.is_out_of_memory(error) is expected


def test_out_of_memory_a_job_goes_on_with_less_from_its_checkpoint_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(driver, "CHECKPOINT_SHARE", 1e9)
    lives: list[tuple[int, float]] = []

    def run(settings: NerfSettings, out: Path, resume: Snapshot | None) -> Pipeline:
        done = resume.tensors["v"] if resume else torch.zeros(1)
        lives.append((settings.mesh.resolution, float(done)))
        while float(done) < 5:
            done = done + 1
            yield Progress("train", 0, 0, 0.5, snapshot=lambda now=done: Snapshot({"v": now}, {}))  # type: ignore[misc]
        if settings.mesh.resolution > 96:
            torch.empty(2**60)
        return {"notes": ["its own"]}

    content = go(run, tmp_path, Listener())
    assert lives == [(192, 0.0), (96, 5.0)]
    assert content["settings"]["mesh"]["resolution"] == 96  # type: ignore[index]
    assert content["notes"] == ["its own", "The device ran out of memory: the mesh has 96 cells a side."]
    (tmp_path / "again").mkdir()
    monkeypatch.setattr(memory, "rungs", lambda settings, installed: iter(()))
    with pytest.raises(RuntimeError, match="memory"):
        go(run, tmp_path / "again")


def test_a_job_that_needs_more_than_is_free_is_stepped_down_before_it_starts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.Channel, "watch", lambda channel: None)  # nobody is at our standard input
    seen = []

    def run(settings: NerfSettings, out: Path, resume: Snapshot | None) -> Pipeline:
        seen.append(settings.mesh.resolution)
        yield Progress("train", 0, 0, 0.5)
        return {}

    job = {"kind": "nerf", "params": {"dataset": "x", "mesh": {"resolution": 512}}}
    (tmp_path / "job.json").write_text(json.dumps(job))
    need = memory.need("nerf", {"dataset": "x", "mesh": {"resolution": 256}}, "cpu")
    device = json.dumps({"type": "cpu", "free": int(need / memory.SHARE) + 1})
    worker._work(tmp_path, lambda: {"nerf": run}, worker.Channel(1), json.loads(device))
    assert json.loads(capfd.readouterr().out.splitlines()[-1]) == {"event": "done"}
    assert seen == [256]
    (note,) = (storage.read_result(tmp_path / "result") or {})["notes"]
    assert "GB are free: the mesh has 256 cells a side." in note


def test_torch_really_says_it_that_way() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert driver.is_out_of_memory(caught.value)


def test_devices_are_described(capfd: pytest.CaptureFixture[str]) -> None:
    assert worker.main(["--devices"]) == 0
    devices = json.loads(capfd.readouterr().out)
    assert devices[-1]["id"] == devices[-1]["type"] == "cpu" and devices[-1]["memory"] > 2**20
    assert all(set(device) - {"uuid"} == {"id", "type", "name", "memory"} for device in devices)


def test_every_kind_of_job_has_its_pipeline() -> None:
    pytest.importorskip("backend.pipelines.nerf")
    table: dict[str, Callable[..., object]] = dict(worker.pipelines())
    assert set(table) == set(KINDS)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' threads wait otherwise")
def test_threads_that_wait_leave_the_cores_to_others() -> None:
    """Between two pieces of parallel work, a pool of threads uses next to no processor time."""
    program = (
        "import time; from backend import worker; worker.pipelines(); import torch; torch.set_num_threads(2)\n"
        "a = torch.randn(2**20); a.add(1.0); used = 0.0\n"
        "for _ in range(100):\n"
        "    a.add(1.0); before = time.process_time(); time.sleep(0.002); used += time.process_time() - before\n"
        "print(used)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.05, "of 0.2 seconds of sleep"
