# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine and worker together: real processes, a toy pipeline, every way a job can end."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from PIL import Image

from backend import protocol, storage
from backend.engine import Engine
from backend.errors import Gen3DError
from backend.jobs import ENDED, Job, JobStore
from tests.patience import patience

from .faults import toys


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path)


def run_to_end(store: JobStore, job: Job) -> Job:
    async def work() -> Job:
        async with toys.running(store):
            return await toys.ended(store, job)

    return asyncio.run(work())


def test_a_job_runs_to_its_result_and_tells_its_way(store: JobStore) -> None:
    job, told, pictures, shapes = toys.submit(store, steps=60), list[Job](), list[bytes](), list[bytes]()

    def notify(changed: Job, what: str, data: bytes) -> None:
        assert changed.id == job.id
        told.append(changed)
        if what:
            {"preview": pictures, "shape": shapes}[what].append(data)

    async def work() -> Job:
        async with toys.running(store, notify) as engine:
            done = await toys.ended(store, job)
            (device,) = engine.devices()
            assert {**device, "free": 0} == {"id": "cpu", "type": "cpu", "name": "toy", "memory": None, "free": 0}
            assert 2**24 < device["free"] <= psutil.virtual_memory().total
            return done

    done = asyncio.run(work())
    assert done.state == "done" and done.error is None and done.result is not None
    assert json.loads(toys.outcome(store, job)) == toys.expected(60)
    assert done.result["folder"] == str(store.folder(job.id) / "result")
    assert done.result["steps"] == 60 and list(done.result["sha256"]) == ["state.json"]
    assert [row.seq for row in told] == sorted(row.seq for row in told)
    assert len({row.seq for row in told}) <= 2 + 2 + 3  # claimed, done; two phases; once a second of 60 × 0.02 s
    phases = [row.progress["phase"] for row in told if row.progress]
    assert phases[0] == "prepare" and phases[-1] == "train" and told[0].state == "running"
    assert 1 <= len(pictures) <= 4  # 60 steps of 0.02 s, two a second
    assert 1 <= len(shapes) <= 3 and all(len(data) == 3 * protocol.POINT for data in shapes)
    x, _, _, red, _, _, zero = struct.unpack("<fff4B", shapes[-1][: protocol.POINT])
    assert 0 < round(x, 6) <= 0.6 and red == round(x * 255) and zero == 0  # a hundredth a step, in float32
    assert all(Image.open(io.BytesIO(picture)).size == (6, 4) for picture in pictures)
    assert not (store.folder(job.id) / "checkpoints").exists()
    assert "a library talks on standard output" in (store.folder(job.id) / "worker.log").read_text()


@pytest.mark.parametrize("ticks", range(5))
def test_an_engine_that_is_ended_just_as_a_job_arrives_ends(store: JobStore, ticks: int) -> None:
    async def work() -> None:
        engine = Engine(store, lambda *_: None, toys.TOY)
        task = asyncio.create_task(engine.run())
        await toys.until(lambda: bool(engine.devices()))
        await asyncio.sleep(0.1)
        engine.wake()
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait((task,), timeout=15.0)
        assert done

    with ThreadPoolExecutor(1) as thread:  # which a loop that never ends does not hold up
        thread.submit(asyncio.run, work()).result(60.0)


@pytest.mark.parametrize(
    ("fault", "state", "words", "field"),
    [
        ("gen3d", "failed", "The dataset is odd.", "dataset"),
        ("enospc", "interrupted", "Disk full", "disk_full"),
        ("MemoryError", "failed", "ran out of memory", "out_of_memory"),
        ("ZeroDivisionError", "failed", "unexpected ZeroDivisionError", None),
    ],
)
def test_every_failure_names_its_cause_and_the_next_step(
    store: JobStore, fault: str, state: str, words: str, field: str | None
) -> None:
    job = toys.submit(store, error={"3": fault})
    end = run_to_end(store, job)
    assert end.state == state and end.error is not None and end.result is None
    assert words in end.error["cause"] and end.error["field"] == field and end.error["next_step"].endswith(".")
    log = Path(end.error["log"])
    assert log == store.folder(job.id) / "worker.log"
    if field is None:
        assert "Traceback" in log.read_text() and str(log) in end.error["next_step"]
    assert not (store.folder(job.id) / "result").exists()


def test_an_unknown_kind_and_wrong_settings_fail_with_their_name(store: JobStore) -> None:
    a = store.submit("c", "1", "sculpt", {})
    b = store.submit("c", "2", "nerf", {"dataset": "{}", "steps": -1})
    run_to_end(store, b)
    for job, words in ((a, "no job kind 'sculpt'"), (b, "params.steps = -1 is out of range")):
        error = store.get(job.id).error
        assert error is not None and words in error["cause"]


def test_a_worker_that_cannot_start_is_said(store: JobStore) -> None:
    job = toys.submit(store)

    async def work() -> Job:
        engine = Engine(store, lambda *_: None, ["/nowhere/python"])
        task = asyncio.create_task(engine.run())
        done = await toys.ended(store, job)
        task.cancel()
        return done

    end = asyncio.run(work())
    assert end.state == "failed" and end.error is not None and "could not be started" in end.error["cause"]


def test_a_loss_that_is_not_a_number_goes_back_once(store: JobStore) -> None:
    job = toys.submit(store, steps=60, nan={"50": 1})
    assert run_to_end(store, job).state == "done"
    first, second = toys.steps(store, job)
    assert first[-1] == 50 and 1 < second[0] <= 50
    assert json.loads(toys.outcome(store, job)) == toys.expected(60)


def test_a_loss_that_stays_no_number_fails_with_its_place(store: JobStore) -> None:
    job = toys.submit(store, steps=60, nan={"50": 9})
    end = run_to_end(store, job)
    assert end.state == "failed" and end.error is not None and end.error["field"] == "diverged"
    assert "train, step 50" in end.error["cause"] and len(toys.steps(store, job)) == 2
    assert (store.folder(job.id) / "checkpoints").exists()


def test_an_interrupted_job_resumes_from_its_checkpoint(store: JobStore) -> None:
    job = toys.submit(store, steps=60, error={"40": "enospc"})
    assert run_to_end(store, job).state == "interrupted"
    path = store.folder(job.id) / "job.json"  # the disk has room again
    content = json.loads(path.read_text())
    content["params"]["dataset"] = "{}"
    path.write_text(json.dumps(content))
    params = json.dumps({**store.get(job.id).params, "dataset": "{}"})
    store._db.execute("UPDATE jobs SET params = ?", (params,))
    store.resume(job.id)
    assert run_to_end(store, job).state == "done"
    assert toys.steps(store, job)[1][0] > 1
    assert json.loads(toys.outcome(store, job)) == toys.expected(60)


def test_two_jobs_on_one_device_run_one_after_the_other(store: JobStore) -> None:
    jobs, together = [toys.submit(store, str(i), steps=20, pause=0.005) for i in range(3)], set()

    async def work() -> None:
        def notify(*_: object) -> None:
            together.add(sum(job.state == "running" for job in store.all()))

        async with toys.running(store, notify):
            for job in jobs:
                await toys.ended(store, job)

    asyncio.run(work())
    assert max(together) == 1
    done = [store.get(job.id) for job in jobs]
    assert all(a.ended <= b.started for a, b in itertools.pairwise(done) if a.ended and b.started)


def test_cancel_ends_a_job_in_every_state_within_five_seconds(store: JobStore) -> None:
    hanging = toys.submit(store, "hanging", hang=1)
    waiting = toys.submit(store, "waiting")
    polite = toys.submit(store, "polite", steps=10_000)

    async def work() -> None:
        async with toys.running(store) as engine:
            with pytest.raises(Gen3DError, match="There is no job"):
                await engine.cancel("0" * 24)
            assert (await engine.cancel(waiting.id)).state == "cancelled"
            await toys.until(lambda: (store.get(hanging.id).progress or {}).get("phase") == "train")
            start = time.monotonic()
            both = await asyncio.gather(engine.cancel(hanging.id), engine.cancel(hanging.id))
            assert [job.state for job in both] == ["cancelled"] * 2 and time.monotonic() - start < patience(5.0)
            assert toys.workers(store, hanging) == []
            await toys.until(lambda: store.get(polite.id).state == "running")
            start = time.monotonic()
            assert (await engine.cancel(polite.id)).state == "cancelled"  # while its process is still starting
            assert time.monotonic() - start < patience(5.0)
            store.resume(polite.id)
            engine.wake()
            await toys.until(lambda: storage.has_checkpoint(store.folder(polite.id)))
            start = time.monotonic()
            assert (await engine.cancel(polite.id)).state == "cancelled"
            assert time.monotonic() - start < patience(2.0)
            for job in (hanging, waiting, polite):
                before = store.get(job.id)
                assert await engine.cancel(job.id) == before

    asyncio.run(work())
    assert all(store.get(job.id).state in ENDED for job in store.all())
    assert storage.has_checkpoint(store.folder(polite.id))  # it may be resumed


def test_what_a_stopped_job_has_come_to_can_be_had_until_it_goes_on(store: JobStore) -> None:
    job = toys.submit(store, steps=60, pause=0.05, so_far=5)
    kept = storage.folder_so_far(store.folder(job.id))

    async def stopped() -> Job:
        async with toys.running(store) as engine:
            await toys.until(lambda: kept.exists() and storage.has_checkpoint(store.folder(job.id)))
            return await engine.cancel(job.id)

    cancelled = asyncio.run(stopped())
    assert cancelled.state == "cancelled" and cancelled.result is not None
    assert cancelled.result["folder"] == str(kept) and cancelled.result["notes"] == ["Half of it."]
    assert json.loads((kept / "state.json").read_text()) == 5
    assert storage.read_result(kept) == {key: cancelled.result[key] for key in cancelled.result if key != "folder"}
    assert store.resume(job.id).result is None
    done = run_to_end(store, job)
    assert done.state == "done" and done.result is not None and done.result["folder"].endswith("result")
    assert kept.exists(), "somebody may have imported it"


def test_what_a_job_has_come_to_is_known_however_it_ends(store: JobStore) -> None:
    """Also where its worker dies again and again, and where it waits for its turn once more."""
    dead = run_to_end(store, toys.submit(store, "dead", so_far=2, pause=0.3, die={"4": 9}))
    assert dead.state == "failed" and dead.result is not None and dead.result["notes"] == ["Half of it."]
    assert store.resume(dead.id).result is None
    again = store.request_cancel(dead.id)
    assert again.state == "cancelled" and again.result == dead.result


def test_a_stop_at_the_very_moment_does_not_lose_what_there_is_for_good(store: JobStore) -> None:
    job = toys.submit(store, steps=40, pause=0.1, so_far=30)
    kept = storage.folder_so_far(store.folder(job.id))

    async def stopped() -> None:
        async with toys.running(store) as engine:
            await toys.until(
                lambda: (store.folder(job.id) / "trace.txt").exists() and toys.steps(store, job)[-1][-1:] >= [29]
            )
            await engine.cancel(job.id)

    asyncio.run(stopped())
    store.resume(job.id)
    assert run_to_end(store, job).state == "done" and storage.read_result(kept) is not None


def test_a_job_that_fails_leaves_what_it_had_come_to(store: JobStore) -> None:
    job = run_to_end(store, toys.submit(store, so_far=2, error={"4": "gen3d"}))
    assert job.state == "failed" and job.result is not None and job.result["steps"] == 2
    early = run_to_end(store, toys.submit(store, "early", so_far=6, error={"4": "gen3d"}))
    assert early.state == "failed" and early.result is None


def test_cancel_and_resume_from_another_process_reach_the_engine(store: JobStore) -> None:
    job, other = toys.submit(store, steps=10_000), JobStore(store.home)
    told: list[str] = []

    async def work() -> None:
        async with toys.running(store, lambda job, what, data: told.append(job.state)):
            await toys.until(lambda: (store.get(job.id).progress or {}).get("phase") == "train")
            other.request_cancel(job.id)
            assert await toys.until(lambda: store.get(job.id).state == "cancelled") < 5.0
            late = toys.submit(other, "late", steps=3)
            assert (await toys.ended(store, late)).state == "done"

    asyncio.run(work())
    assert "cancelled" in told and told[-1] == "done"


def test_a_stopped_backend_puts_its_jobs_back_with_their_state_saved(store: JobStore) -> None:
    job = toys.submit(store, steps=150)

    async def some() -> None:
        async with toys.running(store):
            await toys.until(lambda: (store.get(job.id).progress or {}).get("step", 0) > 5)

    asyncio.run(some())
    assert (store.get(job.id).state, store.get(job.id).attempts) == ("queued", 0)
    assert toys.workers(store, job) == []
    assert run_to_end(store, job).state == "done"
    first, second = toys.steps(store, job)
    assert second[0] == first[-1] + 1  # not one step twice
    assert json.loads(toys.outcome(store, job)) == toys.expected(150)


def test_two_engines_never_share_a_home(store: JobStore) -> None:
    async def work() -> None:
        async with toys.running(store) as engine:
            await toys.until(lambda: bool(engine.devices()))
            with pytest.raises(Gen3DError, match="Another backend"):
                await Engine(store, lambda *_: None, toys.TOY).run()

    asyncio.run(work())


def test_a_listener_that_fails_does_not_harm_the_job(store: JobStore) -> None:
    job = toys.submit(store, steps=5)

    def notify(*_: object) -> None:
        raise ValueError("bad listener")

    async def work() -> Job:
        async with toys.running(store, notify):
            return await toys.ended(store, job)

    assert asyncio.run(work()).state == "done"


def test_a_finished_result_is_taken_and_not_made_again(store: JobStore) -> None:
    """The worker finished and the backend died before it could write that down."""
    job = toys.submit(store, steps=5)
    result = store.folder(job.id) / "result"
    result.mkdir()
    (result / "result.json").write_text('{"steps": 5}')
    end = run_to_end(store, job)
    assert end.result == {"steps": 5, "folder": str(result)} and not (store.folder(job.id) / "trace.txt").exists()


def test_the_server_side_never_imports_torch() -> None:
    code = "import sys, backend.engine, backend.jobs, backend.storage; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=toys.ENVIRONMENT).returncode == 0


@pytest.mark.skipif(not hasattr(signal, "SIGTSTP"), reason="POSIX")
def test_ctrl_c_in_the_terminal_does_not_reach_the_worker(store: JobStore) -> None:
    job = toys.submit(store, steps=40)

    async def work() -> Job:
        async with toys.running(store):
            await toys.until(lambda: (store.get(job.id).progress or {}).get("phase") == "train")
            os.kill(toys.workers(store, job)[0], signal.SIGINT)
            return await toys.ended(store, job)

    assert asyncio.run(work()).state == "done"
