# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's socket: who may connect, and the life of the one server of a home."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from pathlib import Path

from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.http11 import Request, Response

from . import runtime
from .engine import Engine
from .errors import Gen3DError
from .home import runtime_file as default_runtime_file
from .jobs import JobStore
from .runtime import Runtime
from .session import Deadlines, Hub
from .storage import FileLock
from .strict_json import MAX_TEXT

log = logging.getLogger("gen3d.server")


# ---- the handshake ----


def require_local(host: str, allow_remote: bool) -> None:
    """Raises Gen3DError for an address that other machines can reach, unless that was asked for."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise Gen3DError(f"{host!r} is not an IP address.", "Give one, such as 127.0.0.1.", field="host") from None
    if not local and not allow_remote:
        raise Gen3DError(
            f"{host} can be reached from other machines, and the connection is not encrypted.",
            "Use 127.0.0.1 and an SSH tunnel to the same port, or add --allow-remote if the network is yours.",
            field="host",
        )


class Door(ServerConnection):
    """Tells whoever does not even try a WebSocket handshake so, where the library would just hang up."""

    answered: bool | None = None

    def data_received(self, data: bytes) -> None:
        if self.answered is None:
            self.answered = not b"GET ".startswith(data[:4])
            if self.answered:
                body = b"This is a WebSocket.\n"
                head = (
                    b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                )
                self.transport.write(head % len(body) + body)
                self.transport.write_eof()  # what else is sent is dropped; cut off at the handshake's deadline
        if not self.answered:
            super().data_received(data)


def judge(request: Request, ours: Runtime, anywhere: bool = False) -> tuple[HTTPStatus, str] | None:
    """Why a request must not be upgraded, or None. Browsers send Origin, rebound names show in Host.

    ``anywhere``: listening on all addresses of this machine, so that Host may be any of them, but still never a name.
    """
    headers = request.headers
    if "Origin" in headers:
        return HTTPStatus.FORBIDDEN, "Web pages may not connect.\n"
    if not _is_host(headers.get_all("Host"), ours, anywhere):
        return HTTPStatus.FORBIDDEN, "Wrong Host header.\n"
    given = headers.get_all("Authorization")
    if len(given) != 1 or not hmac.compare_digest(given[0].encode(), f"Bearer {ours.token}".encode()):
        return HTTPStatus.UNAUTHORIZED, "The token of the runtime file is needed.\n"
    if request.path != "/":
        return HTTPStatus.NOT_FOUND, "There is only /.\n"
    return None


def _is_host(given: list[str], ours: Runtime, anywhere: bool) -> bool:
    if len(given) != 1 or not anywhere:
        return given == [ours.authority]
    host, _, port = given[0].rpartition(":")
    with contextlib.suppress(ValueError):
        return port == str(ours.port) and bool(ipaddress.ip_address(host.strip("[]")))
    return False


# ---- the server ----


async def serve(
    home: Path,
    host: str = "127.0.0.1",
    runtime_file: Path | None = None,
    *,
    port: int = 0,
    allow_remote: bool = False,
    worker: Sequence[str] | None = None,
    deadlines: Deadlines | None = None,
) -> None:
    """Serve the jobs of ``home`` until SIGTERM or SIGINT (or until cancelled).

    There is one backend per home: a second one says so and returns. ``worker`` is the command line of the worker
    process, for tests. Raises Gen3DError for a host that is not local unless ``allow_remote``, an address that
    cannot be bound, a home that cannot be written.
    """
    require_local(host, allow_remote)
    home = home.absolute()
    path = runtime_file.absolute() if runtime_file else default_runtime_file(home)
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Gen3DError(f"{home} cannot be made: {error.strerror}.", "Set GEN3D_HOME to another folder.") from error
    lock = FileLock(home / "backend.lock")
    if not lock.acquire():
        print(f"Another backend already serves {home}.", file=sys.stderr)
        return
    try:
        hub = Hub(JobStore(home), deadlines or Deadlines())
        hub.engine = Engine(hub.store, hub.notify, worker, hub.devices_changed)
        await _serve(hub, host, port, path)
    finally:
        lock.release()


async def _serve(hub: Hub, host: str, port: int, path: Path) -> None:
    stop = _stop_signal()
    async with _listen(hub, host, port) as ours:
        runtime.write(path, ours)
        log.info("serving %s on %s, process %d", hub.store.home, ours.authority, ours.pid)
        engine = asyncio.create_task(hub.engine.run())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((engine, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            runtime.remove(path, ours)
            stopped.cancel()
            engine.cancel()
            await asyncio.wait((engine,))  # the workers write what they have, and the clients still hear of it
    if not engine.cancelled():
        engine.result()
    log.info("stopped")


@contextlib.asynccontextmanager
async def _listen(hub: Hub, host: str, port: int) -> AsyncIterator[Runtime]:
    ours: Runtime
    address = ipaddress.ip_address(host)

    def check(socket: ServerConnection, request: Request) -> Response | None:
        refusal = judge(request, ours, address.is_unspecified)
        return None if refusal is None else socket.respond(*refusal)

    def prove(socket: ServerConnection, request: Request, response: Response) -> None:
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            response.headers[runtime.PROOF_HEADER] = ours.proof(request.headers["Sec-WebSocket-Key"])

    quiet = logging.getLogger("gen3d.websockets")  # it logs headers, and thus the token, at DEBUG
    quiet.setLevel(logging.CRITICAL)
    wait = hub.deadlines
    try:
        server = await listen(
            hub.handle, host, port, compression=None, process_request=check, process_response=prove,
            create_connection=Door, server_header=None, max_size=MAX_TEXT, logger=quiet, start_serving=False,
            open_timeout=wait.handshake, ping_interval=wait.ping, ping_timeout=wait.ping, close_timeout=wait.close,
        )  # fmt: skip
    except OSError as error:
        raise Gen3DError(
            f"Cannot listen on {host}, port {port}: {error.strerror}.", "Choose another port.", field="host"
        ) from error
    if address.is_unspecified:  # what clients on this machine shall connect to
        host = "127.0.0.1" if address.version == 4 else "::1"
    ours = Runtime(host, server.sockets[0].getsockname()[1], os.getpid())
    async with server:
        await server.start_serving()
        yield ours


def _stop_signal() -> asyncio.Event:
    """Set by SIGTERM and SIGINT. Windows has no handlers in the loop; off the main thread there are none at all."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:
            with contextlib.suppress(ValueError):
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
        except (ValueError, RuntimeError):
            pass
    return stop
