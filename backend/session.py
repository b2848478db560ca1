# SPDX-License-Identifier: GPL-3.0-or-later
"""What each connected client may ask and what it is owed.

The job table is the outgoing queue. A session remembers only how far in ``seq`` its client has got and reads the
rows beyond it when the socket can take more: a slow client sees fewer states in between, never misses a last one,
and costs no memory. A client that stops reading altogether is cut off and resyncs when it comes back.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Coroutine
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from . import protocol, storage
from .engine import Engine
from .errors import Gen3DError
from .jobs import Job, JobStore
from .strict_json import ProtocolError
from .version import VERSION

log = logging.getLogger("gen3d.server")

CHUNK = 2**18  # bytes of a file per frame
OWED_REPLIES = 64  # a client that asks faster than it reads has to wait
OWED_FILES = 8


@dataclass(frozen=True)
class Deadlines:
    """Seconds."""

    handshake: float = 4.0  # from the first byte to a finished upgrade, and again to the hello
    send: float = 20.0  # for the socket to take one more frame
    ping: float = 20.0  # between pings, and for each to be answered
    close: float = 2.0


class Session:
    """One connected client, from its hello to its end."""

    def __init__(self, hub: Hub, socket: ServerConnection) -> None:
        self.hub = hub
        self.socket = socket
        self.client: str | None = None
        self.everyone = False
        self.sent: int | None = None  # None until the client subscribes
        self.changed = False
        self.rows: deque[Job] = deque()
        self.synced: deque[protocol.Synced] = deque()
        self.replies: deque[protocol.Event] = deque()
        self.pictures: dict[tuple[str, str], bytes] = {}  # newest preview and newest shape of each job
        self.devices_changed = False
        self.files: deque[AsyncIterator[protocol.Event]] = deque()
        self.wake = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()

    async def run(self) -> None:
        sender = asyncio.create_task(self._send())
        receiver = asyncio.create_task(self._receive())
        try:
            await asyncio.wait((sender, receiver), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sender, receiver):
                task.cancel()
            for outcome in await asyncio.gather(sender, receiver, return_exceptions=True):
                if isinstance(outcome, TimeoutError):
                    log.info("client %s says or takes nothing: cut off", self.client)
                elif isinstance(outcome, Exception) and not isinstance(outcome, ConnectionClosed):
                    log.error("session of %s failed", self.client, exc_info=outcome)

    # -- what the client says --

    async def _receive(self) -> None:
        while True:
            async with asyncio.timeout(None if self.client else self.hub.deadlines.handshake):
                frame = await self.socket.recv(decode=False)
            await self._answer(frame)
            await self.room.wait()  # for the sender to have made room

    async def _answer(self, frame: bytes) -> None:
        request: str | None = None
        try:
            message = protocol.decode_request(frame)
            request = getattr(message, "request", None)
            await self._handle(message)
        except ProtocolError as error:
            self._reply(protocol.refusal(error, error.request or request))
        except Gen3DError as error:
            self._reply(protocol.refusal(error, request))
        except Exception:
            log.exception("request of %s failed", self.client)
            cause = "The backend failed on this request."
            self._reply(protocol.Refused(request, "internal", cause, "Look into its log; other requests still work."))

    async def _handle(self, message: protocol.Request) -> None:
        if isinstance(message, protocol.Hello):
            return self._hello(message)
        if self.client is None:
            raise ProtocolError("The first request must be hello.", "Say hello.", field="type", code="hello_first")
        store = self.hub.store
        match message:
            case protocol.Subscribe(request, since, everyone):
                self.sent, self.everyone, self.changed = since, everyone, True
                self.rows.clear()
                self.synced.append(protocol.Synced(request, store.latest_seq()))
                self.devices_changed = True
                self._owe()
                return
            case protocol.Submit(request, kind, params):
                job = store.submit(self.client, request, kind, params)
                self.hub.engine.wake()
            case protocol.Cancel(request, job_id):
                self._known(job_id)
                return self.hub.spawn(self._cancel(request, job_id))
            case protocol.Resume(request, job_id):
                self._known(job_id)
                job = store.resume(job_id)
                self.hub.engine.wake()
            case protocol.Remove(request, job_id):
                self._known(job_id)
                return self.hub.spawn(self._remove(request, job_id))
            case protocol.Imported(request, job_id):
                self._known(job_id)
                job = store.mark_imported(job_id)
            case protocol.Fetch(request, job_id, name, offset):
                path = _result_file(self._known(job_id), name)
                if len(self.files) >= OWED_FILES:
                    raise ProtocolError("Too many files at once.", "Wait for some.", field="file", code="busy")
                self.files.append(_chunks(request, path, offset))
                self.wake.set()
                return
        self._reply(protocol.Accepted(request, job.id))
        self.hub.notify(job)

    def _hello(self, message: protocol.Hello) -> None:
        if self.client is not None:
            raise ProtocolError("hello was said already.", "Say it once.", field="type", code="hello_twice")
        self.client = message.client
        devices = self.hub.engine.devices()
        self._reply(protocol.Welcome(protocol.PROTOCOL, VERSION, self.hub.store.latest_seq(), devices))

    async def _cancel(self, request: str, job_id: str) -> None:
        """Beside the conversation: it can take seconds, and goes through even if the client hangs up."""
        await self._done(request, self.hub.engine.cancel(job_id))

    async def _remove(self, request: str, job_id: str) -> None:
        """Beside the conversation, too: a folder can be large."""
        await self._done(request, asyncio.to_thread(self.hub.store.remove, job_id))

    async def _done(self, request: str, work: Awaitable[Job]) -> None:
        try:
            job = await work
        except Gen3DError as error:
            return self._reply(protocol.refusal(error, request))
        self._reply(protocol.Accepted(request, job.id))
        self.hub.notify(job)

    def _known(self, job_id: str) -> Path:
        try:
            return self.hub.store.folder(job_id)
        except Gen3DError as error:
            raise ProtocolError(error.cause, error.next_step, field="job", code="unknown_job") from error

    # -- what the client is owed --

    def _reply(self, event: protocol.Event) -> None:
        self.replies.append(event)
        self._owe()

    def _owe(self) -> None:
        self.room.clear()
        self.wake.set()

    def changed_job(self, job: Job, what: str, data: bytes) -> None:
        """A job has a new row, and perhaps a new "preview" or "shape"."""
        if self.sent is None or not (self.everyone or job.client == self.client):
            return
        self.changed = True
        if data and len(data) <= protocol.MAX_DATA:
            self.pictures[what, job.id] = data
        self.wake.set()

    def changed_devices(self) -> None:
        if self.sent is not None:
            self.devices_changed = True
            self.wake.set()

    async def _send(self) -> None:
        while True:
            await self.wake.wait()
            self.wake.clear()
            while event := await self._next():
                async with asyncio.timeout(self.hub.deadlines.send):
                    await self.socket.send(protocol.encode(event))
                await asyncio.sleep(0)  # a fast reader must not keep the others waiting

    async def _next(self) -> protocol.Event | None:
        if len(self.replies) + len(self.synced) < OWED_REPLIES:
            self.room.set()
        if self.replies:
            return self.replies.popleft()
        if not self.rows and self.changed and self.sent is not None:
            self.changed = False
            client = None if self.everyone else self.client
            self.rows = deque(self.hub.store.changed_since(self.sent, client))
        if self.rows:
            job = self.rows.popleft()
            self.sent = job.seq
            return _row(job, storage.job_folder(self.hub.store.home, job.id))
        if self.synced:
            return self.synced.popleft()
        if self.devices_changed:
            self.devices_changed = False
            return protocol.Devices(self.hub.engine.devices())
        if self.pictures:
            what, job_id = next(iter(self.pictures))
            return _picture(job_id, what, self.pictures.pop((what, job_id)))
        while self.files:
            if chunk := await anext(self.files[0], None):
                return chunk
            self.files.popleft()
        return None


def _row(job: Job, folder: Path) -> protocol.JobRow:
    values = {spec.name: _finite(getattr(job, spec.name)) for spec in fields(Job)}
    try:
        row = protocol.JobRow(**values, folder=str(folder))
        protocol.encode(row)
    except ProtocolError as error:  # the state must arrive, whatever a pipeline put into its summary
        log.warning("row of job %s: %s", job.id, error)
        row = protocol.JobRow(**values | {"params": {}, "progress": None, "error": None, "result": None})
    return row


def _picture(job_id: str, what: str, data: bytes) -> protocol.Event:
    if what == "shape":
        return protocol.Shape(job_id, data)
    return protocol.Preview(job_id, "image/png" if data.startswith(b"\x89PNG") else "image/jpeg", data)


def _finite(value: Any) -> Any:
    """JSON has no NaN: a loss that is not a number is shown as none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def _result_file(folder: Path, name: str) -> Path:
    """Raises ProtocolError for whatever is not a file within the finished result."""
    root = (folder / "result").resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        raise ProtocolError(
            f"The result has no file {name!r:.80}.",
            "Take a name from its list of files, once the job is done.",
            field="file",
            code="unknown_file",
        )
    return path


async def _chunks(request: str, path: Path, offset: int) -> AsyncIterator[protocol.Event]:
    """The file from ``offset`` on; at least one chunk. Reads in a thread, so that a slow disk delays nobody else."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            digest = (await asyncio.to_thread(hashlib.file_digest, file, "sha256")).hexdigest()
            offset = min(offset, size)
            file.seek(offset)
            while True:
                data = await asyncio.to_thread(file.read, CHUNK)
                yield protocol.Chunk(request, offset, size, digest, data)
                offset += len(data)
                if offset >= size or not data:
                    return
    except OSError as error:
        cause = f"{path.name} cannot be read: {error.strerror}."
        yield protocol.refusal(ProtocolError(cause, "Try again.", field="file", code="unknown_file"), request)


# ---- all clients ----


class Hub:
    """The sessions of one server, and what they share."""

    def __init__(self, store: JobStore, deadlines: Deadlines) -> None:
        self.store = store
        self.deadlines = deadlines
        self.engine: Engine
        self.sessions: set[Session] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    def notify(self, job: Job, what: str = "", data: bytes = b"") -> None:
        """Called in the event loop whenever a job has changed, or has a new "preview" or "shape"."""
        for session in self.sessions:
            session.changed_job(job, what, data)

    def devices_changed(self) -> None:
        for session in self.sessions:
            session.changed_devices()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def handle(self, socket: ServerConnection) -> None:
        session = Session(self, socket)
        self.sessions.add(session)
        try:
            await session.run()
        finally:
            self.sessions.discard(session)
