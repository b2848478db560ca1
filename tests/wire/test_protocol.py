# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol without a socket: what goes in comes out, and whatever is broken is refused by name."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend import protocol, strict_json
from backend.errors import Gen3DError
from backend.protocol import decode_event, decode_request, encode
from backend.strict_json import ProtocolError

ids = st.from_regex(r"[A-Za-z0-9_.:-]{1,100}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
counts = st.integers(0, 2**63 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20) + 1, 10**20 - 1) | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
objects = st.dictionaries(texts, values, max_size=4)
sensible = st.fixed_dictionaries(
    {"dataset": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80)},
    optional={
        "seconds": st.floats(0, 1000) | st.integers(0, 1000),
        "steps": st.integers(0, 10**7),
        "seed": st.integers(0, 2**31 - 1),
        "scene": st.sampled_from(["auto", "bounded"]),
        "mesh": st.fixed_dictionaries({}, optional={"faces": st.integers(0, 5_000_000), "watertight": st.booleans()}),
    },
)
requests = st.one_of(
    st.builds(protocol.Hello, ids),
    st.builds(protocol.Subscribe, ids, counts, st.booleans()),
    st.builds(protocol.Submit, ids, st.just("nerf"), sensible),
    st.builds(protocol.Cancel, ids, ids),
    st.builds(protocol.Resume, ids, ids),
    st.builds(protocol.Remove, ids, ids),
    st.builds(protocol.Imported, ids, ids),
    st.builds(protocol.Fetch, ids, ids, st.from_regex(r"[^\\:\0]{1,255}", fullmatch=True).filter(str.isascii), counts),
)
rows = st.builds(
    protocol.JobRow, ids, ids, ids, texts, objects, st.sampled_from(protocol.STATES), counts, numbers,
    st.none() | numbers, st.none() | numbers, counts, *[st.none() | objects] * 3, st.booleans(), texts,
)  # fmt: skip
events = st.one_of(
    st.builds(protocol.Welcome, st.just(1), texts, counts, st.lists(objects, max_size=3)),
    st.builds(protocol.Accepted, ids, ids),
    st.builds(protocol.Refused, st.none() | ids, st.sampled_from(strict_json.CODES), texts, texts, st.none() | texts),
    rows,
    st.builds(protocol.Synced, ids, counts),
    st.builds(protocol.Preview, ids, st.sampled_from(protocol.PICTURES), st.binary(max_size=200)),
    st.builds(protocol.Shape, ids, st.binary(max_size=20).map(lambda data: data * protocol.POINT)),
    st.builds(protocol.Devices, st.lists(objects, max_size=3)),
    st.builds(protocol.Chunk, ids, counts, counts, st.just("0123456789abcdef" * 4), st.binary(max_size=200)),
)


@given(requests)
def test_requests_come_out_as_they_went_in(message: protocol.Request) -> None:
    frame = encode(message)
    assert decode_request(frame) == message
    assert isinstance(frame, str) and decode_request(frame.encode()) == message
    with pytest.raises(ProtocolError):
        decode_event(frame)


@given(events)
def test_events_come_out_as_they_went_in(message: protocol.Event) -> None:
    frame = encode(message)
    assert decode_event(frame) == message
    with pytest.raises(ProtocolError):
        decode_request(frame)


@given(requests | events, st.data())
@settings(max_examples=300)
def test_mutated_frames_decode_or_are_refused(message: protocol.Message, data: st.DataObject) -> None:
    frame = encode(message)
    raw = bytearray(frame.encode() if isinstance(frame, str) else frame)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(raw) - 1, 0)))
        match data.draw(st.sampled_from(["replace", "insert", "delete", "cut", "double"])):
            case "replace":
                raw[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case "insert":
                raw[place:place] = data.draw(
                    st.binary(max_size=8) | st.sampled_from([b"{", b"[", b'"', b"NaN", b"9" * 30])
                )
            case "delete":
                del raw[place : place + 8]
            case "cut":
                del raw[place:]
            case "double":
                raw += raw[place:]
    for decode in (decode_request, decode_event):
        try:
            decoded = decode(bytes(raw))
        except ProtocolError as error:
            assert error.code in strict_json.CODES and error.field and error.cause and error.next_step
            encode(protocol.refusal(error, error.request))
        else:
            assert decode(encode(decoded)) == decoded


@given(st.recursive(values | objects, lambda inner: st.dictionaries(st.sampled_from(
    ["type", "request", "client", "job", "kind", "params", "since", "protocol", "dataset"]), inner)))  # fmt: skip
def test_any_json_decodes_or_is_refused(value: Any) -> None:
    try:
        decode_request(json.dumps(value))
    except ProtocolError as error:
        encode(protocol.refusal(error, error.request))


HELLO = {"type": "hello", "client": "a", "protocol": 1, "version": "0"}
SUBMIT = {"type": "submit", "request": "r", "kind": "nerf", "params": {"dataset": "x"}}
CANCEL = {"type": "cancel", "request": "r", "job": "j"}
SUBSCRIBE = {"type": "subscribe", "request": "r", "since": 0, "everyone": False}
FETCH = {"type": "fetch", "request": "r", "job": "j", "file": "a", "offset": 0}


@pytest.mark.parametrize(
    ("base", "changes", "field"),
    [
        (HELLO, {"client": None}, "client"),
        (HELLO, {"client": "a b"}, "client"),
        (HELLO, {"client": "x" * 101}, "client"),
        (HELLO, {"client": "a\n"}, "client"),
        (HELLO, {"protocol": "1"}, "protocol"),
        (HELLO, {"protocol": True}, "protocol"),
        (HELLO, {"extra": 1}, "extra"),
        (CANCEL, {"job": ...}, "job"),
        (CANCEL, {"job": 3}, "job"),
        (CANCEL, {"job": ["j"]}, "job"),
        (CANCEL, {"job": "../x"}, "job"),
        (CANCEL, {"request": ...}, "request"),
        (CANCEL, {"data": "x"}, "data"),
        (CANCEL, {"type": ...}, "type"),
        (CANCEL, {"type": "zap"}, "type"),
        (CANCEL, {"type": 1}, "type"),
        (CANCEL, {"type": "job"}, "type"),
        (SUBSCRIBE, {"since": -1}, "since"),
        (SUBSCRIBE, {"since": 2**63}, "since"),
        (SUBSCRIBE, {"since": 1.0}, "since"),
        (SUBSCRIBE, {"since": True}, "since"),
        (SUBSCRIBE, {"everyone": 1}, "everyone"),
        (FETCH, {"file": ""}, "file"),
        (FETCH, {"file": "a\\b"}, "file"),
        (FETCH, {"file": "C:x"}, "file"),
        (FETCH, {"file": "a\0"}, "file"),
        (FETCH, {"file": "a" * 256}, "file"),
        (SUBMIT, {"kind": "zap"}, "kind"),
        (SUBMIT, {"kind": ["nerf"]}, "kind"),
        (SUBMIT, {"params": None}, "params"),
        (SUBMIT, {"params": {}}, "params.dataset"),
        (SUBMIT, {"params": {"dataset": 3}}, "params.dataset"),
        (SUBMIT, {"params": {"dataset": "a\0"}}, "params.dataset"),
        (SUBMIT, {"params": {"dataset": "x", "zap": 1}}, "params.zap"),
        (SUBMIT, {"params": {"dataset": "x", "seed": -1}}, "params.seed"),
        (SUBMIT, {"params": {"dataset": "x", "seed": 2**64}}, "params.seed"),
        (SUBMIT, {"params": {"dataset": "x", "steps": 1.5}}, "params.steps"),
        (SUBMIT, {"params": {"dataset": "x", "mesh": {"faces": -1}}}, "params.mesh.faces"),
        (SUBMIT, {"params": {"dataset": "x", "mesh": {"zap": -1}}}, "params.mesh.zap"),
        (SUBMIT, {"params": {"dataset": "x" * 70_000}}, "params.dataset"),
        (SUBMIT, {"params": {"dataset": "\ud800"}}, "params.dataset"),
        (SUBMIT, {"params": {"\udfff": 1}}, "params"),
    ],
)
def test_the_refusal_names_the_field(base: dict[str, Any], changes: dict[str, Any], field: str) -> None:
    frame = json.dumps({name: value for name, value in (base | changes).items() if value is not ...})
    with pytest.raises(ProtocolError) as caught:
        decode_request(frame)
    assert caught.value.field == field
    assert caught.value.request == (None if "request" not in base or changes.get("request") is ... else "r")
    assert isinstance(decode_event(encode(protocol.refusal(caught.value, None))), protocol.Refused)


@pytest.mark.parametrize(
    "frame",
    [
        "", " ", "null", "1", '"a"', "[1]", "{", "{}x", "\ufeff{}", "{'a': 1}", '{"a": 1,}', b"\xff",
        b'{"a": "\xc3\x28"}',
        b"\xef\xbb\xbf{}", '{"type": "cancel", "x": NaN}', '{"x": Infinity}', '{"x": -Infinity}', '{"x": 1e999}',
        '{"x": ' + "9" * 10**6 + "}", '{"x": 0.' + "9" * 10**6 + "}", '{"x": -' + "9" * 21 + "}",
        "[" * 10**5, '{"a":' * 10**5, '{"a": 1, "a": 2}', '{"type": "cancel", "type": "resume"}', " " * (2**20 + 1),
    ],
    ids=lambda frame: repr(frame[:20]),
)  # fmt: skip
def test_what_is_not_strict_json_is_malformed(frame: str | bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_request(frame)
    assert caught.value.code == "malformed"


def test_another_protocol_is_told_apart_before_anything_else_of_it_is_read() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_request('{"type": "hello", "protocol": 2, "tomorrow": [1], "client": 7}')
    assert caught.value.code == "protocol_version"
    assert "protocol 2" in caught.value.cause and "protocol 1" in caught.value.cause


def test_nesting_stops_at_the_limit() -> None:
    def nested(depth: int) -> Any:
        return {} if depth == 0 else {"a": nested(depth - 1)}

    row = protocol.JobRow("a", "b", "c", result=nested(strict_json.MAX_DEPTH - 1))
    assert decode_event(encode(row)) == row
    with pytest.raises(ProtocolError) as caught:
        dataclasses.replace(row, result=nested(strict_json.MAX_DEPTH))
    assert caught.value.field and caught.value.field.startswith("result")


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**20, "\ud800", {1: 2}, (1, 2), b"x", "x" * 2**17])
def test_messages_that_could_not_be_sent_cannot_be_built(value: Any) -> None:
    with pytest.raises(ProtocolError):
        protocol.JobRow("a", "b", "c", result={"x": value})


def test_frames_have_a_longest_size() -> None:
    full = [protocol.Preview("j", "image/png", bytes(protocol.MAX_DATA)), protocol.JobRow("a", "b", "c")]
    for message in full:
        assert len(encode(message)) <= protocol.MAX_FRAME
    with pytest.raises(ProtocolError):
        protocol.Preview("j", "image/png", bytes(protocol.MAX_DATA + 1))
    with pytest.raises(ProtocolError):
        encode(protocol.JobRow("a", "b", "c", result={str(n): "x" * 2**16 for n in range(16)}))
    with pytest.raises(ProtocolError):
        decode_event(b"\xff\xff\xff\xff" + bytes(100))


def test_prompts_survive_to_the_letter() -> None:
    for text in ("é", "\U0001f600", "שלום", "{}", "%s", "a\nb\t", "\u202e", "x" * 10_000):
        submit = decode_request(encode(protocol.Submit("r", "nerf", {"dataset": text})))
        assert isinstance(submit, protocol.Submit) and submit.params["dataset"] == text


def test_errors_of_other_parts_become_refusals() -> None:
    refused = protocol.refusal(Gen3DError("Full.", "Wait.", field="queue_full"), "r")
    assert (refused.request, refused.code, refused.cause, refused.field) == ("r", "queue_full", "Full.", "queue_full")
    assert protocol.refusal(Gen3DError("x" * 10**6, "y"), None).code == "invalid"
