# SPDX-License-Identifier: GPL-3.0-or-later
"""NeRF: posed pictures -> radiance field -> novel views and a mesh.

``train`` reads top to bottom: read the pictures, find the box, train, look at the held-out views, make the mesh. What
is trained stands in ``nerf_fast`` and ``nerf_paper``. ``remesh`` and ``render`` work on a field that ``train`` saved.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..data import normalise, posed_images, training_pixels
from ..data.posed_images import PosedImages
from ..data.training_pixels import TrainingPixels
from ..errors import Gen3DError
from ..metrics import image as image_metrics
from ..settings import NerfSettings, RemeshSettings, RenderSettings
from . import camera_path, nerf_fast, nerf_paper, novel_views, radiance
from .camera_path import CameraPath
from .devices import choose_device
from .meshing import write_mesh
from .nerf_fast import FastNerf, FastTraining, Shape
from .nerf_paper import PaperNerf, PaperTraining
from .progress import Pipeline, Progress, Snapshot, telling
from .radiance import RadianceField, Scene

Training = FastTraining | PaperTraining

TARGET_CPU, TARGET_GPU = 3 * 2**13, 2**18  # samples a step
LOG2_ROWS_CPU, LOG2_ROWS_GPU = 17, 19  # what fits the caches
YIELD_SECONDS = 0.1
SMALLEST = 16  # pixels
EVALUATED_PIXELS_CPU = 30_000_000
TRAINED, EVALUATED, FILMED = 0.85, 0.92, 0.95  # share of the whole job that is then done


def train(settings: NerfSettings, out: Path, resume: Snapshot | None = None) -> Pipeline:
    """Trains a field, measures it on held-out views, and writes it, the views, the metrics and the mesh."""
    yield Progress("prepare", 0, 0, 0.0)
    device = choose_device(settings.device)
    torch.manual_seed(settings.seed)
    images = posed_images.load(settings.dataset)
    _require_size(images)
    yield Progress("prepare", 1, 3, 0.01)
    world_to_box, unbounded, notes = normalise.world_to_box(images, settings.scene)
    hull = None if unbounded else torch.from_numpy(normalise.visual_hull(images, world_to_box))
    scene = describe(settings.preset, images, world_to_box, unbounded, device)
    yield Progress("prepare", 2, 3, 0.02)

    pixels = TrainingPixels(images, world_to_box, device)
    field = radiance.build(scene, hull).to(device)
    training = start(settings, field, pixels, hull)
    spent = 0.0
    if resume is not None:
        spent = restore(training, resume)

    def snapshot() -> Snapshot:
        tensors, facts = training.state()
        tensors = {f"training.{name}": value for name, value in tensors.items()}
        tensors |= {f"field.{name}": value for name, value in field.state_dict().items()}
        copies = {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}
        return Snapshot(copies, {**facts, "preset": settings.preset, "seconds": spent})

    def preview() -> NDArray[np.uint8]:
        return novel_views.preview(field.eval(), scene, pixels.cameras)

    limit = settings.steps or (0 if settings.seconds else default_steps(settings.preset))
    began, told = time.perf_counter() - spent, 0.0
    while (fraction := _fraction(spent, settings.seconds, training.steps, limit)) < 1:
        loss = training.step(fraction)
        spent = time.perf_counter() - began
        if spent - told >= YIELD_SECONDS or training.steps == 1:
            told = spent
            done = _fraction(spent, settings.seconds, training.steps, limit)
            yield Progress(
                "train",
                training.steps,
                limit if not settings.seconds else 0,
                0.02 + (TRAINED - 0.02) * min(done, 1),
                seconds_left=spent / done * (1 - done) if done > 0 else None,
                loss=float(loss),
                preview=preview,
                shape=lambda: novel_views.seen_points(field.eval(), scene, pixels.cameras),
                snapshot=snapshot,
            )
            field.train()
    settle(field)

    yield Progress("evaluate", 0, 0, TRAINED, preview=preview, snapshot=snapshot)
    metrics = yield from evaluate(field, scene, images, world_to_box, device, out, snapshot)
    if settings.turntable:
        lenses = [novel_views.scene_lens(scene)] * settings.turntable
        cameras = novel_views.pinholes(scene, novel_views.turntable(scene, settings.turntable), lenses).to(device)
        filming = novel_views.write_views(field, scene, cameras, lenses, out, pngs=False, movie=True)
        for index, count, share in filming:
            yield Progress("render", index, count, EVALUATED + (FILMED - EVALUATED) * share, snapshot=snapshot)
    radiance.save(field, scene, out)
    making = write_mesh(field, settings.mesh, np.array(scene.box_to_world), np.array(scene.eyes), device, out)
    mesh, files = yield from telling(making, Progress("mesh", 0, 0, FILMED, snapshot=snapshot), 1.0)
    files |= {"field": radiance.FILE, "metrics": "metrics.json"}
    if settings.turntable:
        files["film"] = "turntable.mp4"
    return {
        "device": str(device),
        "steps": training.steps,
        "seconds": round(spent, 3),
        "box_to_world": scene.box_to_world,
        "unbounded": unbounded,
        "files": files,
        "mesh": mesh,
        "metrics": metrics,
        "notes": [*images.notes, *notes],
    }


def remesh(settings: RemeshSettings, out: Path, resume: Snapshot | None = None) -> Pipeline:
    """Another mesh of a saved field, without training."""
    yield Progress("prepare", 0, 0, 0.0)
    device = choose_device(settings.device)
    field, scene = radiance.load(Path(settings.result), device)
    making = write_mesh(field, settings.mesh, np.array(scene.box_to_world), np.array(scene.eyes), device, out)
    mesh, files = yield from telling(making, Progress("mesh", 0, 0, 0.0), 1.0)
    return {"device": str(device), "box_to_world": scene.box_to_world, "files": files, "mesh": mesh}


def render(settings: RenderSettings, out: Path, resume: Snapshot | None = None) -> Pipeline:
    """Pictures of a saved field along a camera path, or around it."""
    yield Progress("prepare", 0, 0, 0.0)
    device = choose_device(settings.device)
    field, scene = radiance.load(Path(settings.result), device)
    if settings.cameras:
        path = camera_path.read(Path(settings.cameras))
    else:
        path = CameraPath(novel_views.turntable(scene, settings.frames))
    known = path.lenses or [novel_views.scene_lens(scene)] * len(path.camera_to_world)
    lenses = [novel_views.resized(lens, settings.width, settings.height) for lens in known]
    cameras = novel_views.pinholes(scene, path.camera_to_world, lenses).to(device)
    writing = novel_views.write_views(
        field, scene, cameras, lenses, out, pngs=settings.png, movie=settings.film, exrs=settings.exr
    )
    for index, count, share in writing:
        yield Progress("render", index, count, share)
    wanted = {"views": settings.png, "exr": settings.exr, "film": settings.film}
    files = {role: "turntable.mp4" if role == "film" else role for role, asked in wanted.items() if asked}
    facts = {"frames": len(lenses), "width": lenses[0].width, "height": lenses[0].height}
    return {"device": str(device), "box_to_world": scene.box_to_world, "files": files, "views": facts}


# ------------------------------------------------------------------------------------------------------- preparing


def describe(
    preset: str, images: PosedImages, world_to_box: NDArray[np.float64], unbounded: bool, device: torch.device
) -> Scene:
    """What the field's file will say of the scene."""
    train_split = images.splits["train"].tolist()
    cameras = training_pixels.cameras(images, world_to_box, train_split)
    eyes = cameras.to_box[:, :, 3].double().numpy()
    up = cameras.to_box[:, :, 1].double().mean(0).numpy()
    length = float(np.linalg.norm(up))
    up = up / length if length > 0.1 else np.array([0.0, 0.0, 1.0])
    if up[2] > 0.9:  # as good as upright: it is, then, and the sample of views was a little uneven
        up = np.array([0.0, 0.0, 1.0])
    # Per camera, how much a pixel spans at the middle of the scene; surroundings are as far off as the cameras are.
    distance = np.maximum(np.linalg.norm(eyes, axis=1), 1e-3)
    footprint = float(np.median(distance / cameras.lens[:, 0].double().numpy()))
    rows = LOG2_ROWS_CPU if device.type == "cpu" else LOG2_ROWS_GPU
    first = images.intrinsics[train_split[0]]
    return Scene(
        preset,
        {"unbounded": unbounded, "footprint": footprint, "log2_rows": rows},
        np.linalg.inv(world_to_box).tolist(),
        first.width,
        first.height,
        (first.fl_x, first.fl_y, first.cx, first.cy),
        (float(up[0]), float(up[1]), float(up[2])),
        images.has_alpha,
        [(float(x), float(y), float(z)) for x, y, z in eyes],
    )


def start(
    settings: NerfSettings, field: FastNerf | PaperNerf, pixels: TrainingPixels, hull: torch.Tensor | None
) -> Training:
    """The training of a field, with every kernel compiled. Raises Gen3DError for options that exclude each other."""
    if isinstance(field, PaperNerf):
        if settings.exposure:
            raise Gen3DError("The paper preset knows no exposure.", "Use the fast preset.", field="exposure")
        return PaperTraining(field, pixels, settings.seed)
    device = pixels.values.device
    state = torch.get_rng_state()
    # Compiling takes seconds at first use, which are not to count as training. What is compiled with is thrown away.
    trial = FastNerf(Shape(field.shape.unbounded, field.shape.footprint, 8), hull).to(device)
    trial.field.dtype = nerf_fast.mlp_dtype(device)
    warm = FastTraining(trial, pixels, settings.exposure, 256, 0)
    warm.rays, warm.steps = 16, nerf_fast.PRUNE_FROM
    warm.step(0.0)
    torch.set_rng_state(state)
    field.field.dtype = nerf_fast.mlp_dtype(device)
    target = TARGET_CPU if device.type == "cpu" else TARGET_GPU
    return FastTraining(field, pixels, settings.exposure, target, settings.seed)


def restore(training: Training, resume: Snapshot) -> float:
    """Puts a training back where a snapshot was taken; the seconds it had trained.

    Raises KeyError or RuntimeError where the snapshot is of another training.
    """
    parts: dict[str, dict[str, torch.Tensor]] = {"field": {}, "training": {}}
    for name, value in resume.tensors.items():
        part, rest = name.split(".", 1)
        parts[part][rest] = value
    training.model.load_state_dict(parts["field"])
    training.restore(parts["training"], resume.facts)
    return float(resume.facts["seconds"])


def default_steps(preset: str) -> int:
    """Steps of a preset where neither steps nor seconds are given."""
    return nerf_fast.STEPS if preset == "fast" else nerf_paper.STEPS


def settle(field: FastNerf | PaperNerf) -> None:
    """Training is over: whole precision from here on. Raises FloatingPointError when there is nothing to keep."""
    field.eval()
    if isinstance(field, FastNerf):
        field.field.dtype = torch.float32
    if not all(bool(torch.isfinite(parameter).all()) for parameter in field.parameters()):
        raise FloatingPointError("the field's weights are no longer numbers")


def _fraction(seconds: float, time_limit: float, steps: int, step_limit: int) -> float:
    """How much of the training is done, by whichever limit is nearer."""
    return max(seconds / time_limit if time_limit else 0.0, steps / step_limit if step_limit else 0.0)


def _require_size(images: PosedImages) -> None:
    for name, lens in zip(images.names, images.intrinsics, strict=True):
        if min(lens.width, lens.height) < SMALLEST:
            raise Gen3DError(
                f"{name} is {lens.width} x {lens.height} pixels.",
                f"Give pictures of at least {SMALLEST} x {SMALLEST}.",
                field="dataset",
            )


# ------------------------------------------------------------------------------------------------------- finishing


def evaluate(
    field: RadianceField,
    scene: Scene,
    images: PosedImages,
    world_to_box: NDArray[np.float64],
    device: torch.device,
    out: Path,
    snapshot: Any,
) -> Generator[Progress, None, dict[str, Any]]:
    """Renders the held-out views into views/, compares them with the pictures, and writes metrics.json; the means.

    Pictures with alpha are compared on white. Where a mask says not to trust a pixel, it does not count.
    """
    held_out = images.splits["test"].tolist()
    if device.type == "cpu" and held_out:
        each = max(images.images[i].shape[0] * images.images[i].shape[1] for i in held_out)
        count = max(1, min(len(held_out), EVALUATED_PIXELS_CPU // each))
        held_out = [held_out[i * len(held_out) // count] for i in range(count)]
    lpips, without = image_metrics.load_lpips(str(device))
    cameras = training_pixels.cameras(images, world_to_box, held_out).to(device) if held_out else None
    (out / "views").mkdir()
    views = []
    for index, picked in enumerate(held_out):
        truth = training_pixels.as_float(images.images[picked])
        height, width = truth.shape[:2]
        assert cameras is not None
        drawing = novel_views.picture(field, cameras, index, width, height)
        while True:
            try:
                share = (index + next(drawing)) / len(held_out)
            except StopIteration as end:
                seen = novel_views.over(end.value, novel_views.backdrop(scene))
                break
            yield Progress("evaluate", index, len(held_out), TRAINED + (EVALUATED - TRAINED) * share, snapshot=snapshot)
        Image.fromarray(novel_views.to_bytes(seen)).save(out / "views" / f"{index:04}.png")
        if truth.shape[2] == 4:
            truth = truth[..., :3] * truth[..., 3:] + (1 - truth[..., 3:])
        mask = images.masks[picked]
        trusted = np.ones((height, width), np.bool_) if mask is None else mask
        psnr = image_metrics.psnr(seen[trusted], truth[trusted]) if trusted.any() else image_metrics.PSNR_LIMIT
        seen = np.where(trusted[..., None], seen, truth)
        distance = lpips(seen, truth) if lpips else None
        views.append(image_metrics.ViewMetrics(images.names[picked], psnr, image_metrics.ssim(seen, truth), distance))
    summary = image_metrics.summary(views, without)
    summary["held_out"] = len(images.splits["test"])
    (out / "metrics.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    missing = {"lpips_missing": summary["lpips_missing"]} if "lpips_missing" in summary else {}
    return {**summary["mean"], "views": len(views), "held_out": summary["held_out"], **missing}
