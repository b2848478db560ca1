# SPDX-License-Identifier: GPL-3.0-or-later
"""What add-on and backend say to each other. Standard library only, no I/O: frames in, messages out, and back.

The rules:

* A WebSocket text frame carries one JSON object: ``{"type": …}`` and the fields of the message of that name.
  A binary frame, sent by the backend only, carries a 4-byte big-endian length, that many bytes of such JSON, and
  the payload (``data``): a preview picture, the points of a shape or a piece of a file.
* The first request is ``hello``; the backend answers ``welcome``. Every later request carries an id chosen by the
  client, and is answered once with that id: ``accepted``, ``refused``, ``synced`` or, for a file, ``chunk``\\ s.
* ``accepted`` means durable. The same client sending ``submit`` with the same id again gets the same job.
* Every job row carries ``seq``, the value of one global counter at the row's last durable change. ``subscribe`` sends
  the rows changed since a number, in the order of ``seq``, then ``synced``, then every later change. A client that
  reconnects sends the highest number it saw; what it missed in between is only ever an intermediate state.
* A message cannot be built with a field that is missing, of the wrong type or outside its limits: both sides raise
  the same ProtocolError, which names the field.
* ``hello`` is checked for ``protocol`` before anything else, so that two versions can tell each other apart.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterable
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

from . import strict_json
from .errors import Gen3DError
from .settings import KINDS, parse
from .strict_json import CODES, MAX_TEXT, ProtocolError, fail
from .version import VERSION

PROTOCOL = 1

MAX_DATA = 2**20  # bytes of the payload of a binary frame
MAX_HEADER = 4096  # bytes of the JSON of a binary frame
MAX_FRAME = 4 + MAX_HEADER + MAX_DATA  # the longest frame there is
MAX_NUMBER = 2**63 - 1

STATES = ("queued", "running", "done", "failed", "cancelled", "interrupted", "removed")
PICTURES = ("image/png", "image/jpeg")
POINT = 16  # bytes of one point of a shape: x, y, z as little-endian float32, then red, green, blue and a zero

_NAME = r"[A-Za-z0-9_.:-]{1,100}"


def _limited(
    default: Any = MISSING,
    *,
    low: float | None = None,
    high: float = MAX_NUMBER,
    match: str | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    metadata = {"low": low, "high": high, "match": match, "choices": choices}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


def _id(default: Any = MISSING) -> Any:
    return _limited(default, match=_NAME)


@dataclass(frozen=True)
class Message:
    """Checks its own fields when it is built. Raises ProtocolError naming the field."""

    type: ClassVar[str] = ""

    def __post_init__(self) -> None:
        cls: Any = type(self)
        hints = _hints(cls)
        for spec in fields(self):
            _check(getattr(self, spec.name), hints[spec.name], spec.metadata, spec.name)


# ---- requests: client to backend ----


@dataclass(frozen=True)
class Hello(Message):
    """Who speaks: ``client`` is a stable name, which owns the jobs it submits and survives its own restarts."""

    type: ClassVar[str] = "hello"
    client: str = _id()
    protocol: int = PROTOCOL
    version: str = VERSION


@dataclass(frozen=True)
class Subscribe(Message):
    """Send job rows changed since ``since``, own ones or everyone's, and all changes from now on."""

    type: ClassVar[str] = "subscribe"
    request: str = _id()
    since: int = _limited(0, low=0)
    everyone: bool = False


@dataclass(frozen=True)
class Submit(Message):
    """A new job. ``params`` are the settings of its kind, completed with their defaults."""

    type: ClassVar[str] = "submit"
    request: str = _id()
    kind: str = _limited(choices=tuple(KINDS))
    params: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            settings = parse(KINDS[self.kind], self.params)
        except Gen3DError as error:
            raise ProtocolError(error.cause, error.next_step, field=error.field) from None
        object.__setattr__(self, "params", asdict(settings))


@dataclass(frozen=True)
class Cancel(Message):
    """Stop a job, in whatever state it is. Its checkpoints stay."""

    type: ClassVar[str] = "cancel"
    request: str = _id()
    job: str = _id()


@dataclass(frozen=True)
class Resume(Message):
    """Queue a failed, cancelled or interrupted job again; it goes on from its last checkpoint."""

    type: ClassVar[str] = "resume"
    request: str = _id()
    job: str = _id()


@dataclass(frozen=True)
class Remove(Message):
    """Delete an ended job and its folder. Its row comes once more, in the state "removed"."""

    type: ClassVar[str] = "remove"
    request: str = _id()
    job: str = _id()


@dataclass(frozen=True)
class Imported(Message):
    """The result has arrived in the scene and is not to be offered again."""

    type: ClassVar[str] = "imported"
    request: str = _id()
    job: str = _id()


@dataclass(frozen=True)
class Fetch(Message):
    """Send a file of a finished result from byte ``offset`` on, for a client on another machine."""

    type: ClassVar[str] = "fetch"
    request: str = _id()
    job: str = _id()
    file: str = _limited(match=r"[^\\:\0]{1,255}")
    offset: int = _limited(0, low=0)


# ---- events: backend to client ----


@dataclass(frozen=True)
class Welcome(Message):
    """The answer to hello. ``seq`` is the counter's present value: lower than the client's means a new database.
    ``devices``: as in Devices, empty until they have been found."""

    type: ClassVar[str] = "welcome"
    protocol: int
    version: str
    seq: int = _limited(low=0)
    devices: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Devices(Message):
    """What there is to compute with, best first: objects of "id", "type", "name", and "memory" and "free" in bytes or
    null. Comes after every subscribe, and again when the free memory has changed."""

    type: ClassVar[str] = "devices"
    devices: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Accepted(Message):
    """The request is done and durable; ``job`` is the job it was about."""

    type: ClassVar[str] = "accepted"
    request: str = _id()
    job: str = _id()


@dataclass(frozen=True)
class Refused(Message):
    """The request had no effect. ``request`` is null where the frame was too broken to name one."""

    type: ClassVar[str] = "refused"
    request: str | None = _id()
    code: str = _limited(choices=CODES)
    cause: str = ""
    next_step: str = ""
    field: str | None = None


@dataclass(frozen=True)
class JobRow(Message):
    """All about one job. ``folder`` is on the backend's machine; a finished result lies in its subfolder "result", and
    ``result["folder"]`` says so; of an ended job that is not done, where what it had come to lies."""

    type: ClassVar[str] = "job"
    id: str = _id()
    client: str = _id()
    request: str = _id()
    kind: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    state: str = _limited("queued", choices=STATES)
    seq: int = _limited(0, low=0)
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    attempts: int = _limited(0, low=0)
    progress: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    imported: bool = False
    folder: str = ""


@dataclass(frozen=True)
class Synced(Message):
    """Every row that ``subscribe`` asked for has been sent; ``seq`` is how far that reaches."""

    type: ClassVar[str] = "synced"
    request: str = _id()
    seq: int = _limited(low=0)


@dataclass(frozen=True)
class Preview(Message):
    """How a running job looks now. Binary."""

    type: ClassVar[str] = "preview"
    job: str = _id()
    media: str = _limited(choices=PICTURES)
    data: bytes = b""


@dataclass(frozen=True)
class Shape(Message):
    """The shape of a running job as it is now, in points of POINT bytes, sRGB. Binary.

    In metres: what is generated stands at the origin, its front towards -Y; what was captured is where it was.
    """

    type: ClassVar[str] = "shape"
    job: str = _id()
    data: bytes = b""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.data) % POINT:
            fail("The shape ends in the middle of a point.", f"Send {POINT} bytes for each.", "data", code="malformed")


@dataclass(frozen=True)
class Chunk(Message):
    """A piece of a file, at ``offset`` of ``size`` bytes; ``sha256`` is of the whole file. Binary."""

    type: ClassVar[str] = "chunk"
    request: str = _id()
    offset: int = _limited(low=0)
    size: int = _limited(low=0)
    sha256: str = _limited(match=r"[0-9a-f]{64}")
    data: bytes = b""


Request = Hello | Subscribe | Submit | Cancel | Resume | Remove | Imported | Fetch
Event = Welcome | Devices | Accepted | Refused | JobRow | Synced | Preview | Shape | Chunk
_REQUESTS: dict[str, Any] = {m.type: m for m in get_args(Request)}
_EVENTS: dict[str, Any] = {m.type: m for m in get_args(Event)}


def refusal(error: Gen3DError, request: str | None) -> Refused:
    """The event that tells a client why its request had no effect."""
    code = error.code if isinstance(error, ProtocolError) else "invalid"
    code = error.field if error.field in CODES else code
    at = None if error.field is None else _sendable(error.field)
    return Refused(request, code or "invalid", _sendable(error.cause), _sendable(error.next_step), at)


def _sendable(text: str) -> str:
    return text[:4000].encode(errors="backslashreplace").decode()


# ---- messages to frames ----


def encode(message: Message) -> str | bytes:
    """The frame of a message: bytes for those that carry ``data``, text for all others.

    Raises ProtocolError when the frame would be longer than allowed.
    """
    values = {"type": message.type} | {f.name: getattr(message, f.name) for f in fields(message)}
    data = values.pop("data", None)
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))  # escaped to ASCII: characters are bytes
    if data is None:
        if len(text) > MAX_TEXT:
            fail(f"The {message.type} message is longer than {MAX_TEXT} bytes.", "Send less.", message.type)
        return text
    if len(text) > MAX_HEADER:
        fail(f"The {message.type} message has more than {MAX_HEADER} bytes of JSON.", "Send less.", message.type)
    return b"".join((len(text).to_bytes(4, "big"), text.encode(), data))


# ---- frames to messages ----


def decode_request(frame: str | bytes) -> Request:
    """The request in a text frame (bytes are taken as UTF-8). Raises ProtocolError for anything else."""
    request: Request = _decode(frame, None, _REQUESTS)
    return request


def decode_event(frame: str | bytes) -> Event:
    """The event in a frame as the WebSocket delivers it: str for text, bytes for binary. Raises ProtocolError."""
    header, data = frame, None
    if isinstance(frame, bytes):
        end = 4 + int.from_bytes(frame[:4], "big")
        if len(frame) < end or end > 4 + MAX_HEADER:
            fail("The frame is cut short.", "Send length, JSON and payload.", "frame", code="malformed")
        header, data = frame[4:end], frame[end:]
    event: Event = _decode(header, data, _EVENTS)
    return event


def _decode(frame: str | bytes, data: bytes | None, known: dict[str, Any]) -> Any:
    values = strict_json.read(frame)
    request = values.get("request")
    request = request if isinstance(request, str) and re.fullmatch(_NAME, request) else None
    try:
        kind = values.pop("type", None)
        if not isinstance(kind, str) or kind not in known:
            what = "is missing" if kind is None else f"= {kind!r:.60} is unknown"
            fail(f"type {what}.", f"Choose one of {', '.join(known)}.", "type")
        cls = known[kind]
        specs = {spec.name: spec for spec in fields(cls)}
        if "data" in values or ("data" in specs) is not (data is not None):
            fail(
                "Only previews, shapes and chunks are binary frames.",
                "Send the others as text.",
                "data",
                code="malformed",
            )
        if cls is Hello:
            _check_version(values.get("protocol", MISSING))
        if data is not None:
            values["data"] = data
        _check_names(values, specs, kind)
        return cls(**values)
    except ProtocolError as error:
        error.request = request
        raise


# ---- checks ----


def _check_version(theirs: Any) -> None:
    if theirs is MISSING:
        fail("hello.protocol is missing.", f"This side speaks protocol {PROTOCOL}.", "protocol")
    if type(theirs) is int and theirs != PROTOCOL:
        fail(
            f"The other side speaks protocol {theirs}, this one ({VERSION}) protocol {PROTOCOL}.",
            "Use an add-on and a backend of the same version.",
            "protocol",
            code="protocol_version",
        )


def _check_names(values: Iterable[str], specs: dict[str, Field[Any]], kind: str) -> None:
    for name in values:
        if name not in specs:
            fail(f"{kind}.{name[:60]} is not a field.", f"Known: {', '.join(specs)}.", name[:60])
    for name, spec in specs.items():
        if name not in values and spec.default is MISSING and spec.default_factory is MISSING:
            fail(f"{kind}.{name} is missing.", "Give it.", name)


@cache
def _hints(cls: Any) -> dict[str, tuple[type, ...]]:
    """Field name to the types it may have. ``int`` passes for ``float``, as JSON writes 1.0 either way."""
    hints = get_type_hints(cls)
    kinds = {}
    for name, hint in hints.items():
        options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        plain = tuple(get_origin(option) or option for option in options)
        kinds[name] = (*plain, int) if float in plain else plain
    return kinds


def _check(value: Any, kinds: tuple[type, ...], limits: Any, name: str) -> None:
    if type(value) not in kinds:
        wanted = " or ".join("null" if kind is types.NoneType else kind.__name__ for kind in kinds)
        fail(f"{name} must be of type {wanted}.", f"It is {type(value).__name__}.", name)
    if isinstance(value, bytes):
        if len(value) > MAX_DATA:
            fail(f"{name} is longer than {MAX_DATA} bytes.", "Send less.", name)
        return
    strict_json.check(value, name)
    low, high = limits.get("low"), limits.get("high")
    if low is not None and type(value) is int and not low <= value <= high:
        fail(f"{name} = {value} is out of range.", f"Give {low} to {high}.", name)
    match, choices = limits.get("match"), limits.get("choices")
    if match is not None and value is not None and not re.fullmatch(match, value):
        fail(f"{name} = {value!r:.60} is not a valid name.", f"It must match {match}.", name)
    if choices is not None and value not in choices:
        fail(f"{name} = {value!r:.60} is unknown.", f"Choose one of {', '.join(choices)}.", name)
