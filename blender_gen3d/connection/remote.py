# SPDX-License-Identifier: GPL-3.0-or-later
"""A backend on another computer: where it is, and copies of its results. No bpy.

``remote.json`` in the home, readable by its user alone, names it in the form of runtime.json; as long as that file is
there, no backend is started on this computer. The socket is not encrypted: an SSH tunnel leads to it
(``ssh -L PORT:127.0.0.1:PORT HOST``), from the same port, because the backend answers to its own address only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..bridge import errors, protocol, runtime

if TYPE_CHECKING:
    from .client import Client

_ADDRESS = re.compile(r"\[?([0-9A-Fa-f:.]+|localhost)\]?:(\d{1,5})")
_SECRET = re.compile(r"([\w-]{20,100})\.([\w-]{20,100})", re.ASCII)
_FACTS = "result.json"


def settings_file(home: Path) -> Path:
    return home / "remote.json"


def read(home: Path) -> runtime.Runtime | None:
    """The backend that is named; None where jobs run on this computer. Raises Gen3DError for a damaged file."""
    path = settings_file(home)
    return runtime.read(path) if path.exists() else None


def choose(home: Path, address: str, secret: str) -> runtime.Runtime:
    """From now on this backend is used. ``address``: "127.0.0.1:8765"; ``secret``: what ``gen3d address`` prints on its
    computer as the token. Raises Gen3DError where one of them cannot be right."""
    at, words = _ADDRESS.fullmatch(address.strip()), _SECRET.fullmatch(secret.strip())
    if at is None or not 0 < int(at[2]) < 65536:
        step = "Give the address and port at which the tunnel ends here, such as 127.0.0.1:8765."
        raise errors.Gen3DError(f"{address[:60]!r} is not an address with a port.", step, field="address")
    if words is None:
        step = "Run `gen3d address` on the computer of the backend, and copy the token it prints."
        raise errors.Gen3DError("This is not the token of a backend.", step, field="token")
    host = "127.0.0.1" if at[1] == "localhost" else at[1]
    where = runtime.Runtime(host, int(at[2]), 0, words[1], words[2])
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    runtime.write(settings_file(home), where)
    return where


def forget(home: Path) -> None:
    """From now on jobs run on this computer."""
    settings_file(home).unlink(missing_ok=True)


def copy_folder(home: Path, job: str) -> Path:
    """Where the copy of a job's result is, or is going to be."""
    return home / "copies" / job


def copy_result(client: Client, home: Path, job: str) -> Path:
    """Copies a finished result over the socket, whole or not at all; the folder of the copy. Waits for the backend.

    What an interrupted call has copied is not copied again. Raises Gen3DError.
    """
    folder = copy_folder(home, job)
    if folder.is_dir():
        return folder
    part = folder.with_name(f"{job}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        facts = json.loads(client.fetch_and_wait(job, _FACTS, part / _FACTS).read_text("utf-8"))
        for name in facts["sha256"]:
            target = (part / name).resolve()
            if not target.is_relative_to(part.resolve()):
                raise ValueError(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                client.fetch_and_wait(job, name, target)
        os.replace(part, folder)
    except OSError as error:
        cause = f"{error.filename or part} cannot be written: {error.strerror}."
        raise errors.Gen3DError(cause, "Free some space, or make it writable; then import again.") from error
    except (ValueError, KeyError, TypeError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise errors.Gen3DError("The result does not say which files it has.", "Make it again.") from error
    return folder


class Copies:
    """Copies of results that are made in the background, one at a time for each job."""

    def __init__(self, client: Client, home: Path) -> None:
        self._client, self._home = client, home
        self._running: dict[str, threading.Thread] = {}
        self.errors: dict[str, errors.Gen3DError] = {}

    def folder(self, job: str) -> Path:
        return copy_folder(self._home, job)

    def ready(self, row: protocol.JobRow) -> bool:
        """Whether the copy is there; where it is not, it is made, unless that has failed: ``errors`` says why then."""
        if self.folder(row.id).is_dir():
            return True
        thread = self._running.get(row.id)
        if row.id not in self.errors and (thread is None or not thread.is_alive()):
            self._running[row.id] = threading.Thread(target=self._copy, args=(row.id,), name="gen3d-copy", daemon=True)
            self._running[row.id].start()
        return False

    def again(self, job: str) -> None:
        """Tries once more what has failed."""
        self.errors.pop(job, None)

    def _copy(self, job: str) -> None:
        try:
            copy_result(self._client, self._home, job)
        except errors.Gen3DError as error:
            self.errors[job] = error


def address(home: Path) -> str:
    """The address of the backend that is named, for people; "" for none."""
    with suppress(errors.Gen3DError):
        where = read(home)
        return where.authority if where else ""
    return ""
