# SPDX-License-Identifier: GPL-3.0-or-later
"""Magic3D (Lin et al., "Magic3D: High-Resolution Text-to-3D Content Creation", 2023).

Two stages. The coarse one is DreamFusion's on a hash grid that tells normals, too, with a model of small pictures
(§4.1, ``COARSE``). Its surface then becomes a mesh in a grid of tetrahedra, whose vertices and colours follow what a
model of large pictures makes of renderings of it (§4.2, ``FineTraining``), seen from nearer as well, and kept smooth.
What comes out has a UV atlas, and a texture of the fine stage's colours.

A finished field, or any mesh, can be what it starts with: with another prompt, that edits it (§5.1); with the shape as
it is, only its colours change.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import weights
from ..errors import Gen3DError
from ..geometry import cleanup, texture
from ..geometry.marching_tetrahedra import Surface
from ..geometry.mesh import Mesh
from ..geometry.mesh import sample as sample_mesh
from ..geometry.smoothness import laplacian, normal_consistency
from ..geometry.standing import standing
from ..geometry.surface import EmptyFieldError
from ..guidance.diffusion_prior import DiffusionPrior
from ..priors import embedded
from ..rendering import viewpoints
from ..rendering.shading import ALBEDO, AMBIENT, TEXTURELESS, as_colours, lamp, lit, shading
from ..rendering.viewpoints import DREAM_FUSION, View, Viewpoints
from ..settings import GenerateSettings, MeshSettings
from ..shares import between, ended
from . import dreamfusion, dreaming, meshing
from .beginning import shaped
from .devices import choose_device
from .distillation import Asking, Critic, Heard
from .dream_descent import Descent, Learning
from .dream_field import UNIT, DreamField, DreamShape, solid_grid
from .dreamfusion import DreamFusionPlan, DreamFusionTraining
from .fine_mesh import FineMesh
from .progress import Pipeline, Progress, Snapshot, telling
from .start_shape import Shape, begin_as, fitted, imitate, mesh_at

TEXTURE = 1024
LONGER = "Train the coarse stage longer, or say it otherwise."
RESOLUTION = 96  # of the grid in which the coarse stage's surface is looked for


@dataclass(frozen=True)
class FinePlan:
    """How the fine stage goes.

    layers: of the grid of tetrahedra. views: pictures a step, of ``size`` pixels a side, about which the model is asked
    as ``asking`` says. albedo_until: the share of all iterations that are not lit; ambient, textureless: as
    ``DreamFusionPlan`` has them. turned, bent: the weights of the angles between neighbouring faces and of how far
    vertices are from between their neighbours, in layers. normals: the share of the steps that show the surface's
    normals as colours, while the shape may change. greys: what is behind.
    """

    iterations: int = 3000
    layers: int = 128
    views: int = 4
    size: int = 512
    viewpoints: Viewpoints = DREAM_FUSION
    asking: Asking = field(default_factory=Asking)
    albedo_until: float = 0.0
    ambient: float = AMBIENT
    textureless: float = 0.5
    turned: float = 1e4
    bent: float = 1e2
    normals: float = 0.0
    greys: tuple[float, float] = (0.3, 1.0)
    learning: Learning = field(default_factory=lambda: Learning(1e-3, 100))


@dataclass(frozen=True)
class Magic3DPlan:
    """Both stages."""

    coarse: DreamFusionPlan
    fine: FinePlan


PAPER = Magic3DPlan(
    replace(dreamfusion.PAPER, iterations=5000, views=32, learning=Learning(1e-2, 100, epsilon=1e-15)),
    FinePlan(views=32, viewpoints=replace(DREAM_FUSION, focal=(0.7, 2.7)), asking=Asking(times=(0.02, 0.5), until=0.5)),
)
PAPER_SHAPE = DreamShape(
    "grid", steps=1024, resolution=256, bound=1.4, levels=8, finest=1024, log2_rows=19, most=1024, facing=True
)
FAST = Magic3DPlan(
    replace(dreamfusion.FAST, iterations=5000), replace(PAPER.fine, views=4, learning=Learning(1e-2, 100, end=0.1))
)
FAST_SHAPE = replace(dreamfusion.FAST_SHAPE, facing=True)
OWN = Magic3DPlan(
    dreamfusion.OWN,
    FinePlan(
        iterations=250,
        layers=64,
        size=96,
        viewpoints=dreamfusion.OWN.viewpoints,
        asking=replace(dreamfusion.OWN.asking, times=(0.2, 0.7), until=0.7),
        albedo_until=0.0,  # not lit, everything is as dark as the shadows that the prior knows
        ambient=dreamfusion.OWN.ambient,
        textureless=dreamfusion.OWN.textureless,
        turned=300.0,
        bent=3.0,
        greys=dreamfusion.OWN.greys,
        learning=Learning(1e-2, 20, end=0.1, epsilon=1e-15),
    ),
)
OWN_SHAPE = dreamfusion.OWN_SHAPE
EDITED = 0.4  # of the iterations and of the noise, where there is a thing already
OWN_EDIT = replace(dreamfusion.OWN, iterations=50, learning=replace(dreamfusion.OWN.learning, rate=1e-2))
"""The coarse stage there: asked at so little noise for longer, the embedded prior wears thin parts away."""


class Magic(nn.Module):
    """A thing in both of its stages. ``refined``: it is in the second one."""

    refined: Tensor

    def __init__(self, shape: DreamShape, layers: int) -> None:
        super().__init__()
        self.coarse = DreamField(shape)
        self.fine = FineMesh(layers, solid_grid(shape))
        self.register_buffer("refined", torch.zeros((), dtype=torch.bool))

    @property
    def origin(self) -> Tensor:
        """What cameras look at."""
        return self.coarse.origin


# --------------------------------------------------------------------------------------------------------- fine stage


class FineTraining:
    """The second stage (§4.2): of the mesh's shape and colours."""

    def __init__(self, mesh: FineMesh, critic: Critic, plan: FinePlan, seed: int) -> None:
        self.mesh, self.critic, self.plan, self.seed, self.steps = mesh, critic, plan, seed, 0
        self.generator = torch.Generator(mesh.origin.device).manual_seed(seed)
        own = () if mesh.fixed else (mesh.distance, mesh.moved)
        self.descent = Descent(mesh, plan.learning, own)

    def step(self) -> dict[str, float]:
        """One iteration; its loss, opacity and noise level."""
        plan, share = self.plan, self.steps / self.plan.iterations
        rng = np.random.default_rng((self.seed, self.steps, 1))
        views = viewpoints.draw(plan.viewpoints, plan.views, rng)
        surface = self.mesh.surface()
        if not len(surface.faces):
            raise EmptyFieldError("Nothing is left of the thing: the fine stage has dissolved it.", LONGER)
        light = self.mesh.render(surface, views, plan.size, self._lighting(views, share, rng))
        behind = torch.empty(len(views), 1, 1, 1).uniform_(*plan.greys, generator=self.generator)
        pictures = light[..., :3] + behind.to(light) * (1 - light[..., 3:])
        t = self.critic.times(share, len(views), self.generator)
        loss = self.critic.loss(pictures.permute(0, 3, 1, 2), views, t, self.generator, share)
        if self.mesh.fixed is None:
            layers = (surface.vertices - self.mesh.middle) / (2 * self.mesh.extent / self.mesh.resolution)
            loss = loss + plan.turned * normal_consistency(layers, surface.faces)
            loss = loss + plan.bent * laplacian(layers, surface.faces)
        self.descent.step(loss, self.steps, plan.iterations)
        self.steps += 1
        told = {"loss": loss, "opacity": light[..., 3].mean(), "time": t.float().mean() / self.critic.prior.steps}
        return {name: float(value.detach()) for name, value in told.items()}

    def _lighting(
        self, views: Sequence[View], share: float, rng: np.random.Generator
    ) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None:
        """How this step is lit; None: not at all."""
        if self.mesh.fixed is None and rng.random() < self.plan.normals:
            turned = torch.from_numpy(np.stack([view.pose[:3, :3] for view in views])).to(self.mesh.origin)
            return lambda albedo, normal, points, view: as_colours(normal, turned[view])
        how = shading(share, rng, self.plan.albedo_until, self.plan.textureless)
        bare = how == TEXTURELESS and self.mesh.fixed is None  # which tells of the shape alone
        lamps = torch.from_numpy(np.stack([lamp(view.pose[:3, 3], rng) for view in views]))
        if how == ALBEDO:
            return None
        where = lamps.to(self.mesh.origin) * UNIT + self.mesh.origin

        def lighting(albedo: Tensor, normal: Tensor, points: Tensor, view: Tensor) -> Tensor:
            towards = nn.functional.normalize(where[view] - points, dim=1)
            return lit(torch.ones_like(albedo) if bare else albedo, normal, towards, self.plan.ambient)

        return lighting

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next step depends on, besides the mesh: tensors and JSON-ready facts."""
        return {"generator": self.generator.get_state()} | self.descent.state(), {"steps": self.steps}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """The inverse of ``state``. Raises KeyError or RuntimeError where they are of another training."""
        self.generator.set_state(tensors["generator"])
        self.steps = int(facts["steps"])
        self.descent.restore(tensors)


# -------------------------------------------------------------------------------------------------------- both stages


class Magic3DTraining:
    """The coarse stage, and then the fine one. ``critic``: of the fine stage, or of the coarse one."""

    def __init__(
        self,
        thing: Magic,
        critic: Callable[[bool], Critic],
        plan: Magic3DPlan,
        seed: int,
        reference: NDArray[np.uint8] | None = None,
    ) -> None:
        """reference: as ``DreamFusionTraining`` has it, which is the coarse stage."""
        self.field, self.plan, self.seed, self._critic, self._reference = thing, plan, seed, critic, reference
        self.stage: DreamFusionTraining | FineTraining | None = None
        if not plan.coarse.iterations:
            self._refine()

    @property
    def steps(self) -> int:
        done = self.plan.coarse.iterations if self.field.refined else 0
        return done + (self.stage.steps if self.stage is not None else 0)

    def step(self) -> dict[str, float]:
        """One iteration."""
        if not self.field.refined and self.steps >= self.plan.coarse.iterations:
            self._refine()
        return self._stage().step()

    def _stage(self) -> DreamFusionTraining | FineTraining:
        if self.stage is None and self.field.refined:
            self.stage = FineTraining(self.field.fine, self._critic(True), self.plan.fine, self.seed)
        elif self.stage is None:
            self.stage = DreamFusionTraining(
                self.field.coarse, self._critic(False), self.plan.coarse, self.seed, self._reference
            )
        return self.stage

    def _refine(self) -> None:
        """Makes the mesh of what the coarse stage has come to. Raises Gen3DError where that is nothing."""
        self.stage = None
        coarse, fine = self.field.coarse, self.field.fine
        if fine.fixed is None:
            density, lower, spacing = ended(meshing.sample_density(coarse, RESOLUTION, coarse.origin.device))
            eyes = np.array(dreaming.scene(coarse, np.eye(4)).eyes)
            level, mesh = ended(meshing.find_surface(density, lower, spacing, MeshSettings(), eyes))
            fine.begin(coarse, mesh, level)
        else:
            fine.network.load_state_dict(coarse.network.state_dict())
        self.field.refined.fill_(True)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next step depends on, besides the thing: tensors and JSON-ready facts."""
        return self._stage().state()

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """The inverse of ``state``, after the thing is what it was."""
        self.stage = None
        self._stage().restore(tensors, facts)


# ----------------------------------------------------------------------------------------------------------------- job


def generate(settings: GenerateSettings, out: Path, resume: Snapshot | None = None) -> Pipeline:
    """Makes ``count`` things: coarse fields, fine meshes of them, and their textures."""
    yield Progress("prepare", 0, 0, 0.0)
    settings.check()
    chosen, device = settings.magic3d, choose_device(settings.device)
    folder, guide = weights.choose(settings.weights, dreamfusion.PRIORS, embedded.TEXT_TO_IMAGE)
    if folder is None:
        cause = "There is no text-to-image model to distil."
        raise Gen3DError(cause, f"{dreamfusion.INSTALL.capitalize()}.", field="weights")
    first = folder
    if chosen.coarse_weights != "auto":
        first = weights.choose(chosen.coarse_weights, (), embedded.TEXT_TO_IMAGE)[0] or folder
    personal = bool(settings.lora or settings.inversion)
    bare = replace(settings, lora="", inversion="", style="")
    words, notes = dreaming.said(settings.prompt.strip(), guide, dreamfusion.INSTALL, personal)
    own = weights.are_embedded(guide)
    if first != folder and (personal or settings.style):
        notes.append("Only the model of the fine stage knows the LoRA, the textual inversion or the style.")
    plan, shape = planned(settings, own)
    kept, back = fitted(mesh_at(Path(settings.start))) if settings.start else (None, None)
    held: dict[Path, tuple[DiffusionPrior, Heard, list[str]]] = {}

    def model(place: Path) -> tuple[DiffusionPrior, Heard, list[str]]:
        if place not in held:
            held.clear()  # one at a time
            how = settings if place == folder else bare
            held[place] = dreamfusion.listening(place, words, how, device, own, plan.coarse.asking.bearings)
        return held[place]

    def critic(fine: bool) -> Critic:
        prior, heard, _ = model(folder if fine else first)
        prior.forget_words()
        return Critic(prior, heard, plan.fine.asking if fine else plan.coarse.asking)

    notes += model(first if plan.coarse.iterations else folder)[2]  # which tells at once what is wrong with it
    picture = None
    if plan.coarse.iterations:
        picture, withheld = yield from dreamfusion.first_picture(model(first)[0], words, settings, own, out)
        notes += withheld
    reference = picture if settings.dreamfusion.reference else None

    def begin(seed: int, start: Mesh | Path | None) -> Magic3DTraining:
        torch.manual_seed(seed)
        thing = Magic(shape, plan.fine.layers).to(device)
        if start is not None and chosen.shape:
            begin_as(thing.coarse, start, seed)
        elif kept is not None and not chosen.shape:  # not as the field of a result, which has coordinates of its own
            imitate(thing.coarse, Shape.of(kept, np.random.default_rng(seed)), seed)
            vertices, faces = (torch.from_numpy(part).to(device) for part in (kept.vertices, kept.faces))
            thing.fine.fixed = Surface(vertices, faces, torch.empty(0, 2, dtype=torch.int64, device=device))
        return Magic3DTraining(thing, critic, plan, seed, reference)

    def write(thing: Magic, *how: Any) -> Generator[Progress, None, dict[str, Any]]:
        return _write(thing, None if chosen.shape else back, *how)

    total = plan.coarse.iterations + plan.fine.iterations
    ways = dreaming.Ways(look, points, write, rough)
    content = yield from dreaming.make(settings, out, resume, begin, total, guide, words, ways)
    if picture is not None:
        content["files"]["picture"] = dreamfusion.PICTURE
    return {**content, "prior": guide, "notes": [*notes, *content["notes"]]}


def planned(settings: GenerateSettings, own: bool) -> tuple[Magic3DPlan, DreamShape]:
    """What the settings ask for. own: of the embedded prior."""
    plan, shape = (OWN, OWN_SHAPE) if own else (FAST, FAST_SHAPE)
    if own and shaped(settings, own):
        plan = replace(plan, coarse=OWN_EDIT if settings.start else dreamfusion.BEGUN)
    if settings.preset == "paper":
        plan, shape = PAPER, PAPER_SHAPE
    chosen, first = settings.magic3d, dreamfusion.asked(plan.coarse, settings)
    if settings.start:  # which an edit is to leave recognisable
        low, high = first.asking.times
        high = high if settings.dreamfusion.time_high else low + EDITED * (high - low)
        first = replace(
            first,
            iterations=settings.iterations or round(EDITED * first.iterations),
            asking=replace(first.asking, times=(low, high), until=high),
            albedo_until=1.0,
        )
    if not (chosen.coarse and chosen.shape):
        first = replace(first, iterations=0)
    second = replace(
        plan.fine,
        iterations=chosen.fine_iterations or plan.fine.iterations,
        layers=2 * max(chosen.tetrahedra // 2, 2) if chosen.tetrahedra else plan.fine.layers,
        size=chosen.fine_rendered or plan.fine.size,
        views=settings.views or plan.fine.views,
        albedo_until=plan.fine.albedo_until if settings.dreamfusion.shading else 1.0,
        normals=chosen.normal_views,
        asking=replace(
            plan.fine.asking,
            guidance=settings.guidance or plan.coarse.asking.guidance,
            told=settings.dreamfusion.view_prompts,
            avoided=first.asking.avoided,
            weighting=first.asking.weighting,
            clipped=first.asking.clipped,
        ),
    )
    return Magic3DPlan(first, second), dreamfusion.formed(shape, settings.dreamfusion)


def rough(thing: Magic) -> DreamField | None:
    """The coarse stage's field, once that has ended."""
    return thing.coarse if thing.refined else None


def look(thing: Magic, azimuths: list[float], size: int, backdrop: float = dreaming.BACKDROP) -> Tensor:
    """sRGB [N, 3, size, size] of a thing from around, in front of a grey."""
    if not thing.refined:
        return dreaming.looked_at(thing.coarse, azimuths, size, backdrop)
    with torch.no_grad():
        views = [dreaming.view(azimuth) for azimuth in azimuths]
        light = thing.fine.render(thing.fine.surface(), views, 2 * size)
        seen = light[..., :3] + backdrop * (1 - light[..., 3:])
        return nn.functional.avg_pool2d(seen.permute(0, 3, 1, 2).clamp(0, 1), 2)


def points(thing: Magic, metres: float) -> NDArray[np.float32]:
    """Points of the surface where the mesh will stand, as ``Progress.shape`` has them."""
    if not thing.refined:
        return dreaming.standing_points(thing.coarse, metres)
    mesh = thing.fine.mesh()
    if not len(mesh.faces):
        return np.zeros((0, 6), np.float32)
    found, _, _ = sample_mesh(mesh, 2**13, np.random.default_rng(0))
    matrix = standing(mesh.vertices, metres)
    placed = found @ matrix[:3, :3].T + matrix[:3, 3]
    colours = thing.fine.colours(found.astype(np.float32), found.astype(np.float32))
    return np.concatenate([placed, colours], 1).astype(np.float32)


def _write(
    thing: Magic,
    back: NDArray[np.float64] | None,
    settings: GenerateSettings,
    metres: float,
    place: int,
    out: Path,
    progress: Progress,
    until: float,
) -> Generator[Progress, None, dict[str, Any]]:
    """As ``dreaming`` writes things: the fine mesh with its texture, and the field of the coarse stage. back: where a
    shape that stays has been."""
    mesh, facts = yield from telling(finished(thing.fine, settings), progress, until)
    box_to_world = standing(mesh.vertices, metres) if back is None else back
    return {**dreaming.written(mesh, thing.coarse, box_to_world, place, out), "mesh": facts}


def finished(fine: FineMesh, settings: GenerateSettings) -> Generator[float, None, tuple[Mesh, dict[str, Any]]]:
    """The mesh without what floats around it, with as many faces as are wanted, and its texture; facts of it.

    Raises EmptyFieldError where there is none. Yields the share done.
    """
    whole = mesh = fine.mesh()
    if fine.fixed is None:
        whole = cleanup.remove_floaters(mesh, MeshSettings().floaters)
        if not len(whole.faces):
            raise EmptyFieldError("Nothing is left of the thing: the fine stage has dissolved it.", LONGER)
        mesh = cleanup.make_watertight(cleanup.decimate(whole, settings.faces))
    yield 0.1
    baking = texture.bake(mesh, fine.colours, settings.texture or TEXTURE, whole if settings.normal_map else None)
    made = yield from between(baking, 0.1, 0.95)
    facts = {"vertices": len(made.vertices), "faces": len(made.faces), "colour": "texture"}
    return made, facts
