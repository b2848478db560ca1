# SPDX-License-Identifier: GPL-3.0-or-later
"""The one timer: brings what the backend tells into Blender, a few milliseconds at a time.

``pump`` does one helping. The timer calls it in Blender's window; a script without one (``blender --background``,
where timers never fire) calls it in a loop of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import bpy

from ..bridge import errors, protocol, runtime, unfinished
from . import launcher
from .client import Client, Link, News
from .remote import Copies, address
from .seat import Seat
from .wishes import Place, Wishes

BUDGET = 0.005  # seconds of Blender's time for one helping
HELPING = 8  # pieces of news between two looks at the clock
MOST = 200  # pieces of news for one helping: those who listen have to look at each
BUSY, IDLE = 0.1, 1.0  # seconds between helpings: while a job of ours runs, and otherwise


class NotStarted(errors.Gen3DError):
    """No backend runs, and none has been asked for."""


class Session:
    """This Blender's connection to the backend of one home folder, and what is known through it."""

    def __init__(self, folder: Path, python: str) -> None:
        self.home = folder
        self.may_start = False  # an add-on that is merely switched on attaches; what it starts for: ``_is_owed``
        self.error: errors.Gen3DError | None = None  # the last refusal, for the panel
        self.rows: dict[str, protocol.JobRow] = {}  # the newest that is known of each job, by id
        self._python = python
        self._seat = Seat(folder)
        self._wishes = Wishes(folder / "clients" / f"{self._seat.name}.json")
        self._file = bpy.data.filepath
        # Requests whose results are wanted in the present file, and where those are to stand that stand anywhere.
        self.to_import: dict[str, Place | None] = self._wishes.of(self._file)
        self._looked, self._wanted = False, self._wishes.all()
        self.client = Client(self._seat.name, self._find).start()
        self.copies = Copies(self.client, folder) if address(folder) else None  # of results made on another computer

    def want(self, request: str, place: Place | None) -> None:
        """The result of a request is to be imported into the present file, whatever happens until then."""
        self.to_import[request] = place
        self._wishes.put(self._file, self.to_import)

    def forget(self, request: str) -> None:
        if request in self.to_import:
            del self.to_import[request]
            self._wishes.put(self._file, self.to_import)

    def file_loaded(self) -> None:
        """Another file wants other results; those of one that was never saved wait in the list of jobs."""
        if not self._file:
            self._wishes.put("", {})
        self._file = bpy.data.filepath
        self.to_import = self._wishes.of(self._file) if self._file else {}

    def file_saved(self) -> None:
        """Under a new name, perhaps."""
        if self._file != bpy.data.filepath:
            self._wishes.put(self._file, {})
            self._file = bpy.data.filepath
            self._wishes.put(self._file, self.to_import)

    def _find(self, stop: Event) -> runtime.Runtime:
        if not self.may_start and (where := launcher.attach(self.home)):
            return where
        if not self._looked:  # once: whoever stops the backend on purpose does not want it back
            self._looked = True
            self.may_start |= self._is_owed()
        if self.may_start:
            return launcher.ensure(self.home, self._python, stop=stop)
        raise NotStarted("The backend is not running.", "It is started with the first job.")

    def _is_owed(self) -> bool:
        """Whether jobs that this Blender's seat has asked for go on, or arrive, only once there is a backend: after the
        computer was switched off, none runs."""
        if address(self.home) or not unfinished.is_owed(self.home, self._seat.name, self._wanted):
            return False
        with suppress(errors.Gen3DError):
            return bool(launcher.find_python(self.home, self._python))
        return False

    def close(self) -> None:
        self.client.close()
        self._seat.leave()

    def jobs(self) -> list[protocol.JobRow]:
        """Our own jobs, newest first."""
        own = (row for row in self.rows.values() if row.client == self.client.name)
        return sorted(own, key=lambda row: row.created, reverse=True)


Listener = Callable[[Session, Sequence[News]], None]
_session: Session | None = None
_listeners: list[Listener] = []


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


def listen_to(everyone: bool) -> None:
    """Whether jobs of other Blenders and scripts are told, too."""
    if _session is not None:
        _session.client.listen_to(everyone)


def on_news(call: Listener) -> None:
    """Have something called with each helping of news, such as a redraw; ``forget`` ends it."""
    _listeners.append(call)


def forget(call: Listener) -> None:
    if call in _listeners:
        _listeners.remove(call)


def pump(budget: float = BUDGET) -> int:
    """Takes news until there is none or the time is up; how many pieces it were. Never waits."""
    current = _session
    taken: list[News] = []
    deadline = time.perf_counter() + budget
    while current is not None and len(taken) < MOST and time.perf_counter() < deadline:
        helping = current.client.poll(HELPING)
        for piece in helping:
            _take(current, piece)
        taken += helping
        if len(helping) < HELPING:
            break
    if current is not None and taken:
        for call in list(_listeners):
            call(current, taken)
    return len(taken)


def _take(current: Session, piece: News) -> None:
    if isinstance(piece, protocol.JobRow):
        if piece.state == "removed":
            current.rows.pop(piece.id, None)
        else:
            current.rows[piece.id] = piece
        if piece.imported or piece.state == "removed":
            current.forget(piece.request)
    elif isinstance(piece, protocol.Refused):
        current.error = errors.Gen3DError(piece.cause, piece.next_step, field=piece.field)
    elif isinstance(piece, Link):
        # What was found before the first job asked for a backend may be told after it.
        current.error = piece.error if current.may_start and not isinstance(piece.error, NotStarted) else None


def ready(current: Session) -> list[protocol.JobRow]:
    """Finished jobs whose result is wanted in this file and has not been imported."""
    wanted = (row for row in current.jobs() if row.request in current.to_import) if current.to_import else ()
    return [row for row in wanted if row.state == "done" and not row.imported and has_arrived(current, row)]


def has_arrived(current: Session, row: protocol.JobRow) -> bool:
    """Whether a finished result is on this computer; from another one it is copied in the background."""
    if current.copies is None or current.copies.ready(row):
        return True
    if error := current.copies.errors.get(row.id):
        current.error = error
        current.forget(row.request)
    return False


def will_import(job: str) -> bool:
    """Whether the result of a job has yet to arrive from another computer; then it is imported when it has."""
    row = _session.rows.get(job) if _session else None
    if _session is None or _session.copies is None or row is None:
        return False
    _session.copies.again(job)
    if has_arrived(_session, row):
        return False
    _session.want(row.request, None)
    return True


def tick() -> float | None:
    """What Blender's timer calls: one helping, then at most one import."""
    pump()
    if _session is None:
        return None
    for row in ready(_session):
        _import(_session, row)
        break
    return BUSY if active(_session) else IDLE


def active(current: Session) -> list[protocol.JobRow]:
    """Our own jobs that run or wait, oldest first: the order in which they are done."""
    states = ("queued", "running")
    own = (row for row in current.rows.values() if row.state in states and row.client == current.client.name)
    return sorted(own, key=lambda row: (row.state, -row.created), reverse=True)


def waits() -> str:
    """Why nothing can be imported at the moment; "" when it can."""
    if bpy.app.is_job_running("RENDER"):
        return "until the rendering has ended"
    return "" if bpy.context.mode == "OBJECT" else "for object mode"


def _import(current: Session, row: protocol.JobRow) -> None:
    """By the operator, so that it is one undo step. Waits for object mode and for the end of a rendering."""
    if waits() or not bpy.context.window_manager.windows:
        return
    place = current.to_import[row.request]
    current.forget(row.request)
    where = {"at": place} if place else {}
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[0]):
        try:
            bpy.ops.gen3d.import_result("EXEC_DEFAULT", True, folder=str(result_folder(row)), job=row.id, **where)
        except RuntimeError as fault:  # what the operator reported as an error
            current.error = errors.Gen3DError(str(fault).strip(), "The result stays in the list of jobs.")


def result_folder(row: protocol.JobRow) -> Path:
    """Where the result of a job is on this computer: where the backend has put it, or its copy."""
    if _session is not None and _session.copies is not None:
        return _session.copies.folder(row.id)
    return Path((row.result or {}).get("folder") or Path(row.folder) / "result")


def has_something(current: Session, row: protocol.JobRow) -> bool:
    """Whether a job that was stopped has come to something that can be imported. Only finished results are copied from
    another computer."""
    return current.copies is None and row.state not in ("queued", "running", "done") and bool(row.result)


def progress_line(row: protocol.JobRow) -> str:
    """A job's state in a few words: "train 40 %, 1:12 left"."""
    values: dict[str, Any] = row.progress or {}
    if row.state != "running" or not values:
        return {"queued": "waiting for its turn", "running": "starting"}.get(row.state, row.state)
    line = f"{values.get('phase', '')} {100.0 * (values.get('fraction') or 0.0):.0f} %"
    left = values.get("seconds_left")
    return line if left is None else f"{line}, {duration(left)} left"


def duration(seconds: float) -> str:
    """As on a clock: "0:07", "1:12", "2:03:45"."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
