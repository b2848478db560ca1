# SPDX-License-Identifier: GPL-3.0-or-later
"""One connection to the backend: opened to the right program only, kept under watch, and closed. No bpy."""

from __future__ import annotations

import contextlib
import hmac
import logging
import queue
import socket
import threading
import time
from collections.abc import Iterator

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from ..bridge import errors, protocol, runtime

PING = 1.0  # seconds without anything to send
SILENCE = 10.0  # seconds without an answer to a ping: the backend hangs, or its machine is gone

Outbox = queue.SimpleQueue[protocol.Request | None]
"""What is to be sent; None hangs up."""

_quiet = logging.getLogger("gen3d.websockets")  # it logs headers, and thus the token, at DEBUG
_quiet.setLevel(logging.CRITICAL)


@contextlib.contextmanager
def dial(where: runtime.Runtime, timeout: float = 5.0) -> Iterator[ClientConnection]:
    """A connection to a backend that has proved to be the one that wrote the runtime file.

    Raises Gen3DError for an impostor, OSError or WebSocketException where there is no answer.
    """
    # Connected here, so that no version of websockets asks for a proxy on the way to our own machine.
    wire = socket.create_connection((where.host, where.port), timeout)
    with contextlib.closing(wire):
        wire.settimeout(None)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        with connect(
            f"ws://{where.authority}/", sock=wire, compression=None, max_size=protocol.MAX_FRAME, logger=_quiet,
            additional_headers={"Authorization": f"Bearer {where.token}"}, user_agent_header=None,
            open_timeout=timeout, close_timeout=1.0,
        ) as connection:  # fmt: skip
            assert connection.request is not None and connection.response is not None
            proof = connection.response.headers.get(runtime.PROOF_HEADER, "")
            if not hmac.compare_digest(proof, where.proof(connection.request.headers["Sec-WebSocket-Key"])):
                raise errors.Gen3DError(
                    f"The program that answers at {where.authority} is not the backend.",
                    "End it or restart the backend; nothing has been sent to it.",
                    field="proof",
                )
            yield connection


def write(connection: ClientConnection, out: Outbox) -> None:
    """Send what is asked and, in between, pings; hang up at None, at an error and when pings stay unanswered."""
    pong, asked = threading.Event(), time.monotonic()
    pong.set()
    with contextlib.suppress(OSError, WebSocketException):
        while pong.is_set() or time.monotonic() - asked < SILENCE:
            try:
                message = out.get(timeout=PING)
            except queue.Empty:
                if pong.is_set():
                    pong, asked = connection.ping(), time.monotonic()
                continue
            if message is None:
                break
            connection.send(protocol.encode(message))
    with contextlib.suppress(OSError, WebSocketException):
        connection.close()
