# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that tells how far it is: generators that yield the share done, in 0..1, and return what they made."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


def between(work: Generator[float, None, T], start: float, end: float) -> Generator[float, None, T]:
    """The same work as a part of a larger one, which is at ``start`` before it and at ``end`` after it."""
    return told_as(work, lambda share: start + (end - start) * share)


def told_as(work: Generator[R, None, T], say: Callable[[R], S]) -> Generator[S, None, T]:
    """The same work, which tells what ``say`` makes of what it tells."""
    while True:
        try:
            share = next(work)
        except StopIteration as done:
            made: T = done.value
            return made
        yield say(share)


def ended(work: Generator[Any, None, T]) -> T:
    """What work makes, whatever it tells meanwhile."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            made: T = done.value
            return made
