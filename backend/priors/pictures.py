# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of the procedural world with their captions, for the dual encoder and the text-to-image prior.

Everything is a function of a seed and an index, so that an interrupted training goes on with the very pictures it
would have had, and pictures never run out: nothing can be learned by heart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..rendering.orbit import bearing, focal_length, orbit, view_words
from ..rendering.raster import render
from . import world
from .ruins import ruined
from .world import colours

TRAINING, HELD_OUT = 0, 1
SHOTS = 5
"""To find a side from which twins differ: a part of another colour may be hidden."""
TOLD, SEEN, PLAIN = 40, 0.004, 0.02
"""By how much of 255 a pixel has to differ, and what share of the pixels: for twins, and for ruins."""
UNTOLD, EXACT = 0.15, 0.6
"""Shares of the captions that do not tell from where one looks, and that tell it by bearing."""


@dataclass(frozen=True)
class Shot:
    """How to take a picture: angles and field of view in degrees, the distance in the object's radii, a lamp."""

    azimuth: float
    elevation: float
    fov: float
    distance: float
    target: tuple[float, float, float]
    light: tuple[float, float, float] | None
    ambient: float

    @property
    def words(self) -> str:
        return view_words(self.azimuth, self.elevation)

    @property
    def bearing(self) -> str:
        return bearing(self.azimuth, self.elevation)


@dataclass(frozen=True)
class Block:
    """N pictures: rgba uint8 [N, S, S, 4] with straight alpha; captions of each; ``thing`` int64 [N], which thing of
    the block it shows. With twins, pictures 2i and 2i + 1 show a thing and the same shape in other colours. ruins, none
    or one for each pair, uint8 [N / 2, S, S, 4]: that thing, wrong."""

    rgba: NDArray[np.uint8]
    captions: list[str]
    thing: NDArray[np.int64]
    ruins: NDArray[np.uint8]


def shot(rng: np.random.Generator) -> Shot:
    """Anywhere around the thing, mostly from slightly above; lit by a lamp behind the camera, or by none."""
    elevation = rng.uniform(-10, 45) if rng.random() < 0.8 else rng.uniform(45, 90)
    azimuth, fov = rng.uniform(-180, 180), rng.uniform(30, 60)
    behind, above = np.radians(azimuth + rng.normal(0, 40)), np.radians(rng.uniform(15, 80))
    light = (np.sin(behind) * np.cos(above), -np.cos(behind) * np.cos(above), np.sin(above))
    return Shot(
        azimuth,
        elevation,
        fov,
        rng.uniform(0.9, 1.3) / np.sin(np.radians(fov) / 2),
        tuple(rng.normal(0, 0.03, 3)),
        light if rng.random() < 0.8 else None,
        rng.uniform(0.35, 0.8),
    )


def photograph(thing: world.Thing, shot: Shot, size: int, supersample: int = 2) -> NDArray[np.uint8]:
    """uint8 [size, size, 4], straight alpha."""
    vertices, faces, shades = world.mesh_of(thing)
    radius = float(np.sqrt((vertices**2).sum(1).max()))
    picture = render(
        vertices,
        faces,
        shades,
        orbit(shot.azimuth, shot.elevation, shot.distance * radius, shot.target),
        focal=focal_length(shot.fov, size),
        size=size,
        supersample=supersample,
        light=shot.light,
        ambient=shot.ambient,
    )
    return (picture.rgba * 255 + 0.5).astype(np.uint8)


def twin(thing: world.Thing, rng: np.random.Generator) -> world.Thing:
    """The same shape in other colours: two of those that captions name change places, or one is another.

    What is said of the one is false of the other, and only by which part has which colour.
    """
    new = {"": thing.colour, **{part.name: part.colour for part in thing.parts if part.asked}}  # "": the thing's own
    one, other = rng.permutation(list(new))[:2] if len(new) > 1 else ("", "")
    if rng.random() < 0.6 and new[one].base != new[other].base:
        new[one], new[other] = new[other], new[one]
    else:
        new[one] = colours.pick(rng, exclude=tuple(colour.base for colour in new.values()))
    parts = tuple(
        replace(part, colour=new[part.name if part.asked else ""])
        if part.asked or part.colour == thing.colour
        else part
        for part in thing.parts
    )
    return replace(thing, colour=new[""], parts=parts, natural=False)


def block(
    seed: int,
    index: int,
    *,
    things: int,
    views: int,
    size: int,
    twins: bool = False,
    ruins: bool = False,
    part: int = TRAINING,
) -> Block:
    """The pictures of ``things`` new things, each from ``views`` sides and with a caption of its own.

    Without twins, most captions end in words for the view (", front view") or in its bearing (", e2"). ruins:
    with twins, those, too. ``part``: TRAINING or HELD_OUT.
    """
    rgba, captions, owners = [], [], []
    wrong = np.zeros((things * views if ruins else 0, size, size, 4), np.uint8)
    for number in range(things):
        rng = np.random.default_rng((seed, part, index, number))
        thing = world.sample(rng)
        pair = (replace(thing, natural=False), twin(thing, rng)) if twins else (thing,)
        for view in range(views):
            taken, pictures = _taken(pair, rng, size)
            if ruins:
                chance = np.random.default_rng((seed, part, index, number, view))
                wrong[number * views + view] = _ruin(thing, taken, pictures[0], chance)
            said = int(rng.integers(1 << 62))
            told = "" if twins else _ending(taken, rng.random())
            for second, one in enumerate(pair):
                rgba.append(pictures[second])
                captions.append(world.caption(one, np.random.default_rng(said)) + told)
                owners.append(2 * number + second)
    return Block(np.stack(rgba), captions, np.array(owners), wrong)


def _ending(taken: Shot, draw: float) -> str:
    """What a caption tells of the view at its end, by a ``draw`` from 0..1: nothing, the bearing, or the side."""
    if draw < UNTOLD:
        return ""
    return f", {taken.bearing if draw < UNTOLD + EXACT else taken.words}"


def _taken(pair: tuple[world.Thing, ...], rng: np.random.Generator, size: int) -> tuple[Shot, list[NDArray[np.uint8]]]:
    """A shot of a thing, or of a thing and its twin from where the two can be told apart."""
    for _ in range(SHOTS):
        taken = shot(rng)
        pictures = [photograph(one, taken, size) for one in pair]
        if len(pair) == 1 or _changed(*pictures) > SEEN:
            break
    return taken, pictures


def _ruin(thing: world.Thing, taken: Shot, sound: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A picture of the thing with a fault that shows, beside the ``sound`` one."""
    for _ in range(SHOTS):
        picture = photograph(ruined(thing, rng), taken, len(sound))
        if _changed(sound, picture) > PLAIN:
            break
    return picture


def _changed(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """The share of pixels that are not the same."""
    return float((np.abs(one.astype(np.int16) - other).max(-1) > TOLD).mean())
