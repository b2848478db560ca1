# SPDX-License-Identifier: GPL-3.0-or-later
"""What add-on and backend say to each other. Standard library only, no I/O: frames in, messages out, and back.

The rules:

* A WebSocket text frame carries one JSON object: ``{"type": …}`` and the fields of the message of that name.
  A binary frame, sent by the backend only, carries a 4-byte big-endian length, that many bytes of such JSON, and
  the payload (``data``): a preview picture or a piece of a file.
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
import math
import re
import types
from collections.abc import Iterable
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, NoReturn, Union, get_args, get_origin, get_type_hints

from .errors import Gen3DError
from .settings import KINDS, parse
from .version import VERSION

PROTOCOL = 1

MAX_TEXT = 2**20  # bytes of a text frame, either way
MAX_DATA = 2**20  # bytes of the payload of a binary frame
MAX_HEADER = 4096  # bytes of the JSON of a binary frame
MAX_FRAME = 4 + MAX_HEADER + MAX_DATA  # the longest frame there is
MAX_STRING = 2**16  # characters of any one text
MAX_DEPTH = 16  # objects and lists within each other
MAX_DIGITS = 20  # of a whole number: enough for any 64-bit one
MAX_NUMBER = 2**63 - 1

CODES = (
    "malformed",  # not a message at all
    "invalid",  # a field is missing, unknown, of the wrong type or out of range, or the request makes no sense
    "protocol_version",
    "hello_first",
    "hello_twice",
    "unknown_job",
    "unknown_file",
    "queue_full",
    "busy",
    "internal",
)
STATES = ("queued", "running", "done", "failed", "cancelled", "interrupted")
PICTURES = ("image/png", "image/jpeg")

_NAME = r"[A-Za-z0-9_.:-]{1,100}"


class ProtocolError(Gen3DError):
    """A frame or message that breaks the rules. ``code`` is one of CODES; ``request`` the id of the bad request."""

    def __init__(
        self, cause: str, next_step: str, *, field: str | None = None, code: str = "invalid", request: str | None = None
    ) -> None:
        super().__init__(cause, next_step, field=field)
        self.code = code
        self.request = request


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
    """The answer to hello. ``seq`` is the counter's present value: lower than the client's means a new database."""

    type: ClassVar[str] = "welcome"
    protocol: int
    version: str
    seq: int = _limited(low=0)
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
    """All about one job. ``folder`` is on the backend's machine; a finished result lies in its subfolder "result"."""

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
class Chunk(Message):
    """A piece of a file, at ``offset`` of ``size`` bytes; ``sha256`` is of the whole file. Binary."""

    type: ClassVar[str] = "chunk"
    request: str = _id()
    offset: int = _limited(low=0)
    size: int = _limited(low=0)
    sha256: str = _limited(match=r"[0-9a-f]{64}")
    data: bytes = b""


Request = Hello | Subscribe | Submit | Cancel | Resume | Imported | Fetch
Event = Welcome | Accepted | Refused | JobRow | Synced | Preview | Chunk
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
            _fail(f"The {message.type} message is longer than {MAX_TEXT} bytes.", "Send less.", message.type)
        return text
    if len(text) > MAX_HEADER:
        _fail(f"The {message.type} message has more than {MAX_HEADER} bytes of JSON.", "Send less.", message.type)
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
            _fail("The frame is cut short.", "Send length, JSON and payload.", "frame", code="malformed")
        header, data = frame[4:end], frame[end:]
    event: Event = _decode(header, data, _EVENTS)
    return event


def _decode(frame: str | bytes, data: bytes | None, known: dict[str, Any]) -> Any:
    values = _json(frame)
    request = values.get("request")
    request = request if isinstance(request, str) and re.fullmatch(_NAME, request) else None
    try:
        kind = values.pop("type", None)
        if not isinstance(kind, str) or kind not in known:
            what = "is missing" if kind is None else f"= {kind!r:.60} is unknown"
            _fail(f"type {what}.", f"Choose one of {', '.join(known)}.", "type")
        cls = known[kind]
        specs = {spec.name: spec for spec in fields(cls)}
        if "data" in values or ("data" in specs) is not (data is not None):
            _fail("Only previews and chunks are binary frames.", "Send the others as text.", "data", code="malformed")
        if cls is Hello:
            _check_version(values.get("protocol", MISSING))
        if data is not None:
            values["data"] = data
        _check_names(values, specs, kind)
        return cls(**values)
    except ProtocolError as error:
        error.request = request
        raise


def _json(frame: str | bytes) -> dict[str, Any]:
    if len(frame) > MAX_TEXT:
        _fail(f"The frame is longer than {MAX_TEXT} bytes.", "Send less.", "frame", code="malformed")
    try:
        text = frame if isinstance(frame, str) else frame.decode()
        values = json.loads(
            text, object_pairs_hook=_object, parse_int=_whole, parse_float=_real, parse_constant=_constant
        )
    except UnicodeDecodeError:
        _fail("The frame is not UTF-8.", "Send JSON in UTF-8.", "frame", code="malformed")
    except RecursionError:
        _fail(f"The frame nests deeper than {MAX_DEPTH}.", "Send flatter JSON.", "frame", code="malformed")
    except json.JSONDecodeError as error:
        _fail(f"The frame is not JSON: {error.msg} at {error.pos}.", "Send an object.", "frame", code="malformed")
    if not isinstance(values, dict):
        _fail("The frame is not a JSON object.", "Send name and value pairs.", "frame", code="malformed")
    return values


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        _fail(f"{twice!r:.60} stands twice in one object.", "Give it once.", twice[:60], code="malformed")
    return values


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        _fail(f"A whole number has {len(digits)} digits.", "Use at most 64 bits.", "frame", code="malformed")
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits[:400])
    if len(digits) > 400 or not math.isfinite(value):
        _fail(f"{digits:.40} is not a finite number.", "Send one that a double can hold.", "frame", code="malformed")
    return value


def _constant(name: str) -> NoReturn:
    _fail(f"{name} is not JSON.", "Send a finite number or null.", "frame", code="malformed")


# ---- checks ----


def _check_version(theirs: Any) -> None:
    if theirs is MISSING:
        _fail("hello.protocol is missing.", f"This side speaks protocol {PROTOCOL}.", "protocol")
    if type(theirs) is int and theirs != PROTOCOL:
        _fail(
            f"The other side speaks protocol {theirs}, this one ({VERSION}) protocol {PROTOCOL}.",
            "Use an add-on and a backend of the same version.",
            "protocol",
            code="protocol_version",
        )


def _check_names(values: Iterable[str], specs: dict[str, Field[Any]], kind: str) -> None:
    for name in values:
        if name not in specs:
            _fail(f"{kind}.{name[:60]} is not a field.", f"Known: {', '.join(specs)}.", name[:60])
    for name, spec in specs.items():
        if name not in values and spec.default is MISSING and spec.default_factory is MISSING:
            _fail(f"{kind}.{name} is missing.", "Give it.", name)


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
        _fail(f"{name} must be of type {wanted}.", f"It is {type(value).__name__}.", name)
    if isinstance(value, bytes):
        if len(value) > MAX_DATA:
            _fail(f"{name} is longer than {MAX_DATA} bytes.", "Send less.", name)
        return
    _check_json(value, name)
    low, high = limits.get("low"), limits.get("high")
    if low is not None and type(value) is int and not low <= value <= high:
        _fail(f"{name} = {value} is out of range.", f"Give {low} to {high}.", name)
    match, choices = limits.get("match"), limits.get("choices")
    if match is not None and value is not None and not re.fullmatch(match, value):
        _fail(f"{name} = {value!r:.60} is not a valid name.", f"It must match {match}.", name)
    if choices is not None and value not in choices:
        _fail(f"{name} = {value!r:.60} is unknown.", f"Choose one of {', '.join(choices)}.", name)


def _check_json(value: Any, name: str, depth: int = 1) -> None:
    """Refuse what JSON, UTF-8 or the limits cannot carry to the other side unchanged."""
    if depth > MAX_DEPTH:
        _fail(f"{name:.60} nests deeper than {MAX_DEPTH}.", "Send flatter values.", name[:60])
    if isinstance(value, str):
        if len(value) > MAX_STRING:
            _fail(f"{name:.60} has {len(value)} characters.", f"Use at most {MAX_STRING}.", name[:60])
        if not value.isascii() and re.search("[\ud800-\udfff]", value):
            _fail(f"{name:.60} holds half of a character (a lone surrogate).", "Type the text anew.", name[:60])
    elif isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                _fail(f"{name:.60} has a key that is not a text.", "Use texts as keys.", name[:60])
            _check_json(key, name)
            _check_json(item, f"{name}.{key[:60]}", depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_json(item, f"{name}[{index}]", depth + 1)
    elif isinstance(value, int):
        if abs(value) >= 10**MAX_DIGITS:
            _fail(f"{name:.60} has more than {MAX_DIGITS} digits.", "Use at most 64 bits.", name[:60])
    elif isinstance(value, float):
        if not math.isfinite(value):
            _fail(f"{name:.60} is not a finite number.", "Send a finite number or null.", name[:60])
    elif value is not None:
        _fail(f"{name:.60} is of type {type(value).__name__}.", "Send what JSON knows.", name[:60])


def _fail(cause: str, next_step: str, name: str, *, code: str = "invalid") -> NoReturn:
    raise ProtocolError(cause, next_step, field=name, code=code)
