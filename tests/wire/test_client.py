# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's client against a real server that dies, comes back, is replaced, or was never there."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import serve as serve_sync

from blender_gen3d.bridge import errors, home, protocol, runtime
from blender_gen3d.connection import wire
from blender_gen3d.connection.client import ENDED, Client, Fetched, Link
from tests.patience import patience

from .conftest import Backend

LONG = {"dataset": "x", "seconds": 600.0}


def finder(where: Path) -> Callable[[threading.Event], runtime.Runtime]:
    return lambda stop: runtime.read(home.runtime_file(where))


def eventually(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)
    return value


def is_online(client: Client) -> bool:
    return client.link.state == "online"


@pytest.fixture
def client(own_backend: Backend) -> Iterator[Client]:
    with Client("blender", finder(own_backend.home)) as client:
        eventually(partial(is_online, client))
        yield client


def test_submit_and_wait_reports_progress_and_returns_the_result(client: Client) -> None:
    seen: list[protocol.JobRow] = []
    row = client.submit_and_wait("nerf", {"dataset": "x", "seconds": 1.5, "steps": 512}, seen.append)
    assert row.state == "done" and row.result and row.result["files"] == {"mesh": "mesh.bin"}
    assert [s.seq for s in seen] == sorted({s.seq for s in seen}) and any(s.progress for s in seen)


def test_failures_and_refusals_say_cause_and_next_step(client: Client) -> None:
    with pytest.raises(errors.Gen3DError) as caught:
        client.submit_and_wait("nerf", {"dataset": "fail"})
    assert caught.value.cause == "The dataset is a toy." and caught.value.next_step == "Take a real one."
    with pytest.raises(errors.Gen3DError) as caught:
        client.submit("nerf", {"dataset": "x", "seed": -1})
    assert caught.value.field == "params.seed"
    for kind, params in (
        ("zap", {}),
        ("nerf", {}),
        ("nerf", {"dataset": "\ud800"}),
        ("nerf", {"dataset": "x" * 2**20}),
    ):
        with pytest.raises(errors.Gen3DError):
            client.submit(kind, params)


def test_an_interrupt_cancels_the_job(client: Client) -> None:
    def interrupt(row: protocol.JobRow) -> None:
        if row.state == "running":
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        client.submit_and_wait("nerf", LONG, interrupt)
    assert time.monotonic() - begun < patience(8)
    assert [row.state for row in client.jobs()] == ["cancelled"]


def test_a_dead_server_is_noticed_and_its_successor_found(own_backend: Backend, client: Client) -> None:
    """Killed in mid-job: said within 2 s; the next server goes on, and the end arrives in the same wait."""
    outcome: list[Any] = []
    waiting = threading.Thread(
        target=lambda: outcome.append(client.submit_and_wait("nerf", {"dataset": "x", "seconds": 2.0}))
    )
    waiting.start()
    job = eventually(lambda: [row for row in client.jobs() if row.state == "running"])[0]
    own_backend.kill()
    begun = time.monotonic()
    eventually(lambda: client.link.state == "offline", 2.0)
    assert time.monotonic() - begun < patience(2.0) and client.link.error is not None
    lost = client.submit("nerf", {"dataset": "x", "seconds": 0.0})  # asked while there is nobody
    own_backend.start()
    waiting.join(45)
    assert outcome and outcome[0].id == job.id and outcome[0].state == "done"
    row = eventually(lambda: [row for row in client.jobs() if row.request == lost and row.state == "done"])
    assert len(row) == 1 and len(client.jobs()) == 2


def test_a_resend_makes_no_second_job(own_backend: Backend) -> None:
    """The connection breaks between the request and its answer, five times."""
    with Client("blender", finder(own_backend.home)) as client:
        eventually(partial(is_online, client))
        for n in range(5):
            request = client.submit("nerf", {"dataset": f"x{n}", "seconds": 600.0})
            own_backend.kill()
            own_backend.start()
            eventually(partial(client.answered, request))
        eventually(lambda: len(client.jobs()) == 5)
        assert sorted(row.params["dataset"] for row in client.jobs()) == [f"x{n}" for n in range(5)]
        for row in client.jobs():
            client.cancel(row.id)
        eventually(lambda: all(row.state in ENDED for row in client.jobs()), 15.0)


def test_a_hanging_server_is_noticed(own_backend: Backend, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "SILENCE", 1.0)
    os.kill(own_backend.process.pid, signal.SIGSTOP)
    try:
        eventually(lambda: client.link.state == "offline", 6.0)
    finally:
        os.kill(own_backend.process.pid, signal.SIGCONT)
    eventually(partial(is_online, client))


def test_after_a_restart_of_blender_everything_is_there_and_imported_once(own_backend: Backend) -> None:
    with Client("blender", finder(own_backend.home)) as client:
        client.submit("nerf", {"dataset": "x", "seconds": 0.5})
        eventually(client.jobs)
    for imported in (False, True, True):  # Blender was closed in mid-job, started, started again
        with Client("blender", finder(own_backend.home)) as client:
            (row,) = eventually(lambda: [row for row in client.jobs() if row.state == "done"])
            assert row.imported is imported
            request = client.imported(row.id)
            eventually(partial(client.answered, request))


def test_two_clients_see_their_own_jobs(own_backend: Backend) -> None:
    find = finder(own_backend.home)
    with Client("one", find) as one, Client("two", find) as two, Client("all", find, everyone=True) as everyone:
        one.submit_and_wait("nerf", {"dataset": "x", "seconds": 0.0})
        two.submit_and_wait("nerf", {"dataset": "x", "seconds": 0.0})
        assert [row.client for row in one.jobs()] == ["one"] and [row.client for row in two.jobs()] == ["two"]
        eventually(lambda: {row.client for row in everyone.jobs()} == {"one", "two"})


def test_news_are_one_per_job_and_polled_in_portions(client: Client) -> None:
    requests = [client.submit("nerf", {"dataset": "x", "seconds": 0.0}) for _ in range(30)]
    eventually(lambda: len([row for row in client.jobs() if row.state == "done"]) == 30, 30)
    news: list[Any] = []
    begun = time.perf_counter()
    while part := client.poll(7):
        assert len(part) <= 7
        news += part
    assert time.perf_counter() - begun < patience(0.05)
    rows = [piece for piece in news if isinstance(piece, protocol.JobRow)]
    assert sorted(row.request for row in rows) == sorted(requests) and {row.state for row in rows} == {"done"}
    answers = [piece for piece in news if isinstance(piece, protocol.Accepted)]
    assert sorted(answer.request for answer in answers) == sorted(requests)
    assert Link("online") in news


def test_files_are_fetched_whole(own_backend: Backend, client: Client, tmp_path: Path) -> None:
    row = client.submit_and_wait("nerf", {"dataset": "x", "seconds": 0.0, "steps": 2**22})
    target = tmp_path / "mesh.bin"
    request = client.fetch(row.id, "mesh.bin", target)
    eventually(partial(client.answered, request))
    assert Fetched(request, target) in client.poll(1000)
    assert target.read_bytes() == bytes(range(256)) * (2**22 // 256)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["home.log", "mesh.bin"]
    for name, place in (("nothing", target), ("mesh.bin", tmp_path / "no" / "folder")):
        request = client.fetch(row.id, name, place)
        eventually(partial(client.answered, request))
        news = [piece for piece in client.poll() if getattr(piece, "request", "") == request]
        assert [type(piece) for piece in news] == [protocol.Refused]


def test_no_proxy_is_ever_asked(own_backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.5)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, address)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with Client("blender", finder(own_backend.home)) as client:
            eventually(partial(is_online, client), 3.0)
            with pytest.raises(TimeoutError):
                proxy.accept()


def test_an_impostor_on_the_port_sees_no_prompt(own_backend: Backend) -> None:
    """The server died without taking its file away; another program listens there and lets everybody in."""
    where = runtime.read(home.runtime_file(own_backend.home))
    own_backend.kill()
    heard: list[Any] = []

    def listen(connection: Any) -> None:
        heard.extend(connection)

    with serve_sync(listen, "127.0.0.1", where.port) as impostor:
        threading.Thread(target=impostor.serve_forever, daemon=True).start()
        with Client("blender", finder(own_backend.home)) as client:
            client.submit("nerf", {"dataset": "a secret"})
            eventually(lambda: client.link.error and client.link.error.field == "proof")
            with pytest.raises(errors.Gen3DError) as caught:
                client.submit_and_wait("nerf", {"dataset": "a secret"})
            assert caught.value.field == "proof"
    assert heard == []


def test_where_nothing_listens_scripts_are_told_at_once(tmp_path: Path) -> None:
    with Client("script", finder(tmp_path)) as client, pytest.raises(errors.Gen3DError) as caught:
        client.submit_and_wait("nerf", LONG)
    assert caught.value.cause == "The backend is not running."


def test_a_new_database_is_read_from_the_start(own_backend: Backend) -> None:
    with Client("blender", finder(own_backend.home)) as client:
        for _ in range(3):
            client.submit_and_wait("nerf", {"dataset": "x", "seconds": 0.0})
        own_backend.stop()
        for path in own_backend.home.glob("jobs.sqlite*"):
            path.unlink()
        own_backend.start()
        client.submit_and_wait("nerf", {"dataset": "new", "seconds": 0.0})
        assert "new" in [row.params["dataset"] for row in client.jobs()]


def test_closing_is_quick_and_leaves_no_thread(own_backend: Backend) -> None:
    before = threading.active_count()
    for _ in range(10):
        client = Client("blender", finder(own_backend.home)).start()
        eventually(partial(is_online, client))
        begun = time.monotonic()
        client.close()
        assert time.monotonic() - begun < patience(1.0) and client.link.state == "closed"
    eventually(lambda: threading.active_count() == before, 3.0)
    Client("blender", finder(own_backend.home)).close()  # never started
