# SPDX-License-Identifier: GPL-3.0-or-later
"""What a field that is made from words begins as: fog, a shape there is, or one that Point-E makes of the same words.

A guide that knows little finds in fog a thing that has its face on every side, or only parts of it. From a shape that
a model of three dimensions has made it has but to change what is wrong (Yi et al., "GaussianDreamer", 2024, §3.2).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from ..errors import Gen3DError
from ..geometry.mesh import Mesh
from ..point_diffusion.diffusion import as_points
from ..priors import embedded
from ..settings import GenerateSettings
from . import point_e, point_e_priors
from .devices import choose_device
from .point_e_job import Job
from .progress import Progress, telling

NOTE = "It began as the points that Point-E made of the words."


def shape(settings: GenerateSettings, own: bool, seed: int) -> Generator[Progress, None, Mesh | Path | None]:
    """The mesh, or the file or the result, that the field of a seed begins as; None: as fog. own: the guide is an
    embedded one. Yields how far this is. Raises Gen3DError where Point-E cannot make it.
    """
    if settings.start:
        return Path(settings.start)
    if from_points(settings, own):
        return (yield from _of_points(settings, own, seed))
    return None


def from_points(settings: GenerateSettings, own: bool) -> bool:
    """Whether Point-E makes the shape: unless told, for embedded guides, of what it knows."""
    if settings.start or settings.begin == "fog":
        return False
    usual = own and settings.preset == "fast" and bool(embedded.thing_in(settings.prompt))
    return usual or settings.begin == "points"


def shaped(settings: GenerateSettings, own: bool) -> bool:
    """Whether fields begin as a shape at all."""
    return bool(settings.start) or from_points(settings, own)


def _of_points(settings: GenerateSettings, own: bool, seed: int) -> Generator[Progress, None, Mesh]:
    asked = GenerateSettings(
        prompt=settings.prompt, seed=seed, device=settings.device, weights="embedded" if own else "auto"
    )
    try:
        job = Job(asked, choose_device(asked.device), point_e_priors.choose(asked, picture=False))
        yield from point_e.look(job, None)
    except Gen3DError as error:
        raise Gen3DError(error.cause, f"{error.next_step} Or let it begin as fog.", field="begin") from error
    for progress in point_e.sample(job):
        yield replace(progress, seconds_left=None, shape=None, snapshot=None)
    points, colours = as_points(job.clouds[0])
    model = job.prior.load_distance(job.device)
    making = point_e.surface(points, colours, model, asked.resolution, asked.faces, job.device)
    made, _ = yield from telling(making, Progress("mesh", 0, 1, point_e.SAMPLED), 1.0)
    return made
