# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection to the backend: a thread that Blender's main thread never waits for. No bpy.

What the main thread asks goes into a queue and is kept until it has been answered, so that it survives the end of a
connection: it is sent again, under the same id, to the next one. What the backend tells is kept as the newest state
of each job until it is polled, so that a Blender which is busy for an hour finds a short list and not a long one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection

from ..bridge import errors, protocol, runtime
from .wire import Outbox, dial, write

BACKOFF = (0.1, 5.0)  # seconds until the first and, doubled each time, the last new attempt
ENDED = ("done", "failed", "cancelled", "interrupted")

Find = Callable[[threading.Event], runtime.Runtime]
"""Where the backend is; called in the client's thread, may start it. Gives up when the event is set."""


@dataclass(frozen=True)
class Link:
    """The state of the connection: "connecting", "online", "offline" (trying again; ``error`` says why), "closed"."""

    state: str
    error: errors.Gen3DError | None = None


@dataclass(frozen=True)
class Fetched:
    """The file that ``fetch`` asked for is complete and its sha256 is right."""

    request: str
    path: Path


News = (
    protocol.Accepted
    | protocol.Refused
    | protocol.JobRow
    | protocol.Preview
    | protocol.Shape
    | protocol.Devices
    | Fetched
    | Link
)


class Client:
    """One client of the backend. ``name`` owns the jobs it submits: keep it over restarts, share it with nobody.

    Every method may be called from any thread, and none waits for the backend unless it says so.
    """

    def __init__(self, name: str, find: Find, *, everyone: bool = False) -> None:
        self.name = name
        self.welcome: protocol.Welcome | None = None
        self.devices: list[dict[str, Any]] = []  # as protocol.Devices has them
        self._find = find
        self._everyone = everyone
        self._seq = 0
        self._link = Link("connecting")
        self._since = time.monotonic()  # the last moment of being online, or the start
        self._jobs: dict[str, protocol.JobRow] = {}
        self._news: dict[tuple[str, str], News] = {}
        self._pending: dict[str, protocol.Request] = {}
        self._refused: dict[str, protocol.Refused] = {}
        self._targets: dict[str, Path] = {}
        self._out: Outbox | None = None
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="gen3d-client", daemon=True)

    def start(self) -> Client:
        self._thread.start()
        return self

    def close(self, timeout: float = 2.0) -> None:
        """Hang up and end the thread. Jobs go on; what was not sent yet is forgotten."""
        self._stop.set()
        with self._changed:
            if self._out:
                self._out.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout)

    def __enter__(self) -> Client:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- asking: each returns the id under which the answer comes ----

    def submit(self, kind: str, params: dict[str, Any]) -> str:
        """Raises ProtocolError at once, naming the field, for params that the backend would refuse."""
        return self._ask(protocol.Submit(_new_id(), kind, params))

    def cancel(self, job: str) -> str:
        return self._ask(protocol.Cancel(_new_id(), job))

    def resume(self, job: str) -> str:
        return self._ask(protocol.Resume(_new_id(), job))

    def remove(self, job: str) -> str:
        return self._ask(protocol.Remove(_new_id(), job))

    def imported(self, job: str) -> str:
        return self._ask(protocol.Imported(_new_id(), job))

    def listen_to(self, everyone: bool) -> None:
        """From now on, tell of own jobs only or of everyone's."""
        with self._changed:
            self._everyone = everyone
            if self._out:
                self._out.put(protocol.Subscribe(_new_id(), 0, everyone))

    def fetch(self, job: str, file: str, target: Path) -> str:
        """Copy a file of a finished result from a backend on another machine; ``target`` appears when complete."""
        message = protocol.Fetch(_new_id(), job, file)
        with self._changed:
            self._targets[message.request] = target
        _part(target).unlink(missing_ok=True)
        return self._ask(message)

    def fetch_and_wait(self, job: str, file: str, target: Path, *, patience: float = 60.0) -> Path:
        """As ``fetch``, but returns when ``target`` is there. Raises Gen3DError where it is refused, the backend is
        lost for ``patience`` seconds, or this client is closed."""
        request = self.fetch(job, file, target)
        while not self.answered(request):
            if self._stop.wait(0.05):
                raise errors.Gen3DError("The connection was closed.", "Import the result again.", field="closed")
            self._require_backend(patience)
        if refused := self._refused.get(request):
            raise errors.Gen3DError(refused.cause, refused.next_step, field=refused.field)
        return target

    def answered(self, request: str) -> bool:
        """Whether the backend has answered; until then a request is sent again over every new connection."""
        return request not in self._pending

    def _ask(self, message: Any) -> str:
        with self._changed:
            self._pending[message.request] = message
            if self._out:
                self._out.put(message)
        return str(message.request)

    # ---- listening ----

    @property
    def link(self) -> Link:
        return self._link

    def jobs(self) -> list[protocol.JobRow]:
        """The newest known state of all jobs, oldest first."""
        with self._changed:
            return sorted(self._jobs.values(), key=lambda row: row.created)

    def poll(self, limit: int = 100) -> list[News]:
        """What is new since the last poll, at most ``limit`` pieces; of each job only its newest state."""
        with self._changed:
            return [self._news.pop(key) for key in list(self._news)[:limit]]

    def submit_and_wait(
        self,
        kind: str,
        params: dict[str, Any],
        on_progress: Callable[[protocol.JobRow], None] | None = None,
        *,
        patience: float = 60.0,
    ) -> protocol.JobRow:
        """Submit a job and wait until it is done, for scripts. An interrupt (Ctrl-C) cancels the job.

        Raises Gen3DError when the job is refused, fails or is cancelled, and when there is no backend: at once where
        none can be found to begin with, after ``patience`` seconds where it has been lost.
        """
        request = self.submit(kind, params)
        try:
            return self._wait(request, on_progress, patience)
        except KeyboardInterrupt:
            row = self._row_of(request)
            if row is None:
                self._pending.pop(request, None)
            else:
                self.cancel(row.id)
                with contextlib.suppress(errors.Gen3DError):
                    self._wait(request, None, patience=5.0, seconds=6.0)
            raise

    def _wait(
        self,
        request: str,
        on_progress: Callable[[protocol.JobRow], None] | None,
        patience: float,
        seconds: float = float("inf"),
    ) -> protocol.JobRow:
        shown, deadline = 0, time.monotonic() + seconds
        while time.monotonic() < deadline:
            with self._changed:
                row, refused = self._row_of(request), self._refused.get(request)
                if refused is None and (row is None or row.seq == shown):
                    self._changed.wait(0.2)
                    row = self._row_of(request)
            if refused:
                raise errors.Gen3DError(refused.cause, refused.next_step, field=refused.field)
            if row and row.seq != shown:
                shown = row.seq
                if on_progress:
                    on_progress(row)
                if row.state in ENDED:
                    return _done(row)
            self._require_backend(patience)
        raise errors.Gen3DError("The job has not ended in time.", "It goes on; look at it later.")

    def _require_backend(self, patience: float) -> None:
        link = self._link
        lost = time.monotonic() - self._since
        if link.state == "offline" and link.error and (self.welcome is None or lost > patience):
            raise link.error

    def _row_of(self, request: str) -> protocol.JobRow | None:
        mine = (row for row in list(self._jobs.values()) if row.request == request and row.client == self.name)
        return next(mine, None)

    # ---- the thread ----

    def _run(self) -> None:
        delay = 0.0
        while not self._stop.wait(delay):
            try:
                with dial(self._find(self._stop)) as connection:
                    self._greet(connection)
                    delay = 0.0
                    self._converse(connection)
                error = errors.Gen3DError("The backend closed the connection.", "It is looked for again.")
            except errors.Gen3DError as problem:
                error = problem
            except (OSError, WebSocketException) as problem:
                error = errors.Gen3DError(
                    f"The backend does not answer: {_reason(problem)}.", "It is looked for again."
                )
            delay = min(max(2 * delay, BACKOFF[0]), BACKOFF[1])
            self._tell_link(Link("offline", error))
        self._tell_link(Link("closed"))

    def _greet(self, connection: ClientConnection) -> None:
        connection.send(protocol.encode(protocol.Hello(self.name)))
        answer = protocol.decode_event(connection.recv(timeout=10))
        if isinstance(answer, protocol.Refused):
            raise errors.Gen3DError(answer.cause, answer.next_step, field=answer.field)
        if not isinstance(answer, protocol.Welcome):
            raise errors.Gen3DError("The backend does not greet.", "Update it.", field="protocol_version")
        if answer.seq < self._seq:  # another database than last time: what we know is of no use
            self._seq = 0
        self.welcome, self.devices = answer, answer.devices
        connection.send(protocol.encode(protocol.Subscribe(_new_id(), self._seq, self._everyone)))

    def _converse(self, connection: ClientConnection) -> None:
        out: Outbox = queue.SimpleQueue()
        with self._changed:
            for message in self._pending.values():
                out.put(self._again(message))
            self._out = out
        if self._stop.is_set():
            out.put(None)
        writer = threading.Thread(target=write, args=(connection, out), name="gen3d-writer", daemon=True)
        writer.start()
        self._tell_link(Link("online"))
        try:
            while True:
                self._take(protocol.decode_event(connection.recv()))
        finally:
            with self._changed:
                self._out = None
                self._since = time.monotonic()
            out.put(None)
            writer.join(2.0)

    def _again(self, message: protocol.Request) -> protocol.Request:
        if not isinstance(message, protocol.Fetch):
            return message
        part = _part(self._targets[message.request])
        return replace(message, offset=part.stat().st_size if part.exists() else 0)

    def _take(self, event: protocol.Event) -> None:
        match event:
            case protocol.JobRow():
                self._seq = max(self._seq, event.seq)
                with self._changed:
                    self._jobs[event.id] = event
                    if event.state == "removed":
                        del self._jobs[event.id]
                self._tell("job", event.id, event)
            case protocol.Devices():
                self.devices = event.devices
                self._tell("devices", "", event)
            case protocol.Synced():
                self._seq = max(self._seq, event.seq)
            case protocol.Preview():
                self._tell("preview", event.job, event)
            case protocol.Shape():
                self._tell("shape", event.job, event)
            case protocol.Chunk():
                self._store(event)
            case protocol.Accepted() | protocol.Refused():
                self._answered(event)
            case protocol.Welcome():
                pass

    def _answered(self, event: protocol.Accepted | protocol.Refused) -> None:
        request = event.request or ""
        if isinstance(event, protocol.Refused):
            self._refused[request] = event
        self._settle(request, event)

    def _settle(self, request: str, answer: protocol.Accepted | protocol.Refused | Fetched) -> None:
        self._tell("answer", request, answer)
        with self._changed:
            self._pending.pop(request, None)
            self._targets.pop(request, None)

    def _store(self, chunk: protocol.Chunk) -> None:
        target = self._targets.get(chunk.request)
        if target is None:
            return
        try:
            if not _add(chunk, target):
                return
        except OSError as error:
            cause = f"{target} cannot be written: {error.strerror or error}."
            return self._answered(protocol.Refused(chunk.request, "invalid", cause, "Fetch it again."))
        self._settle(chunk.request, Fetched(chunk.request, target))

    def _tell_link(self, link: Link) -> None:
        self._link = link
        self._tell("link", "", link)

    def _tell(self, kind: str, name: str, news: News) -> None:
        with self._changed:
            self._news[kind, name] = news
            self._changed.notify_all()


def _add(chunk: protocol.Chunk, target: Path) -> bool:
    """Write a piece; True when ``target`` is complete. Raises OSError, also for content that arrived damaged."""
    part = _part(target)
    with open(part, "r+b" if part.exists() else "w+b") as file:
        file.seek(chunk.offset)
        file.write(chunk.data)
        if chunk.offset + len(chunk.data) < chunk.size:
            return False
        file.truncate()
        file.seek(0)
        whole = hashlib.file_digest(file, "sha256").hexdigest() == chunk.sha256
    if not whole:
        part.unlink()
        raise OSError("its content arrived damaged")
    os.replace(part, target)
    return True


def _done(row: protocol.JobRow) -> protocol.JobRow:
    if row.state == "done":
        return row
    error = row.error or {}
    raise errors.Gen3DError(
        str(error.get("cause", f"The job was {row.state}.")),
        str(error.get("next_step", "Resume it to go on from its last checkpoint.")),
        field=error.get("field"),
    )


def _reason(problem: Exception) -> str:
    if isinstance(problem, InvalidStatus):
        return f"it refuses with status {problem.response.status_code}"
    return str(problem).rstrip(".") or type(problem).__name__


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _new_id() -> str:
    return uuid.uuid4().hex
