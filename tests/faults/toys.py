# SPDX-License-Identifier: GPL-3.0-or-later
"""A real backend (jobs, engine, worker processes) around the toy pipeline, in this process or in one to be killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from backend.engine import Engine
from backend.jobs import ENDED, Job, JobStore

ROOT = Path(__file__).resolve().parents[2]
TOY = (sys.executable, str(Path(__file__).with_name("toy_worker.py")))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def submit(store: JobStore, request: str = "r", steps: int = 50, seed: int = 0, **plan: Any) -> Job:
    return store.submit("c", request, "nerf", {"dataset": json.dumps(plan), "steps": steps, "seed": seed})


@asynccontextmanager
async def running(
    store: JobStore, notify: Callable[[Job, str, bytes], None] = lambda job, what, data: None
) -> AsyncIterator[Engine]:
    engine = Engine(store, notify, TOY)
    task = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        task.cancel()
        await asyncio.wait((task,))
        with suppress(asyncio.CancelledError):
            task.result()


async def until(condition: Callable[[], bool], seconds: float = 120.0) -> float:
    """Waits; returns how long. Raises TimeoutError."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            raise TimeoutError(f"nothing within {seconds} s")
        await asyncio.sleep(0.02)
    return time.monotonic() - start


async def ended(store: JobStore, job: Job, seconds: float = 120.0) -> Job:
    await until(lambda: store.get(job.id).state in ENDED, seconds)
    return store.get(job.id)


def backend_process(home: Path, worker: Sequence[str] = TOY) -> subprocess.Popen[bytes]:
    """A process with an engine, to be killed. It runs whatever is in the store of ``home``; no ``worker``: the real."""
    code = (
        "import asyncio, sys; from pathlib import Path; from backend.engine import Engine;"
        "from backend.jobs import JobStore;"
        "asyncio.run(Engine(JobStore(Path(sys.argv[1])), lambda *_: None, sys.argv[2:] or None).run())"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(home), *worker], env=ENVIRONMENT)


def steps(store: JobStore, job: Job) -> list[list[int]]:
    """The steps of each life of a job's pipeline."""
    lives: list[list[int]] = []
    for line in (store.folder(job.id) / "trace.txt").read_text().splitlines():
        if line.startswith("life"):
            lives.append([])
        else:
            lives[-1].append(int(line))
    return lives


def outcome(store: JobStore, job: Job) -> str:
    return (store.folder(job.id) / "result" / "state.json").read_text()


def expected(steps: int, seed: int = 0) -> list[float]:
    """What the toy pipeline computes when nothing goes wrong."""
    noise, state = random.Random(seed), [0.0] * 8
    for _ in range(steps):
        state = [0.9 * value + noise.gauss() for value in state]
    return state


def alive(process_id: int) -> bool:
    """Whether a process runs, zombies aside."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def workers(store: JobStore, job: Job) -> list[int]:
    """The process ids of the living workers on a job."""
    folder, found = os.fsencode(store.folder(job.id)), []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if folder in (path / "cmdline").read_bytes().split(b"\0") and alive(int(path.name)):
                found.append(int(path.name))
    return found
