# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives one pipeline to its end: checkpoints and previews when they are due, resuming, one rollback, the result.

The worker process and the command line both do their work through ``drive``; they differ only in whom they tell.
"""

from __future__ import annotations

import itertools
import math
import os
import shutil
import struct
import time
import traceback
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import memory, storage
from .errors import Gen3DError
from .version import VERSION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .pipelines.progress import Pipeline, Progress, Snapshot

Run = Callable[[Any, Path, "Snapshot | None"], "Pipeline"]

CHECKPOINT_SECONDS, CHECKPOINT_SHARE = 10.0, 0.03
PREVIEW_SECONDS, PREVIEW_SHARE = 0.5, 0.04
SHAPE_SECONDS, SHAPE_SHARE = 1.0, 0.03
MOST_POINTS = 2**16  # of a shape: what a frame holds
LONG_CHECKPOINT = 1.5  # seconds; one that takes longer is not written any more when the job is told to stop


_UNUSABLE = (KeyError, ValueError, RuntimeError)  # what a pipeline raises for a checkpoint that is not its own


class Stopped(Exception):
    """The pipeline was told to stop; whatever it offered has been saved."""


@dataclass
class Schedule:
    """When something that costs time is due again: not sooner than ``seconds``, nor above its ``share`` of all time."""

    seconds: float
    share: float
    last: float = -math.inf
    cost: float = 0.0

    def due(self) -> bool:
        return time.perf_counter() - self.last >= max(self.seconds, self.cost / self.share)

    def run(self, action: Callable[[], None]) -> None:
        start = time.perf_counter()
        action()
        self.last = time.perf_counter()
        self.cost = self.last - start


@dataclass(frozen=True)
class Listener:
    """Whom to tell, and whom to ask. Each is called between two steps of the pipeline."""

    report: Callable[[Progress], None] = lambda progress: None
    preview: Callable[[NDArray[np.uint8]], None] | None = None
    shape: Callable[[NDArray[np.float32]], None] | None = None
    saved: Callable[[], None] = lambda: None  # a checkpoint is on disk
    stopping: Callable[[], bool] = lambda: False


def drive(
    kind: str,
    run: Run,
    settings: Any,
    folder: Path,
    final: Path,
    listener: Listener,
    notes: Sequence[str] = (),
    installed: Collection[str] = (),
) -> dict[str, Any]:
    """Runs a pipeline from the newest checkpoint in ``folder``, if any, until ``final`` holds its result.

    ``folder`` takes checkpoints and the unfinished result. Returns what result.json holds. A checkpoint that is
    damaged, or that the pipeline cannot use, gives way to the one before. A state that is no longer finite goes
    back to the last checkpoint once; out of memory, the pipeline goes on from there with settings that need less, as
    long as there are any. Raises Stopped, Gen3DError, or whatever else the pipeline raised.

    notes: what is to be said of the job beside the pipeline's own; installed: the names of the weights that are.
    """
    storage.require_space(folder)
    attempt = _Attempt(kind, run, settings, folder, listener)
    sources: Iterator[Snapshot | None] = itertools.chain(_snapshots(folder), (None,))
    resume, rolled_back = next(sources), False
    ladder, stepped = memory.rungs(settings, installed), ""
    while True:
        try:
            summary = attempt.go(resume)
            break
        except FloatingPointError as error:
            if rolled_back:
                raise _diverged(attempt, error) from error
            traceback.print_exc()
            rolled_back, sources = True, itertools.chain(_snapshots(folder), (None,))
        except Exception as error:
            if is_out_of_memory(error) and (rung := next(ladder, None)):
                (settings, less), sources = rung, itertools.chain(_snapshots(folder), (None,))
                stepped = f"The device ran out of memory: {less}."
                attempt = _Attempt(kind, run, settings, folder, listener)
            elif not isinstance(error, _UNUSABLE) or resume is None or attempt.started or is_out_of_memory(error):
                raise
            traceback.print_exc()
        resume = next(sources)
    if said := [*notes, *([stepped] if stepped else ())]:
        summary["notes"] = [*summary.get("notes", ()), *said]
    content = storage.finish_result(folder / "result.part", final, _content(kind, settings, summary))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return content


def _content(kind: str, settings: Any, summary: dict[str, Any]) -> dict[str, Any]:
    """What result.json says, besides what the files are."""
    told = {"format": 1, "kind": kind, "settings": asdict(settings), "seed": getattr(settings, "seed", None)}
    return {**told, **summary, "version": VERSION}


class _Attempt:
    """The pipeline and how far it is."""

    def __init__(self, kind: str, run: Run, settings: Any, folder: Path, listener: Listener) -> None:
        self.kind = kind
        self.started = False  # it has offered a state of its own: what it was resumed from was good
        self.latest: Progress | None = None
        self._run, self._settings, self._folder, self._listener = run, settings, folder, listener
        self._checkpoints = Schedule(CHECKPOINT_SECONDS, CHECKPOINT_SHARE)
        self._previews = Schedule(PREVIEW_SECONDS, PREVIEW_SHARE)
        self._phase = ""
        self._shapes = Schedule(SHAPE_SECONDS, SHAPE_SHARE)

    def go(self, resume: Snapshot | None) -> dict[str, Any]:
        part = self._folder / "result.part"
        with storage.disk_errors(part):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        self.started = False
        self._checkpoints.last = time.perf_counter()
        with closing(self._run(self._settings, part, resume)) as pipeline:
            while True:
                try:
                    progress = next(pipeline)
                except StopIteration as end:
                    return dict(end.value)
                except OSError as error:
                    raise storage.disk_full(part) if storage.is_disk_full(error) else error from error
                self._step(progress)

    def _step(self, progress: Progress) -> None:
        self.latest = progress
        if progress.snapshot is not None and not self.started:
            self.started = True
            self._checkpoints.last = time.perf_counter()  # preparing does not count: there was nothing to lose
        if progress.loss is not None and not math.isfinite(progress.loss):
            raise FloatingPointError(f"the loss is {progress.loss}")
        if self._listener.stopping():
            quick = self._checkpoints.cost < LONG_CHECKPOINT
            # What has just come up that is worth having is offered again from the checkpoint before.
            if progress.snapshot is not None and quick and progress.so_far is None:
                with suppress(Gen3DError):  # a full disk must not keep anybody from stopping
                    self._checkpoint(progress)
            raise Stopped
        self._listener.report(progress)
        if progress.so_far is not None:
            self._keep(progress.so_far)
        if progress.snapshot is not None and self._checkpoints.due():
            self._checkpoints.run(lambda: self._checkpoint(progress))
        show, render = self._listener.preview, progress.preview
        begun, self._phase = progress.phase != self._phase, progress.phase  # how the phase before it has ended
        if show is not None and render is not None and (begun or self._previews.due()):
            self._previews.run(lambda: show(render()))
        draw, shape = self._listener.shape, progress.shape
        if draw is not None and shape is not None and self._shapes.due():
            self._shapes.run(lambda: draw(shape()))

    def _keep(self, so_far: Callable[[Path], dict[str, Any]]) -> None:
        """Has what there is written down, in the place of what there was before."""
        final = storage.folder_so_far(self._folder)
        part = final.with_suffix(".part")
        with storage.disk_errors(part):
            for folder in (part, final):
                shutil.rmtree(folder, ignore_errors=True)
            part.mkdir()
            storage.finish_result(part, final, _content(self.kind, self._settings, so_far(part)))

    def _checkpoint(self, progress: Progress) -> None:
        assert progress.snapshot is not None
        snapshot = progress.snapshot()
        storage.write_checkpoint(self._folder, snapshot.tensors, snapshot.facts)
        self._listener.saved()


def _snapshots(folder: Path) -> Iterator[Snapshot]:
    if storage.has_checkpoint(folder):
        from .pipelines.progress import Snapshot

        for tensors, facts in storage.read_checkpoints(folder):
            yield Snapshot(tensors, facts)


def png(picture: NDArray[np.uint8]) -> bytes:
    """A picture, uint8 sRGB [H, W, 3], as PNG: quickly rather than small, and with rows that are not filtered, so that
    zlib alone unpacks it in Blender."""
    import numpy as np

    height, width, _ = picture.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, 3 * width)], 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def points(shape: NDArray[np.float32]) -> bytes:
    """Points [N, 6], x, y, z and sRGB in 0..1, as protocol.Shape has them; of too many, evenly chosen ones."""
    import numpy as np

    shape = shape[:: -(-len(shape) // MOST_POINTS) or 1]
    packed = np.zeros(len(shape), [("place", "<f4", 3), ("colour", "u1", 4)])
    packed["place"] = shape[:, :3]
    packed["colour"][:, :3] = np.clip(shape[:, 3:] * 255 + 0.5, 0, 255)
    return packed.tobytes()


# --------------------------------------------------------------------------------------------- what went wrong


def is_out_of_memory(error: BaseException) -> bool:
    """torch says it in several ways: an own class for devices, a plain RuntimeError on the CPU."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(word in text for word in ("out of memory", "allocate memory")))
    )


def explain(error: BaseException, kind: str, log: Path | str) -> Gen3DError:
    """Any failure as two sentences a user can act on. Prints the traceback, which belongs into ``log``."""
    if isinstance(error, Gen3DError):
        return error
    traceback.print_exception(error)
    if is_out_of_memory(error):
        return Gen3DError(
            f"The device ran out of memory during the {kind} job.",
            "Close other programs or lower the resolution, then resume: it goes on from its last checkpoint.",
            field="out_of_memory",
        )
    where = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(where[-1].filename)}, line {where[-1].lineno})" if where else ""
    return Gen3DError(
        f"The {kind} job met an unexpected {type(error).__name__}{place}: {str(error)[:300] or 'no message'}.",
        f"Try again; if that fails too, report it together with {log}.",
    )


def _diverged(attempt: _Attempt, error: FloatingPointError) -> Gen3DError:
    latest = attempt.latest
    at = f" in {latest.phase}, step {latest.step}" if latest else ""
    return Gen3DError(
        f"The {attempt.kind} job diverged{at}: {error}, again after going back to the last checkpoint.",
        f"{'Check the poses and pictures of the dataset, or try' if attempt.kind == 'nerf' else 'Try'} another seed.",
        field="diverged",
    )
