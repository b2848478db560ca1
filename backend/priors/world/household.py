# SPDX-License-Identifier: GPL-3.0-or-later
"""Vessels, tools and food of the procedural world."""

from __future__ import annotations

import math

from .draft import Draft, Parts, Rng, between, chance, sized
from .solids import arc, ball, box, cylinder, dome, lathe, prism, rod, tube


def mug(rng: Rng) -> Draft:
    height, words = sized(rng, 0.55, 1.0, "short", "tall")
    radius, wall = between(rng, 0.3, 0.4), 0.05
    foot = radius * between(rng, 0.75, 1.0)
    body = lathe([(0, 0), (foot, 0), (radius, height), (radius - wall, height), (foot - wall, 0.08), (0, 0.08)])
    size = height * between(rng, 0.26, 0.34)
    right = chance(rng, 0.75)
    thick, wide, lean = (
        between(rng, 0.045, 0.06),
        between(rng, 0.8, 1.0),
        math.degrees(math.atan2(radius - foot, height)),
    )
    handle = arc(size, -90, 90, thick).scaled(wide, 1, 1).at(thick * wide - 0.9 * wall, 0, 0)  # its ends in the wall
    handle = handle.turned("y", lean).at((foot + radius) / 2, 0, height / 2)
    return Draft(
        {"body": [body], "handle": [handle if right else handle.mirrored()]}, (*words, "" if right else "handle left")
    )


def bottle(rng: Rng) -> Draft:
    height, words = sized(rng, 0.55, 0.8, "short", "tall")
    radius, neck = between(rng, 0.16, 0.24), between(rng, 0.055, 0.08)
    shoulder, tall = height * between(rng, 0.62, 0.75), height + between(rng, 0.1, 0.22)
    bend = shoulder + (height - shoulder) * 0.45
    profile = [
        (0, 0),
        (radius, 0),
        (radius, shoulder),
        (radius * 0.75 + neck * 0.25, bend),
        (neck, height),
        (neck, tall),
        (0, tall),
    ]
    parts: Parts = {"body": [lathe(profile)], "cap": [cylinder(neck + 0.02, 0.09).at(0, 0, tall - 0.04)]}
    if chance(rng, 0.5):
        parts["label"] = [cylinder(radius + 0.012, shoulder * 0.45).at(0, 0, shoulder * 0.28)]
    return Draft(parts, words)


def teapot(rng: Rng) -> Draft:
    height, words = sized(rng, 0.26, 0.42, "flat", "tall")
    radius = between(rng, 0.33, 0.42)
    body = [ball(radius, radius, height).at(0, 0, height), cylinder(radius * 0.6, 0.06)]
    top = 2 * height
    parts: Parts = {"body": body}
    parts["lid"] = [dome(radius * 0.5, 0.09).at(0, 0, top - 0.055), ball(0.055).at(0, 0, top + 0.06)]
    reach = radius + between(rng, 0.2, 0.28)
    spout = [(-radius * 0.8, 0, height * 0.8), (-radius - 0.12, 0, height), (-reach, 0, height * 1.75)]
    parts["spout"] = [tube(spout, [0.1, 0.07, 0.05])]
    parts["handle"] = [
        arc(height * 0.62, -90, 90, 0.045).scaled(between(rng, 0.9, 1.2), 1, 1).at(radius * 0.88, 0, height)
    ]
    return Draft(parts, words)


def hammer(rng: Rng) -> Draft:
    length, words = sized(rng, 0.65, 1.1, "short", "long")
    grip, size, width = between(rng, 0.035, 0.05), between(rng, 0.08, 0.12), between(rng, 0.36, 0.5)
    head = [box(width * 0.7, size * 1.6, size * 1.6).at(width * 0.05, 0, length - size)]
    if chance(rng, 0.5):
        head.append(cylinder(size, width * 0.3, sides=14).turned("y", -90).at(-width * 0.28, 0, length - size * 0.2))
        head.append(
            box(size * 1.5, size * 1.5, width * 0.3, 0.2).turned("y", 90).at(width * 0.38, 0, length - size * 0.2)
        )
    else:
        head.append(box(width * 0.4, size * 2, size * 2).at(-width * 0.2, 0, length - size * 1.2))
        head.append(box(width * 0.4, size * 2, size * 2).at(width * 0.3, 0, length - size * 1.2))
    return Draft({"head": head, "handle": [rod((0, 0, grip), (0, 0, length), grip, grip * 0.85)]}, words)


def sword(rng: Rng) -> Draft:
    length, words = sized(rng, 0.5, 1.0, "short", "long")
    width, grip = between(rng, 0.05, 0.085), between(rng, 0.18, 0.26)
    outline = [
        (-width, 0.0),
        (width, 0.0),
        (width * 0.85, length * 0.85),
        (0.0, length),
        (-width * 0.85, length * 0.85),
    ]
    blade = prism(outline, -0.02, 0.02).turned("x", 90).at(0, 0, grip)
    parts: Parts = {"blade": [blade], "handle": [rod((0, 0, 0.05), (0, 0, grip), 0.034)]}
    guard = between(rng, 0.13, 0.2)
    parts["guard"] = [box(2 * guard, 0.07, 0.055).at(0, 0, grip - 0.02)]
    parts["pommel"] = [ball(0.052).at(0, 0, 0.045)]
    return Draft(parts, words)


def cake(rng: Rng) -> Draft:
    layers = int(rng.integers(1, 4))
    words = (("flat",), (), ("tall",))[layers - 1]
    parts: Parts = {"cake": [], "icing": [], "candles": []}
    radius, z = between(rng, 0.42, 0.52), 0.0
    for _ in range(layers):
        thick = between(rng, 0.2, 0.28)
        parts["cake"].append(cylinder(radius, thick, sides=26).at(0, 0, z))
        z += thick
        parts["icing"].append(cylinder(radius + 0.025, 0.085, radius, 26).at(0, 0, z - 0.05))
        z += 0.03
        last, radius = radius, radius * 0.7
    count = int(rng.integers(1, 6))
    away = 0.0 if count == 1 else last * 0.55
    for i in range(count):
        angle = 2 * math.pi * i / count - math.pi / 2
        parts["candles"].append(
            rod(
                (away * math.cos(angle), away * math.sin(angle), z),
                (away * math.cos(angle), away * math.sin(angle), z + 0.17),
                0.03,
            )
        )
    return Draft(parts, words)


def ice_cream(rng: Rng) -> Draft:
    height, words = sized(rng, 0.5, 0.8, "short", "tall")
    radius = between(rng, 0.22, 0.27)
    parts: Parts = {"cone": [lathe([(0.0, 0.0), (radius, height), (0.0, height)])]}
    scoops, size, z = int(rng.integers(1, 4)), radius * 1.12, height
    parts["scoops"] = []
    for _ in range(scoops):
        parts["scoops"].append(ball(size, size, size * 0.92).at(0, 0, z + size * 0.35))
        z += size * 1.05
        size *= 0.86
    if chance(rng, 0.5):
        parts["cherry"] = [ball(0.075).at(0, 0, z + size * 0.22)]
    return Draft(parts, words)


def barrel(rng: Rng) -> Draft:
    height, words = sized(rng, 0.7, 1.15, "short", "tall")
    radius = between(rng, 0.34, 0.42)
    bulge = between(rng, 1.12, 1.28)

    def wide(share: float) -> float:
        return radius * (1 + (bulge - 1) * (1 - (2 * share - 1) ** 2))

    steps = [i / 8 for i in range(9)]
    body = lathe([(0, 0), *((wide(s), s * height) for s in steps), (0, height)])
    bands = [
        cylinder(wide(s) + 0.02, 0.08, wide(s + 0.08 / height) + 0.02).at(0, 0, s * height - 0.04) for s in (0.22, 0.74)
    ]
    return Draft({"body": [body], "bands": bands, "lid": [cylinder(radius * 0.86, 0.03).at(0, 0, height)]}, words)


def chest(rng: Rng) -> Draft:
    width, words = sized(rng, 0.75, 1.1, "small", "wide")
    depth, height = between(rng, 0.5, 0.6), between(rng, 0.32, 0.42)
    parts: Parts = {"body": [box(width, depth, height)]}
    bow = between(rng, 0.32, 0.46)
    half = [(depth / 2 * math.cos(i * math.pi / 8), depth * bow * math.sin(i * math.pi / 8)) for i in range(9)]
    lid = prism(half, -width / 2 - 0.01, width / 2 + 0.01).turned("x", 90).turned("z", 90)
    parts["lid"] = [lid.at(0, 0, height)]
    parts["lock"] = [box(0.13, 0.07, 0.17).at(0, -depth / 2 - 0.02, height - 0.1)]
    parts["bands"] = [box(0.07, depth + 0.04, height + 0.01).at(side * width * 0.32, 0, 0) for side in (-1, 1)]
    return Draft(parts, words)


def crown(rng: Rng) -> Draft:
    height, words = sized(rng, 0.3, 0.55, "low", "tall")
    radius, points, wall = between(rng, 0.42, 0.5), int(rng.integers(5, 8)), 0.045
    band = lathe(
        [(radius - wall, 0), (radius, 0), (radius * 1.05, height * 0.45), (radius * 1.05 - wall, height * 0.45)], 28
    )
    spikes, jewels = [], []
    for i in range(points):
        angle = 360 * i / points - 90
        spike = box(0.3, 0.06, height * 0.62, 0.12).at(0, radius * 1.03 - 0.02, height * 0.4).turned("z", angle + 90)
        spikes.append(spike)
        jewels.append(ball(0.05).at(0, radius * 1.03, height * 1.03).turned("z", angle + 90))
    return Draft({"band": [band], "spikes": spikes, "jewels": jewels}, words)
