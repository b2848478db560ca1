# SPDX-License-Identifier: GPL-3.0-or-later
"""One piece of long work in a thread, looked at from Blender's main thread, which never waits for it. No bpy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .bridge import errors
from .child import Stopped

_ENOUGH = (3.0, 0.1)  # seconds, and the share of the work, after which the time left can be guessed


@dataclass(frozen=True)
class Step:
    """How far the work is: what it does now, and how much of the whole is done, 0 to 1; None where nobody knows."""

    text: str
    fraction: float | None = None


Work = Callable[[threading.Event], Iterator[Step]]
"""Yields its progress. Ends, or raises Stopped, soon after the event is set; raises Gen3DError."""


class Task:
    """Runs ``work`` in a thread, at once. ``title`` says what it is, in the words of the button."""

    def __init__(self, title: str, work: Work) -> None:
        self.title = title
        self.step = Step("Starting")
        self.error: errors.Gen3DError | None = None
        self.stopped = False
        self._begun = time.monotonic()
        self._first: tuple[float, float] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), name="gen3d-task", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def cancel(self) -> None:
        self._stop.set()

    def join(self, seconds: float | None = None) -> bool:
        """Waits for the end; whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def seconds_left(self) -> float | None:
        """By the speed since the first progress; None as long as that says little."""
        first, done = self._first, self.step.fraction
        if first is None or done is None or not self.running:
            return None
        spent, gained = time.monotonic() - first[0], done - first[1]
        if spent < _ENOUGH[0] or gained < _ENOUGH[1]:
            return None
        return spent / gained * (1.0 - done)

    def line(self) -> str:
        """One line for people: what it does, and the time left."""
        if self.stopping and self.running:
            return "Stopping"
        left = self.seconds_left()
        return self.step.text if left is None else f"{self.step.text}, {clock(left)} left"

    def _run(self, work: Work) -> None:
        try:
            for step in work(self._stop):
                if self._first is None or step.fraction is None or step.fraction < (self.step.fraction or 0.0):
                    self._first = None if step.fraction is None else (time.monotonic(), step.fraction)
                self.step = step
        except errors.Gen3DError as error:
            self.error = error
        except Stopped:
            pass
        except Exception as error:
            what = f"{self.title} failed: {type(error).__name__}: {error}."
            self.error = errors.Gen3DError(what, "Try again; the log may say more.", field="unexpected")
        self.stopped = self._stop.is_set()


def clock(seconds: float) -> str:
    """Minutes and seconds: 1:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
