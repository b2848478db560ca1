# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns a function that calls back into a generator. Standard library only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Cancelled(Exception):
    """Nobody listens any more. Raised inside ``work``, from its own call of ``tell``."""


def reports(work: Callable[[Callable[[T], None]], R]) -> Generator[T, None, R]:
    """Runs ``work(tell)`` in a thread and yields what it tells; returns, or raises, what ``work`` does.

    Who closes the generator has cancelled: the next call of ``tell`` raises Cancelled, and closing waits for that.
    """
    told: SimpleQueue[tuple[T] | None] = SimpleQueue()
    cancelled = threading.Event()
    results: list[R] = []
    failures: list[BaseException] = []

    def tell(value: T) -> None:
        if cancelled.is_set():
            raise Cancelled
        told.put((value,))

    def run() -> None:
        try:
            results.append(work(tell))
        except BaseException as error:
            failures.append(error)
        told.put(None)

    thread = threading.Thread(target=run, name="gen3d-reports", daemon=True)
    thread.start()
    try:
        while (item := told.get()) is not None:
            yield item[0]
    finally:
        cancelled.set()
        thread.join()
    if failures:
        raise failures[0]
    return results[0]
