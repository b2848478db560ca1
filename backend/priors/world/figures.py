# SPDX-License-Identifier: GPL-3.0-or-later
"""Animals and figures of the procedural world. Those that are known from the side look towards −x."""

from __future__ import annotations

import math

from .draft import Draft, Parts, Rng, between, chance, sized
from .solids import ball, box, cylinder, ring, rod, tube
from .vehicles import side_view


def snowman(rng: Rng) -> Draft:
    size, words = sized(rng, 0.24, 0.36, "slim", "fat")
    middle, head = size * between(rng, 0.68, 0.8), size * between(rng, 0.48, 0.58)
    z1 = size * 0.92
    z2 = z1 + size * 0.75 + middle * 0.7
    z3 = z2 + middle * 0.75 + head * 0.7
    parts: Parts = {"body": [ball(size).at(0, 0, z1), ball(middle).at(0, 0, z2), ball(head).at(0, 0, z3)]}
    parts["nose"] = [cylinder(0.045, between(rng, 0.15, 0.24), 0.0, 12).turned("x", 90).at(0, -head * 0.9, z3)]
    top = z3 + head * 0.78
    parts["hat"] = [
        cylinder(head * 1.15, 0.045).at(0, 0, top),
        cylinder(head * 0.72, between(rng, 0.14, 0.26)).at(0, 0, top),
    ]
    if chance(rng, 0.5):
        parts["scarf"] = [
            ring(head * 0.84, 0.055).at(0, 0, z3 - head * 0.72),
            box(0.1, 0.05, 0.22).at(head * 0.5, -middle * 0.82, z3 - head * 0.75 - 0.22),
        ]
    if chance(rng, 0.5):
        lift = between(rng, 0.05, 0.25)
        parts["arms"] = [
            tube([(side * middle * 0.8, 0, z2), (side * (middle + 0.26), 0, z2 + lift)], 0.026) for side in (-1, 1)
        ]
    parts["buttons"] = [ball(0.034, sides=10).at(0, -middle * 0.97, z2 + step) for step in (-0.05, 0.07)]
    parts["eyes"] = [ball(0.03, sides=10).at(side * head * 0.4, -head * 0.86, z3 + head * 0.3) for side in (-1, 1)]
    return Draft(parts, words)


def robot(rng: Rng) -> Draft:
    height, words = sized(rng, 0.3, 0.5, "short", "tall")
    width, depth, leg = between(rng, 0.36, 0.48), between(rng, 0.24, 0.32), between(rng, 0.24, 0.36)
    parts: Parts = {"body": [box(width, depth, height).at(0, 0, leg)]}
    skull, tall = between(rng, 0.26, 0.34), between(rng, 0.2, 0.28)
    base = leg + height + 0.05
    parts["head"] = [box(skull, depth * 0.9, tall).at(0, 0, base), cylinder(0.06, 0.07).at(0, 0, leg + height - 0.01)]
    parts["eyes"] = [ball(0.05, sides=12).at(side * skull * 0.25, -depth * 0.45, base + tall * 0.6) for side in (-1, 1)]
    parts["legs"] = [box(0.12, 0.14, leg).at(side * width * 0.28, 0, 0) for side in (-1, 1)]
    parts["legs"] += [box(0.16, 0.24, 0.07).at(side * width * 0.28, -0.04, 0) for side in (-1, 1)]
    raised = chance(rng, 0.3)
    shoulder, reach = (width / 2 + 0.05, leg + height - 0.08), between(rng, 0.26, 0.36)
    hang = between(rng, 95, 130) if raised else between(rng, -80, -60)
    angle = math.radians(hang if not raised else 180 - hang)
    parts["arms"] = []
    for side in (-1, 1):
        end = (side * (shoulder[0] + reach * math.cos(angle)), 0.0, shoulder[1] + reach * math.sin(angle))
        parts["arms"] += [rod((side * shoulder[0], 0, shoulder[1]), end, 0.05), ball(0.075).at(*end)]
    if chance(rng, 0.6):
        parts["antenna"] = [
            rod((0, 0, base + tall - 0.01), (0, 0, base + tall + 0.14), 0.024),
            ball(0.045).at(0, 0, base + tall + 0.16),
        ]
    return Draft(parts, (*words, "raised") if raised else words)


def dog(rng: Rng) -> Draft:
    length, words = sized(rng, 0.32, 0.5, "short", "long")
    girth, leg = between(rng, 0.12, 0.16), between(rng, 0.2, 0.34)
    z = leg + girth * 0.7
    body = [tube([(-length / 2, 0, z), (length / 2, 0, z)], girth)]
    size = between(rng, 0.13, 0.16)
    hx, hz = -length / 2 - girth * 0.7, z + girth + size * 0.55
    body.append(rod((-length / 2, 0, z + 0.03), (hx, 0, hz), girth * 0.65))
    parts: Parts = {"body": body, "head": [ball(size).at(hx, 0, hz)]}
    parts["head"].append(tube([(hx, 0, hz - 0.03), (hx - size * 1.25, 0, hz - 0.05)], 0.075))
    parts["nose"] = [ball(0.04, sides=10).at(hx - size * 1.25 - 0.07, 0, hz - 0.03)]
    parts["ears"] = [
        ball(0.035, 0.05, 0.12, sides=12).at(hx + 0.03, side * size * 0.92, hz + (0.02 if leg < 0.27 else 0.12))
        for side in (-1, 1)
    ]
    parts["legs"] = [
        rod((x, y, z), (x, y, 0.04), 0.055, 0.045)
        for x in (-length / 2, length / 2)
        for y in (-girth * 0.6, girth * 0.6)
    ]
    lift = between(rng, 0.05, 0.25)
    parts["tail"] = [
        tube(
            [
                (length / 2 + girth * 0.7, 0, z + 0.04),
                (length / 2 + girth + 0.1, 0, z + 0.1 + lift * 0.5),
                (length / 2 + girth + 0.15, 0, z + 0.12 + lift),
            ],
            0.034,
        )
    ]
    if chance(rng, 0.4):
        x = (-length / 2 + hx) / 2
        parts["collar"] = [ring(girth * 0.72, 0.035, 18).turned("y", -35).at(x, 0, (z + hz) / 2)]
    return Draft(parts, words)


def fish(rng: Rng) -> Draft:
    length, words = sized(rng, 0.34, 0.52, "short", "long")
    height, width = between(rng, 0.19, 0.28), between(rng, 0.1, 0.14)
    parts: Parts = {"body": [ball(length, width, height)]}
    end = length * 0.86
    tail = [(end, 0.0), (end + 0.26, -height * 0.95), (end + 0.19, 0.0), (end + 0.26, height * 0.95)]
    fins = [side_view([tail[0], tail[1], tail[2]], 0.045), side_view([tail[0], tail[2], tail[3]], 0.045)]
    parts["tail"] = fins
    back = [(-length * 0.3, height * 0.8), (length * 0.5, height * 0.7), (length * 0.45, height + 0.16)]
    belly = [(0.0, -height * 0.85), (length * 0.3, -height - 0.12), (length * 0.4, -height * 0.75)]
    parts["fins"] = [side_view(back, 0.045), side_view(belly, 0.045)]
    parts["eyes"] = [ball(0.045, sides=10).at(-length * 0.62, side * width * 0.74, height * 0.22) for side in (-1, 1)]
    return Draft(parts, words)


def duck(rng: Rng) -> Draft:
    size, words = sized(rng, 0.26, 0.36, "slim", "fat")
    long = between(rng, 0.4, 0.46)
    parts: Parts = {
        "body": [
            ball(long, size * 0.85, size * 0.8).at(0, 0, size * 0.72),
            rod((long * 0.7, 0, size * 0.9), (long * 1.12, 0, size * 1.35), 0.09, 0.035),
        ]
    }
    head, hx = between(rng, 0.15, 0.19), -long * 0.62
    hz = size * 1.5 + head * 0.72
    parts["head"] = [ball(head).at(hx, 0, hz), rod((hx, 0, size), (hx, 0, hz), head * 0.62)]
    parts["beak"] = [ball(0.12, 0.085, 0.042, sides=14).at(hx - head - 0.05, 0, hz - 0.02)]
    parts["eyes"] = [
        ball(0.032, sides=10).at(hx - head * 0.55, side * head * 0.75, hz + head * 0.3) for side in (-1, 1)
    ]
    parts["wings"] = [
        ball(long * 0.55, 0.05, size * 0.42, sides=16).turned("y", -12).at(long * 0.12, side * size * 0.84, size * 0.85)
        for side in (-1, 1)
    ]
    return Draft(parts, words)
