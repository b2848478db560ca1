# SPDX-License-Identifier: GPL-3.0-or-later
"""What Dream Fields and DreamFusion have in common: a field for each seed is trained, ranked, and made into a mesh."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .. import weights
from ..data.pictures import read_picture
from ..errors import Gen3DError
from ..geometry import export
from ..geometry.mesh import Mesh
from ..geometry.standing import standing
from ..geometry.surface import EmptyFieldError
from ..guidance import text_to_image
from ..guidance.clip import Clip
from ..guidance.diffusion_prior import DiffusionPrior
from ..priors import embedded
from ..rendering.orbit import orbit
from ..rendering.viewpoints import View, rays
from ..settings import GenerateSettings, MeshSettings
from ..shares import ended, told_as
from . import beginning, novel_views, radiance
from .dream_field import UNIT, DreamField
from .meshing import make_mesh
from .progress import Pipeline, Progress, Snapshot, telling
from .radiance import Scene

BEGUN, TRAINED = 0.02, 0.85  # share of the whole job that is then done
SHAPED = 0.2  # of the making of a thing, when it has points to begin with
YIELD_SECONDS = 0.1
DISTANCE, ELEVATION, FOCAL = 4.0, 20.0, 1.5  # of the cameras that look at what was made, in sides of half the cube
SCORERS = ("clip-vit-b32", "clip-vit-b16", "clip-vit-l14")  # the first that is installed and is not the guide
ELSE = "Take another seed or more iterations, or let it begin as points (`begin`) or as a mesh (`start`)."
LEFT_OUT = "The prompt is too long to be read to its end: {!r} was left out."
STYLE_ADAPTERS = ("ip-adapter-sd15", "ip-adapter-sdxl")
SHEET, SMALL = 192, 128  # pixels, of one view
SHEET_FROM = [30.0, 120.0, 210.0, 300.0]
BACKDROP = 0.8  # sRGB grey, in front of which white things are seen, too
JUDGED_FROM = (0.0, 45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0)


class Training(Protocol):
    """The optimisation of one thing: a field, or what ``Ways`` know to show of it."""

    @property
    def steps(self) -> int:
        """How many were done."""

    @property
    def field(self) -> Any:
        """What is optimised, a module with the ``origin`` [3] that cameras look at."""

    def step(self) -> dict[str, float]:
        """One iteration; its "loss", and more."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next step depends on, besides the field."""

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """The inverse."""


@dataclass(frozen=True)
class Ways:
    """How a thing in the making is shown and written.

    look: the thing, azimuths, pixels of a side, grey behind -> sRGB [N, 3, S, S]. points: the thing and its size in
    metres -> ``Progress.shape``. write: see ``_write``. rough: the thing -> the field that it was made of in a stage
    before, which is worth having if the job is stopped; None: there is none.
    """

    look: Callable[[Any, list[float], int, float], Tensor]
    points: Callable[[Any, float], NDArray[np.float32]]
    write: Callable[..., Generator[Progress, None, dict[str, Any]]]
    rough: Callable[[Any], DreamField | None] = lambda thing: None


def said(prompt: str, prior: str, install: str, personal: bool = False) -> tuple[str, list[str]]:
    """The prompt as ``prior`` reads it, and notes. personal: it has words of the user's own, so all are left as they
    are. Raises Gen3DError where it knows none of the words.
    """
    if not weights.are_embedded(prior):
        return prompt, [f"Made with {prior}."]
    if personal:
        return prompt, ["Made with the embedded prior, which read the prompt as it is."]
    words, notes = embedded.read(prompt, install)
    return words, ["Made with the embedded prior.", *notes]


def aside(text: str, prior: DiffusionPrior, known: bool) -> tuple[str, list[str]]:
    """A further prompt as a text-to-image model reads it, and notes on what it does not. known: it is the embedded one,
    which knows no words of the user's own."""
    read = embedded.understood(text) if known else text
    notes = []
    if missing := [repr(word) for word, _ in embedded.unknown_words(text)] if known else []:
        notes.append(f"Of {text[:80]!r} the embedded prior does not know {', '.join(missing)}.")
    if rest := prior.beyond(read):
        notes.append(LEFT_OUT.format(rest[:80]))
    return read, notes


def adapt(prior: DiffusionPrior, settings: GenerateSettings, own: bool) -> None:
    """Has a text-to-image model know the things and go by the picture that the settings name. own: it is embedded.

    Raises Gen3DError for files that are damaged or of another model, and for a picture where it sees none.
    """
    if settings.inversion:
        prior.learn_word(Path(settings.inversion), settings.token.strip())
    if settings.lora:
        prior.learn(Path(settings.lora), settings.lora_scale)
    if settings.style:
        if own:
            cause = "The embedded prior has no image-conditioned path: it cannot take over a picture's style."
            raise Gen3DError(cause, "Leave the style out, or install Stable Diffusion 1.5 or XL.", field="style")
        picture = text_to_image.on_background(read_picture(settings.style, "style"))
        large = getattr(prior.pipeline, "text_encoder_2", None) is not None
        name = settings.style_adapter or STYLE_ADAPTERS[large]
        adapter, published = weights.require(name), weights.PUBLISHED.get(name)
        prior.look_at(picture, adapter / published.files[0] if published else adapter, settings.style_scale)


def make(
    settings: GenerateSettings,
    out: Path,
    resume: Snapshot | None,
    begin: Callable[[int, Mesh | Path | None], Training],
    iterations: int,
    guide: str,
    words: str,
    ways: Ways | None = None,
) -> Pipeline:
    """Things of all seeds and their files in ``out``: meshes, fields, and a sheet of what they look like.

    begin: makes the training of a seed, of a thing that begins as a shape or as fog. guide: what guides it; several are
    ranked by a CLIP other than that, best first, which is asked for the ``words``. ways: unless given, those of fields.

    A seed of which nothing comes is left out. Raises Gen3DError where that are all, or where the scorer is the guide.
    """
    if settings.scorer and settings.scorer == guide:
        cause = f"{guide} guides the field, so that what it says of the result is worth nothing."
        raise Gen3DError(cause, "Name another CLIP as the scorer, or none.", field="scorer")
    ways, own = ways or FIELDS, weights.are_embedded(guide)
    began, count = time.perf_counter(), settings.count
    done: list[dict[str, Tensor]] = []
    training: Training | None = None
    if resume is not None:
        done = [_under(f"done.{index}.", resume.tensors) for index in range(int(resume.facts["done"]))]
    metres = settings.size or embedded.metres(settings.prompt)

    def snapshot() -> Snapshot:
        tensors = {f"done.{i}.{name}": value for i, state in enumerate(done) for name, value in state.items()}
        facts: dict[str, Any] = {}
        if training is not None:
            own, facts = training.state()
            tensors |= {f"training.{name}": value for name, value in own.items()}
            tensors |= {f"field.{name}": value for name, value in training.field.state_dict().items()}
        copies = {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}
        return Snapshot(copies, {**facts, "done": len(done), "training": training is not None})

    def shaping(progress: Progress) -> Progress:
        share = (len(done) + SHAPED * progress.fraction) / count
        fraction = BEGUN + (TRAINED - BEGUN) * share
        return replace(progress, fraction=fraction, snapshot=snapshot if done else None)

    while len(done) < count:
        training, seed = None, settings.seed + len(done)
        if resume is not None and resume.facts["training"]:
            training = begin(seed, None)
            training.field.load_state_dict(_under("field.", resume.tensors))
            training.restore(_under("training.", resume.tensors), resume.facts)
        else:
            training = begin(seed, (yield from told_as(beginning.shape(settings, own, seed), shaping)))
        resume = None
        within = len(done), count, SHAPED if beginning.from_points(settings, own) else 0.0
        try:
            yield from _train(training, iterations, within, settings, metres, snapshot, ways)
            done.append({name: value.detach().cpu().clone() for name, value in training.field.state_dict().items()})
        except EmptyFieldError:
            done.append({})
    training = begin(settings.seed, None) if training is None else training
    field, training = training.field.eval(), None

    order, scores = [index for index in range(count) if done[index]], dict[int, float]()
    notes = [beginning.NOTE] if beginning.from_points(settings, own) else []
    if len(order) > 1 and (found := scorer(settings, guide, field.origin.device)) is not None:
        yield Progress("evaluate", 0, count, TRAINED, snapshot=snapshot)
        asked = embedded.understood(words) if weights.are_embedded(found[1]) else words
        for index in order if asked else ():
            scores[index] = liking(partial(ways.look, _restored(field, done[index])), found[0], asked)
        order.sort(key=lambda index: -scores.get(index, 0.0))
        ranked = f"The results are ranked by {found[1]}, best first."
        notes.append(ranked if asked else f"The results are not ranked: {found[1]} knows none of the words.")
    objects: list[dict[str, Any]] = []
    sheet = []
    for index in order:
        place = len(objects)
        before, after = (TRAINED + (1 - TRAINED) * (place + more) / count for more in (0, 1))
        progress = Progress("mesh", place, count, before, snapshot=snapshot)
        thing = _restored(field, done[index])
        try:
            made = yield from ways.write(thing, settings, metres, place, out, progress, after)
        except EmptyFieldError:
            done[index] = {}
            continue
        score = {"score": round(scores[index], 4)} if index in scores else {}
        objects.append({"seed": settings.seed + index, **score, **made})
        sheet.append(beside(ways.look(thing, SHEET_FROM, SHEET, BACKDROP)))
    if lost := [str(settings.seed + index) for index in range(count) if not done[index]]:
        if not objects:
            raise EmptyFieldError(f"Nothing came of {_seeds(lost)}: the field is empty.", ELSE, field="seed")
        notes.append(f"Nothing came of {_seeds(lost)}, which {'is' if len(lost) == 1 else 'are'} left out.")
    seconds = round(time.perf_counter() - began, 3)
    return {"steps": iterations, "seconds": seconds, **_told(objects, sheet, field.origin.device, out), "notes": notes}


def _seeds(numbers: list[str]) -> str:
    return f"seed{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"


def _told(
    objects: list[dict[str, Any]], sheet: list[NDArray[np.uint8]], device: torch.device, out: Path
) -> dict[str, Any]:
    """What is told of objects that ``Ways.write`` has written, whose pictures are put into ``out``, too."""
    Image.fromarray(np.concatenate(sheet)).save(out / "views.png")
    files = {role: name for made in objects for role, name in made["roles"].items()}
    return {
        "device": str(device),
        "box_to_world": objects[0]["box_to_world"],
        "files": {**files, "view": "views.png"},
        "mesh": objects[0]["mesh"],
        "objects": [{name: value for name, value in made.items() if name != "roles"} for made in objects],
    }


def _so_far(rough: DreamField, settings: GenerateSettings, metres: float, seed: int, out: Path) -> dict[str, Any]:
    """The result of a job that is stopped now: the coarse shape alone."""
    plain = replace(settings, texture=0, normal_map=False)
    made = ended(_write(rough, plain, metres, 0, out, Progress("mesh", 0, 0, 0.0), 1.0))
    told = _told([{"seed": seed, **made}], [beside(looked_at(rough, SHEET_FROM, SHEET))], rough.origin.device, out)
    return {**told, "notes": ["This is the coarse shape: the job was stopped before it was refined."]}


def _train(
    training: Training,
    iterations: int,
    place: tuple[int, int, float],
    settings: GenerateSettings,
    metres: float,
    snapshot: Callable[[], Snapshot],
    ways: Ways,
) -> Generator[Progress, None, None]:
    """Trains one thing, the ``place[0]``-th of ``place[1]``, of whose work a share, ``place[2]``, is done."""
    field, told, first, began = training.field, 0.0, training.steps, time.perf_counter()
    refined = ways.rough(field) is not None
    while training.steps < iterations:
        facts = training.step()
        now = time.perf_counter()
        rough = None if refined else ways.rough(field)
        if now - told < YIELD_SECONDS and rough is None and training.steps < iterations:
            continue
        told, refined = now, refined or rough is not None
        share = (place[0] + place[2] + (1 - place[2]) * training.steps / iterations) / place[1]
        left = place[1] * iterations * (1 - share) * (now - began) / (training.steps - first)
        yield Progress(
            "train",
            training.steps,
            iterations,
            BEGUN + (TRAINED - BEGUN) * share,
            seconds_left=left,
            loss=facts["loss"],
            preview=lambda: beside(ways.look(field, [30.0], SHEET, 1.0)),
            shape=lambda: ways.points(field, metres),
            snapshot=snapshot,
            so_far=partial(_so_far, rough, settings, metres, settings.seed + place[0]) if rough is not None else None,
        )
    if not all(bool(torch.isfinite(value).all()) for value in field.state_dict().values()):
        raise FloatingPointError("the field's weights are no longer numbers")


def _write(
    field: DreamField,
    settings: GenerateSettings,
    metres: float,
    place: int,
    out: Path,
    progress: Progress,
    until: float,
) -> Generator[Progress, None, dict[str, Any]]:
    """The mesh and the field of one object, the ``place``-th, in ``out``; what is told of it."""
    wanted = MeshSettings(
        resolution=settings.resolution,
        faces=settings.faces,
        texture=settings.texture,
        normal_map=settings.normal_map,
        watertight=True,
    )
    device = field.origin.device
    eyes = np.array(scene(field, np.eye(4)).eyes)
    mesh, facts = yield from telling(make_mesh(field, wanted, eyes, device), progress, until)
    return {**written(mesh, field, standing(mesh.vertices, metres), place, out), "mesh": facts}


def written(mesh: Mesh, field: DreamField, box_to_world: NDArray[np.float64], place: int, out: Path) -> dict[str, Any]:
    """The files of the ``place``-th object: its mesh and a field; what is told of them."""
    ending = f"_{place + 1}" if place else ""
    files = export.write_all(mesh, box_to_world, out, f"mesh{ending}")
    files["field"] = f"{Path(radiance.FILE).stem}{ending}.safetensors"
    radiance.save(field, scene(field, box_to_world), out, files["field"])
    return {
        "files": files,
        "roles": {role + ending: name for role, name in files.items()},
        "box_to_world": box_to_world.tolist(),
    }


# ------------------------------------------------------------------------------------------------------- looking at it


def view(azimuth: float) -> View:
    return View(orbit(azimuth, ELEVATION, DISTANCE), FOCAL, azimuth, ELEVATION)


def looked_at(field: DreamField, azimuths: list[float], size: int, backdrop: float = BACKDROP) -> Tensor:
    """sRGB [N, 3, size, size] of the field from around, in front of a grey."""
    seen = field.render(*rays([view(azimuth) for azimuth in azimuths], size, field.origin, UNIT), 1 / (FOCAL * size))
    rgb = seen.rgb + backdrop * (1 - seen.opacity[:, None])
    return rgb.clamp(0, 1).view(len(azimuths), size, size, 3).permute(0, 3, 1, 2)


def beside(seen: Tensor) -> NDArray[np.uint8]:
    """sRGB [N, 3, S, S] side by side, uint8 [S, N S, 3]."""
    return novel_views.to_bytes(seen.permute(2, 0, 3, 1).flatten(1, 2).cpu().numpy())


def scorer(settings: GenerateSettings, guide: str, device: torch.device) -> tuple[Clip, str] | None:
    """The CLIP that ranks, and its name."""
    others = [name for name in SCORERS if name != guide]
    folder, name = weights.choose(settings.scorer, others, embedded.CLIP_SCORER)
    return None if folder is None else (Clip(folder, device), name)


def liking(look: Callable[[list[float], int, float], Tensor], clip: Clip, words: str) -> float:
    """How near pictures are to the words: the mean cosine, from eight sides in front of two greys."""
    said = clip.encode_text([words])[0]
    shown = torch.cat([look(list(JUDGED_FROM), SMALL, backdrop) for backdrop in (1.0, 0.5)])
    with torch.no_grad():
        return float((clip.encode_image(shown) @ said).mean())


def standing_points(field: DreamField, metres: float) -> NDArray[np.float32]:
    """Points of the surface where the mesh will stand, as ``Progress.shape`` has them."""
    known = scene(field, np.eye(4))
    poses = np.stack([view(azimuth).pose for azimuth in JUDGED_FROM])
    poses[:, :3, 3] = poses[:, :3, 3] * UNIT + field.origin.cpu().numpy()
    cameras = novel_views.lens_cameras(known, poses, known.width, known.height).to(field.origin.device)
    found = novel_views.seen_points(field, known, cameras)
    if len(found):
        matrix = standing(found[:, :3], metres)
        found[:, :3] = found[:, :3] @ matrix[:3, :3].T + matrix[:3, 3]
    return found


def scene(field: DreamField, box_to_world: NDArray[np.float64]) -> Scene:
    """What the field's file says of it, seen as the sheet shows it."""
    eyes = [orbit(azimuth, ELEVATION, DISTANCE)[:3, 3] * UNIT + field.origin.cpu().numpy() for azimuth in JUDGED_FROM]
    return Scene(
        radiance.WORDS,
        vars(field.shape),
        box_to_world.tolist(),
        SMALL,
        SMALL,
        (FOCAL * SMALL, FOCAL * SMALL, SMALL / 2, SMALL / 2),
        (0.0, 0.0, 1.0),
        True,
        [(float(x), float(y), float(z)) for x, y, z in eyes],
    )


FIELDS = Ways(looked_at, standing_points, _write)


def _restored(field: Any, state: dict[str, Tensor]) -> Any:
    field.load_state_dict(state)
    return field


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
