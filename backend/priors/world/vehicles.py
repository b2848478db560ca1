# SPDX-License-Identifier: GPL-3.0-or-later
"""Vehicles of the procedural world. Cars, trucks and boats are seen from the side: their length runs along x."""

from __future__ import annotations

import math

from .draft import Draft, Parts, Rng, between, four, sized
from .solids import Solid, ball, box, cylinder, lathe, prism, rod


def tyre(radius: float, width: float) -> Solid:
    """A wheel that stands on z = 0, its axle along y."""
    return cylinder(radius, width, sides=18).at(0, 0, -width / 2).turned("x", 90).at(0, 0, radius)


def side_view(outline: list[tuple[float, float]], width: float) -> Solid:
    """An outline (x, z), counter-clockwise as seen from the front, made ``width`` deep along y."""
    return prism(outline, -width / 2, width / 2).turned("x", 90)


def car(rng: Rng) -> Draft:
    length, words = sized(rng, 0.95, 1.35, "short", "long")
    width, height, wheel = between(rng, 0.46, 0.56), between(rng, 0.2, 0.27), between(rng, 0.11, 0.14)
    base, half = wheel * 0.8, length / 2
    body = side_view(
        [
            (-half, base),
            (half, base),
            (half, base + height * 0.85),
            (half - 0.04, base + height),
            (-half + 0.05, base + height * 0.9),
            (-half, base + height * 0.6),
        ],
        width,
    )
    top, low, high = base + height - 0.015, between(rng, 0.26, 0.33) * length, between(rng, 0.17, 0.24) * length
    tall, shift = between(rng, 0.17, 0.22), between(rng, 0.0, 0.1) * length
    outline = [(-low + shift, top), (low + shift, top), (high + shift, top + tall), (-high + shift, top + tall)]
    cabin = side_view(outline, width * 0.86)
    glass = []
    for side in (-1, 1):
        pane = [
            (-low * 0.82 + shift, top + 0.03),
            (low * 0.82 + shift, top + 0.03),
            (high * 0.85 + shift, top + tall * 0.8),
            (-high * 0.85 + shift, top + tall * 0.8),
        ]
        glass.append(side_view(pane, 0.03).at(0, side * width * 0.43, 0))
    parts: Parts = {"body": [body], "roof": [cabin], "windows": glass}
    corners = four(length * 0.31, width / 2 - 0.03)
    parts["wheels"] = [tyre(wheel, 0.11).at(x, y, 0) for x, y in corners]
    lights = [ball(0.045).at(-half, side * width * 0.33, base + height * 0.5) for side in (-1, 1)]
    parts["headlights"] = lights
    return Draft(parts, words)


def truck(rng: Rng) -> Draft:
    length, words = sized(rng, 1.0, 1.4, "short", "long")
    width, wheel, cab = between(rng, 0.44, 0.54), between(rng, 0.11, 0.14), between(rng, 0.28, 0.34)
    base, half = wheel * 1.1, length / 2
    tall = between(rng, 0.36, 0.44)
    front = [
        (-half, base),
        (-half + cab, base),
        (-half + cab, base + tall),
        (-half + 0.1, base + tall),
        (-half, base + tall * 0.5),
    ]
    parts: Parts = {"cab": [side_view(front, width)]}
    load = length - cab - 0.04
    parts["box"] = [box(load, width, between(rng, 0.42, 0.62)).at(half - load / 2, 0, base + 0.06)]
    parts["frame"] = [box(length - 0.06, width * 0.7, 0.08).at(0, 0, base - 0.02)]
    parts["wheels"] = [
        tyre(wheel, 0.11).at(x, y, 0)
        for x in (-half + cab * 0.5, half - load * 0.7, half - load * 0.25)
        for y in (-width / 2 + 0.04, width / 2 - 0.04)
    ]
    pane = [
        (-half + 0.09, base + tall * 0.52),
        (-half + cab * 0.85, base + tall * 0.52),
        (-half + cab * 0.85, base + tall * 0.88),
        (-half + 0.15, base + tall * 0.88),
    ]
    parts["windows"] = [side_view(pane, 0.03).at(0, side * width / 2, 0) for side in (-1, 1)]
    return Draft(parts, words)


def plane(rng: Rng) -> Draft:
    length, words = sized(rng, 0.9, 1.25, "short", "long")
    radius, span, chord = between(rng, 0.075, 0.11), between(rng, 0.95, 1.3), between(rng, 0.2, 0.28)
    half = length / 2
    hull = [(-half, 0.02), (-half + 0.05, radius * 0.6), (-half + 0.16, radius), (half * 0.35, radius), (half, 0.045)]
    profile = [(0.0, -half), *((r, x) for x, r in hull), (0.0, half)]
    body = lathe(profile, 16).turned("x", -90)
    sweep = between(rng, 0.0, 0.16)
    wings = []
    for side in (-1, 1):
        tip = [
            (0.0, -chord / 2),
            (side * span / 2, -chord * 0.2 + sweep),
            (side * span / 2, chord * 0.3 + sweep),
            (0.0, chord / 2),
        ]
        wings.append(prism(tip if side > 0 else tip[::-1], -0.022, 0.022).at(0, -0.02, 0))
    parts: Parts = {"body": [body], "wings": wings}
    fin = [(half - 0.2, 0.0), (half - 0.01, 0.0), (half + 0.02, 0.26), (half - 0.09, 0.26)]
    tail = [side_view(fin, 0.042).turned("z", 90)]
    small = between(rng, 0.19, 0.25)
    for side in (-1, 1):
        flat = [(0.0, half - 0.15), (side * small, half - 0.05), (side * small, half + 0.02), (0.0, half)]
        tail.append(prism(flat if side > 0 else flat[::-1], -0.02, 0.02).at(0, 0, 0.02))
    parts["tail"] = tail
    if rng.random() < 0.5:
        parts["engines"] = [
            cylinder(0.05, 0.2, sides=12).turned("x", -90).at(side * span * 0.24, -0.17, -0.06) for side in (-1, 1)
        ]
    else:
        parts["propeller"] = [box(0.05, 0.03, 0.34).at(0, -half - 0.02, -0.17), ball(0.045).at(0, -half - 0.02, 0)]
    return Draft(parts, words)


def boat(rng: Rng) -> Draft:
    length, words = sized(rng, 0.85, 1.2, "short", "long")
    width, height = between(rng, 0.36, 0.46), between(rng, 0.17, 0.24)
    outline = [
        (-length / 2, 0.0),
        (-length * 0.3, -width / 2),
        (length * 0.4, -width * 0.46),
        (length / 2, -width * 0.3),
        (length / 2, width * 0.3),
        (length * 0.4, width * 0.46),
        (-length * 0.3, width / 2),
    ]
    keel = between(rng, 0.62, 0.78)
    hull = prism([(x * keel, y * keel) for x, y in outline], 0, height, 1 / keel)
    parts: Parts = {"hull": [hull]}
    mast = between(rng, 0.75, 1.05)
    parts["mast"] = [rod((-0.04, 0, height - 0.02), (-0.04, 0, height + mast), 0.024)]
    low, reach = height + 0.1, length * between(rng, 0.38, 0.46)
    main = [(0.0, low), (reach, low), (0.0, height + mast * 0.96)]
    sails = [side_view(main, 0.036).at(-0.005, 0, 0)]
    if rng.random() < 0.6:
        jib = [(-0.08, low), (-0.08, height + mast * 0.8), (-length * 0.42, low)]
        sails.append(side_view(jib[::-1] if _clockwise(jib) else jib, 0.036))
    parts["sail"] = sails
    if rng.random() < 0.4:
        flag = [(0.0, height + mast - 0.1), (0.2, height + mast - 0.05), (0.0, height + mast)]
        parts["flag"] = [side_view(flag, 0.036).at(-0.03, 0, 0.02)]
    return Draft(parts, words)


def _clockwise(polygon: list[tuple[float, float]]) -> bool:
    following = [*polygon[1:], polygon[0]]
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(polygon, following, strict=True)) < 0


def rocket(rng: Rng) -> Draft:
    height, words = sized(rng, 0.55, 0.95, "short", "tall")
    radius, nose = between(rng, 0.13, 0.19), between(rng, 0.24, 0.36)
    foot = 0.1
    parts: Parts = {"body": [cylinder(radius, height).at(0, 0, foot)]}
    bow = [(radius * math.cos(a), nose * math.sin(a) ** 0.9) for a in [i * math.pi / 12 for i in range(6)]]
    parts["nose"] = [lathe([(0.0, 0.0), *bow, (0.0, nose)]).at(0, 0, foot + height)]
    fins, reach, tall = [], between(rng, 0.15, 0.24), between(rng, 0.26, 0.36)
    count = int(rng.integers(3, 5))
    for i in range(count):
        outline = [
            (radius - 0.03, foot + 0.05),
            (radius + reach, 0.0),
            (radius + reach, tall * 0.4),
            (radius - 0.03, foot + tall),
        ]
        fins.append(side_view(outline, 0.045).turned("z", 360 * i / count - 90))
    parts["fins"] = fins
    parts["engine"] = [cylinder(radius * 0.8, 0.1, radius * 0.5)]
    parts["window"] = [cylinder(0.075, 0.05, sides=16).turned("x", 90).at(0, -radius + 0.025, foot + height * 0.72)]
    return Draft(parts, words)


def helicopter(rng: Rng) -> Draft:
    length, words = sized(rng, 0.45, 0.65, "short", "long")
    size = between(rng, 0.2, 0.25)
    parts: Parts = {"body": [ball(size * 1.4, size, size).at(0, 0, size + 0.12)]}
    end = size + length
    parts["tail"] = [
        rod((size * 0.8, 0, size + 0.2), (end, 0, size + 0.26), 0.075, 0.04),
        side_view(
            [
                (end - 0.09, size + 0.26),
                (end + 0.05, size + 0.26),
                (end + 0.09, size + 0.46),
                (end + 0.02, size + 0.46),
            ],
            0.045,
        ),
    ]
    top, blade = 2 * size + 0.22, between(rng, 0.5, 0.65)
    angle = between(rng, 0, 90)
    parts["rotor"] = [rod((0, 0, top - 0.14), (0, 0, top), 0.03)]
    parts["rotor"] += [box(2 * blade, 0.08, 0.035).turned("z", angle + turn).at(0, 0, top) for turn in (0, 90)]
    parts["skids"] = [
        rod((-size * 1.2, side * size * 0.75, 0.025), (size * 1.2, side * size * 0.75, 0.025), 0.027)
        for side in (-1, 1)
    ]
    parts["skids"] += [
        rod((x, side * size * 0.75, 0.03), (x, side * size * 0.45, 0.2), 0.024)
        for side in (-1, 1)
        for x in (-size * 0.6, size * 0.6)
    ]
    parts["window"] = [ball(size * 0.75, size * 0.86, size * 0.62).at(-size * 0.72, 0, size + 0.17)]
    return Draft(parts, words)
