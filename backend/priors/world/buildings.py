# SPDX-License-Identifier: GPL-3.0-or-later
"""Buildings of the procedural world."""

from __future__ import annotations

from .draft import Draft, Parts, Rng, between, chance, four, sized
from .solids import box, cylinder, prism, rod
from .vehicles import side_view


def house(rng: Rng) -> Draft:
    height, words = sized(rng, 0.3, 0.62, "low", "tall")
    width, depth, ridge = between(rng, 0.62, 0.9), between(rng, 0.5, 0.7), between(rng, 0.24, 0.42)
    parts: Parts = {"walls": [box(width, depth, height)]}
    over = 0.06
    if chance(rng, 0.7):
        gable = [(-width / 2 - over, height), (width / 2 + over, height), (0.0, height + ridge)]
        parts["roof"] = [side_view(gable, depth + 2 * over)]
    else:
        parts["roof"] = [prism(four(width / 2 + over, depth / 2 + over), height, height + ridge, 0.05)]
    front = -depth / 2
    door = between(rng, 0.11, 0.15)
    parts["door"] = [box(door, 0.05, height * 0.55).at(0, front, 0)]
    parts["windows"] = [box(0.13, 0.05, 0.13).at(side * width * 0.3, front, height * 0.5) for side in (-1, 1)]
    if chance(rng, 0.45):
        parts["chimney"] = [box(0.11, 0.11, ridge * 0.7 + 0.16).at(width * 0.25, depth * 0.1, height + ridge * 0.2)]
    return Draft(parts, words)


def castle(rng: Rng) -> Draft:
    height, words = sized(rng, 0.26, 0.42, "low", "tall")
    width, tower, tall = between(rng, 0.66, 0.85), between(rng, 0.11, 0.15), between(rng, 0.48, 0.66)
    walls = [box(width, width, height)]
    corners = four(width / 2, width / 2)
    towers = [cylinder(tower, tall, sides=16).at(x, y, 0) for x, y in corners]
    keep = between(rng, 0.3, 0.36)
    walls.append(box(keep, keep, tall * 1.05))
    step = width / 7
    for i in (-2, 0, 2):
        for y in (-width / 2 + 0.04, width / 2 - 0.04):
            walls.append(box(step, 0.08, 0.09).at(i * step * 1.05, y, height))
    roof = between(rng, 0.2, 0.32)
    parts: Parts = {"walls": walls, "towers": towers}
    parts["roofs"] = [cylinder(tower * 1.25, roof, 0.0, 16).at(x, y, tall) for x, y in corners]
    parts["gate"] = [box(0.17, 0.06, height * 0.65).at(0, -width / 2, 0)]
    if chance(rng, 0.5):
        top = tall * 1.05
        parts["flag"] = [
            rod((0, 0, top - 0.02), (0, 0, top + 0.28), 0.022),
            side_view([(0.0, top + 0.14), (0.2, top + 0.21), (0.0, top + 0.28)], 0.036),
        ]
    return Draft(parts, words)


def lighthouse(rng: Rng) -> Draft:
    height, words = sized(rng, 0.65, 1.05, "short", "tall")
    radius, top = between(rng, 0.19, 0.25), between(rng, 0.12, 0.15)
    parts: Parts = {"tower": [cylinder(radius, height, top)]}
    count = int(rng.integers(2, 4))
    stripes = []
    for i in range(count):
        low, thick = (i + 0.55) / count * height, height / count * 0.4
        at = radius + (top - radius) * low / height
        after = radius + (top - radius) * (low + thick) / height
        stripes.append(cylinder(at + 0.014, thick, after + 0.014).at(0, 0, low))
    parts["stripes"] = stripes
    parts["balcony"] = [cylinder(top + 0.07, 0.05).at(0, 0, height)]
    parts["lantern"] = [cylinder(top * 0.7, 0.15).at(0, 0, height + 0.04)]
    parts["roof"] = [cylinder(top * 1.05, between(rng, 0.12, 0.2), 0.0).at(0, 0, height + 0.19)]
    parts["door"] = [box(0.12, 0.06, 0.2).at(0, -radius + 0.02, 0)]
    return Draft(parts, words)
