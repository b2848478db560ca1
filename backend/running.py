# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a job in this process, for the command line: Ctrl-C stops it, and the same command goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import storage, terminal
from .errors import Gen3DError
from .settings import FILES

if TYPE_CHECKING:
    from .driver import Listener
    from .pipelines.progress import Progress

STOPPED = 130
OTHER_FILES = (".3ds", ".abc", ".blend", ".dae", ".fbx", ".gltf", ".stl", ".usd", ".usdc", ".usdz", ".x3d")


class Ended(Exception):
    """The job did not come to its end, by no fault of what was asked. ``code``: the exit code of the process."""

    def __init__(self, error: Gen3DError, code: int) -> None:
        super().__init__(str(error))
        self.error, self.code = error, code


def run(kind: str, values: Any, out: Path) -> dict[str, Any]:
    """Runs a pipeline; what result.json holds, and "folder", or "file" where ``out`` names a single one.

    OUT.part takes its checkpoints, so that an interrupted run can go on. Raises Gen3DError, or Ended.
    """
    storage.refuse_filled(out)
    endings = FILES.get(kind, {})
    role = endings.get(out.suffix.lower(), "")
    if out.suffix.lower() in OTHER_FILES:
        cause = f"Files that end in {out.suffix} are not written."
        step = f"Name a folder{', or a file that ends in ' if endings else ''}{', '.join(endings)}."
        raise Gen3DError(cause, step, field="out")
    if role and getattr(values, "count", 1) > 1:
        cause = f"{values.count} results do not go into the one file {out.name}."
        raise Gen3DError(cause, "Name a folder, or make one at a time.", field="out")
    from . import weights, worker
    from .driver import Stopped, drive, explain

    work = out.with_name(out.name + ".part")
    final = work / "result" if role else out
    with workspace(work, kind, values), stop_signals() as stopping, progress_bar(stopping) as listener:
        if role:
            shutil.rmtree(final, ignore_errors=True)  # of a run that was killed at the very end
        try:
            with own_stdout():
                content = drive(
                    kind, worker.pipelines()[kind], values, work, final, listener, installed=weights.there()
                )
        except Stopped:
            step = "The same command goes on." if storage.has_checkpoint(work) else "Nothing was left behind."
            if storage.read_result(so_far := storage.folder_so_far(work)):
                step += f" What there is so far: {so_far}."
            raise Ended(Gen3DError("Stopped.", step), STOPPED) from None
        except Gen3DError:
            raise
        except Exception as error:
            raise Ended(explain(error, kind, "the traceback above"), 1) from error
        if not role:
            return {**content, "folder": str(out)}
        with storage.disk_errors(out):
            os.replace(final / content["files"][role], out)
            storage.sync_folder(out.parent)
        return {**content, "files": {role: out.name}, "file": str(out)}


@contextmanager
def workspace(work: Path, kind: str, values: Any) -> Iterator[None]:
    """The folder of an unfinished run. It stays only where it holds a checkpoint to go on from.

    Raises Gen3DError when it belongs to a run with other settings, or to one that is still going.
    """
    missing = [folder for folder in (work, *work.parents) if not folder.exists()]
    own = {"job.json", "worker.lock"}
    if work.is_dir() and any(work.iterdir()) and not own & set(os.listdir(work)):
        raise Gen3DError(f"{work} is in the way: its files are not ours.", "Choose another --out.", field="out")
    with storage.disk_errors(work):
        try:
            work.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            cause = f"{work} cannot be made: a file is in the way."
            raise Gen3DError(cause, "Choose another --out.", field="out") from None
    lock = storage.FileLock(work / "worker.lock")
    if not lock.acquire():
        raise Gen3DError(f"Another run is writing to {work}.", "Wait for it, or choose another --out.", field="out")
    try:
        mine = {"kind": kind, "settings": json.loads(storage.to_json(asdict(values)))}
        if storage.has_checkpoint(work) and storage.read_json(work / "job.json") != mine:
            raise Gen3DError(
                f"{work} holds an unfinished run with other settings.",
                "Give the same settings to go on, delete it, or choose another --out.",
                field="out",
            )
        storage.write_atomic(work / "job.json", storage.to_json(mine))
        yield
    finally:
        lock.release()
        if not storage.has_checkpoint(work):
            shutil.rmtree(work, ignore_errors=True)
            for folder in missing[1:]:
                with suppress(OSError):  # the result may be in it
                    folder.rmdir()


@contextmanager
def own_stdout() -> Iterator[None]:
    """While it lasts, what libraries print to standard output, in Python or below, goes to standard error."""
    sys.stdout.flush()
    ours = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(ours, 1)
        os.close(ours)


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """While it lasts, the first Ctrl-C asks to stop, and the second one stops."""
    asked: list[int] = []

    def handle(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        with suppress(OSError):
            os.write(2, b"\ngen3d: stopping after this step; once more stops at once\n")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_bar(stopping: Callable[[], bool]) -> Iterator[Listener]:
    """How far the whole job is, on standard error."""
    from .driver import Listener

    with terminal.bar() as show:

        def report(progress: Progress) -> None:
            facts = [f"step {progress.step}" + (f" of {progress.total}" if progress.total else "")]
            if progress.loss is not None:
                facts.append(f"loss {progress.loss:.4g}")
            if progress.seconds_left is not None:
                facts.append(f"{progress.seconds_left:.0f} s left")
            show(progress.fraction, progress.phase, ", ".join(facts))

        yield Listener(report, stopping=stopping)
