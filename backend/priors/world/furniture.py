# SPDX-License-Identifier: GPL-3.0-or-later
"""Furniture of the procedural world."""

from __future__ import annotations

import math

from .draft import Draft, Parts, Rng, between, chance, four, sized
from .solids import box, cylinder, dome, lathe, prism, rod, tube


def chair(rng: Rng) -> Draft:
    height, words = sized(rng, 0.38, 0.62, "low", "tall")
    width, depth, thick = between(rng, 0.42, 0.56), between(rng, 0.42, 0.54), between(rng, 0.05, 0.09)
    back, leg = between(rng, 0.42, 0.62), between(rng, 0.026, 0.04)
    top = height + thick
    parts: Parts = {"seat": [box(width, depth, thick).at(0, 0, height)]}
    corners = four(width / 2 - leg, depth / 2 - leg)
    square = chance(rng, 0.5)
    parts["legs"] = [
        box(2 * leg, 2 * leg, height).at(x, y, 0) if square else cylinder(leg, height, sides=10).at(x, y, 0)
        for x, y in corners
    ]
    rear = depth / 2 - 0.03
    if chance(rng, 0.5):
        parts["back"] = [box(width, 0.06, back).at(0, rear, top)]
    else:
        posts = [box(0.06, 0.06, back).at(side * (width / 2 - 0.03), rear, top) for side in (-1, 1)]
        rails = [box(width, 0.05, 0.1).at(0, rear, top + back * share) for share in (0.4, 0.82)]
        parts["back"] = posts + rails
    if chance(rng, 0.25):
        words = (*words, "armchair")
        parts["armrests"] = []
        for side in (-1, 1):
            x = side * (width / 2 - 0.03)
            parts["armrests"] += [
                box(0.06, depth, 0.05).at(x, 0, top + 0.2),
                box(0.05, 0.05, 0.21).at(x, -depth / 2 + 0.05, top),
            ]
    if chance(rng, 0.25):
        parts["cushion"] = [box(width * 0.82, depth * 0.8, 0.07, 0.9).at(0, -0.02, top)]
    return Draft(parts, words)


def table(rng: Rng) -> Draft:
    height, words = sized(rng, 0.35, 0.75, "low", "tall")
    width, thick, leg = between(rng, 0.8, 1.1), between(rng, 0.05, 0.08), between(rng, 0.03, 0.05)
    depth = between(rng, 0.5, 0.8)
    if chance(rng, 0.4):
        depth = width
        parts: Parts = {"top": [cylinder(width / 2, thick, sides=28).at(0, 0, height)]}
        words = (*words, "round")
        if chance(rng, 0.4):
            foot = [cylinder(width * 0.28, 0.05).at(0, 0, 0), cylinder(leg * 1.5, height, sides=12)]
            return Draft(parts | {"legs": foot}, words)
        spread = 0.3
    else:
        parts = {"top": [box(width, depth, thick).at(0, 0, height)]}
        spread = 0.44
    corners = four(width * spread, depth * spread)
    parts["legs"] = [cylinder(leg * 0.8, height, leg, 10).at(x, y, 0) for x, y in corners]
    return Draft(parts, words)


def bed(rng: Rng) -> Draft:
    width, words = sized(rng, 0.55, 0.95, "narrow", "wide")
    length, height = 1.2, between(rng, 0.14, 0.24)
    frame = [box(width, length, 0.1).at(0, 0, height - 0.1)]
    frame += [box(0.08, 0.08, height - 0.08).at(x, y, 0) for x, y in four(width / 2 - 0.04, length / 2 - 0.04)]
    parts: Parts = {"frame": frame, "mattress": [box(width * 0.95, length * 0.96, 0.12).at(0, 0, height)]}
    parts["headboard"] = [box(width, 0.06, between(rng, 0.4, 0.6)).at(0, length / 2, 0)]
    cover = between(rng, 0.55, 0.72)
    parts["blanket"] = [box(width, length * cover, 0.16).at(0, -length * (0.985 - cover) / 2, height - 0.02)]
    count = 2 if width > 0.75 else 1
    parts["pillow"] = [
        box(width * 0.8 / count - 0.04, 0.2, 0.08, 0.85).at(
            (i - (count - 1) / 2) * width * 0.42, length * 0.38, height + 0.12
        )
        for i in range(count)
    ]
    return Draft(parts, words)


def sofa(rng: Rng) -> Draft:
    width, words = sized(rng, 0.9, 1.35, "small", "wide")
    depth, seat, arm = between(rng, 0.5, 0.6), between(rng, 0.2, 0.28), between(rng, 0.12, 0.17)
    parts: Parts = {
        "body": [
            box(width, depth, seat).at(0, 0, 0.05),
            box(width, 0.16, between(rng, 0.55, 0.7)).at(0, depth / 2 - 0.08, 0.05),
        ]
    }
    parts["armrests"] = [box(arm, depth, seat + 0.2).at(side * (width - arm) / 2, 0, 0.05) for side in (-1, 1)]
    inner = width - 2 * arm
    count = 3 if inner > 0.85 else 2
    parts["cushions"] = [
        box(inner / count * 0.95, depth - 0.18, 0.11, 0.94).at(
            (i - (count - 1) / 2) * inner / count, -0.07, seat + 0.05
        )
        for i in range(count)
    ]
    parts["feet"] = [box(0.08, 0.08, 0.06).at(x, y, 0) for x, y in four(width / 2 - 0.06, depth / 2 - 0.06)]
    return Draft(parts, words)


def bookshelf(rng: Rng) -> Draft:
    height, words = sized(rng, 0.7, 1.3, "low", "tall")
    width, depth, board = between(rng, 0.55, 0.75), 0.26, 0.05
    shelves = max(2, round(height / 0.36))
    gap = (height - board) / shelves
    frame = [box(board, depth, height).at(side * (width - board) / 2, 0, 0) for side in (-1, 1)]
    frame += [box(width, depth, board).at(0, 0, gap * i) for i in range(shelves + 1)]
    frame += [box(width, 0.04, height).at(0, depth / 2 - 0.02, 0)]
    books = []
    for i in range(shelves):
        x, end = -width / 2 + board + 0.005, width / 2 - board - between(rng, 0.02, 0.25)
        while x + 0.07 < end:
            thick, tall = between(rng, 0.05, 0.09), gap * between(rng, 0.55, 0.8)
            books.append(box(thick * 0.94, depth * 0.7, tall).at(x + thick / 2, -0.02, gap * i + board))
            x += thick
    return Draft({"frame": frame, "books": books}, words)


def lamp(rng: Rng) -> Draft:
    height, words = sized(rng, 0.45, 0.95, "short", "tall")
    radius, top, shade = between(rng, 0.22, 0.34), between(rng, 0.1, 0.2), between(rng, 0.24, 0.36)
    parts: Parts = {"base": [cylinder(between(rng, 0.15, 0.22), 0.05, between(rng, 0.1, 0.15))]}
    parts["stand"] = [rod((0, 0, 0.04), (0, 0, height), between(rng, 0.025, 0.04))]
    if chance(rng, 0.7):
        wall = 0.03
        profile = [(radius - wall, 0), (radius, 0), (top, shade), (top - wall, shade)]
        shape = [
            lathe(profile).at(0, 0, height - shade * 0.35),
            rod((-top + 0.01, 0, height + shade * 0.5), (top - 0.01, 0, height + shade * 0.5), 0.02),
        ]
        shape.append(rod((0, 0, height), (0, 0, height + shade * 0.5), 0.022))
        parts["shade"] = shape
    else:
        parts["shade"] = [dome(radius, shade).at(0, 0, height - 0.03)]
    return Draft(parts, words)


def hat(rng: Rng) -> Draft:
    height, words = sized(rng, 0.25, 0.75, "flat", "tall")
    radius, brim = between(rng, 0.26, 0.34), between(rng, 0.46, 0.6)
    parts: Parts = {"brim": [cylinder(brim, 0.05, sides=28)]}
    parts["crown"] = [cylinder(radius, height, radius * between(rng, 0.8, 1.08)).at(0, 0, 0.04)]
    parts["band"] = [cylinder(radius + 0.025, 0.1).at(0, 0, 0.05)]
    return Draft(parts, words)


def umbrella(rng: Rng) -> Draft:
    radius, words = sized(rng, 0.42, 0.62, "narrow", "wide")
    tall, height = between(rng, 0.9, 1.05), between(rng, 0.2, 0.32)
    wall = 0.035
    rim = [(radius * (1 - (i / 6) ** 2 * 0.999) if i < 6 else 0.0, height * i / 6) for i in range(7)]
    inner = [
        (max(r - wall * 0.6, 0.0) if i else r - wall * 0.6, z - (wall if i else 0.0)) for i, (r, z) in enumerate(rim)
    ]
    canopy = lathe([*rim, *reversed(inner)], 16).at(0, 0, tall - height)
    parts: Parts = {"canopy": [canopy], "tip": [rod((0, 0, tall - 0.02), (0, 0, tall + 0.07), 0.022)]}
    hook = [
        (0.0, 0.0, tall - 0.05),
        (0.0, 0.0, 0.14),
        (0.01, 0.0, 0.07),
        (0.06, 0.0, 0.025),
        (0.12, 0.0, 0.03),
        (0.15, 0.0, 0.09),
    ]
    parts["handle"] = [tube([hook[1], *hook[2:]], 0.032)]
    parts["pole"] = [rod(hook[0], hook[1], 0.024)]
    return Draft(parts, words)


def guitar(rng: Rng) -> Draft:
    wide, words = sized(rng, 0.17, 0.24, "slim", "wide")
    waist, thick = between(rng, 0.6, 0.75), between(rng, 0.09, 0.13)
    outline = []
    for i in range(32):
        angle = 2 * math.pi * i / 32
        along = math.sin(angle)
        radius = wide * (1.0 if along < 0 else 0.82) * (1 - (1 - waist) * math.exp(-(((along - 0.12) / 0.3) ** 2)))
        outline.append((radius * math.copysign(abs(math.cos(angle)) ** 0.8, math.cos(angle)), 0.28 * along))
    body = prism(outline, 0, thick).turned("x", 90).at(0, thick / 2, 0.28)
    neck = between(rng, 0.4, 0.5)
    parts: Parts = {"body": [body], "neck": [box(0.06, 0.05, neck).at(0, -thick / 2 + 0.01, 0.45)]}
    parts["head"] = [box(0.1, 0.05, 0.13, 1.15).at(0, -thick / 2 + 0.01, 0.45 + neck)]
    parts["hole"] = [cylinder(0.062, 0.03).turned("x", 90).at(0, -thick / 2 + 0.01, 0.36)]
    parts["bridge"] = [box(0.14, 0.035, 0.04).at(0, -thick / 2 - 0.01, 0.14)]
    return Draft(parts, words)
