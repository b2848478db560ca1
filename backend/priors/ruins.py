# SPDX-License-Identifier: GPL-3.0-or-later
"""Things that are wrong, for a guide to tell from the real ones.

A guide that has only compared whole things needs no more of a mushroom than its red dome, and a field that it leads
ends there. So it is shown, too, what fields stop at: lumps of the right colours, things without a part or with one
astray, swollen, squashed, toppled, molten, or among fragments.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .world.solids import Floats, Ints, ball
from .world.things import Thing

Mesh = tuple[Floats, Ints, Floats]
FAULTS = ("missing", "astray", "swollen", "toppled", "squashed", "molten", "lumps", "strewn")


def ruined(thing: Thing, rng: np.random.Generator, fault: str = "") -> Mesh:
    """A thing with one of FAULTS, any unless it is named: vertices [V, 3], faces [F, 3] and colours [F, 3] as of
    ``mesh_of``."""
    fault = fault or str(rng.choice(FAULTS))
    pieces = _pieces(thing)
    one = int(rng.integers(len(pieces)))
    if fault in ("missing", "astray", "swollen") and len(pieces) == 1:
        fault = "molten"
    if fault == "missing":
        del pieces[one]
    elif fault == "astray":
        vertices, faces, shade = pieces[one]
        pieces[one] = (vertices + rng.uniform(0.25, 0.6) * _direction(rng), faces, shade)
    elif fault == "swollen":
        vertices, faces, shade = pieces[one]
        middle = vertices.mean(0)
        size = rng.uniform(0.3, 0.5) if rng.random() < 0.5 else rng.uniform(1.8, 3)
        pieces[one] = (middle + size * (vertices - middle), faces, shade)
    elif fault == "toppled":
        turn = _turn(rng.uniform(60, 300), 1 if rng.random() < 0.5 else 0)
        pieces = [(vertices @ turn.T, faces, shade) for vertices, faces, shade in pieces]
    elif fault == "squashed":
        scale = np.ones(3)
        scale[rng.integers(3)] = rng.uniform(0.2, 0.45)
        pieces = [(vertices * scale, faces, shade) for vertices, faces, shade in pieces]
    elif fault == "molten":
        waves, phases = rng.normal(0, 5, (4, 3)), rng.uniform(0, 2 * np.pi, 4)
        swings = rng.normal(0, 0.1, (4, 3))
        pieces = [
            (vertices + np.sin(vertices @ waves.T + phases) @ swings, faces, shade) for vertices, faces, shade in pieces
        ]
    elif fault == "lumps":
        if rng.random() < 0.5:  # one for all of it, in the colour of the largest part
            whole = np.concatenate([vertices for vertices, _, _ in pieces])
            pieces = [(whole, *max(pieces, key=lambda piece: float(np.ptp(piece[0], 0).prod()))[1:])]
        pieces = [_lump(vertices.min(0), vertices.max(0), shade) for vertices, _, shade in pieces]
    else:
        for _ in range(int(rng.integers(1, 5))):
            shade = pieces[int(rng.integers(len(pieces)))][2]
            middle, half = rng.uniform(0.35, 0.8) * _direction(rng), rng.uniform(0.05, 0.25, 3)
            pieces.append(_lump(middle - half, middle + half, shade))
    return _joined(pieces)


Piece = tuple[NDArray[np.floating], Ints, NDArray[np.floating]]
"""vertices [V, 3], faces [F, 3], one colour [3]."""


def _pieces(thing: Thing) -> list[Piece]:
    """The solids of each part in one."""
    pieces: list[Piece] = []
    for part in thing.parts:
        starts = np.cumsum([0, *(len(solid.vertices) for solid in part.solids)])
        faces = [solid.faces + start for solid, start in zip(part.solids, starts[:-1], strict=True)]
        vertices = np.concatenate([solid.vertices for solid in part.solids])
        pieces.append((vertices, np.concatenate(faces), np.asarray(part.colour.rgb)))
    return pieces


def _lump(low: NDArray[np.floating], high: NDArray[np.floating], shade: NDArray[np.floating]) -> Piece:
    """An ellipsoid in a box."""
    round_one = ball(1.0)
    return (low + high) / 2 + round_one.vertices * (high - low) / 2, round_one.faces, shade


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    direction = rng.normal(size=3)
    found: NDArray[np.float64] = direction / np.linalg.norm(direction)
    return found


def _turn(degrees: float, axis: int) -> NDArray[np.float64]:
    """About x (0) or y (1)."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = ((1, 2), (2, 0))[axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix


def _joined(pieces: list[Piece]) -> Mesh:
    starts = np.cumsum([0, *(len(vertices) for vertices, _, _ in pieces)])
    vertices = np.concatenate([vertices for vertices, _, _ in pieces]).astype(np.float32)
    faces = np.concatenate([faces + start for (_, faces, _), start in zip(pieces, starts[:-1], strict=True)])
    shades = np.concatenate([np.tile(shade, (len(faces), 1)) for _, faces, shade in pieces])
    return vertices, faces.astype(np.int32), shades.astype(np.float32)
