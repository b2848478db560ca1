# SPDX-License-Identifier: GPL-3.0-or-later
"""Where jobs run: one worker process at a time for each device of this machine.

The engine claims jobs, starts their workers, writes down what they say and cleans up after the ones that die. It
never imports torch, so that the server stays small and starts at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import device_memory, storage
from .errors import Gen3DError
from .jobs import CRASH_LIMIT, ENDED, Job, JobStore

GRACE = 3.0  # seconds between asking a worker to end and killing it
POLL = 0.5  # seconds between looks at what other processes did to the list of jobs
LOOK = 3.0  # seconds between looks at the free memory
CHANGED = 0.02  # share of the memory by which what is free has to differ to be told
PROBE_SECONDS = 180.0  # the first import of torch on a cold disk takes its time

log = logging.getLogger("gen3d.engine")


@dataclass
class Running:
    """A job of ours that runs."""

    cancelled: bool = False
    process: Process | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Engine:
    """Runs the jobs of a store. All methods belong to one event loop."""

    def __init__(
        self,
        store: JobStore,
        notify: Callable[[Job, str, bytes], None],
        worker: Sequence[str] | None = None,
        devices_changed: Callable[[], None] = lambda: None,
    ) -> None:
        """``notify(job, what, data)`` is called after every change of a job, with "preview" and PNG bytes or "shape"
        and points where there is a new one. ``worker`` is the command that starts a worker; the job's folder is added
        to it.
        """
        self._store = store
        self._notify, self._devices_changed = notify, devices_changed
        self._worker = tuple(worker or (sys.executable, "-P", "-s", "-X", "utf8", "-m", f"{__package__}.worker"))
        self._devices: list[dict[str, Any]] = []
        self._running: dict[str, Running] = {}
        self._wake = asyncio.Event()
        self._seen = store.latest_seq()

    def devices(self) -> list[dict[str, Any]]:
        """{"id", "type", "name", "memory", "free"} of each device, best first; empty until ``run`` has found them."""
        return self._devices

    def wake(self) -> None:
        """There is a new job: look at once."""
        self._wake.set()

    async def run(self) -> None:
        """Claims and runs jobs until it is cancelled; then its workers save and end, and their jobs wait again.

        Raises Gen3DError when another engine runs the jobs of the same home.
        """
        lock = storage.FileLock(self._store.home / "engine.lock")
        if not lock.acquire():
            raise Gen3DError(f"Another backend runs the jobs in {self._store.home}.", "Use that one, or end it.")
        try:
            self._recover()
            self._devices = await self._probe()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                group.create_task(self._watch_memory())
                for device in self._devices:
                    group.create_task(self._serve(device))
        finally:
            lock.release()

    async def cancel(self, job_id: str) -> Job:
        """Ends a job within seconds, whatever it does; one that has ended stays as it is. Returns what became of it.

        Raises Gen3DError for an unknown id.
        """
        job = self._store.request_cancel(job_id)
        running = self._running.get(job_id)
        if running is None:
            self._tell(job_id)
        else:
            running.cancelled = True
            await self._end(running, b"cancel\n")
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    await running.over.wait()
        for _ in range(20):  # a worker left over by a backend that died ends by itself
            if (job := self._store.get(job_id)).state in ENDED:
                break
            await asyncio.sleep(0.1)
        return job

    # ----------------------------------------------------------------------------------------------- the loops

    async def _serve(self, device: dict[str, Any]) -> None:
        types = [other["type"] for other in self._devices]
        accepts = {device["type"]}
        if device["id"] == self._devices[0]["id"]:  # it also takes what names no device, or none of ours
            accepts |= {"auto", "cpu", "cuda", "mps"} - set(types)
        while True:
            try:
                job = self._store.claim(accepts)
            except Gen3DError as error:
                log.error("no job could be claimed: %s", error)
                job = None
            if job is None:
                with suppress(TimeoutError):  # asyncio.wait_for of Python 3.11 loses a cancellation at the same moment
                    async with asyncio.timeout(2.0):
                        await self._wake.wait()
                self._wake.clear()
                continue
            running = self._running[job.id] = Running()
            try:
                await self._work(job, device, running)
            except Exception as error:
                log.exception("job %s could not be run", job.id)
                cause = f"The backend could not run the job: {type(error).__name__}: {error}."
                await self._record(job, "failed", error=_error(cause, "Try again; if that fails too, report it."))
                self._tell(job.id)
            finally:
                del self._running[job.id]
                running.over.set()

    async def _watch(self) -> None:
        """What happens beside us: jobs changed by the command line, workers of a dead backend that have ended."""
        while True:
            await asyncio.sleep(POLL)
            try:
                if self._store.changed_elsewhere():
                    for job in self._store.changed_since(self._seen):
                        self._tell(job.id)
                    self._wake.set()
                    for job_id in self._store.cancel_requests():
                        if job_id in self._running:
                            await self.cancel(job_id)
                self._recover()
            except Gen3DError as error:
                log.error("the list of jobs could not be read: %s", error)

    async def _watch_memory(self) -> None:
        while True:
            free = await device_memory.free(self._devices)
            if any(map(_differs, self._devices, free)):
                self._devices = [{**device, "free": now} for device, now in zip(self._devices, free, strict=True)]
                self._devices_changed()
            await asyncio.sleep(LOOK)

    def _recover(self) -> None:
        for job in self._store.recover(own=self._running):
            log.warning("job %s was left over: %s", job.id, job.state)
            self._tell(job.id)
            self._wake.set()

    # ----------------------------------------------------------------------------------------------- one worker

    async def _work(self, job: Job, device: dict[str, Any], running: Running) -> None:
        """Runs one claimed job until it has ended, or waits again."""
        self._tell(job.id)
        folder = self._store.folder(job.id)
        try:
            with open(folder / "worker.log", "ab") as stderr:
                running.process = process = await asyncio.create_subprocess_exec(
                    *self._worker, str(folder), self._told_of(device), stdin=PIPE, stdout=PIPE, stderr=stderr,
                    env=self._environment(device),
                )  # fmt: skip
        except OSError as error:
            cause = f"The worker could not be started: {error}."
            await self._record(job, "failed", error=_error(cause, "Run `gen3d doctor`, then resume the job."))
            return
        last: dict[str, Any] = {}
        try:
            if running.cancelled:
                process.kill()
            async for event in _events(process):
                last = event
                self._note(job, folder, event)
            await process.wait()
        except asyncio.CancelledError:
            await self._end(running)
            await process.wait()
            self._store.release(job.id)
            raise
        finally:
            if process.returncode is None:
                process.kill()
        await self._conclude(job, folder, running, last)

    def _note(self, job: Job, folder: Path, event: dict[str, Any]) -> None:
        try:
            match event["event"]:
                case "progress":
                    self._store.progress(job.id, {name: value for name, value in event.items() if name != "event"})
                    self._tell(job.id)
                case "preview":
                    self._tell(job.id, "preview", (folder / "preview.png").read_bytes())
                case "shape":
                    self._tell(job.id, "shape", (folder / "shape.points").read_bytes())
                case "checkpoint":
                    self._store.checkpointed(job.id)
        except (Gen3DError, OSError) as error:  # a disk that is full for a moment is no reason to lose the job
            log.warning("job %s: %s", job.id, error)

    async def _conclude(self, job: Job, folder: Path, running: Running, last: dict[str, Any]) -> None:
        event = last.get("event")
        result = storage.read_job_result(folder / "result") if event == "done" else None
        if result is not None:
            await self._record(job, "done", result=result)
        elif running.cancelled:
            await self._record(job, "cancelled")
        elif event in ("failed", "interrupted"):
            await self._record(job, event, error=last["error"])
        elif event == "stopped":
            await self._until_stored(lambda: self._store.release(job.id))
        else:
            assert running.process is not None
            path = folder / "worker.log"
            how, words = _crash(running.process.returncode or 0, path)
            log.warning("job %s: the worker %s%s", job.id, how, words)
            cause = f"The job's worker {how}, {CRASH_LIMIT} times in a row{words}."
            error = _error(cause, "Read the log, run `gen3d doctor`, then resume the job.", str(path))
            await self._until_stored(lambda: self._store.crashed(job.id, error))
        self._tell(job.id)

    async def _record(self, job: Job, state: str, **end: Any) -> None:
        await self._until_stored(lambda: self._store.finish(job.id, state, **end))

    async def _until_stored(self, action: Callable[[], Job]) -> None:
        """An end must be written down, even if that has to wait until the disk has room again."""
        while True:
            try:
                action()
                return
            except Gen3DError as error:
                log.error("the end of a job cannot be stored yet: %s", error)
                await asyncio.sleep(1.0)

    async def _end(self, running: Running, word: bytes = b"") -> None:
        """Asks a worker to end, by a word or by closing its standard input, and kills it after the grace."""
        process = running.process
        if process is None or process.stdin is None:
            return
        with suppress(ConnectionError):
            process.stdin.write(word)
            if not word:
                process.stdin.close()
        try:
            async with asyncio.timeout(GRACE):
                await process.wait()
        except (TimeoutError, asyncio.CancelledError):
            with suppress(ProcessLookupError):
                process.kill()

    # -------------------------------------------------------------------------------------------------- the rest

    def _tell(self, job_id: str, what: str = "", data: bytes = b"") -> None:
        try:
            job = self._store.get(job_id)
            self._seen = max(self._seen, job.seq)
            self._notify(job, what, data)
        except Exception:  # a listener's fault is not the job's
            log.exception("job %s: could not tell about a change", job_id)

    async def _probe(self) -> list[dict[str, Any]]:
        """Asks a short-lived process, because finding devices takes torch."""
        fallback = {"id": "cpu", "type": "cpu", "name": "CPU", "memory": None}
        process: Process | None = None
        try:
            process = await asyncio.create_subprocess_exec(
                *self._worker, "--devices", stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=self._environment(fallback)
            )
            async with asyncio.timeout(PROBE_SECONDS):
                out, errors = await process.communicate()
            found = json.loads(out.splitlines()[-1]) if process.returncode == 0 else []
            if found:
                return list(found)
            log.error("devices could not be listed:\n%s", errors.decode(errors="replace")[-2000:])
        except (OSError, TimeoutError, ValueError, IndexError) as error:
            log.error("devices could not be listed: %s", error or type(error).__name__)
        finally:
            if process is not None and process.returncode is None:
                process.kill()
        return [fallback]

    def _told_of(self, device: dict[str, Any]) -> str:
        """The device as the worker is told of it, with what is free now."""
        now = next(known for known in self._devices if known["id"] == device["id"])
        return json.dumps({"type": now["type"], "free": now.get("free")})

    def _environment(self, device: dict[str, Any]) -> dict[str, str]:
        """The worker's: imports from where we are and nowhere else; of several GPUs it sees its own only."""
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
        environment["PYTHONUNBUFFERED"] = "1"
        if sum(other["type"] == "cuda" for other in self._devices) > 1 and device["type"] == "cuda":
            index = int(device["id"].split(":")[1])
            visible = environment.get("CUDA_VISIBLE_DEVICES")
            environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[index] if visible else str(index)
        return environment


def _differs(device: dict[str, Any], now: int | None) -> bool:
    """Whether the free memory has changed so much that a person would want to know."""
    told = device.get("free")
    if now is None or told is None:
        return now is not told
    return bool(abs(now - told) > CHANGED * (device["memory"] or now))


async def _events(process: Process) -> AsyncIterator[dict[str, Any]]:
    """What a worker says, line by line. Whatever is not an event is logged and skipped."""
    assert process.stdout is not None
    async for line in process.stdout:
        try:
            event = json.loads(line)
            event["event"]
        except (ValueError, TypeError, KeyError):
            log.warning("a worker said %r", line[:200])
            continue
        yield event


def _crash(code: int, path: Path) -> tuple[str, str]:
    """How a worker died, and its last words, if any."""
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    if -code == getattr(signal, "SIGKILL", 9):
        how += " (often for want of memory)"
    words: list[str] = []
    with suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 2000))
        words = file.read().decode(errors="replace").strip().splitlines()
    return how, f"; its last words: {' / '.join(words[-3:])[-500:]}" if words else ""


def _error(cause: str, next_step: str, log_path: str | None = None) -> dict[str, Any]:
    return {"cause": cause, "next_step": next_step, "field": None, "log": log_path}
