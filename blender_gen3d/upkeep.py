# SPDX-License-Identifier: GPL-3.0-or-later
"""What the add-on does for its backend in the background, one thing at a time, and what is known of it.

Installing and weights take minutes: they run as a ``Task``. A timer looks at it while there is one, so that the panels
move; in ``blender --background``, where timers never fire, ``start`` waits for the end and prints the progress.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bpy

from .bridge import errors
from .connection import remote
from .environment import installation, places
from .model_list import Models
from .task import Task, Work
from .viewports import redraw_areas

SHOWN = 0.25  # seconds between two looks at a task
INSTALLED = ("ready", "own")  # states of an environment that is as it should be
USABLE = (*INSTALLED, "outdated")  # those that a backend can run in

task: Task | None = None  # the newest one, also when it has ended
state = places.State("absent", "Not looked at yet")
log = Path()
elsewhere = ""  # the address of a backend on another computer that is used instead
models = Models()
_then: Callable[[], None] | None = None
_digest = ""


def look(home: Path, python: str) -> None:
    """Finds out anew how the environment is. Reads a few small files."""
    global state, log, elsewhere, _digest
    _digest = _digest or installation.digest()
    state, log, elsewhere = places.state(home, python, _digest), places.log_file(home), remote.address(home)


def busy() -> bool:
    return task is not None and (task.running or _then is not None)


def error() -> errors.Gen3DError | None:
    """Why the newest task has failed."""
    return task.error if task is not None and not busy() else None


def start(title: str, work: Work, then: Callable[[], None]) -> Task:
    """Begins a task; ``then`` is called in Blender's main thread when it has ended, however it has.

    Raises Gen3DError while another one runs.
    """
    global task, _then
    if busy():
        raise errors.Gen3DError(f"{task.title} is not finished.", "Wait for it, or cancel it.", field="busy")
    task, _then = Task(title, work), then
    if bpy.app.background:
        _wait(task)
        _tick()
    else:
        bpy.app.timers.register(_tick, first_interval=SHOWN, persistent=True)
    return task


def cancel() -> None:
    if task is not None:
        task.cancel()


def stop() -> None:
    """Ends what runs: the add-on is switched off, or Blender closed. An installation goes on with the next one."""
    global task, _then
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    if task is not None:
        task.cancel()
        task.join(8.0)
    task, _then = None, None


def redraw() -> None:
    """The preferences and the sidebars."""
    redraw_areas("PREFERENCES", "VIEW_3D")


def _tick() -> float | None:
    global _then
    redraw()
    if task is None or task.running:
        return SHOWN if task else None
    if (call := _then) is not None:
        _then = None
        call()
    return None


def _wait(of: Task) -> None:
    shown = ""
    try:
        while not of.join(0.2):
            if (text := of.step.text) != shown:
                print(f"{of.title}: {text}", flush=True)
                shown = text
    except KeyboardInterrupt:
        of.cancel()
        of.join()
