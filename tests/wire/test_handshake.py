# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets in, who does not, and that strangers cost nothing."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from backend.errors import Gen3DError
from backend.home import runtime_file
from backend.runtime import Runtime
from backend.server import judge, require_local, serve

from .conftest import Backend, Talk, read_all

TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + os.urandom(32) + bytes(157)


def request(backend: Backend, *, method: str = "GET", path: str = "/", body: str = "", **changes: str | None) -> bytes:
    """An upgrade request; ``changes`` replace headers ("_" for "-"), None leaves one out."""
    headers: dict[str, str | None] = {
        "Host": backend.where.authority,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Authorization": f"Bearer {backend.where.token}",
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", body]).encode()


def status(backend: Backend, data: bytes) -> int:
    """The HTTP status; reads no further, as an accepted connection stays open."""
    with socket.create_connection((backend.where.host, backend.where.port), 5) as wire:
        wire.sendall(data)
        answer = wire.recv(4096)
        assert b"access-control" not in answer.lower()
        return int(answer.split(b" ", 2)[1])


def served(backend: Backend) -> float:
    """Seconds until a real client is greeted."""
    begun = time.monotonic()
    with backend.open() as connection:
        Talk(connection)
    return time.monotonic() - begun


def test_the_right_request_is_upgraded_and_the_server_proves_itself(backend: Backend) -> None:
    assert status(backend, request(backend)) == 101
    with backend.open() as connection:
        nonce = connection.request.headers["Sec-WebSocket-Key"]
        assert connection.response.headers["Gen3D-Proof"] == backend.where.proof(nonce)
        assert "Sec-WebSocket-Extensions" not in connection.response.headers


def test_wrong_tokens_are_refused_before_the_upgrade(backend: Backend) -> None:
    token = backend.where.token
    wrong = [None, "", "Bearer", "Bearer ", f"Bearer {token[:-1]}", f"Bearer {token}x", f"Basic {token}", token,
             f"Bearer {token[::-1]}", "Bearer \xff\xfe", f"Bearer {backend.where.key}"]  # fmt: skip
    for value in wrong:
        assert status(backend, request(backend, Authorization=value)) == 401, value
    twice = request(backend).replace(b"Upgrade: ", f"Authorization: Bearer {token}\r\nUpgrade: ".encode(), 1)
    assert status(backend, twice) == 401
    for path in (f"/?token={token}", f"/{token}", f"/?access_token={token}&authorization=Bearer%20{token}"):
        assert status(backend, request(backend, path=path, Authorization=None)) == 401
    assert status(backend, request(backend, path=f"/?token={token}")) == 404


def test_any_origin_is_refused_even_with_the_token(backend: Backend) -> None:
    own = backend.where.authority
    for origin in ("null", "", f"http://{own}", f"https://{own}", "http://127.0.0.1.evil.com", "file://", "http://x"):
        assert status(backend, request(backend, Origin=origin)) == 403, origin


def test_the_host_header_must_match_exactly(backend: Backend) -> None:
    port = backend.where.port
    hosts = ["evil.com", f"evil.com:{port}", None, f"127.0.0.1.:{port}", f"2130706433:{port}", f"localhost:{port}",
             "127.0.0.1", f"127.0.0.1:{port + 1}", f"127.1:{port}", f"[::1]:{port}", f"127.0.0.1:{port}.", "",
             f"127.0.0.1:0{port}", f"user@127.0.0.1:{port}"]  # fmt: skip
    for host in hosts:
        assert status(backend, request(backend, Host=host)) == 403, host
    twice = request(backend).replace(b"Upgrade: ", f"Host: {backend.where.authority}\r\nUpgrade: ".encode(), 1)
    assert status(backend, twice) == 403


def test_what_a_browser_page_can_send_has_no_effect(backend: Backend) -> None:
    with backend.open() as connection:
        before = Talk(connection).welcome.seq
    form = "kind=nerf&params=x"
    kinds: dict[str, Any] = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(form))}
    plain: dict[str, Any] = {"Upgrade": None, "Connection": None, "Authorization": None}
    strangers = [
        request(backend, method="POST", body=form, Origin="http://evil.com", **kinds, **plain),
        request(backend, method="POST", body=form, **kinds, **plain),
        request(backend, method="POST", **{**plain, "Content-Length": "0"}),
        request(backend, **plain),  # fetch in mode "no-cors", <img>, <script>
        request(backend, method="OPTIONS", Origin="http://evil.com", Access_Control_Request_Method="POST", **plain),
        request(backend, method="PUT", **plain),
        b"GET / HTTP/1.1\r\n\r\n",
    ]
    for data in strangers:
        assert 400 <= status(backend, data) < 500, data
    with backend.open() as connection:
        assert Talk(connection).welcome.seq == before


def test_strangers_are_cut_and_cost_no_memory(backend: Backend) -> None:
    """Noise, TLS, plain HTTP, half requests, endless headers: closed within 5 s while a real client is served."""
    served(backend)
    before = backend.memory()
    noise = [os.urandom(2**16), os.urandom(7), TLS_HELLO, b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r\n" * 1000,
             b"GET " + b"/" * 2**20, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10**4, b"\0" * 2**20]  # fmt: skip

    def closed_after(data: bytes) -> float:
        begun = time.monotonic()
        with socket.create_connection((backend.where.host, backend.where.port), 6) as wire:
            try:
                wire.sendall(data)
            except ConnectionError:
                return time.monotonic() - begun
            answer = read_all(wire)  # raises TimeoutError if it is never closed
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
        return time.monotonic() - begun

    with ThreadPoolExecutor(40) as pool:
        waits = [pool.submit(closed_after, data) for data in noise * 4]
        time.sleep(0.2)
        assert served(backend) < 1.0
        assert max(wait.result() for wait in waits) < 5.0
    assert backend.memory() - before < 10 * 2**20
    assert served(backend) < 1.0


def test_two_hundred_slow_sockets_are_cut_at_the_deadline(backend: Backend) -> None:
    before = backend.memory()
    begun = time.monotonic()
    wires = [socket.create_connection((backend.where.host, backend.where.port), 9) for _ in range(200)]
    for wire in wires:
        wire.sendall(b"G")
    assert served(backend) < 1.0
    for wire in wires:
        assert read_all(wire) == b""
        wire.close()
    assert 3.0 < time.monotonic() - begun < 7.0
    assert backend.memory() - before < 10 * 2**20


def test_the_runtime_file_is_for_the_user_alone_and_goes_with_the_server(own_backend: Backend) -> None:
    path = runtime_file(own_backend.home)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(own_backend.home.stat().st_mode) == 0o700
    assert len(base64.urlsafe_b64decode(own_backend.where.token + "=")) == 32
    own_backend.stop()
    assert own_backend.process.returncode == 0
    assert not path.exists()
    assert [name for name in os.listdir(own_backend.home) if "runtime" in name] == []


def test_somebody_elses_runtime_file_is_left_alone(own_backend: Backend) -> None:
    path = runtime_file(own_backend.home)
    path.write_text('{"token": "another"}')
    own_backend.stop()
    assert path.exists()


def test_a_second_server_says_so_and_ends_and_a_dead_ones_file_is_replaced(own_backend: Backend) -> None:
    second = own_backend.spawn()
    assert second.wait(20) == 0
    assert "Another backend already serves" in own_backend.log.read_text()
    assert served(own_backend) < 1.0
    old = own_backend.where
    own_backend.kill()
    assert runtime_file(own_backend.home).exists()
    own_backend.start()
    assert (own_backend.where.token, own_backend.where.key) != (old.token, old.key)
    assert served(own_backend) < 1.0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "localhost", "evil.com", ""])
def test_other_hosts_need_an_explicit_wish(host: str, tmp_path: Path) -> None:
    with pytest.raises(Gen3DError) as caught:
        asyncio.run(serve(tmp_path / "home", host=host))
    assert caught.value.field == "host"
    assert not (tmp_path / "home").exists()


def test_with_the_wish_they_are_allowed() -> None:
    require_local("0.0.0.0", allow_remote=True)
    require_local("127.0.0.1", allow_remote=False)
    require_local("::1", allow_remote=False)


def test_bound_to_all_addresses_any_of_them_will_do_but_no_name() -> None:
    ours = Runtime("127.0.0.1", 4711, 1)
    token = {"Authorization": f"Bearer {ours.token}"}
    for host in ("127.0.0.1:4711", "192.168.1.5:4711", "[::1]:4711"):
        assert judge(Request("/", Headers(token, Host=host)), ours, anywhere=True) is None
    for host in ("evil.com:4711", "localhost:4711", "192.168.1.5", "192.168.1.5:4712", "127.0.0.1.:4711", "", ":4711"):
        refused = judge(Request("/", Headers(token, Host=host)), ours, anywhere=True)
        assert refused is not None and refused[0] == 403


def test_the_token_is_nowhere_but_in_its_file(own_backend: Backend) -> None:
    """Everything is logged at DEBUG here, refused and accepted requests alike."""
    token, key = own_backend.where.token, own_backend.where.key
    status(own_backend, request(own_backend, path=f"/?token={token}", Authorization=None))
    status(own_backend, request(own_backend, Authorization=f"Bearer {token}x"))
    own_backend.raw(f"GET /?token={token} BROKEN\r\n\r\n".encode())
    with own_backend.open() as connection:
        talk = Talk(connection)
        talk.ask('{"type": "submit", "request": "a", "kind": "nerf", "params": {"dataset": "x", "seconds": 30.0}}')
        talk.ask("}")
        time.sleep(1.0)
        children = Path(f"/proc/{own_backend.process.pid}/task/{own_backend.process.pid}/children").read_text().split()
        assert children
        for pid in (own_backend.process.pid, *children):
            for place in ("cmdline", "environ"):
                content = Path(f"/proc/{pid}/{place}").read_bytes()
                assert token.encode() not in content and key.encode() not in content
    own_backend.stop()
    for path in (own_backend.log, *(path for path in own_backend.home.rglob("*") if path.is_file())):
        content = path.read_bytes()
        assert token.encode() not in content and key.encode() not in content, path
