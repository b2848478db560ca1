# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that does not touch Blender, out of its main thread."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
Told = TypeVar("Told")


def elsewhere(work: Callable[[], T], told: Told, responsive: bool) -> Generator[Told, None, T]:
    """What ``work`` returns or raises: done by a thread, with ``told`` until then; at once, where not responsive."""
    if not responsive:
        return work()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        while not future.done():
            yield told
        return future.result()
