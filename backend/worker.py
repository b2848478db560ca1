# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker: a process of its own for one job, so that whatever happens in it happens to nobody else.

    python -m backend.worker JOB_FOLDER [DEVICE]   works on the job in the folder (its job.json says what to do)
    python -m backend.worker --devices             prints the devices of this machine as a JSON list, and ends

DEVICE is JSON, too: {"type": "cuda", "free": bytes or null}. A job that needs more than is free is stepped down.

Standard input is a pipe from the engine: the line "cancel" ends the job, end of file means that the engine is gone.
Either way the worker saves its state where that is quick, and ends. Standard output carries one JSON object a line:

    {"event": "progress", "phase", "step", "total", "fraction", "seconds_left", "loss"}   about once a second
    {"event": "preview"}      preview.png in the folder is new
    {"event": "shape"}        shape.points in the folder is new, as protocol.Shape has them
    {"event": "checkpoint"}   the state is safe
    then exactly one of       {"event": "done"}, {"event": "stopped"},
                              {"event": "failed" | "interrupted", "error": {"cause", "next_step", "field", "log"}}

A worker that ends without one of the last four has crashed. Everything that libraries print goes to the log.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import memory, settings, storage, weights
from .driver import Listener, Run, Stopped, drive, explain, png, points
from .errors import Gen3DError

if TYPE_CHECKING:
    from .pipelines.progress import Progress

REPORT_SECONDS = 1.0
ORPHAN_SECONDS = 10.0  # a worker without an engine may finish its step for so long
LOCK_SECONDS = 60.0


def pipelines() -> dict[str, Run]:
    """Every kind of job and what does it. To be called before anything imports torch or numba."""
    # Threads that wait for work spin for milliseconds, in torch's pool and in numba's: beside anything else that is at
    # work, such as Blender, each pool takes the cores from the other. A training that took 0.83 s a step so takes 0.58.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    from .pipelines import bake, dream_fields, dreamfusion, magic3d, nerf, personalise, point_e

    systems: dict[str, Run] = {
        "point-e": point_e.generate,
        "dream-fields": dream_fields.generate,
        "dreamfusion": dreamfusion.generate,
        "magic3d": magic3d.generate,
    }
    return {
        "generate": lambda wanted, out, resume: systems[wanted.system](wanted, out, resume),
        "nerf": nerf.train,
        "remesh": nerf.remesh,
        "render": nerf.render,
        "bake": bake.bake,
        "personalise": personalise.train,
    }


def main(
    argv: Sequence[str] | None = None,
    table: Callable[[], Mapping[str, Run]] = pipelines,
    devices: Callable[[], list[dict[str, Any]]] | None = None,
) -> int:
    """The process. ``table`` and ``devices`` can be replaced by tests that need no torch device."""
    argument, *device = sys.argv[1:] if argv is None else argv
    if argument == "--devices":
        print(json.dumps((devices or find_devices)()))
        return 0
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the engine, which then tells us
    die_with_engine()
    channel = Channel.take()
    folder = Path(argument)
    lock = storage.FileLock(folder / "worker.lock")
    deadline = time.monotonic() + LOCK_SECONDS
    while not lock.acquire():  # a worker whose engine died is about to end
        if time.monotonic() > deadline:
            print("Another worker still works on this job.", file=sys.stderr)
            return 1
        time.sleep(0.1)
    _work(folder, table, channel, json.loads(device[0]) if device else {})
    return 0


def _work(folder: Path, table: Callable[[], Mapping[str, Run]], channel: Channel, device: dict[str, Any]) -> None:
    kind = "unknown"
    try:
        job = storage.read_json(folder / "job.json") or {}
        kind = str(job.get("kind"))
        if storage.read_result(folder / "result") is None:
            cls = settings.KINDS.get(kind)
            if cls is None:
                raise Gen3DError(f"There is no job kind {kind!r:.40}.", "Update Gen3D.", field="kind")
            channel.watch()
            listener = Listener(
                channel.progress,
                lambda picture: channel.show(folder / "preview.png", png(picture)),
                lambda shape: channel.show(folder / "shape.points", points(shape)),
                channel.saved,
                channel.stopping,
            )
            there = weights.there()
            fit = memory.fitted(kind, job.get("params"), device.get("type", "cpu"), device.get("free"), there)
            values, notes = settings.parse(cls, fit.params), [fit.told] * bool(fit.told)
            drive(kind, table()[kind], values, folder, folder / "result", listener, notes, there)
        channel.send({"event": "done"})
    except Stopped:
        channel.send({"event": "stopped"})
    except Exception as error:
        log = folder / "worker.log"
        said = explain(error, kind, log)
        told = {"cause": said.cause, "next_step": said.next_step, "field": said.field, "log": str(log)}
        channel.send({"event": "interrupted" if said.field == storage.DISK_FULL else "failed", "error": told})


def die_with_engine() -> None:
    """Has Linux end this process when the engine is killed: libraries can keep every Python thread from running for
    minutes, and with them the one that notices the end of standard input. PR_SET_PDEATHSIG of prctl(2).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@dataclass
class Channel:
    """Both pipes to the engine."""

    out: int
    _stop: threading.Event = field(default_factory=threading.Event)
    _reported: float = -math.inf
    _phase: str = ""

    @classmethod
    def take(cls) -> Channel:
        """Keeps standard output for itself; what others print there from now on goes to standard error."""
        out = os.dup(1)
        os.dup2(2, 1)
        return cls(out)

    def send(self, message: dict[str, Any]) -> None:
        try:
            os.write(self.out, json.dumps(message).encode("ascii") + b"\n")
        except OSError:  # nobody listens any more
            self._stop.set()

    def watch(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        received = b""
        while data := os.read(0, 1024):
            received += data
            if b"cancel\n" in received:
                self._stop.set()
        self._stop.set()
        time.sleep(ORPHAN_SECONDS)
        os._exit(1)  # in the middle of a step: the last checkpoint is what counts

    def stopping(self) -> bool:
        return self._stop.is_set()

    def saved(self) -> None:
        self.send({"event": "checkpoint"})

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.phase == self._phase and now - self._reported < REPORT_SECONDS:
            return
        self._reported, self._phase = now, progress.phase
        names = ("phase", "step", "total", "fraction", "seconds_left", "loss")
        self.send({"event": "progress", **{name: getattr(progress, name) for name in names}})

    def show(self, path: Path, data: bytes) -> None:
        """Replaces the file that the event of its name is about."""
        storage.write_atomic(path, data, durable=False)
        self.send({"event": path.stem})


def find_devices() -> list[dict[str, Any]]:
    """The devices torch can use, best first, the CPU last: {"id", "type", "name", "memory" in bytes or None}, and the
    "uuid" of NVIDIA's."""
    import psutil
    import torch

    found: list[dict[str, Any]] = []
    memory = psutil.virtual_memory().total
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        uuid = str(getattr(facts, "uuid", ""))  # AMD's have none
        found.append(
            {"id": f"cuda:{index}", "type": "cuda", "name": facts.name, "memory": facts.total_memory, "uuid": uuid}
        )
    if torch.backends.mps.is_available():
        found.append({"id": "mps", "type": "mps", "name": "Apple GPU", "memory": memory})
    name = platform.processor() or platform.machine()
    return [*found, {"id": "cpu", "type": "cpu", "name": f"{name}, {os.cpu_count()} threads", "memory": memory}]


if __name__ == "__main__":
    sys.exit(main())
