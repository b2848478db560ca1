# SPDX-License-Identifier: GPL-3.0-or-later
"""Things: coloured parts in the unit cube, and what can be taken from them: triangles, points, what is inside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from . import colours
from .categories import CATEGORIES, Category
from .colours import Colour
from .draft import Draft, Rng
from .solids import Floats, Ints, Solid

LONGEST = 0.98  # of the unit cube
ABOVE = 1e-3
NATURAL = 0.2  # share of the things whose colour was not chosen
DETAIL = 0.4  # in clouds, a part's points go with its area to the power of 0.6: 1 % of the area gets 6 % as many as all


@dataclass(frozen=True)
class Part:
    """``asked``: whether its colour was chosen on purpose, so that a caption has to name it."""

    name: str
    solids: tuple[Solid, ...]
    colour: Colour
    asked: bool


@dataclass(frozen=True)
class Thing:
    """An object in the cube [-0.5, 0.5]³, upright (z), its front towards −y, its middle at the origin.

    ``colour`` is that of the parts that are ``own`` to its category; ``natural``: whether it is the usual one of its
    category, so that a caption need not name it; ``words`` are adjectives true of its shape.
    """

    category: str
    colour: Colour
    parts: tuple[Part, ...]
    words: tuple[str, ...]
    natural: bool

    @property
    def kind(self) -> Category:
        return CATEGORIES[self.category]

    @cached_property
    def solids(self) -> list[tuple[Solid, int]]:
        """Every solid and the index of its part."""
        return [(solid, index) for index, part in enumerate(self.parts) for solid in part.solids]


def sample(rng: Rng, category: str = "", named_parts: int | None = None) -> Thing:
    """A random thing, of a random category unless one is given, with ``named_parts`` parts of chosen colours."""
    name = category or str(rng.choice(list(CATEGORIES)))
    kind = CATEGORIES[name]
    draft = kind.build(rng)
    natural = bool(rng.random() < NATURAL)
    own = colours.material(rng) if kind.made_of and rng.random() < 0.2 else colours.pick(rng)
    if natural:
        own = colours.plain(kind.natural, rng)
    while not natural and own.words in colours.MATERIALS and own.words not in kind.made_of:
        own = colours.material(rng)
    others = [part for part in draft.parts if part not in kind.own]
    count = int(rng.choice(3, p=(0.4, 0.42, 0.18))) if named_parts is None else named_parts
    chosen = set(rng.permutation(others)[:count].tolist())
    parts = []
    for part, solids in draft.parts.items():
        colour = own
        if part in chosen:
            colour = colours.pick(rng, exclude=(own.base,))
        elif part in others:
            usual = str(rng.choice(kind.usual[part]))
            colour = own if usual == "own" else colours.plain(usual, rng)
        upright = tuple(solid.turned("z", 90) for solid in solids) if kind.sideways else tuple(solids)
        parts.append(Part(part, upright, colour, part in chosen))
    return Thing(name, own, _in_unit_cube(parts), _words(draft), natural)


def _words(draft: Draft) -> tuple[str, ...]:
    return tuple(word for word in draft.words if word)


def _in_unit_cube(parts: list[Part]) -> tuple[Part, ...]:
    vertices = np.concatenate([solid.vertices for part in parts for solid in part.solids]).astype(np.float64)
    low, high = vertices.min(0), vertices.max(0)
    scale = LONGEST / float((high - low).max())
    matrix = np.diag([scale, scale, scale, 1.0])
    matrix[:3, 3] = -scale * (low + high) / 2
    return tuple(
        Part(part.name, tuple(solid.moved(matrix) for solid in part.solids), part.colour, part.asked) for part in parts
    )


def mesh_of(thing: Thing) -> tuple[Floats, Ints, Floats]:
    """vertices float32 [V, 3], faces int32 [F, 3], colours float32 [F, 3] (sRGB 0..1). The solids overlap."""
    vertices, faces, shades, start = [], [], [], 0
    for solid, part in thing.solids:
        vertices.append(solid.vertices)
        faces.append(solid.faces + start)
        shades.append(np.tile(np.array(thing.parts[part].colour.rgb, np.float32), (len(solid.faces), 1)))
        start += len(solid.vertices)
    return np.concatenate(vertices), np.concatenate(faces).astype(np.int32), np.concatenate(shades)


def inside(thing: Thing, points: Floats) -> NDArray[np.bool_]:
    """bool [N]: which points float32 [N, 3] lie in any of the solids."""
    found = np.zeros(len(points), np.bool_)
    for solid, _ in thing.solids:
        near = np.flatnonzero(_in_box(solid, points) & ~found)
        if len(near):
            found[near] = solid.inside(points[near])
    return found


def _in_box(solid: Solid, points: Floats) -> NDArray[np.bool_]:
    low, high = solid.vertices.min(0), solid.vertices.max(0)
    result: NDArray[np.bool_] = ((points > low) & (points < high)).all(1)
    return result


def surface_of(thing: Thing, count: int, rng: Rng, detail: float = 0.0) -> tuple[Floats, Floats, Ints]:
    """Points spread over the outer surface of the union, in random order: evenly, or denser on small parts, whose
    share goes with the power ``1 - detail`` of their area.

    Returns points float32 [count, 3], outward unit normals float32 [count, 3] and the index of each point's part.
    """
    vertices, faces, _ = mesh_of(thing)
    owner = np.concatenate([np.full(len(solid.faces), i) for i, (solid, _) in enumerate(thing.solids)])
    part_of = np.array([part for _, part in thing.solids], np.int32)[owner]
    corners = vertices[faces]
    edges1, edges2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normals = np.cross(edges1, edges2)
    doubled = np.linalg.norm(normals, axis=1)
    normals /= np.maximum(doubled, 1e-12)[:, None]
    areas = np.bincount(part_of, doubled)
    cumulative = np.cumsum(doubled * areas[part_of] ** -detail)
    points: list[Floats] = []
    picks: list[NDArray[np.int64]] = []
    missing = count
    while missing > 0:
        tries = int(missing * 1.7) + 16
        picked = np.searchsorted(cumulative, rng.random(tries) * cumulative[-1])
        u, v = rng.random((2, tries, 1), np.float32)
        over = (u + v > 1)[:, 0]
        u[over], v[over] = 1 - u[over], 1 - v[over]
        found = corners[picked, 0] + u * edges1[picked] + v * edges2[picked]
        hidden = np.zeros(tries, np.bool_)
        above = found + ABOVE * normals[picked]  # where two solids touch, both faces are inside the thing
        for index, (solid, _) in enumerate(thing.solids):
            near = np.flatnonzero(_in_box(solid, above) & ~hidden & (owner[picked] != index))
            if len(near):
                hidden[near] = solid.inside(above[near])
        keep = np.flatnonzero(~hidden)[:missing]
        points.append(found[keep])
        picks.append(picked[keep])
        missing -= len(keep)
    order = rng.permutation(count)
    faces_of = np.concatenate(picks)[order]
    return np.concatenate(points)[order], normals[faces_of], part_of[faces_of]


def points_of(thing: Thing, count: int, rng: Rng) -> Floats:
    """A coloured cloud, float32 [count, 6]: x, y, z and sRGB in 0..1. Small parts get more than their share."""
    return labelled_points_of(thing, count, rng)[0]


def labelled_points_of(thing: Thing, count: int, rng: Rng) -> tuple[Floats, Ints]:
    """A cloud as of ``points_of``, and the index of each point's part, int32 [count]."""
    points, _, part = surface_of(thing, count, rng, DETAIL)
    palette = np.array([p.colour.rgb for p in thing.parts], np.float32)
    return np.concatenate([points, palette[part]], 1), part
