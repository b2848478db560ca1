# SPDX-License-Identifier: GPL-3.0-or-later
"""Things that are wrong, for a guide to tell from the real ones.

A guide that has only compared whole things needs no more of a mushroom than its red dome, and a field that it leads
ends there. So it is shown, too, what fields stop at: lumps of the right colours, things without a part or with one
astray, swollen, squashed, toppled, molten, or among fragments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .world.solids import Solid, ball
from .world.things import Part, Thing

Rng = np.random.Generator
Vector = NDArray[np.floating]
FAULTS = ("missing", "astray", "swollen", "toppled", "squashed", "molten", "lumps", "strewn")
OF_A_PART = ("missing", "astray", "swollen")


def ruined(thing: Thing, rng: Rng, fault: str = "") -> Thing:
    """A thing with one of FAULTS, any unless it is named. For its triangles only: nothing tells what is inside of
    solids that are molten."""
    fault = fault or str(rng.choice(FAULTS))
    parts = list(thing.parts)
    one = int(rng.integers(len(parts)))
    if fault in OF_A_PART and len(parts) == 1:
        fault = "molten"
    if fault == "missing":
        del parts[one]
    elif fault == "astray":
        away = rng.uniform(0.25, 0.6) * _direction(rng)
        parts[one] = _changed(parts[one], lambda solid: solid.at(*away))
    elif fault == "swollen":
        parts[one] = _swollen(parts[one], rng)
    elif fault == "toppled":
        degrees = float(rng.uniform(60, 300))
        axis = "y" if rng.random() < 0.5 else "x"
        parts = [_changed(part, lambda solid: solid.turned(axis, degrees)) for part in parts]
    elif fault == "squashed":
        scale = np.ones(3)
        scale[rng.integers(3)] = rng.uniform(0.2, 0.45)
        parts = [_changed(part, lambda solid: solid.scaled(*scale)) for part in parts]
    elif fault == "molten":
        parts = _molten(parts, rng)
    elif fault == "lumps":
        parts = _lumps(parts, rng)
    else:
        for _ in range(int(rng.integers(1, 5))):
            like = parts[int(rng.integers(len(parts)))]
            middle, half = rng.uniform(0.35, 0.8) * _direction(rng), rng.uniform(0.05, 0.25, 3)
            parts.append(_lump(like, middle - half, middle + half))
    return replace(thing, parts=tuple(parts))


def _swollen(part: Part, rng: Rng) -> Part:
    """Far too small or too large, about its middle."""
    x, y, z = _vertices(part).mean(0)
    size = rng.uniform(0.3, 0.5) if rng.random() < 0.5 else rng.uniform(1.8, 3)
    return _changed(part, lambda solid: solid.at(-x, -y, -z).scaled(size, size, size).at(x, y, z))


def _molten(parts: list[Part], rng: Rng) -> list[Part]:
    """Swung to and fro by a few long waves."""
    waves, phases = rng.normal(0, 5, (4, 3)), rng.uniform(0, 2 * np.pi, 4)
    swings = rng.normal(0, 0.1, (4, 3))

    def swung(solid: Solid) -> Solid:
        moves = np.sin(solid.vertices @ waves.T + phases) @ swings
        return replace(solid, vertices=(solid.vertices + moves).astype(np.float32))

    return [_changed(part, swung) for part in parts]


def _lumps(parts: list[Part], rng: Rng) -> list[Part]:
    """One for each part or, as often, for all of it, in the colour of the largest part."""
    if rng.random() < 0.5:
        largest = max(parts, key=lambda part: float(np.ptp(_vertices(part), 0).prod()))
        parts = [replace(largest, solids=tuple(solid for part in parts for solid in part.solids))]
    return [_lump(part, _vertices(part).min(0), _vertices(part).max(0)) for part in parts]


def _lump(like: Part, low: Vector, high: Vector) -> Part:
    """An ellipsoid in a box, as a part of the colour of another."""
    return replace(like, solids=(ball(1.0).scaled(*(high - low) / 2).at(*(low + high) / 2),))


def _changed(part: Part, change: Callable[[Solid], Solid]) -> Part:
    return replace(part, solids=tuple(change(solid) for solid in part.solids))


def _vertices(part: Part) -> Vector:
    return np.concatenate([solid.vertices for solid in part.solids])


def _direction(rng: Rng) -> Vector:
    direction = rng.normal(size=3)
    found: Vector = direction / np.linalg.norm(direction)
    return found
