# SPDX-License-Identifier: GPL-3.0-or-later
"""An acknowledged job survives kills of worker and backend at random moments, damaged files and crash loops."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from backend import database, storage
from backend.errors import Gen3DError
from backend.jobs import Job, JobStore

from . import toys
from .toy_worker import CHECKPOINT_SECONDS, ORPHAN_SECONDS

PAUSE = 0.01
INTERVAL = CHECKPOINT_SECONDS / PAUSE + 5  # steps between two checkpoints, at most


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path)


def test_a_job_that_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from backend.jobs import JobStore; store = JobStore(Path(sys.argv[1]))\n"
        "for number in range(10**6):\n"
        "    print(store.submit(sys.argv[2], str(number), 'nerf', {'number': number}).id, flush=True)\n"
    )
    chance, acknowledged = random.Random(1), []
    for life in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(life)], stdout=subprocess.PIPE, env=toys.ENVIRONMENT
        )
        assert process.stdout is not None
        acknowledged.append(process.stdout.readline().decode().strip())
        time.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        acknowledged += [line.decode() for line in process.communicate()[0].split(b"\n")[:-1]]
    store = JobStore(tmp_path)
    known = {job.id: job for job in store.all()}
    assert len(acknowledged) > 20 and set(acknowledged) <= set(known)
    assert len(known) <= len(acknowledged) + 5  # stored, but killed before it could be said
    for job in known.values():
        assert job.state == "queued" and job.id == storage.job_id(job.client, job.request)
        assert job.params == {"number": int(job.request)}
        assert store.submit(job.client, job.request, "nerf", {}) == job  # asking again makes no second one


def test_a_killed_worker_resumes_by_itself_with_the_same_result(store: JobStore) -> None:
    job, chance = toys.submit(store, steps=400, seed=3, pause=PAUSE), random.Random(2)

    async def work() -> Job:
        async with toys.running(store):
            for life in range(3):
                await toys.until(partial(_saved, store, job, life))
                await asyncio.sleep(chance.uniform(0.0, 0.5))
                os.kill(toys.workers(store, job)[0], signal.SIGKILL)
            return await toys.ended(store, job)

    assert asyncio.run(work()).state == "done"
    assert json.loads(toys.outcome(store, job)) == toys.expected(400, 3)
    _repeats_little(toys.steps(store, job), 4)


def test_a_killed_backend_leaves_no_orphan_and_the_next_one_goes_on(store: JobStore) -> None:
    job, chance = toys.submit(store, steps=400, seed=4, pause=PAUSE), random.Random(5)

    async def work() -> None:
        for life in range(4):
            backend = toys.backend_process(store.home)
            try:
                if life == 3:
                    assert (await toys.ended(store, job)).state == "done"
                    return
                await toys.until(partial(_saved, store, job, life))
                await asyncio.sleep(chance.uniform(0.0, 0.5))
            finally:
                backend.kill()
                backend.wait()
            assert store.get(job.id).state == "running"
            await toys.until(lambda: not toys.workers(store, job), 30.0)

    asyncio.run(work())
    assert json.loads(toys.outcome(store, job)) == toys.expected(400, 4)
    _repeats_little(toys.steps(store, job), 4)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the step has to end first")
def test_an_orphan_ends_even_where_a_library_holds_the_interpreter(store: JobStore) -> None:
    job = toys.submit(store, hang=1)

    async def work() -> None:
        backend = toys.backend_process(store.home)
        await toys.until(lambda: _lives(store, job) == [[1]])
        backend.kill()
        backend.wait()
        # Its lock goes last: a dying process has lost its name, and with it its place in the list, some time before.
        assert await toys.until(lambda: not storage.is_locked(store.worker_lock(job.id)), 30.0) < 2.0
        assert not toys.workers(store, job)

    asyncio.run(work())
    assert [row.state for row in store.recover()] == ["queued"]


def test_a_worker_whose_input_ends_in_a_long_step_ends_too(store: JobStore) -> None:
    """As when the backend is killed, on systems that do not tell a process about the death of its parent."""
    job = toys.submit(store, sleep=1)
    command = [*toys.TOY, str(store.folder(job.id))]
    worker = subprocess.Popen(command, env=toys.ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    asyncio.run(toys.until(lambda: _lives(store, job) == [[1]]))
    worker.communicate(timeout=ORPHAN_SECONDS + 2.0)
    assert worker.returncode == 1 and not storage.is_locked(store.worker_lock(job.id))


def test_a_job_that_kills_its_worker_three_times_is_parked_and_the_queue_moves(store: JobStore) -> None:
    deadly = toys.submit(store, "deadly", die={"2": 9})
    weak = toys.submit(store, "weak", steps=10, die={"2": 2})
    fine = toys.submit(store, "fine", steps=10)

    async def work() -> None:
        async with toys.running(store):
            await toys.ended(store, fine)

    asyncio.run(work())
    parked = store.get(deadly.id)
    assert (parked.state, parked.attempts, len(toys.steps(store, deadly))) == ("failed", 3, 3)
    assert parked.error is not None and "signal 9" in parked.error["cause"]
    assert "something ugly happened" in parked.error["cause"] and Path(parked.error["log"]).exists()
    assert [store.get(job.id).state for job in (weak, fine)] == ["done", "done"]
    assert json.loads(toys.outcome(store, weak)) == toys.expected(10)


def test_damaged_and_foreign_checkpoints_give_way_to_the_one_before(store: JobStore) -> None:
    """The newest is from a pipeline of another shape, the one before it has a flipped bit."""
    job, folder = toys.submit(store, steps=40, seed=1), Path()
    folder = store.folder(job.id)
    noise, state = random.Random(1), [0.0] * 8
    for _ in range(20):
        state = [0.9 * value + noise.gauss() for value in state]
    facts = {"step": 20, "noise": noise.getstate()}
    saved = torch.tensor(state, dtype=torch.float64)
    storage.write_checkpoint(folder, {"state": saved}, facts)
    good = {path.name: path.read_bytes() for path in (folder / "checkpoints").iterdir()}
    storage.write_checkpoint(folder, {"state": saved + 1.0}, facts)
    storage.write_checkpoint(folder, {"state": saved[:5]}, facts)
    for name, data in good.items():
        (folder / "checkpoints" / name).write_bytes(data)
    path = folder / "checkpoints" / "000002.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")

    async def work() -> Job:
        async with toys.running(store):
            return await toys.ended(store, job)

    assert asyncio.run(work()).state == "done"
    assert [life[:1] for life in toys.steps(store, job)] == [[], [21]]
    assert json.loads(toys.outcome(store, job)) == toys.expected(40, 1)


def test_eight_processes_never_claim_a_job_twice(store: JobStore) -> None:
    ids = {toys.submit(store, str(number)).id for number in range(50)}
    code = (
        "import sys; from pathlib import Path; from backend.jobs import JobStore; store = JobStore(Path(sys.argv[1]))\n"
        "sys.stdin.readline()\n"
        "while job := store.claim():\n"
        "    print(job.id, flush=True)\n"
        "    store.finish(job.id, 'done', result={})\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(store.home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=toys.ENVIRONMENT,
        )
        for _ in range(8)
    ]
    claimed: list[str] = []
    for process in processes:  # all have started: now let them go at once
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        claimed += out.decode().split()
    assert sorted(claimed) == sorted(ids)
    assert {job.state for job in store.all()} == {"done"}
    assert store.latest_seq() == 150  # submitted, claimed, done: no number was given twice


def _garbage(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(8192))


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for offset in range(4096, len(data), 64):
        data[offset] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [_garbage, _cut, _flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_database_is_set_aside_and_rebuilt_from_the_folders(
    store: JobStore, damage: Callable[[Path], object]
) -> None:
    jobs = {name: toys.submit(store, name) for name in ("done", "failed", "cancelled", "running", "whole")}
    waiting = toys.submit(store, "waiting")
    for _ in jobs:
        store.claim()
    store.finish(jobs["done"].id, "done", result={"folder": "/f"})
    store.mark_imported(jobs["done"].id)
    store.finish(jobs["failed"].id, "failed", error={"cause": "c", "next_step": "n"})
    store.finish(jobs["cancelled"].id, "cancelled")
    for step in range(20):
        store.progress(jobs["running"].id, {"step": step})
    (store.folder(jobs["whole"].id) / "result").mkdir()
    (store.folder(jobs["whole"].id) / "result" / "result.json").write_text('{"steps": 1}')
    (store.home / "jobs" / "stranger").mkdir()
    (store.home / "jobs" / "stranger" / "job.json").write_text('{"id": "stranger"}')
    seen, before = store.latest_seq(), {job.id: job for job in store.all()}
    store.close()
    damage(store.home / "jobs.sqlite")
    again = JobStore(store.home)
    after = {job.id: job for job in again.all()}
    assert set(after) == set(before)
    for name in ("done", "failed", "cancelled"):
        job = jobs[name]
        assert after[job.id].__dict__ == {**before[job.id].__dict__, "seq": after[job.id].seq}
    assert after[jobs["running"].id].state == after[waiting.id].state == "queued"
    assert after[jobs["whole"].id].state == "done" and (after[jobs["whole"].id].result or {})["steps"] == 1
    assert min(job.seq for job in after.values()) > seen  # clients hear of every job again
    kept = list(store.home.glob("jobs.corrupt-*.sqlite"))
    assert len(kept) == (1 if damage in (_garbage, _cut, _flip) else 0)
    assert toys.submit(again, "new").state == "queued"


def test_a_database_that_is_in_use_is_never_set_aside(store: JobStore) -> None:
    toys.submit(store)
    store.close()
    _garbage(store.home / "jobs.sqlite")
    engine = storage.FileLock(store.home / "engine.lock")
    assert engine.acquire()
    with pytest.raises(Gen3DError, match="is damaged"):
        JobStore(store.home)
    engine.release()
    assert len(JobStore(store.home).all()) == 1


def test_a_locked_database_is_said_and_not_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    store = JobStore(tmp_path)
    job = toys.submit(store)
    holder = sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Gen3DError, match="locked by another program"):
        toys.submit(store, "second")
    with pytest.raises(Gen3DError, match="locked by another program"):
        JobStore(tmp_path)
    assert store.get(job.id) == job
    holder.execute("ROLLBACK")
    assert toys.submit(store, "second").state == "queued"
    assert not list(tmp_path.glob("*corrupt*"))


def _lives(store: JobStore, job: Job) -> list[list[int]]:
    return toys.steps(store, job) if (store.folder(job.id) / "trace.txt").exists() else []


def _saved(store: JobStore, job: Job, life: int) -> bool:
    """Whether this life has gone further than one checkpoint interval."""
    lives = _lives(store, job)
    return len(lives) > life and len(lives[life]) > INTERVAL and storage.has_checkpoint(store.folder(job.id))


def _repeats_little(lives: list[list[int]], count: int) -> None:
    assert len(lives) == count
    for life, following in itertools.pairwise(lives):
        assert life == list(range(life[0], life[-1] + 1))
        assert 0 <= life[-1] - following[0] + 1 <= INTERVAL
