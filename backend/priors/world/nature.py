# SPDX-License-Identifier: GPL-3.0-or-later
"""Plants of the procedural world."""

from __future__ import annotations

import math

from .draft import Draft, Parts, Rng, between, sized
from .solids import ball, cylinder, dome, lathe, rod, tube


def tree(rng: Rng) -> Draft:
    height, words = sized(rng, 0.28, 0.6, "short", "tall")
    trunk = [cylinder(between(rng, 0.06, 0.1), height + 0.12, 0.055, 12)]
    size = between(rng, 0.28, 0.38)
    if rng.random() < 0.5:
        crown = [ball(size, size, size * between(rng, 0.8, 1.25)).at(0, 0, height + size * 0.75)]
        word = "round"
    else:
        word, crown = "leafy", [ball(size * 0.72).at(0, 0, height + size * 1.25)]
        count = int(rng.integers(3, 6))
        for i in range(count):
            angle = 2 * math.pi * (i + rng.random() * 0.5) / count
            crown.append(
                ball(size * between(rng, 0.55, 0.7)).at(
                    size * 0.55 * math.cos(angle), size * 0.55 * math.sin(angle), height + size * between(rng, 0.5, 0.9)
                )
            )
        trunk.append(rod((0, 0, height * 0.6), (size * 0.5, 0, height + size * 0.4), 0.035))
    return Draft({"leaves": crown, "trunk": trunk}, (*words, word))


def pine(rng: Rng) -> Draft:
    height, words = sized(rng, 0.75, 1.15, "short", "tall")
    count, foot = int(rng.integers(2, 5)), between(rng, 0.12, 0.22)
    parts: Parts = {"leaves": [], "trunk": [cylinder(between(rng, 0.06, 0.085), foot + 0.15, sides=12)]}
    radius, each = between(rng, 0.3, 0.42), height / (count * 0.62 + 0.38)
    for i in range(count):
        parts["leaves"].append(cylinder(radius * (1 - 0.22 * i), each, 0.0, 22).at(0, 0, foot + each * 0.62 * i))
    if rng.random() < 0.3:
        parts["star"] = [ball(0.07).at(0, 0, foot + height + 0.02)]
    return Draft(parts, words)


def mushroom(rng: Rng) -> Draft:
    height, words = sized(rng, 0.28, 0.6, "short", "tall")
    radius, thick, stem = between(rng, 0.32, 0.48), between(rng, 0.22, 0.4), between(rng, 0.08, 0.14)
    parts: Parts = {
        "cap": [dome(radius, thick, 24).at(0, 0, height)],
        "stem": [cylinder(stem * 1.2, height + 0.05, stem)],
    }
    if rng.random() < 0.5:
        parts["spots"] = []
        for ring, up in ((6, 0.38), (4, 0.9)):
            for i in range(ring):
                angle = 2 * math.pi * (i + rng.random() * 0.3) / ring
                x, y = radius * math.cos(up) * math.cos(angle), radius * math.cos(up) * math.sin(angle)
                parts["spots"].append(ball(0.055, sides=10).at(x, y, height + thick * math.sin(up)))
    return Draft(parts, words)


def flower(rng: Rng) -> Draft:
    height, words = sized(rng, 0.55, 0.95, "short", "tall")
    count, size = int(rng.integers(5, 9)), between(rng, 0.15, 0.21)
    middle = between(rng, 0.09, 0.13)
    parts: Parts = {"petals": [], "center": [ball(middle, 0.07, middle).at(0, -0.04, height)]}
    away = middle + size * 0.62
    for i in range(count):
        angle = 360 * i / count
        wide = min(size * 0.62, away * math.sin(math.pi / count) * 1.05)
        parts["petals"].append(ball(size, 0.032, wide, sides=14).at(away, 0, 0).turned("y", angle).at(0, 0, height))
    parts["stem"] = [tube([(0, 0.03, 0), (between(rng, -0.05, 0.05), 0.03, height / 2), (0, 0.03, height)], 0.028)]
    parts["leaves"] = []
    for side in (-1, 1):
        leaf = (
            ball(0.15, 0.028, 0.055, sides=14)
            .at(0.15, 0.03, 0)
            .turned("y", -35)
            .at(0, 0, height * between(rng, 0.2, 0.45))
        )
        parts["leaves"].append(leaf if side > 0 else leaf.mirrored())
    return Draft(parts, words)


def cactus(rng: Rng) -> Draft:
    height, words = sized(rng, 0.45, 0.9, "short", "tall")
    radius = between(rng, 0.1, 0.14)
    pot = 0.24
    parts: Parts = {"pot": [cylinder(0.17, pot, 0.23), cylinder(0.255, 0.07).at(0, 0, pot - 0.06)]}
    body = [rod((0, 0, pot - 0.02), (0, 0, pot + height), radius)]
    for side in (-1, 1)[: int(rng.integers(1, 3))]:
        low, up = pot + height * between(rng, 0.25, 0.5), height * between(rng, 0.25, 0.45)
        x = side * (radius + between(rng, 0.12, 0.18))
        body.append(tube([(0, 0, low), (x * 0.8, 0, low), (x, 0, low + 0.06), (x, 0, low + up)], radius * 0.62))
    parts["body"] = body
    if rng.random() < 0.45:
        parts["flower"] = [ball(0.09, 0.09, 0.07).at(0, 0, pot + height + radius)]
    return Draft(parts, words)


def apple(rng: Rng) -> Draft:
    height, words = sized(rng, 0.75, 1.1, "flat", "tall")
    profile = []
    for i in range(17):
        angle = math.radians(-90 + 180 * i / 16)
        bump = (
            1
            - 0.18 * math.exp(-(((math.degrees(angle) - 90) / 28) ** 2))
            - 0.08 * math.exp(-(((math.degrees(angle) + 90) / 25) ** 2))
        )
        profile.append(
            (
                0.45 * math.cos(angle) * (1 + 0.06 * math.sin(angle)) if 0 < i < 16 else 0.0,
                0.45 * height * math.sin(angle) * bump,
            )
        )
    top = profile[-1][1]
    parts: Parts = {"body": [lathe(profile, 26)]}
    parts["stem"] = [tube([(0, 0, top - 0.06), (0.01, 0, top + 0.08), (0.05, 0, top + 0.17)], 0.03)]
    if rng.random() < 0.75:
        parts["leaf"] = [ball(0.14, 0.07, 0.028, sides=14).at(0.14, 0, 0).turned("y", -25).at(0.02, 0, top + 0.1)]
    return Draft(parts, words)
