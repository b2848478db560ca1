# SPDX-License-Identifier: GPL-3.0-or-later
"""A real server and a client that misbehaves: too much, too early, too slowly, too broken."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.sync.client import ClientConnection

from backend import protocol
from backend.protocol import (
    Cancel,
    Fetch,
    Hello,
    Imported,
    JobRow,
    Preview,
    Refused,
    Remove,
    Resume,
    Shape,
    Submit,
    Subscribe,
)
from tests.patience import patience

from .conftest import Backend, Talk

LONG = {"dataset": "x", "seconds": 600.0}
SHORT = {"dataset": "x", "seconds": 0.0}


@pytest.fixture
def talk(backend: Backend) -> Iterator[Talk]:
    with backend.open() as connection:
        yield Talk(connection)


def fresh(prefix: str = "r") -> str:
    return f"{prefix}-{os.urandom(6).hex()}"


# ---- broken frames ----


def close_code(connection: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosedError) as caught:
        while True:
            connection.recv(5)
    return caught.value.rcvd.code if caught.value.rcvd else None


@pytest.mark.parametrize("case", ["2^63", "limit + 1", "fragments", "reserved bits", "unmasked", "text in pieces"])
def test_frames_too_long_or_against_the_rules_close_the_connection(backend: Backend, case: str) -> None:
    frames: dict[str, bytes] = {
        "2^63": b"\x82\xff" + struct.pack("!Q", 2**63 - 1) + bytes(4),
        "limit + 1": b"\x81\xff" + struct.pack("!Q", 2**20 + 1) + bytes(4),
        "fragments": b"\x01\xfe\xff\xff" + bytes(4 + 65535) + b"\x00\xfe\xff\xff" + bytes(4 + 65535),
        "reserved bits": b"\xf1\x81" + bytes(4) + b"x",
        "unmasked": b"\x81\x01x",
        "text in pieces": b"\x01\xff" + struct.pack("!Q", 2**19) + bytes(4 + 2**19) + b"\x80\xff"
        + struct.pack("!Q", 2**19 + 1) + bytes(4),
    }  # fmt: skip
    before = backend.memory()
    with backend.open() as connection:
        Talk(connection)
        piece = frames[case]
        try:
            connection.socket.sendall(piece)
            while case == "fragments":
                connection.socket.sendall(b"\x00\xfe\xff\xff" + bytes(4 + 65535))
        except OSError:
            pass
        assert close_code(connection) in ((1002,) if case in ("reserved bits", "unmasked") else (1009, None))
    assert backend.memory() - before < 10 * 2**20
    with backend.open() as connection:
        Talk(connection)


@pytest.mark.parametrize(
    "frame",
    [b"\xff\xfe", "{", "[" * 10**5, '{"x": ' + "9" * 10**6 + "}", '{"type": "cancel", "x": NaN}', b"\0\0\0\2{}", ""],
    ids=["utf-8", "json", "depth", "digits", "nan", "binary", "empty"],
)
def test_broken_frames_are_refused_and_the_conversation_goes_on(talk: Talk, frame: str | bytes) -> None:
    if isinstance(frame, bytes) and frame[0]:
        talk.connection.send(frame, text=True)
        answer = talk.hear()
    else:
        answer = talk.ask(frame)
    assert isinstance(answer, Refused) and answer.code == "malformed" and answer.request is None
    assert "Traceback" not in answer.cause
    assert isinstance(talk.ask(Subscribe("s")), protocol.Synced)


def test_wrong_fields_are_refused_by_name_under_their_request(talk: Talk) -> None:
    base = {"type": "submit", "request": "bad", "kind": "nerf", "params": dict(LONG)}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"kind": "x"}, "kind"), ({"extra": 1}, "extra"), ({"params": {}}, "params.dataset"),
        ({"params": {**LONG, "seed": 2**64}}, "params.seed"),
        ({"params": {**LONG, "\u202e{}%s": 1}}, "params.\u202e{}%s"),
        ({"params": {**LONG, "\ud800": 1}}, "params"),
    ]  # fmt: skip
    for changes, field in cases:
        answer = talk.ask(json.dumps(base | changes))
        assert (answer.request, answer.code, answer.field) == ("bad", "invalid", field)


# ---- the order of things ----


def test_hello_comes_first_and_once(backend: Backend) -> None:
    with backend.open() as connection:
        talk = Talk(connection, name="")
        for message in (Cancel("r", "j"), Subscribe("r"), Submit("r", "nerf", SHORT)):
            answer = talk.ask(message)
            assert (answer.request, answer.code) == ("r", "hello_first")
        assert isinstance(talk.ask(Hello("me")), protocol.Welcome)
        assert talk.ask(Hello("you")).code == "hello_twice"


def test_another_protocol_is_told_so(backend: Backend) -> None:
    with backend.open() as connection:
        answer = Talk(connection, name="").ask('{"type": "hello", "protocol": 99, "tomorrow": 1}')
        assert answer.code == "protocol_version" and "99" in answer.cause


def test_unknown_jobs_are_refused_and_a_job_can_be_cancelled_at_once(talk: Talk) -> None:
    for job in ("0" * 24, "nonsense", "..", "a:b"):
        for message in (Cancel("r", job), Resume("r", job), Remove("r", job), Imported("r", job), Fetch("r", job, "x")):
            assert talk.ask(message).code == "unknown_job"
    talk.ask(Subscribe("s", talk.welcome.seq))
    request = fresh()
    talk.say(Submit(request, "nerf", LONG))  # not waiting for the answer
    talk.say(Cancel("early", "0" * 24))
    answers = [event for event in (talk.hear() for _ in range(3)) if not isinstance(event, JobRow)]
    job = next(a.job for a in answers if isinstance(a, protocol.Accepted))
    assert [a.code for a in answers if isinstance(a, Refused)] == ["unknown_job"]
    begun = time.monotonic()
    talk.say(Cancel("now", job))
    assert talk.until_ended(job).state == "cancelled"
    assert time.monotonic() - begun < patience(5.0)
    assert talk.ask(Cancel("again", job)).job == job
    assert talk.ask(Imported("early", job)).code == "invalid"


def test_the_same_request_twice_is_one_job(backend: Backend) -> None:
    request, jobs = fresh(), set()
    for _ in range(2):
        with backend.open() as connection:
            talk = Talk(connection, "same")
            jobs |= {talk.ask(Submit(request, "nerf", SHORT)).job for _ in range(2)}
    assert len(jobs) == 1
    with backend.open() as connection:
        assert Talk(connection, "somebody-else").ask(Submit(request, "nerf", SHORT)).job not in jobs


def test_clients_see_their_own_jobs_unless_they_ask_for_all(backend: Backend) -> None:
    names = fresh("a"), fresh("b")
    jobs = {}
    for name in names:
        with backend.open() as connection:
            jobs[name] = Talk(connection, name).ask(Submit("same", "nerf", SHORT)).job
    with backend.open() as connection:
        talk = Talk(connection, names[0])
        for everyone in (False, True):
            talk.say(Subscribe("s", everyone=everyone))
            seen = set()
            while isinstance(event := talk.hear(), JobRow | Preview | Shape):
                seen.add(event.id if isinstance(event, JobRow) else event.job)
            assert isinstance(event, protocol.Synced)
            assert (seen == {jobs[names[0]]}) if not everyone else (seen >= set(jobs.values()))


def test_a_job_runs_shows_itself_ends_and_is_imported_once(talk: Talk) -> None:
    talk.ask(Subscribe("s", talk.welcome.seq))
    job = talk.ask(Submit(fresh(), "nerf", {"dataset": "nan", "seconds": 1.5})).job
    events: list[protocol.Event] = []
    while not (events and isinstance(events[-1], JobRow) and events[-1].state == "done"):
        events.append(talk.hear(20))
    rows = [event for event in events if isinstance(event, JobRow) and event.id == job]
    assert [row.seq for row in rows] == sorted({row.seq for row in rows})
    assert "running" in [row.state for row in rows] and any(row.progress for row in rows)
    pictures = [event for event in events if isinstance(event, Preview)]
    assert pictures and all(p.job == job and p.media == "image/png" and p.data[1:4] == b"PNG" for p in pictures)
    shapes = [event for event in events if isinstance(event, Shape)]
    assert shapes and all(s.job == job and len(s.data) == 2 * protocol.POINT for s in shapes)
    assert rows[-1].result and rows[-1].result["worst"] is None  # JSON has no NaN
    assert Path(rows[-1].folder, "result", "mesh.bin").is_file()
    assert not rows[-1].imported
    for _ in range(2):
        assert talk.ask(Imported(fresh(), job)).job == job
    talk.ask(Subscribe("s", rows[-1].seq))
    with pytest.raises(TimeoutError):
        talk.hear(0.3)


def test_an_ended_job_can_be_removed_and_everybody_hears_of_it(talk: Talk) -> None:
    talk.ask(Subscribe("s", talk.welcome.seq))
    job = talk.ask(Submit(fresh(), "nerf", LONG)).job
    refused = talk.ask(Remove("early", job))
    assert refused.code == "invalid" and "Cancel it first" in refused.next_step
    talk.say(Cancel("now", job))
    folder = Path(talk.until_ended(job).folder)
    assert folder.is_dir()
    assert talk.ask(Remove("late", job)).job == job and not folder.exists()
    while talk.rows[job].state != "removed":  # it may have come before the answer
        talk.hear()
    for message in (Remove("again", job), Resume("again", job), Imported("again", job), Cancel("again", job)):
        assert talk.ask(message).code == "unknown_job"
    talk.say(Subscribe("anew"))
    seen = []
    while not isinstance(event := talk.hear(), protocol.Synced):
        seen.append(event)
    assert job not in [event.id for event in seen if isinstance(event, JobRow)]


def test_devices_and_their_free_memory_are_told(backend: Backend) -> None:
    with backend.open() as connection:
        talk = Talk(connection, fresh("devices"))
        talk.say(Subscribe("s", talk.welcome.seq))
        deadline = time.monotonic() + 10
        while not (talk.devices and talk.devices[0]["free"]):
            assert time.monotonic() < deadline
            with contextlib.suppress(TimeoutError):
                talk.hear(0.5)
    (device,) = talk.devices
    assert device["name"] == "toy" and device["free"] > 2**24


def test_files_come_in_pieces_and_only_those_of_the_result(talk: Talk, backend: Backend) -> None:
    talk.ask(Subscribe("s", talk.welcome.seq))
    size = 256 * 3000
    job = talk.ask(Submit(fresh(), "nerf", {**SHORT, "steps": size})).job
    talk.until_ended(job)
    (backend.home / "jobs" / job / "result" / "link").symlink_to("/etc/passwd")
    for name in ("../job.json", "..", ".", "/etc/passwd", "link", "nothing", "mesh.bin/x", "sub/../../job.json"):
        assert talk.ask(Fetch("f", job, name)).code == "unknown_file", name
    for offset in (0, 100_001, size, size + 5):
        talk.say(Fetch("f", job, "mesh.bin", offset))
        data, chunk = b"", None
        while chunk is None or offset + len(data) < size:
            if isinstance(event := talk.hear(), protocol.Chunk):
                chunk, data = event, data + event.data
                assert event.size == size
        assert data == (bytes(range(256)) * 3000)[offset:]


def test_the_queue_says_when_it_is_full_and_loses_none(own_backend: Backend) -> None:
    with own_backend.open() as connection:
        talk = Talk(connection)
        answers = [talk.ask(Submit(f"r{n}", "nerf", LONG)) for n in range(1010)]
        accepted = {a.job for a in answers if isinstance(a, protocol.Accepted)}
        refused = [a for a in answers if isinstance(a, Refused)]
        assert {a.code for a in refused} == {"queue_full"} and len(accepted) + len(refused) == 1010
        talk.say(Subscribe("s"))
        listed = set()
        while isinstance(event := talk.hear(), JobRow | Preview):
            listed |= {event.id} if isinstance(event, JobRow) else set()
        assert listed == accepted


# ---- the slow reader ----


def test_a_client_that_stops_reading_is_cut_and_misses_no_end(tmp_path: Path) -> None:
    """It floods the server with requests and reads nothing: bounded memory, then the end; then all states."""
    backend = Backend(tmp_path / "home", send=2.0, ping=60.0)
    big = {**SHORT, "dataset": "x" * 60_000}
    try:
        with backend.open() as connection:
            talk = Talk(connection, "slow")
            talk.ask(Subscribe("s"))
            jobs = {talk.ask(Submit(f"r{n}", "nerf", big)).job for n in range(3)}
            for job in jobs:
                talk.until_ended(job)
        before = backend.memory()
        with backend.open(max_queue=1) as connection:  # the library stops reading after one frame
            Talk(connection, "slow")
            connection.socket.settimeout(1.0)
            begun = time.monotonic()
            with pytest.raises((ConnectionClosed, OSError)):
                while time.monotonic() - begun < 15:
                    connection.send(protocol.encode(Subscribe("again")))
            assert time.monotonic() - begun < 15
            assert backend.memory() - before < 10 * 2**20
        with backend.open() as connection:
            talk = Talk(connection, "slow")
            talk.ask(Subscribe("s"))
            assert {id for id, row in talk.rows.items() if row.state == "done"} == jobs
    finally:
        backend.stop()


# ---- anything in any order ----


class AnyOrder(RuleBasedStateMachine):
    """Random requests, right and wrong, against a live server; a model of what must be answered."""

    server: Backend
    requests = st.sampled_from([f"m{n}" for n in range(8)])

    def __init__(self) -> None:
        super().__init__()
        self.context = self.server.open()
        self.talk = Talk(self.context.__enter__(), name="")
        self.name = fresh("machine")
        self.greeted = False
        self.jobs: dict[str, str] = {}
        self.removed: dict[str, str] = {}

    def teardown(self) -> None:
        for job in self.jobs.values():
            self.talk.ask(Cancel("end", job))
        self.context.__exit__(None, None, None)

    def expect(self, message: protocol.Message, code: str | None) -> Any:
        answer = self.talk.ask(message)
        assert isinstance(message, Hello) or answer.request == getattr(message, "request", None)
        wanted = code if self.greeted or isinstance(message, Hello) else "hello_first"
        assert (answer.code if isinstance(answer, Refused) else None) == wanted, answer
        return answer

    @rule()
    def hello(self) -> None:
        self.expect(Hello(self.name), "hello_twice" if self.greeted else None)
        self.greeted = True

    @rule(request=requests, seconds=st.sampled_from([0.0, 600.0]))
    def submit(self, request: str, seconds: float) -> None:
        answer = self.expect(Submit(request, "nerf", {"dataset": "x", "seconds": seconds}), None)
        if self.greeted and request in self.removed:
            assert self.removed[request] == answer.job  # answered as it was the first time
        elif self.greeted:
            assert self.jobs.setdefault(request, answer.job) == answer.job

    @rule(request=requests)
    def cancel(self, request: str) -> None:
        self.expect(Cancel("c", self.jobs.get(request, "none")), None if request in self.jobs else "unknown_job")

    @rule(request=requests)
    def resume(self, request: str) -> None:
        answer = self.talk.ask(Resume("c", self.jobs.get(request, "none")))
        assert isinstance(answer, protocol.Accepted) or answer.code in ("unknown_job", "invalid", "hello_first")

    @rule(request=requests)
    def remove(self, request: str) -> None:
        answer = self.talk.ask(Remove("c", self.jobs.get(request, "none")))
        if isinstance(answer, protocol.Accepted):
            self.removed[request] = self.jobs.pop(request)
        else:
            assert answer.code in ("unknown_job", "invalid", "hello_first")

    @rule(request=requests)
    def imported(self, request: str) -> None:
        answer = self.talk.ask(Imported("c", self.jobs.get(request, "none")))
        assert isinstance(answer, protocol.Accepted) or answer.code in ("unknown_job", "invalid", "hello_first")

    @rule(since=st.integers(0, 2**63 - 1), everyone=st.booleans())
    def subscribe(self, since: int, everyone: bool) -> None:
        self.expect(Subscribe("s", since, everyone), None)

    @rule(data=st.binary(min_size=1, max_size=60))
    def noise(self, data: bytes) -> None:
        assert self.talk.ask(data).code in ("malformed", "invalid")

    @rule(place=st.integers(0, 200), byte=st.integers(0, 255))
    def mutate(self, place: int, byte: int) -> None:
        raw = bytearray(str(protocol.encode(Cancel("c", "0" * 24))).encode())
        raw[place % len(raw)] = byte
        answer = self.talk.ask(bytes(raw))
        assert answer.code in ("malformed", "invalid", "unknown_job", "hello_first")

    @invariant()
    def alive(self) -> None:
        assert self.server.process.poll() is None


def test_anything_in_any_order_gets_a_documented_answer(tmp_path: Path) -> None:
    backend = Backend(tmp_path / "home")
    try:
        machine = type("Machine", (AnyOrder,), {"server": backend})
        run_state_machine_as_test(machine, settings=settings(max_examples=15, stateful_step_count=20, deadline=None))
        assert "Traceback" not in backend.log.read_text()
    finally:
        backend.stop()


def test_a_stranger_that_says_no_hello_is_cut(tmp_path: Path) -> None:
    backend = Backend(tmp_path / "home", handshake=0.5)
    try:
        with backend.open() as connection, pytest.raises(ConnectionClosed):
            connection.recv(3)
        with socket.create_connection((backend.where.host, backend.where.port), 3) as wire:
            assert wire.recv(1) == b""
    finally:
        backend.stop()
