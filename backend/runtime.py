# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a running backend listens and how both sides prove who they are. Standard library only, shared by both.

The backend writes ``runtime.json``, readable by its user alone, with two secrets made anew at every start:

* ``token``, which the client sends (``Authorization: Bearer``) and which opens the socket;
* ``key``, which is never sent. The backend answers the handshake with an HMAC under it of the client's random
  ``Sec-WebSocket-Key``. Whoever took over the port of a backend that died can collect a token that opens nothing any
  more, but cannot give this answer, and so never sees a prompt.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from .errors import Gen3DError
from .protocol import PROTOCOL
from .version import VERSION

PROOF_HEADER = "Gen3D-Proof"


def _secret() -> str:
    return secrets.token_urlsafe(32)  # 256 bits


@dataclass(frozen=True)
class Runtime:
    host: str
    port: int
    pid: int
    token: str = field(default_factory=_secret, repr=False)
    key: str = field(default_factory=_secret, repr=False)
    version: str = VERSION
    protocol: int = PROTOCOL

    @property
    def authority(self) -> str:
        """What the Host header must be, to the letter."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def proof(self, nonce: str) -> str:
        """What only a holder of ``key`` can answer to ``nonce``."""
        return hmac.new(self.key.encode(), nonce.encode(), hashlib.sha256).hexdigest()


def read(path: Path) -> Runtime:
    """Raises Gen3DError where there is no backend's file, or one of a version that speaks another protocol."""
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise Gen3DError("The backend is not running.", "Start it.", field="runtime_file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise Gen3DError(
            f"{path} cannot be read: {type(error).__name__}.", "Delete it and start the backend.", field="runtime_file"
        ) from error
    values = values if isinstance(values, dict) else {}
    if values.get("protocol", PROTOCOL) != PROTOCOL:
        raise Gen3DError(
            f"The backend that runs (process {values.get('pid')}) is version {str(values.get('version'))[:40]},"
            f" which this version {VERSION} does not understand.",
            "Let it finish its jobs and end it, or update the older of the two; its jobs stay.",
            field="protocol_version",
        )
    types = {"host": str, "port": int, "pid": int, "token": str, "key": str, "version": str, "protocol": int}
    for name, kind in types.items():
        if type(values.get(name)) is not kind:
            raise Gen3DError(f"{path} has no valid {name!r}.", "Delete it and start the backend.", field="runtime_file")
    return Runtime(**{spec.name: values[spec.name] for spec in fields(Runtime)})


def write(path: Path, runtime: Runtime) -> None:
    """Appears whole and readable by the user alone (on Windows by the rights of the user's own data folder)."""
    part = path.with_name(f"{path.name}.{runtime.pid}.part")
    part.unlink(missing_ok=True)
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            json.dump(asdict(runtime), file)
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise Gen3DError(
            f"{path} cannot be written: {error.strerror}.", "Name a place that is writable.", field="runtime_file"
        ) from error


def remove(path: Path, runtime: Runtime) -> None:
    """Only while it is still the one we wrote."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if json.loads(path.read_bytes()).get("token") == runtime.token:
            path.unlink()
