# SPDX-License-Identifier: GPL-3.0-or-later
"""The one timer: brings what the backend tells into Blender, a few milliseconds at a time.

``pump`` does one helping. The timer calls it in Blender's window; a script without one (``blender --background``,
where timers never fire) calls it in a loop of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import bpy

from . import launcher
from .bridge import errors, protocol, runtime
from .client import Client, Link, News
from .seat import Seat

BUDGET = 0.005  # seconds of Blender's time for one helping
HELPING = 8  # pieces of news between two looks at the clock
BUSY, IDLE = 0.1, 1.0  # seconds between helpings: while a job of ours runs, and otherwise

Place = tuple[float, float, float]


class Session:
    """This Blender's connection to the backend of one home folder, and what is known through it."""

    def __init__(self, folder: Path, python: str) -> None:
        self.home = folder
        self.may_start = False  # an add-on that is merely switched on attaches, but starts nothing
        self.error: errors.Gen3DError | None = None  # the last refusal, for the panel
        # Requests whose results are wanted in the present file, and where those are to stand that stand anywhere.
        self.to_import: dict[str, Place | None] = {}
        self._python = python
        self._seat = Seat(folder)
        self.client = Client(self._seat.name, self._find).start()

    def _find(self, stop: Event) -> runtime.Runtime:
        if self.may_start:
            return launcher.ensure(self.home, self._python, stop=stop)
        if where := launcher.attach(self.home):
            return where
        raise errors.Gen3DError("The backend is not running.", "It is started with the first job.")

    def close(self) -> None:
        self.client.close()
        self._seat.leave()

    def jobs(self) -> list[protocol.JobRow]:
        """Our own jobs, newest first."""
        return [row for row in reversed(self.client.jobs()) if row.client == self.client.name]


_session: Session | None = None
_changed: list[Callable[[], None]] = []  # called after a helping that brought something


def session() -> Session | None:
    return _session


def connect(folder: Path, python: str = "", *, start: bool) -> Session:
    """The session of a home folder; ``start``: it may start the backend when none runs. Never waits for it."""
    global _session
    if _session is not None and _session.home != folder:
        disconnect()
    if _session is None:
        _session = Session(folder, python)
    _session.may_start |= start
    if not bpy.app.background and not bpy.app.timers.is_registered(tick):
        bpy.app.timers.register(tick, first_interval=BUSY, persistent=True)
    return _session


def disconnect() -> None:
    """Hangs up. Jobs go on in the backend."""
    global _session
    if bpy.app.timers.is_registered(tick):
        bpy.app.timers.unregister(tick)
    if _session is not None:
        _session.close()
        _session = None


def on_change(call: Callable[[], None]) -> None:
    """Have something called after news, such as a redraw; ``forget`` ends it."""
    _changed.append(call)


def forget(call: Callable[[], None]) -> None:
    if call in _changed:
        _changed.remove(call)


def pump(budget: float = BUDGET) -> int:
    """Takes news until there is none or the time is up; how many pieces it were. Never waits."""
    current, count = _session, 0
    deadline = time.perf_counter() + budget
    while current is not None and time.perf_counter() < deadline:
        helping = current.client.poll(HELPING)
        for piece in helping:
            _take(current, piece)
        count += len(helping)
        if len(helping) < HELPING:
            break
    if count:
        for call in list(_changed):
            call()
    return count


def _take(current: Session, piece: News) -> None:
    """Rows are kept by the client; what needs remembering here are refusals and lost connections."""
    if isinstance(piece, protocol.Refused):
        current.error = errors.Gen3DError(piece.cause, piece.next_step, field=piece.field)
    elif isinstance(piece, Link):
        current.error = piece.error if current.may_start else None


def ready(current: Session) -> list[protocol.JobRow]:
    """Finished jobs whose result is wanted in this file and has not been imported."""
    wanted = (row for row in current.jobs() if row.request in current.to_import)
    return [row for row in wanted if row.state == "done" and not row.imported]


def tick() -> float | None:
    """What Blender's timer calls: one helping, then at most one import."""
    pump()
    if _session is None:
        return None
    for row in ready(_session):
        _import(_session, row)
        break
    running = any(row.state in ("queued", "running") for row in _session.jobs())
    return BUSY if running else IDLE


def _import(current: Session, row: protocol.JobRow) -> None:
    """By the operator, so that it is one undo step. Waits for object mode and for the end of a rendering."""
    if bpy.app.is_job_running("RENDER") or bpy.context.mode != "OBJECT" or not bpy.context.window_manager.windows:
        return
    place = current.to_import.pop(row.request, None)
    where = {"at": place} if place else {}
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[0]):
        try:
            bpy.ops.gen3d.import_result("EXEC_DEFAULT", True, folder=str(result_folder(row)), job=row.id, **where)
        except RuntimeError as fault:  # what the operator reported as an error
            current.error = errors.Gen3DError(str(fault).strip(), "The result stays in the list of jobs.")


def result_folder(row: protocol.JobRow) -> Path:
    """Where the backend, on this machine, has put the finished result of a job."""
    return Path(row.folder) / "result"


def progress_line(row: protocol.JobRow) -> str:
    """A job's state in a few words: "train 40 %, 1:12 left"."""
    values: dict[str, Any] = row.progress or {}
    if row.state != "running" or not values:
        return row.state
    line = f"{values.get('phase', '')} {100.0 * (values.get('fraction') or 0.0):.0f} %"
    left = values.get("seconds_left")
    return line if left is None else f"{line}, {int(left) // 60}:{int(left) % 60:02d} left"
