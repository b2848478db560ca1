# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs, run from a thread: their lines as they come, and an end to them when they are not wanted. No bpy."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from .bridge import errors

_FOREIGN = ("PYTHON", "CONDA", "_CE_", "VIRTUAL_ENV", "__PYVENV")
_GRACE = 5.0  # seconds between asking a program to end and ending it
_HIDDEN = 0  # on Windows, no console window pops up
if sys.platform == "win32":
    _HIDDEN = subprocess.CREATE_NO_WINDOW


class Stopped(Exception):
    """The user does not want it any more."""


def surroundings(**more: str) -> dict[str, str]:
    """Environment variables for a Python of our own: ours, without what would make it load the wrong packages."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(_FOREIGN)} | more


def answer(command: Sequence[str], timeout: float = 120.0) -> str:
    """What a program prints; "" where it is missing, fails, or takes longer. Not for Blender's main thread."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=timeout,
            env=surroundings(), stdin=subprocess.DEVNULL, creationflags=_HIDDEN,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


class Child:
    """A running program; iterating gives its lines, of standard output and error, until it has ended.

    It is ended when ``stop`` is set, and when the ``with`` block is left. ``log`` gets every line. ``keep`` are file
    handles that stay open in it. ``returncode`` is known after the last line. Raises Gen3DError where it cannot be
    started; iterating raises Stopped when it was stopped.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        stop: threading.Event,
        *,
        variables: Mapping[str, str] | None = None,
        log: IO[str] | None = None,
        keep: Iterable[int] = (),
    ) -> None:
        self._stop, self._log, self._ended = stop, log, threading.Event()
        words = [str(word) for word in command]
        kept = () if sys.platform == "win32" else tuple(keep)
        own = surroundings(PYTHONUTF8="1", PYTHONUNBUFFERED="1") | dict(variables or {})
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                encoding="utf-8", errors="replace", env=own, creationflags=_HIDDEN, pass_fds=kept,
            )  # fmt: skip
        except OSError as error:
            raise errors.Gen3DError(
                f"{words[0]} cannot be run: {error.strerror}.", "Choose another Python.", field="python"
            ) from error
        if log:
            log.write(f"$ {' '.join(words)}\n")
        self._watcher = threading.Thread(target=self._watch, name="gen3d-child", daemon=True)
        self._watcher.start()

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def __iter__(self) -> Iterator[str]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if self._log and not line.startswith("Progress "):
                self._log.write(line)
                self._log.flush()
            yield line.rstrip("\r\n")
        self._process.wait()
        if self._stop.is_set():
            raise Stopped

    def __enter__(self) -> Child:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._ended.set()
        self._watcher.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _watch(self) -> None:
        while self._process.poll() is None:
            if self._stop.wait(0.1) or self._ended.is_set():
                self._process.terminate()
                try:
                    self._process.wait(_GRACE)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
