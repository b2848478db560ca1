# SPDX-License-Identifier: GPL-3.0-or-later
"""DreamFusion (Poole et al., "DreamFusion: Text-to-3D using 2D Diffusion", 2022).

A field is rendered from random sides, under random lamps; the pictures are noised, and a text-to-image model says what
noise it sees in them. The difference is the direction in which the field changes (§3, ``score_distillation``). Prompts
say from where one looks (§3.2), shading without texture keeps shapes from being painted on something flat (§3.1), and
two regularisers keep surfaces turned towards the camera and air clear (App. A.2).

Against things with several faces: prompts of the user's own for each side, Perp-Neg, and noise that becomes less.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from .. import weights
from ..errors import Gen3DError
from ..fields.integrated_encoding import BANDS
from ..fields.positional_encoding import positional_encoding
from ..fields.solid_field import ResidualMlp
from ..geometry.mesh import Mesh
from ..guidance.diffusion_prior import DiffusionPrior
from ..priors import embedded
from ..rendering import viewpoints
from ..rendering.orbit import BEARINGS, bearing, orbit, view_words
from ..rendering.shading import ALBEDO, AMBIENT, TEXTURELESS, lamp, lit, seen_from_behind, shading, sparseness
from ..rendering.viewpoints import DREAM_FUSION, View, Viewpoints
from ..rendering.volume import composite
from ..settings import DreamFusionSettings, GenerateSettings
from . import dreaming
from .beginning import shaped
from .devices import choose_device, half_precision
from .distillation import SIDES, Asking, Critic, Heard
from .dream_descent import Descent, Learning
from .dream_field import UNBOUNDED, UNIT, DreamField, DreamShape
from .progress import Pipeline, Progress, Snapshot
from .start_shape import begin_as

PRIORS = (  # the first that is installed
    "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2-1-base",
    "stabilityai/stable-diffusion-xl-base-1.0",
    "DeepFloyd/IF-I-XL-v1.0",
)
INSTALL = f"install a text-to-image model, such as with `gen3d models install {PRIORS[0]}`"
PICTURE = "picture.png"
DRAWN = 25, 4.0  # steps and guidance, by the embedded prior
ANNEALED = 0.5  # of the noise levels, at the end
CLIPPED = 0.5, 2.0  # what the gradient's elements are clipped to, at first and at the end, where they are
OF_SIDES = "front", "side", "back", "overhead"  # their names in the settings, as SIDES has them
FRONT = 15.0  # degrees of elevation that the first picture is taken to be seen from
REFERENCE = 100.0  # the weight of the squared difference to the first picture

UPDATE_EVERY, UPDATE_SAMPLES, UPDATE_SHARE, PRUNE_FROM = 8, 2**13, 1 / 4, 20


@dataclass(frozen=True)
class DreamFusionPlan:
    """How a field is made.

    views: pictures a step, of ``size`` pixels a side at most, about which the model is asked as ``asking`` says.
    albedo_until: the share of all iterations that are not lit; 1: none is. ambient: the light that comes from all
    sides, where that of the lamp makes it 1; textureless: the share of lit iterations without colours. orientation: the
    weight of that loss, at first and, from ``oriented`` on, a share of all iterations; sparse: that of what covers the
    picture. unfolded: the share until which the bands of the encoding come in, one after another. plain: the share of
    pictures in front of one of ``greys``, instead of what the background's network says of the direction.
    """

    iterations: int
    views: int = 1
    size: int = 64
    viewpoints: Viewpoints = DREAM_FUSION
    asking: Asking = field(default_factory=Asking)
    albedo_until: float = 1 / 15
    ambient: float = AMBIENT
    textureless: float = 0.5
    orientation: tuple[float, float] = (1e-4, 1e-2)
    oriented: float = 1 / 3
    sparse: float = 1e-3
    unfolded: float = 0.0
    plain: float = 0.0
    greys: tuple[float, float] = (0.3, 1.0)
    learning: Learning = field(default_factory=lambda: Learning(1e-3, 1500))


PAPER = DreamFusionPlan(15_000, unfolded=1 / 3)
PAPER_SHAPE = DreamShape("mlp", 5, steps=192, bound=1.4, air=-2.0, blob=5.0, density=1.0, exponential=True)
FAST = replace(
    PAPER,
    iterations=10_000,
    orientation=(0.3, 30.0),
    sparse=1.0,
    unfolded=0.0,
    learning=Learning(1e-2, 100, end=0.1, epsilon=1e-15),
)
"""As Stable Diffusion needs it, whose latents' gradients are larger: the weights that are usual there, of the
orientation a thirtieth, since it is counted for each pixel here, not for each of the samples of its ray."""
FAST_SHAPE = DreamShape(bound=1.4, levels=8, finest=256, log2_rows=19)
OWN = replace(
    FAST,
    iterations=250,
    views=4,
    asking=Asking(guidance=4.0, times=(0.2, 0.98), until=0.6, avoided=1.0),
    plain=1.0,
    greys=(0.5, 0.8),
    viewpoints=Viewpoints(elevation=(0.0, 75.0), distance=(2.4, 2.4), focal=(1.2, 1.2)),
    albedo_until=0.5,
    ambient=0.5,
    textureless=0.0,
    orientation=(1e-4, 1e-2),
    sparse=5.0,
    learning=Learning(3e-2, 20, end=0.1, epsilon=1e-15),
)
"""For the embedded prior, which knows small pictures of whole things in front of plain greys, lit by a lamp and a sky:
as large as it has seen them, where every other size is another wish. In front of greys that are farther apart than
these, silver and grey things are less dark, but mushrooms lose their stems and lamps their stands. Without Perp-Neg its
chairs have a back on every side."""
BEGUN = replace(OWN, iterations=120, asking=replace(OWN.asking, times=(0.2, 0.8)), sparse=3.0)
"""Where there is a shape already, which more noise would have them forget; with less, white parts dissolve."""
OWN_SHAPE = DreamShape(air=-6.0, blob=4.0, density=30.0, soft=0.02)


class Background(nn.Module):
    """The colour of what is behind the thing, by the direction of view."""

    BANDS, WIDTH = 4, 32

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3 + 6 * self.BANDS, self.WIDTH), nn.Linear(self.WIDTH, 3)

    def forward(self, directions: Tensor) -> Tensor:
        """Unit vectors [N, 3] -> sRGB [N, 3]."""
        hidden = torch.relu(self.enter(positional_encoding(directions, self.BANDS)))
        return torch.sigmoid(self.leave(hidden))


# ------------------------------------------------------------------------------------------------------------ training


class DreamFusionTraining:
    """Its optimisation."""

    def __init__(
        self,
        field: DreamField,
        critic: Critic,
        plan: DreamFusionPlan,
        seed: int,
        reference: NDArray[np.uint8] | None = None,
    ) -> None:
        """reference: a picture of the front, uint8 sRGB [S, S, 3], which the field is held against, too."""
        self.field, self.critic, self.plan, self.seed, self.steps = field, critic, plan, seed, 0
        device = field.origin.device
        self.size = min(plan.size, critic.prior.size)
        self.reference = None if reference is None else self._as_seen(reference).to(device)
        self.background = Background().to(device)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.descent = Descent(field, plan.learning, self.background.parameters())

    def step(self) -> dict[str, float]:
        """One iteration; its loss, opacity and noise level."""
        plan, share = self.plan, self.steps / self.plan.iterations
        rng = np.random.default_rng((self.seed, self.steps))
        views = viewpoints.draw(plan.viewpoints, plan.views, rng)
        how = shading(share, rng, plan.albedo_until, plan.textureless)
        lamps = [lamp(view.pose[:3, 3], rng) for view in views]
        if isinstance(network := self.field.network, ResidualMlp) and plan.unfolded:
            network.opened = 1 + (BANDS - 1) * min(share / plan.unfolded, 1.0)
        pictures, opacity, facing = self._render(views, how, lamps)
        t = self.critic.times(share, len(views), self.generator)
        loss = self.critic.loss(pictures, views, t, self.generator, share)
        oriented = min(share / plan.oriented, 1.0)
        loss = loss + (plan.orientation[0] + (plan.orientation[1] - plan.orientation[0]) * oriented) * facing
        loss = loss + plan.sparse * sparseness(opacity)
        if self.reference is not None:
            loss = loss + REFERENCE * self._unlike()
        self.descent.step(loss, self.steps, plan.iterations)
        self.steps += 1
        if self.steps % UPDATE_EVERY == 0 and self.steps >= PRUNE_FROM:
            with torch.no_grad():
                self.field.occupancy.update(self.field.density, UPDATE_SAMPLES, UPDATE_SHARE, self.generator)
        told = {"loss": loss, "opacity": opacity.mean(), "time": t.float().mean() / self.critic.prior.steps}
        return {name: float(value.detach()) for name, value in told.items()}

    def _render(self, views: list[View], how: str, lamps: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """sRGB [B, 3, S, S], opacity [B S S] and the orientation loss of the views."""
        field, size = self.field, self.size
        origins, directions = viewpoints.rays(views, size, field.origin, UNIT)
        pixel = 1 / (float(np.mean([view.focal for view in views])) * size)
        shifts = torch.rand(len(origins), generator=self.generator, device=origins.device)
        samples = field.walk(origins, directions, shifts)
        if self.steps >= PRUNE_FROM:
            samples = field.lit(origins, directions, samples, pixel)
        density, colour = field.seen(origins, directions, samples, pixel)
        facing = density.new_zeros(())
        if how != ALBEDO and len(samples):
            points = samples.points(origins, directions)
            normal = field.normal(points)
            where = torch.from_numpy(np.stack(lamps)).float().to(origins.device) * UNIT + field.origin
            towards = nn.functional.normalize(where[samples.rays // size**2] - points, dim=1)
            albedo = torch.ones_like(colour) if how == TEXTURELESS else colour
            colour = lit(albedo, normal, towards, self.plan.ambient)
            behind = seen_from_behind(normal, directions[samples.rays])[:, None].expand(-1, 3)
            # Nothing is learned through how much is seen, so that the field does not just become thinner.
            facing = composite(density.detach(), behind.contiguous(), samples).rgb[:, 0].mean()
        seen = composite(density, colour, samples)
        behind = self._behind(directions, len(views))
        rgb = seen.rgb + behind * (1 - seen.opacity[:, None])
        return rgb.view(len(views), size, size, 3).permute(0, 3, 1, 2), seen.opacity, facing

    def _as_seen(self, picture: NDArray[np.uint8]) -> Tensor:
        """sRGB [3, S, S] of a picture, as large as the renders."""
        scaled = Image.fromarray(picture).resize((self.size, self.size), Image.Resampling.BOX)
        return torch.from_numpy(np.asarray(scaled).copy()).permute(2, 0, 1).float() / 255

    def _unlike(self) -> Tensor:
        """How far the front is from the reference: the mean squared difference, in front of what is at its corners."""
        assert self.reference is not None
        field, size = self.field, self.size
        away, focal = (float(np.mean(ends)) for ends in (self.plan.viewpoints.distance, self.plan.viewpoints.focal))
        front = View(orbit(0.0, FRONT, away), focal, 0.0, FRONT)
        origins, directions = viewpoints.rays([front], size, field.origin, UNIT)
        shifts = torch.rand(len(origins), generator=self.generator, device=origins.device)
        samples = field.lit(origins, directions, field.walk(origins, directions, shifts))
        seen = composite(*field.seen(origins, directions, samples), samples)
        behind = self.reference[:, [0, 0, -1, -1], [0, -1, 0, -1]].median(1).values
        rgb = seen.rgb + behind * (1 - seen.opacity)[:, None]
        return nn.functional.mse_loss(rgb.T.reshape(3, size, size), self.reference)

    def _behind(self, directions: Tensor, count: int) -> Tensor:
        """What is behind the thing [N, 3]."""
        device, generator = directions.device, self.generator
        grey = torch.empty(count, device=device).uniform_(*self.plan.greys, generator=generator)
        plain = torch.rand(count, generator=generator, device=device) < self.plan.plain
        each = len(directions) // count
        greys = grey.repeat_interleave(each)[:, None].expand(-1, 3)
        if bool(plain.all()):
            return greys
        return torch.where(plain.repeat_interleave(each)[:, None], greys, self.background(directions))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next step depends on, besides the field: tensors and JSON-ready facts."""
        tensors = {"optical": self.field.occupancy.optical, "generator": self.generator.get_state()}
        tensors |= {f"background.{name}": value for name, value in self.background.state_dict().items()}
        return tensors | self.descent.state(), {"steps": self.steps}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """The inverse of ``state``. Raises KeyError or RuntimeError where they are of another training."""
        self.field.occupancy.optical.copy_(tensors["optical"])
        self.generator.set_state(tensors["generator"])
        self.background.load_state_dict(
            {name.removeprefix("background."): tensors[name] for name in tensors if name.startswith("background.")}
        )
        self.steps = int(facts["steps"])
        self.descent.restore(tensors)


# ----------------------------------------------------------------------------------------------------------------- job


def generate(settings: GenerateSettings, out: Path, resume: Snapshot | None = None) -> Pipeline:
    """Makes ``count`` fields and their meshes, after a first picture of what the words say."""
    yield Progress("prepare", 0, 0, 0.0)
    settings.check()
    prompt, chosen = settings.prompt.strip(), settings.dreamfusion
    device = choose_device(settings.device)
    folder, guide = weights.choose(settings.weights, PRIORS, embedded.TEXT_TO_IMAGE)
    if folder is None:
        raise Gen3DError("There is no text-to-image model to distil.", f"{INSTALL.capitalize()}.", field="weights")
    words, notes = dreaming.said(prompt, guide, INSTALL, personal=bool(settings.lora or settings.inversion))
    own = weights.are_embedded(guide)
    plan, shape = planned(settings, own)
    prior, heard, more = listening(folder, words, settings, device, own, plan.asking.bearings)
    picture, withheld = yield from first_picture(prior, words, settings, own, out)
    prior.forget_words()
    notes += more + withheld
    if settings.rendered > prior.size:
        notes.append(f"The model looks at {prior.size} pixels a side, so that as many are rendered.")
    critic = Critic(prior, heard, plan.asking)

    def begin(seed: int, start: Mesh | Path | None) -> DreamFusionTraining:
        torch.manual_seed(seed)
        made = DreamField(shape).to(device)
        if start is not None:
            begin_as(made, start, seed)
        return DreamFusionTraining(made, critic, plan, seed, picture if chosen.reference else None)

    content = yield from dreaming.make(settings, out, resume, begin, plan.iterations, guide, words)
    if picture is not None:
        content["files"]["picture"] = PICTURE
    return {**content, "prior": guide, "notes": [*notes, *content["notes"]]}


def planned(settings: GenerateSettings, own: bool) -> tuple[DreamFusionPlan, DreamShape]:
    """What the settings ask for. own: of the embedded prior."""
    plan, shape = (OWN, OWN_SHAPE) if own else (FAST, FAST_SHAPE)
    if own and shaped(settings, own):
        plan = BEGUN
    if settings.preset == "paper":
        plan, shape = PAPER, PAPER_SHAPE
    return asked(plan, settings), formed(shape, settings.dreamfusion)


def formed(shape: DreamShape, chosen: DreamFusionSettings) -> DreamShape:
    """The shape without what is to be left out of it."""
    return replace(shape, bound=shape.bound if chosen.sphere else UNBOUNDED, blob=shape.blob if chosen.blob else 0.0)


def asked(plan: DreamFusionPlan, settings: GenerateSettings) -> DreamFusionPlan:
    """The plan with the numbers and the techniques of the settings."""
    chosen, (low, high) = settings.dreamfusion, plan.asking.times
    cameras = plan.viewpoints
    return replace(
        plan,
        viewpoints=cameras if chosen.shaking else replace(cameras, shaken=0.0, target=0.0, up=0.0),
        iterations=settings.iterations or plan.iterations,
        size=settings.rendered or plan.size,
        views=settings.views or plan.views,
        asking=replace(
            plan.asking,
            guidance=settings.guidance or plan.asking.guidance,
            times=(
                chosen.time_low or min(low, chosen.time_high or low),
                chosen.time_high or max(high, chosen.time_low),
            ),
            weighting=plan.asking.weighting if chosen.weighting == "auto" else chosen.weighting,
            clipped=CLIPPED if chosen.debiasing else plan.asking.clipped,
            told=chosen.view_prompts,
            avoided=plan.asking.avoided if chosen.perp_neg < 0 else chosen.perp_neg,
            until=ANNEALED if chosen.annealing else plan.asking.until,
        ),
        albedo_until=plan.albedo_until if chosen.shading else 1.0,
        orientation=plan.orientation if chosen.orientation else (0.0, 0.0),
        sparse=plan.sparse if chosen.opacity else 0.0,
        plain=plan.plain if chosen.background else 1.0,
    )


def listening(
    folder: Path, words: str, settings: GenerateSettings, device: torch.device, own: bool, bearings: bool
) -> tuple[DiffusionPrior, Heard, list[str]]:
    """The model in a folder, what it makes of ``prompts`` and of what to avoid, and notes on what it does not read.
    own: it is the embedded one."""
    roughly = half_precision(device, trained_so=True) if own else None
    prior = DiffusionPrior(folder, device, frugal=settings.dreamfusion.frugal, roughly=roughly)
    dreaming.adapt(prior, settings, own)
    kept, notes = prior.fitting(words, f", {max(SIDES, key=len)}"), []
    if rest := words[len(kept) :].strip(" ,"):
        notes.append(dreaming.LEFT_OUT.format(rest[:80]))
    chosen, known = settings.dreamfusion, own and not (settings.lora or settings.inversion)
    told = {"negative": settings.negative_prompt, **{name: getattr(chosen, name) for name in OF_SIDES}}
    for name, text in told.items():
        told[name], more = dreaming.aside(text.strip(), prior, known)
        notes += more
    negative = told.pop("negative")
    asked = prompts(kept, replace(chosen, **told), bearings)
    return prior, Heard(tuple(asked), *prior.say(list(asked.values()), negative)), notes


def prompts(words: str, chosen: DreamFusionSettings, bearings: bool = False) -> dict[str, str]:
    """What is said of each of SIDES, of each of the ``bearings``, and of views of which nothing is told, ""."""
    own = {side: getattr(chosen, name) for side, name in zip(SIDES, OF_SIDES, strict=True)}
    asked = {"": words} | {side: text.strip() or f"{words}, {side}" for side, text in own.items()}
    if bearings:
        asked |= {
            bearing(*angles): f"{own[view_words(*angles)].strip() or words}, {bearing(*angles)}" for angles in BEARINGS
        }
    return asked


def first_picture(
    prior: DiffusionPrior, words: str, settings: GenerateSettings, own: bool, out: Path
) -> Generator[Progress, None, tuple[NDArray[np.uint8] | None, list[str]]]:
    """What the model draws of the words, from the front, uint8 sRGB [S, S, 3], also put into ``out``; and notes. None
    where that is not wanted, or where the model withholds it.

    Raises Gen3DError where it withholds what the field is to be held against.
    """
    chosen = settings.dreamfusion
    if not (chosen.first_image or chosen.reference):
        return None, []
    steps, guidance = DRAWN if own else (0, 0.0)
    drawing = prior.draw(f"{words}, {SIDES[0]}", seed=settings.seed, steps=steps, guidance=guidance)
    while True:
        try:
            done = next(drawing)
        except StopIteration as end:
            picture = np.asarray(end.value)
            break
        except Gen3DError as error:
            if chosen.reference:
                step = "Take another seed or other words, or leave the reference out."
                raise Gen3DError(error.cause, step, field="dreamfusion.reference") from error
            return None, [f"There is no first picture. {error.cause}"]
        yield Progress("view", done.step, done.total, dreaming.BEGUN * done.step / max(done.total, 1))
    Image.fromarray(picture).save(out / PICTURE)
    yield Progress("view", 1, 1, dreaming.BEGUN, preview=lambda: picture)
    return picture, []
