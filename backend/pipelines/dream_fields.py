# SPDX-License-Identifier: GPL-3.0-or-later
"""Dream Fields (Jain et al., "Zero-Shot Text-Guided Object Generation with Dream Fields", 2022).

A field is rendered from random sides, in front of random backgrounds, and changed until CLIP finds the pictures to be
what the words say. Four techniques make an object of that, each a function here or named by one: poses are drawn all
around (§4.1, ``viewpoints``), what lets too little light pass is held against the field (§4.2, ``sparsity``),
backgrounds change so that nothing is gained by painting one (§4.2, ``pictures``), and the cube that bounds the object
follows it (§4.4, ``DreamField.follow``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import weights
from ..errors import Gen3DError
from ..geometry.mesh import Mesh
from ..guidance.clip import Clip
from ..priors import embedded
from ..rendering import backgrounds, viewpoints
from ..rendering.viewpoints import DREAM_FIELDS, Viewpoints
from ..rendering.volume import composite
from ..settings import GenerateSettings
from . import dreaming
from .beginning import shaped
from .devices import choose_device
from .dream_descent import Descent, Learning
from .dream_field import UNBOUNDED, UNIT, DreamField, DreamShape
from .progress import Pipeline, Progress, Snapshot
from .start_shape import begin_as

GUIDES = ("clip-vit-b16", "clip-vit-b32", "clip-vit-l14")  # the first that is installed
INSTALL = "install published weights with `gen3d models install clip-vit-b16`"
CROP = 154 / 168
"""Side of the crops that the guide sees, in sides of the render (App. C)."""
SHADES = (0.1, 0.5, 0.9)
UPDATE_EVERY, UPDATE_SAMPLES, UPDATE_SHARE, PRUNE_FROM = 8, 2**13, 1 / 4, 20


@dataclass(frozen=True)
class DreamFieldsPlan:
    """How a field is made.

    views: pictures a step, of ``size`` pixels a side at most, each in front of ``crops`` backgrounds. opacity: how much
    of the picture may be covered at first and, ``annealed`` (a share of all iterations) later, at focal length 1 from
    distance 4; more than that costs ``sparse`` times what it holds back. kept: share of the cube's place that stays, a
    step; 1: it never moves.

    Three that the paper does not have: covered: the opacity is that of the shape which the field begins as, all the
    time; least, the share of the opacity below which a picture counts as empty, which costs as much; and tinted: the
    field begins in the colour that the guide likes best of 27, not in grey, from which the way to some colours leads
    through others that it likes less.
    """

    iterations: int
    views: int = 4
    size: int = 168
    crops: int = 2
    viewpoints: Viewpoints = DREAM_FIELDS
    sparse: float = 0.5
    least: float = 0.0
    opacity: tuple[float, float] = (0.5, 0.1)
    annealed: float = 0.05
    textures: bool = True
    covered: bool = False
    tinted: bool = False
    kept: float = 0.999
    learning: Learning = field(default_factory=lambda: Learning(first=0.1))


PAPER = DreamFieldsPlan(10_000, views=8, crops=1)
PAPER_SHAPE = DreamShape("mlp", steps=192, blob=0.0, air=-2.0)
FAST = replace(
    PAPER,
    iterations=300,
    views=4,
    crops=2,
    viewpoints=replace(DREAM_FIELDS, elevation=(0.0, 45.0)),
    least=0.5,
    tinted=True,
    annealed=0.25,
    learning=Learning(1e-2, 20, end=0.1, epsilon=1e-15),
)
"""For a hash grid, which learns thirty times as fast: from all heights, since what is seen from one only has no bottom
and no top; the opacity falls more slowly. A cube that follows faster than the paper's takes the thing along to the end
of the box: what the guide likes better a little higher is soon in the middle, and so on."""
FAST_SHAPE = DreamShape(soft=0.02)
BEGUN = replace(
    FAST, iterations=120, least=0.0, tinted=False, covered=True, learning=Learning(5e-3, 20, end=0.1, epsilon=1e-15)
)
"""Where there is a shape already."""


def generate(settings: GenerateSettings, out: Path, resume: Snapshot | None = None) -> Pipeline:
    """Makes ``count`` fields and their meshes."""
    yield Progress("prepare", 0, 0, 0.0)
    settings.check()
    prompt = settings.prompt.strip()
    device = choose_device(settings.device)
    folder, guide = weights.choose(settings.weights, GUIDES, embedded.CLIP)
    if folder is None:
        raise Gen3DError("There is no CLIP to guide the field.", f"{INSTALL.capitalize()}.", field="weights")
    words, notes = dreaming.said(prompt, guide, INSTALL)
    clip = Clip(folder, device)
    if rest := clip.beyond(words):
        notes.append(dreaming.LEFT_OUT.format(rest[:80]))
    plan, shape = planned(settings, weights.are_embedded(guide))
    if settings.rendered > seen_by(clip):
        notes.append(f"The guide looks at {clip.size} pixels a side, so that {seen_by(clip)} are rendered.")

    def begin(seed: int, start: Mesh | Path | None) -> DreamFieldsTraining:
        torch.manual_seed(seed)
        field = DreamField(shape).to(device)
        if start is not None:
            begin_as(field, start, seed)
        return DreamFieldsTraining(field, clip, words, plan, seed)

    content = yield from dreaming.make(settings, out, resume, begin, plan.iterations, guide, words)
    return {**content, "prior": guide, "notes": [*notes, *content["notes"]]}


def planned(settings: GenerateSettings, own: bool) -> tuple[DreamFieldsPlan, DreamShape]:
    """What the settings ask for. own: of the embedded guide."""
    plan, shape = (FAST, FAST_SHAPE) if settings.preset == "fast" else (PAPER, PAPER_SHAPE)
    if shaped(settings, own):
        plan = BEGUN if settings.preset == "fast" else replace(plan, covered=True)
    chosen = settings.dream_fields
    plan = replace(
        plan,
        iterations=settings.iterations or plan.iterations,
        size=settings.rendered or plan.size,
        views=settings.views or plan.views,
        crops=chosen.crops or plan.crops,
        viewpoints=jittered(plan.viewpoints, chosen.elevation_jitter, chosen.focal_jitter),
    )
    if not chosen.poses:
        plan = replace(plan, viewpoints=replace(plan.viewpoints, azimuth=(0.0, 0.0)))
    if not chosen.transmittance:
        plan = replace(plan, sparse=0.0)
    if not chosen.backgrounds:
        plan = replace(plan, textures=False)
    if not chosen.localisation:
        plan, shape = replace(plan, kept=1.0), replace(shape, bound=UNBOUNDED, blob=0.0)
    return plan, shape


# ---------------------------------------------------------------------------------------------- the paper's techniques


def jittered(usual: Viewpoints, elevation: float, focal: float) -> Viewpoints:
    """Cameras that are up to so many degrees lower or higher, and whose focal length differs by up to such a share
    (App. C)."""
    low, high = usual.elevation
    short, long = usual.focal
    wider = max(low - elevation, -90.0), min(high + elevation, 90.0)
    return replace(usual, elevation=wider, focal=(short * (1 - focal), long * (1 + focal)))


def target_transmittance(plan: DreamFieldsPlan, iteration: int, focal: float, distance: float) -> float:
    """τ: the share of light that is to pass, lower while the object is being found (§4.2, App. C).

    From the published 40 % to 88 % at focal length 1.2 and distance 4; what is seen larger may cover more.
    """
    share = min(iteration / max(plan.annealed * plan.iterations, 1), 1.0)
    opacity = plan.opacity[0] + (plan.opacity[1] - plan.opacity[0]) * share
    return 1 - min(opacity * focal * 4 / distance, 1.0)


def sparsity(transmittance: Tensor, target: Tensor) -> Tensor:
    """−min(τ, T): what transmittances [B], means of whole pictures, lose against their targets [B] (eq. 5)."""
    return -torch.minimum(transmittance, target).mean()


def emptiness(transmittance: Tensor, most: Tensor) -> Tensor:
    """By how much transmittances [B] are above the ``most`` [B] that a picture of something has."""
    return torch.relu(transmittance - most).mean()


def pictures(light: Tensor, plan: DreamFieldsPlan, size: int, generator: torch.Generator) -> Tensor:
    """What the guide is shown of premultiplied ``light`` [B, 4, S, S]: crops [B crops, 3, size, size], each in front of
    a background of its own; in front of black without ``textures``."""
    count, side = plan.crops * len(light), light.shape[-1]
    seen = light.repeat(plan.crops, 1, 1, 1)
    rgb = seen[:, :3]
    if plan.textures:
        rgb = rgb + backgrounds.backgrounds(count, side, generator, backgrounds.TEXTURES) * (1 - seen[:, 3:])
    crop = round(CROP * side)
    corners = torch.randint(0, side - crop + 1, (count, 2), generator=generator, device=generator.device).tolist()
    cut = torch.stack([rgb[i, :, y : y + crop, x : x + crop] for i, (y, x) in enumerate(corners)])
    if crop != size:
        cut = torch.nn.functional.interpolate(cut, (size, size), mode="bilinear", antialias=True)
    return cut


def seen_by(clip: Clip) -> int:
    """Side in pixels of the renders of which the guide sees all."""
    return round(clip.size / CROP)


# ------------------------------------------------------------------------------------------------------------ training


class DreamFieldsTraining:
    """Its optimisation."""

    def __init__(self, field: DreamField, clip: Clip, words: str, plan: DreamFieldsPlan, seed: int) -> None:
        device = field.origin.device
        self.field, self.clip, self.plan, self.steps = field, clip, plan, 0
        self.size = min(seen_by(clip), plan.size)
        self.said = clip.encode_text([words])[0]
        self.generator = torch.Generator(device).manual_seed(seed)
        self.seed = seed
        self.descent = Descent(field, plan.learning)
        if plan.covered:
            self.plan = replace(plan, opacity=(self._covered(),) * 2)
        if plan.tinted:
            self._tint()

    @torch.no_grad()
    def _covered(self) -> float:
        """How much of the picture the field covers, as ``DreamFieldsPlan.opacity`` has it."""
        views = viewpoints.draw(self.plan.viewpoints, 8, np.random.default_rng(self.seed))
        seen = self.field.render(*viewpoints.rays(views, self.size, self.field.origin, UNIT))
        large = seen.opacity.new_tensor([view.focal * 4 / view.distance for view in views])
        return float((seen.opacity.view(len(views), -1).mean(1) / large).mean())

    @torch.no_grad()
    def _tint(self) -> None:
        """Gives the field that has just been made the colour in which it is most like the words."""
        views = viewpoints.draw(self.plan.viewpoints, 2, np.random.default_rng(self.seed))
        seen = self.field.render(*viewpoints.rays(views, self.size, self.field.origin, UNIT))
        opacity = seen.opacity.view(len(views), 1, self.size, self.size)
        tints = torch.cartesian_prod(*[torch.tensor(SHADES, device=opacity.device)] * 3)
        liked = []
        for tint in tints:
            light = torch.cat([tint.view(1, 3, 1, 1) * opacity, opacity], 1).repeat(3, 1, 1, 1)
            shown = pictures(light, replace(self.plan, crops=1), self.clip.size, self.generator)
            liked.append((self.clip.encode_image(shown) @ self.said).mean())
        best = tints[int(torch.stack(liked).argmax())]
        self.field.network.leave.bias[1:] = torch.logit(best)

    def step(self) -> dict[str, float]:
        """One iteration; its similarity and transmittance."""
        plan, field, generator = self.plan, self.field, self.generator
        rng = np.random.default_rng((self.seed, self.steps))
        views = viewpoints.draw(plan.viewpoints, plan.views, rng)
        origins, directions = viewpoints.rays(views, self.size, field.origin, UNIT)
        pixel = 1 / (plan.viewpoints.focal[0] * self.size)
        shifts = torch.rand(len(origins), generator=generator, device=origins.device)
        samples = field.walk(origins, directions, shifts)
        if self.steps >= PRUNE_FROM:
            samples = field.lit(origins, directions, samples, pixel)
        density, colour = field.seen(origins, directions, samples, pixel)
        seen = composite(density, colour, samples)

        light = torch.cat([seen.rgb, seen.opacity[:, None]], 1).view(len(views), self.size, self.size, 4)
        shown = pictures(light.permute(0, 3, 1, 2), plan, self.clip.size, generator)
        similarity = (self.clip.encode_image(shown) @ self.said).mean()
        passing = 1 - light[..., 3].mean((1, 2))
        target = passing.new_tensor(
            [target_transmittance(plan, self.steps, view.focal, view.distance) for view in views]
        )
        loss = -similarity + plan.sparse * sparsity(passing, target)
        if plan.least:
            loss = loss + plan.sparse * emptiness(passing, 1 - plan.least * (1 - target))
        self.descent.step(loss, self.steps, plan.iterations)
        self.steps += 1

        if plan.kept < 1:
            field.follow(samples.points(origins, directions), density.detach() * samples.dt, plan.kept)
        if self.steps % UPDATE_EVERY == 0 and self.steps >= PRUNE_FROM:
            with torch.no_grad():
                field.occupancy.update(field.density, UPDATE_SAMPLES, UPDATE_SHARE, generator)
        told = {"loss": loss, "similarity": similarity, "transmittance": passing.mean()}
        return {name: float(value.detach()) for name, value in told.items()}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next step depends on, besides the field: tensors and JSON-ready facts."""
        tensors = {"optical": self.field.occupancy.optical, "generator": self.generator.get_state()}
        return tensors | self.descent.state(), {"steps": self.steps, "opacity": self.plan.opacity}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """The inverse of ``state``. Raises KeyError or RuntimeError where they are of another training."""
        self.field.occupancy.optical.copy_(tensors["optical"])
        self.generator.set_state(tensors["generator"])
        self.steps, self.plan = int(facts["steps"]), replace(self.plan, opacity=tuple(facts["opacity"]))
        self.descent.restore(tensors)
