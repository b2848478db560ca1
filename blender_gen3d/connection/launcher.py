# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the backend of a home, or start it. No bpy.

The backend is a process of its own that outlives Blender: jobs go on, and the next Blender attaches to it. When two
Blenders start one at the same time, the one that comes second ends by itself and both attach to the first.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from websockets.exceptions import WebSocketException

from ..bridge import BACKEND_ROOT, errors, runtime
from ..bridge import home as places
from ..child import surroundings
from . import remote
from .wire import dial

LOG_LIMIT = 4 * 2**20  # bytes after which the log is set aside
_DETACHED = 0
if sys.platform == "win32":  # elsewhere a session of its own does it
    _DETACHED = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
_children: list[subprocess.Popen[bytes]] = []  # kept to be reaped: a dead child stays a zombie until it is asked for


def find_python(home: Path, python: str = "") -> Path:
    """The interpreter that has the backend's packages.

    In this order: ``python``, the user's own choice; GEN3D_PYTHON; what the installer wrote into
    ``environment.json`` in ``home``; ``.venv`` beside a checkout. Raises Gen3DError when there is none, or when the
    first that is named does not exist.
    """
    installed = home / "environment.json"
    recorded = ""
    with suppress(OSError, ValueError, AttributeError):
        recorded = str(json.loads(installed.read_text("utf-8")).get("python") or "")
    named = {"the preferences": python, "GEN3D_PYTHON": os.environ.get("GEN3D_PYTHON", ""), str(installed): recorded}
    for place, name in named.items():
        if name:
            path = Path(name).expanduser().absolute()  # it will be started elsewhere
            if not path.is_file():
                raise errors.Gen3DError(
                    f"There is no Python at {path}, which {place} names.", "Install the backend again.", field="python"
                )
            return path
    beside = BACKEND_ROOT / ".venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if beside.is_file():
        return beside
    raise errors.Gen3DError(
        "The backend is not installed: there is no Python environment for it.",
        "Install it in the add-on's preferences, or name a Python there that has it.",
        field="python",
    )


def attach(home: Path) -> runtime.Runtime | None:
    """The backend that serves ``home`` now, or None.

    Whether it lives is decided by its answer and not by its process id, which may be somebody else's by now. Raises
    Gen3DError when one answers that speaks another protocol.
    """
    if (elsewhere := remote.read(home)) is not None:
        return elsewhere if _is_there(elsewhere) else None
    path = places.runtime_file(home)
    try:
        where = runtime.read(path)
    except errors.Gen3DError as error:
        if error.field == "protocol_version" and _answers(path):
            raise
        return None
    return where if _is_there(where) else None


def _is_there(where: runtime.Runtime) -> bool:
    try:
        with dial(where, timeout=3.0):
            return True
    except (OSError, WebSocketException, errors.Gen3DError):
        return False


def ensure(
    home: Path, python: str = "", *, stop: threading.Event | None = None, patience: float = 60.0
) -> runtime.Runtime:
    """The backend that serves ``home``, started if there is none. May take seconds: not for Blender's main thread.

    Raises Gen3DError when it cannot be started, ends at once, does not answer in time, or ``stop`` is set; and where
    a backend on another computer is chosen that does not answer.
    """
    if where := attach(home):
        return where
    if elsewhere := remote.address(home):
        step = "Start it and the tunnel to it; after a restart, give the add-on's preferences its new token."
        raise errors.Gen3DError(f"No backend of this token answers at {elsewhere}.", step, field="remote")
    log = home / "backend.log"
    child = _start(find_python(home, python), home, log)
    begun, stop = time.monotonic(), stop or threading.Event()
    while time.monotonic() - begun < patience:
        if stop.wait(0.05):
            raise errors.Gen3DError("The start of the backend was interrupted.", "Start it again.", field="stopped")
        if where := attach(home):
            if where.pid != child.pid and sys.platform != "win32":  # there a venv's python has a process of its own
                child.terminate()  # another one was faster; ours must not follow it when that one ends soon
            return where
        if child.poll():  # 0: another one was faster, and will answer soon
            raise errors.Gen3DError(
                f"The backend ended at its start: {_last_words(log) or f'exit code {child.returncode}'}",
                f"Read {log}, or install the backend again.",
                field="died",
            )
    raise errors.Gen3DError(
        f"The backend has not answered for {patience:.0f} seconds.", f"Read {log}, then try again.", field="timeout"
    )


def end(home: Path, patience: float = 15.0) -> bool:
    """End the backend of ``home``; its jobs go on at the next start. False where there is none on this computer, or it
    still answers."""
    if remote.address(home) or not (where := attach(home)):
        return False
    ended, begun = 0, time.monotonic()
    while time.monotonic() - begun < patience:
        if where.pid != ended:
            ended = where.pid
            os.kill(ended, signal.SIGTERM)  # its answer has proved that the process id is still its own
        time.sleep(0.05)
        if not (where := attach(home)):
            return True
    return False


def _start(python: Path, home: Path, log: Path) -> subprocess.Popen[bytes]:
    _children[:] = [child for child in _children if child.poll() is None]
    command = [str(python), "-P", "-s", "-u", "-X", "utf8", "-m", "backend", "serve"]
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(OSError):
            if log.stat().st_size > LOG_LIMIT:
                log.replace(log.with_suffix(".log.1"))
        with open(log, "ab") as sink:
            child: subprocess.Popen[bytes] = subprocess.Popen(
                command, cwd=home, env=_environment(home), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                start_new_session=True, creationflags=_DETACHED,
            )  # fmt: skip
    except OSError as error:
        raise errors.Gen3DError(
            f"The backend cannot be started: {error.filename or python}: {error.strerror}.",
            "Make the folder writable and the Python runnable, or choose others.",
            field="python",
        ) from error
    _children.append(child)
    return child


def _environment(home: Path) -> dict[str, str]:
    """With the code to run."""
    return surroundings(PYTHONPATH=str(BACKEND_ROOT), GEN3D_HOME=str(home))


def _answers(path: Path) -> bool:
    """Whether anything listens where a runtime file of another version says."""
    with suppress(OSError, ValueError, TypeError, KeyError, OverflowError):
        values = json.loads(path.read_bytes())
        with socket.create_connection((values["host"], values["port"]), 1.0):
            return True
    return False


def _last_words(log: Path) -> str:
    with suppress(OSError):
        lines = log.read_bytes()[-4000:].decode("utf-8", "replace").split("\n")
        words = [line.strip() for line in lines if line.strip()]
        return words[-1][:400] if words else ""
    return ""
