# SPDX-License-Identifier: GPL-3.0-or-later
"""What a builder of things returns, before it has colours."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .solids import Solid

Rng = np.random.Generator
Parts = dict[str, list[Solid]]


@dataclass(frozen=True)
class Draft:
    """The named parts of a thing, upright (z), its front towards −y, in any unit; ``words`` are adjectives that are
    true of its shape ("round", "tall")."""

    parts: Parts
    words: tuple[str, ...] = field(default=())


def between(rng: Rng, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def chance(rng: Rng, share: float) -> bool:
    return bool(rng.random() < share)


def four(x: float, y: float) -> list[tuple[float, float]]:
    """The corners of a rectangle around the origin."""
    return [(-x, -y), (x, -y), (x, y), (-x, y)]


def sized(rng: Rng, low: float, high: float, small: str, large: str) -> tuple[float, tuple[str, ...]]:
    """A size between these limits, and the word for it where it is in the lowest or highest fifth."""
    share = float(rng.random())
    words = (small,) if share < 0.2 else (large,) if share > 0.8 else ()
    return low + (high - low) * share, words
