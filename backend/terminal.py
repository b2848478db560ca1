# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands show while they work, on standard error: a bar for a person, lines for a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
SHAPE = "{desc:<9}{percentage:3.0f}% {bar} {elapsed} {postfix}"
PAUSE = 10.0  # seconds between two lines
Show = Callable[[float, str, str], None]


@contextmanager
def bar() -> Iterator[Show]:
    """What takes the share that is done, in 0..1, what is being done, and more about it."""
    if not sys.stderr.isatty():
        lines = Lines()
        yield lines.show
        lines.finish()
        return
    from tqdm import tqdm

    with tqdm(total=1.0, file=sys.stderr, bar_format=SHAPE, mininterval=0.2, dynamic_ncols=True) as drawn:

        def show(share: float, what: str, more: str) -> None:
            drawn.set_description_str(what, refresh=False)
            drawn.set_postfix_str(more, refresh=False)
            drawn.update(max(0.0, min(1.0, share) - drawn.n))

        yield show


class Lines:
    """One now and then, and the last one."""

    def __init__(self) -> None:
        self.began = self.shown = time.monotonic()
        self.line = ""

    def show(self, share: float, what: str, more: str) -> None:
        now = time.monotonic()
        self.line = f"{what:<9}{100.0 * min(1.0, share):3.0f}%  {now - self.began:.0f} s  {more}".rstrip()
        if now - self.shown > PAUSE:
            self.shown = now
            self.finish()

    def finish(self) -> None:
        if self.line:
            print(self.line, file=sys.stderr, flush=True)
            self.line = ""


def each(things: Sequence[T], what: str) -> Iterator[T]:
    """The things, and how many of them are done."""
    with bar() as show:
        for number, thing in enumerate(things):
            yield thing
            show((number + 1) / len(things), what, f"{number + 1} of {len(things)}")
