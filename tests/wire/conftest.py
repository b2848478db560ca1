# SPDX-License-Identifier: GPL-3.0-or-later
"""Real server processes, and ways to talk to them that are not our own client."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from backend import protocol, runtime
from backend.home import runtime_file

ROOT = Path(__file__).resolve().parents[2]


class Backend:
    """A server process of its own home."""

    def __init__(self, home: Path, **deadlines: float) -> None:
        self.home = home
        self.deadlines = deadlines
        self.log = home.with_suffix(".log")
        self.start()

    def start(self) -> None:
        self.process = self.spawn()
        self.where = self.wait()

    def spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.wire.start_server", str(self.home), json.dumps(self.deadlines)]
        with open(self.log, "ab") as log:
            return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def wait(self) -> runtime.Runtime:
        path = runtime_file(self.home)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if path.exists() and (where := runtime.read(path)).pid == self.process.pid:
                return where
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.01)
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(5)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def memory(self) -> int:
        """Resident bytes of the server process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def raw(self, data: bytes = b"", timeout: float = 6.0) -> bytes:
        """What comes back until the server closes, for bytes written straight to the port."""
        with socket.create_connection((self.where.host, self.where.port), timeout) as wire:
            wire.sendall(data)
            return read_all(wire)

    def open(self, **changes: Any) -> Any:
        """A WebSocket connection made by the library alone; ``changes`` override its arguments."""
        token = {"Authorization": f"Bearer {self.where.token}"}
        return connect(
            f"ws://{self.where.authority}/",
            **{"additional_headers": token, "compression": None, "proxy": None, "close_timeout": 1, **changes},
        )


class Talk:
    """A conversation in messages, strictly in turn. Without a name it is nobody that spoke before; "" says no hello."""

    def __init__(self, connection: ClientConnection, name: str | None = None) -> None:
        self.connection = connection
        self.rows: dict[str, protocol.JobRow] = {}
        self.devices: list[dict[str, Any]] = []
        if name != "":
            self.say(protocol.Hello(name or f"tester-{os.urandom(6).hex()}"))
            welcome = self.hear()
            assert isinstance(welcome, protocol.Welcome)
            self.welcome = welcome

    def say(self, message: protocol.Message | str | bytes) -> None:
        self.connection.send(protocol.encode(message) if isinstance(message, protocol.Message) else message)

    def hear(self, timeout: float = 5.0) -> protocol.Event:
        """The next event; the devices, which come at any time, are noted."""
        while isinstance(event := protocol.decode_event(self.connection.recv(timeout)), protocol.Devices):
            self.devices = event.devices
        if isinstance(event, protocol.JobRow):
            self.rows[event.id] = event
        return event

    def ask(self, message: protocol.Message | str | bytes) -> Any:
        """The answer; rows, previews and answers to other requests on the way are passed over."""
        self.say(message)
        request = getattr(message, "request", None)
        while True:
            event = self.hear()
            other = request and getattr(event, "request", request) not in (request, None)
            if not other and not isinstance(event, protocol.JobRow | protocol.Preview | protocol.Shape):
                return event

    def until_ended(self, job: str) -> protocol.JobRow:
        while job not in self.rows or self.rows[job].ended is None:
            self.hear(20)
        return self.rows[job]


def read_all(wire: socket.socket) -> bytes:
    received = b""
    try:
        while data := wire.recv(65536):
            received += data
    except ConnectionError:
        pass
    return received


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """One server for all tests that leave it as it is."""
    server = Backend(tmp_path_factory.mktemp("wire") / "home")
    yield server
    server.stop()


@pytest.fixture
def own_backend(tmp_path: Path) -> Iterator[Backend]:
    """A server that the test may kill."""
    server = Backend(tmp_path / "home")
    yield server
    server.stop()
