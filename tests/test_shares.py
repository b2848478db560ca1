# SPDX-License-Identifier: GPL-3.0-or-later
"""Work in a larger one tells its part of the whole, ends with what it made, and is closed with it."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from backend.shares import between, ended


def work(ends: list[str]) -> Generator[float, None, str]:
    try:
        yield from (0.0, 0.5, 1.0)
    finally:
        ends.append("ended")
    return "made"


def test_a_part_is_told_as_a_part() -> None:
    told, part = [], between(work([]), 0.2, 0.6)
    with pytest.raises(StopIteration) as end:
        while True:
            told.append(next(part))
    assert told == pytest.approx([0.2, 0.4, 0.6]) and end.value.value == "made"


def test_whoever_closes_the_whole_closes_the_part() -> None:
    ends: list[str] = []
    part = between(work(ends), 0.0, 1.0)
    next(part)
    part.close()
    del part
    assert ends == ["ended"]


def test_what_it_makes_can_be_had_at_once() -> None:
    assert ended(work([])) == "made"
