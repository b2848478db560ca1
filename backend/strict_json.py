# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON as far as the wire allows it, and the error for everything else. Standard library only.

Stricter than the ``json`` module: no NaN or infinity, no numbers that grow without end, no name twice in an object,
no half characters, and limits on depth and length, so that what one side sends the other can hold and send back.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from .errors import Gen3DError

MAX_TEXT = 2**20  # bytes of a text frame, either way
MAX_STRING = 2**16  # characters of any one text
MAX_DEPTH = 16  # objects and lists within each other
MAX_DIGITS = 20  # of a whole number: enough for any 64-bit one

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


class ProtocolError(Gen3DError):
    """A frame or message that breaks the rules. ``code`` is one of CODES; ``request`` the id of the bad request."""

    def __init__(
        self, cause: str, next_step: str, *, field: str | None = None, code: str = "invalid", request: str | None = None
    ) -> None:
        super().__init__(cause, next_step, field=field)
        self.code = code
        self.request = request


def fail(cause: str, next_step: str, name: str, *, code: str = "invalid") -> NoReturn:
    raise ProtocolError(cause, next_step, field=name, code=code)


def read(frame: str | bytes) -> dict[str, Any]:
    """The object in a frame; bytes are taken as UTF-8. Raises ProtocolError with code "malformed"."""
    if len(frame) > MAX_TEXT:
        fail(f"The frame is longer than {MAX_TEXT} bytes.", "Send less.", "frame", code="malformed")
    try:
        text = frame if isinstance(frame, str) else frame.decode()
        values = json.loads(
            text, object_pairs_hook=_object, parse_int=_whole, parse_float=_real, parse_constant=_constant
        )
    except UnicodeDecodeError:
        fail("The frame is not UTF-8.", "Send JSON in UTF-8.", "frame", code="malformed")
    except RecursionError:
        fail(f"The frame nests deeper than {MAX_DEPTH}.", "Send flatter JSON.", "frame", code="malformed")
    except json.JSONDecodeError as error:
        fail(f"The frame is not JSON: {error.msg} at {error.pos}.", "Send an object.", "frame", code="malformed")
    if not isinstance(values, dict):
        fail("The frame is not a JSON object.", "Send name and value pairs.", "frame", code="malformed")
    return values


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        fail(f"{twice!r:.60} stands twice in one object.", "Give it once.", twice[:60], code="malformed")
    return values


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        fail(f"A whole number has {len(digits)} digits.", "Use at most 64 bits.", "frame", code="malformed")
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits[:400])
    if len(digits) > 400 or not math.isfinite(value):
        fail(f"{digits:.40} is not a finite number.", "Send one that a double can hold.", "frame", code="malformed")
    return value


def _constant(name: str) -> NoReturn:
    fail(f"{name} is not JSON.", "Send a finite number or null.", "frame", code="malformed")


def check(value: Any, name: str, depth: int = 1) -> None:
    """Refuse what JSON, UTF-8 or the limits cannot carry to the other side unchanged."""
    if depth > MAX_DEPTH:
        fail(f"{name:.60} nests deeper than {MAX_DEPTH}.", "Send flatter values.", name[:60])
    if isinstance(value, str):
        if len(value) > MAX_STRING:
            fail(f"{name:.60} has {len(value)} characters.", f"Use at most {MAX_STRING}.", name[:60])
        if not value.isascii() and re.search("[\ud800-\udfff]", value):
            fail(f"{name:.60} holds half of a character (a lone surrogate).", "Type the text anew.", name[:60])
    elif isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                fail(f"{name:.60} has a key that is not a text.", "Use texts as keys.", name[:60])
            check(key, name)
            check(item, f"{name}.{key[:60]}", depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check(item, f"{name}[{index}]", depth + 1)
    elif isinstance(value, int):
        if abs(value) >= 10**MAX_DIGITS:
            fail(f"{name:.60} has more than {MAX_DIGITS} digits.", "Use at most 64 bits.", name[:60])
    elif isinstance(value, float):
        if not math.isfinite(value):
            fail(f"{name:.60} is not a finite number.", "Send a finite number or null.", name[:60])
    elif value is not None:
        fail(f"{name:.60} is of type {type(value).__name__}.", "Send what JSON knows.", name[:60])
