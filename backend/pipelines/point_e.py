# SPDX-License-Identifier: GPL-3.0-or-later
"""Point-E (Nichol et al. 2022): words or a picture -> coloured points -> coloured mesh.

``generate`` reads top to bottom, as the paper does:

    look      words -> a view of the thing (§4.2; any text-to-image pipeline in place of the one never released) -> CLIP
    sample    what was seen -> 1024 points (§4.3) -> 4096 points (§4.4)
    mesh      points -> signed distances on a grid -> marching cubes, coloured by the nearest points (§4.5)

What the models are stands in ``point_diffusion``, which of them are taken in ``point_e_priors``, and how far a job is
in ``point_e_job``. The embedded prior goes a shorter way: words -> 1024 points -> 8192 by the same model -> mesh.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .. import weights
from ..data.pictures import read_picture
from ..geometry import cleanup, enclosure, export, texture
from ..geometry.mesh import Mesh
from ..geometry.standing import standing
from ..geometry.transfer import colours_of
from ..guidance import text_to_image
from ..guidance.clip import Clip
from ..guidance.word_grid import WordGrid
from ..point_diffusion import karras, sdf
from ..point_diffusion.diffusion import as_points
from ..point_diffusion.karras import PointModel, State
from ..point_diffusion.stages import Stage
from ..priors import embedded
from ..rendering import point_picture
from ..settings import GenerateSettings
from . import point_e_priors
from .devices import choose_device, half_precision
from .point_e_job import Job
from .progress import Pipeline, Progress, Snapshot, telling

BATCH = {"cuda": 8}  # samples at a time; elsewhere one, so that each step is soon over
LOOKED, SAMPLED = 0.1, 0.85  # share of the whole job that is then done
FLOATERS = 0.005  # share of the largest part's area below which a loose part is not one
ROUNDS = 10  # of smoothing


def generate(settings: GenerateSettings, out: Path, resume: Snapshot | None = None) -> Pipeline:
    """Makes ``count`` meshes, and, where they are asked for, writes the points and the view they were made from."""
    yield Progress("prepare", 0, 0, 0.0)
    began = time.perf_counter()
    settings.check()
    picture = read_picture(settings.image, "image") if settings.image else None
    job = Job(settings, choose_device(settings.device), point_e_priors.choose(settings, picture is not None))
    if resume is not None:
        job.restore(resume)
    else:
        yield from look(job, picture)
    yield from sample(job)
    objects = yield from mesh(job, out)
    files = {role: name for made in objects for role, name in made["roles"].items()}
    if job.view is not None:
        Image.fromarray(job.view).save(out / "view.png")
        files["view"] = "view.png"
    return {
        "device": str(job.device),
        "prior": job.prior.name,
        "steps": sum(sampling.karras_steps for sampling in job.samplings),
        "seconds": round(time.perf_counter() - began, 3),
        "box_to_world": objects[0]["box_to_world"],
        "files": files,
        "mesh": objects[0]["mesh"],
        "objects": [{name: value for name, value in made.items() if name != "roles"} for made in objects],
        "notes": job.notes,
    }


# ------------------------------------------------------------------------------------------------------------- look


def look(job: Job, picture: Image.Image | None) -> Generator[Progress, None, None]:
    """What the prior is told of the words, or of the picture."""
    prompt, prior = job.settings.prompt.strip(), job.prior
    if prior.sees == "words":
        assert prior.folder is not None
        tokenizer = prior.folder / "tokenizer"
        words = WordGrid(
            prior.folder / "text_encoder",
            tokenizer if tokenizer.is_dir() else embedded.TOKENIZER,
            prior.stages[0].config["cond_tokens"],
            job.device,
        )
        said = prompt
        if prior.embedded:
            said, told = embedded.read(prompt, point_e_priors.INSTALL)
            job.notes += ["Made with the embedded prior.", *told]
        job.seen["grid"] = words.encode(said)
        rest = words.beyond(said)
    else:
        if picture is None and prior.sees != "text":
            picture = yield from _draw(prompt, job)
        clip = Clip(weights.require(point_e_priors.CLIP), job.device)
        rest = clip.beyond(prompt) if prior.sees == "text" else ""
        if prior.sees == "text":
            job.seen["vector"] = clip.encode_text([prompt])
        else:
            assert picture is not None
            if job.settings.remove_background:
                picture = text_to_image.remove_background(picture)
            picture = text_to_image.on_background(picture)
            pixels = clip.preprocess([picture])
            with torch.no_grad():
                job.seen["grid"] = clip.patch_grid(pixels)
                if prior.sees == "picture":
                    job.seen["vector"] = clip.encode_image(pixels)
            job.view = (pixels[0].permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        job.notes.append(f"Made with the published weights {prior.name}.")
    if rest:
        job.notes.append(f"The prompt is too long to be read to its end: {rest[:80]!r} was left out.")


def _draw(prompt: str, job: Job) -> Generator[Progress, None, Image.Image]:
    """A view of what the words say (§4.2)."""
    drawing = text_to_image.TextToImage(weights.require(job.settings.text_to_image), job.device).draw(
        prompt, seed=job.settings.seed
    )
    while True:
        try:
            done = next(drawing)
        except StopIteration as end:
            image: Image.Image = end.value
            return image
        yield Progress("view", done.step, done.total, LOOKED * done.step / max(done.total, 1))


# ----------------------------------------------------------------------------------------------------------- sample


def sample(job: Job) -> Generator[Progress, None, None]:
    """The clouds, a batch of seeds at a time, stage after stage (§4.3, §4.4)."""
    models: dict[int, PointModel] = {}
    told = _teller(job)
    while len(job.clouds) < job.settings.count:
        if not job.generators:
            first = job.settings.seed + len(job.clouds)
            batch = min(BATCH.get(job.device.type, 1), job.settings.count - len(job.clouds))
            job.generators = [torch.Generator().manual_seed(first + i) for i in range(batch)]
        stage, sampling = job.prior.stages[job.stage], job.samplings[job.stage]
        if job.stage not in models:
            models[job.stage] = job.prior.load_stage(job.stage, job.device)
        noise = karras.drawn(job.generators)
        if job.state is None and stage.copies and job.points is not None:
            job.state = again(stage, sampling, noise, job.points)
        elif job.state is None:
            points = job.settings.points if job.stage == 0 and job.settings.points else stage.points
            job.state = karras.start(sampling, noise, (len(job.generators), stage.config["input_channels"], points))
        steps = karras.sample(
            models[job.stage],
            stage.diffusion,
            sampling,
            job.state,
            noise,
            _for_each(job.seen.get(stage.embeds), len(job.state.x)),
            None if stage.copies else job.points,
            half_precision(job.device, trained_so=job.prior.sees == "words"),
        )
        for job.state in steps:
            if not bool(torch.isfinite(job.state.x).all()):
                raise FloatingPointError("the points are no longer numbers")
            yield told()
        found = stage.diffusion.unscale(_side_by_side(job.state.clean, len(job.generators)))
        job.points = found if job.points is None else torch.cat([job.points, found], 2)
        job.stage, job.state = job.stage + 1, None
        if job.stage == len(job.prior.stages):
            job.clouds += list(job.points)
            job.generators, job.points, job.stage = [], None, 0


def again(stage: Stage, sampling: karras.Sampling, noise: karras.Noise, points: Tensor) -> State:
    """Copies of finished points [B, 6, K], noised: [B * copies, 6, K]."""
    count, channels, size = points.shape
    added = noise((count, channels, stage.copies * size)).view(count, channels, stage.copies, size).transpose(1, 2)
    clean = stage.diffusion.scale(points.cpu().double())[:, None].expand(count, stage.copies, channels, size)
    return State(0, (clean + sampling.sigma_max * added).flatten(0, 1), clean.flatten(0, 1))


def _side_by_side(clouds: Tensor, count: int) -> Tensor:
    """[B * copies, 6, K] -> [B, 6, copies * K]."""
    side_by_side: Tensor = clouds.view(count, -1, *clouds.shape[1:]).transpose(1, 2).flatten(2)
    return side_by_side


def _for_each(embedding: Tensor | None, count: int) -> Tensor | None:
    return None if embedding is None else embedding.expand(count, *embedding.shape[1:])


def _teller(job: Job) -> Callable[[], Progress]:
    """Progress of the sampling; a stage's work is taken to grow with the points it looks at."""
    began, first = time.perf_counter(), None
    seen = np.cumsum([stage.points for stage in job.prior.stages])
    work = [float(points * sampling.karras_steps) for points, sampling in zip(seen, job.samplings, strict=True)]

    def told() -> Progress:
        nonlocal first
        assert job.state is not None
        step, steps = job.state.step, job.samplings[job.stage].karras_steps
        batch = (sum(work[: job.stage]) + work[job.stage] * step / steps) * len(job.generators)
        done = (batch + sum(work) * len(job.clouds)) / (sum(work) * job.settings.count)
        first = done if first is None else first
        rate = (time.perf_counter() - began) / (done - first) if done > first else None
        return Progress(
            "points" if job.stage == 0 else "upsample",
            step,
            steps,
            LOOKED + (SAMPLED - LOOKED) * done,
            seconds_left=None if rate is None else rate * (1 - done),
            preview=lambda: point_picture.draw(*_drawn(job)),
            shape=lambda: _stood(job),
            snapshot=job.snapshot,
        )

    return told


def _drawn(job: Job) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points and colours of the first cloud of those being drawn, as it is expected to become."""
    assert job.state is not None
    clean = _side_by_side(job.state.clean, len(job.generators))
    cloud = job.prior.stages[job.stage].diffusion.unscale(clean)
    if job.points is not None:
        cloud = torch.cat([job.points, cloud], 2)
    return as_points(cloud[0])


def _stood(job: Job) -> NDArray[np.float32]:
    """The same where its mesh will stand, [N, 6]."""
    points, colours = _drawn(job)
    matrix = standing(points, job.settings.size or embedded.metres(job.settings.prompt))
    world = points @ matrix[:3, :3].T + matrix[:3, 3]
    return np.concatenate([world, colours / 255], 1).astype(np.float32)


# ------------------------------------------------------------------------------------------------------------- mesh


def mesh(job: Job, out: Path) -> Generator[Progress, None, list[dict[str, Any]]]:
    """The files of all clouds (§4.5); what is told of each."""
    model, count = job.prior.load_distance(job.device), len(job.clouds)
    metres = job.settings.size or embedded.metres(job.settings.prompt)
    colour = "texture" if job.settings.texture else "vertex"
    objects = []
    for index, cloud in enumerate(job.clouds):
        points, colours = as_points(cloud)
        picture = partial(point_picture.draw, points, colours)
        before, each = SAMPLED + (1 - SAMPLED) * index / count, (1 - SAMPLED) / count
        yield Progress("mesh", index, count, before, preview=picture, snapshot=job.snapshot)
        making = surface(points, colours, model, job.settings.resolution, job.settings.faces, job.device)
        progress = Progress("mesh", index, count, before, snapshot=job.snapshot)
        made, fine = yield from telling(making, progress, before + each)
        ending = f"_{index + 1}" if index else ""
        if job.settings.texture:
            known = fine if job.settings.normal_map else None
            painting = texture.bake(made, colours_of(made), job.settings.texture, known)
            progress = Progress("texture", index, count, before + each, snapshot=job.snapshot)
            made = yield from telling(painting, progress, progress.fraction)
        box_to_world = standing(made.vertices, metres)
        files = export.write_all(made, box_to_world, out, f"mesh{ending}")
        if job.settings.save_points:
            files["points"] = f"points{ending}.ply"
            bare = Mesh(points, np.zeros((0, 3), np.int32), colours)
            (out / files["points"]).write_bytes(export.ply(bare, box_to_world))
        objects.append(
            {
                "seed": job.settings.seed + index,
                "files": files,
                "roles": {role + ending: name for role, name in files.items()},
                "box_to_world": box_to_world.tolist(),
                "points": len(points),
                "mesh": {"vertices": len(made.vertices), "faces": len(made.faces), "colour": colour},
            }
        )
    return objects


def surface(
    points: NDArray[np.float32],
    colours: NDArray[np.uint8],
    model: sdf.CrossAttentionPointCloudSDFModel | None,
    resolution: int,
    faces: int,
    device: torch.device,
) -> Generator[float, None, tuple[Mesh, Mesh]]:
    """A closed mesh of about ``faces`` triangles around points [K, 3], and the one that it was reduced from, which has
    no colours. Yields the share done.

    As published, each vertex has the colour of its nearest point. Without a model, a ball is rolled around the points,
    and those around a vertex agree on its colour. Raises Gen3DError where there is no surface.
    """
    kept = enclosure.without_strays(points)
    points, colours = points[kept], colours[kept]
    if model is None:
        values = torch.from_numpy(enclosure.enclosure(points, resolution, sdf.SIDE))
        yield 0.9
    else:
        distance = sdf.distance_to(model, torch.from_numpy(points).to(device))
        values = yield from sdf.traced_field(distance, device, resolution)
    fine = cleanup.remove_floaters(cleanup.remove_inside(Mesh(*sdf.solid(values))), FLOATERS)
    if model is None:  # the points scatter
        fine = cleanup.smooth(fine, ROUNDS)
    made = cleanup.decimate(fine, faces)
    if model is None:
        return replace(made, colors=enclosure.usual_colours(points, colours, made.vertices)), fine
    return replace(made, colors=colours[sdf.nearest(points, made.vertices)]), fine
