# SPDX-License-Identifier: GPL-3.0-or-later
"""Words and pictures to meshes, with small random models in the real formats."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backend import models, weights
from backend.errors import Gen3DError
from backend.geometry import enclosure
from backend.geometry.mesh import is_watertight, volume
from backend.geometry.reading import read
from backend.guidance.clip import Clip
from backend.guidance.text_to_image import TextToImage
from backend.guidance.word_grid import WordGrid
from backend.pipelines import point_e, point_e_priors
from backend.pipelines.devices import half_precision
from backend.pipelines.point_e_job import Job
from backend.pipelines.progress import Progress
from backend.point_diffusion import karras, sdf
from backend.point_diffusion.karras import Sampling
from backend.point_diffusion.stages import Stage, published
from tests.guidance import tiny

from . import tiny_point_e
from .tiny_point_e import FOLDER, QUICK, STEPS, make, picture

pytestmark = pytest.mark.usefixtures("small_priors")


# ------------------------------------------------------------------------------------------------------ the whole way


def test_words_become_a_mesh_with_nothing_installed(tmp_path: Path) -> None:
    told, summary = make(replace(QUICK, prompt="a red chair", size=2.0), tmp_path / "out")
    assert summary["prior"] == "embedded" and "Made with the embedded prior." in summary["notes"]
    phases = list(dict.fromkeys(progress.phase for progress in told))
    assert phases == ["prepare", "points", "upsample", "mesh"]
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions) and fractions[0] >= 0 and fractions[-1] <= 1
    files = summary["files"]
    assert files == {"mesh": "mesh.glb", "ply": "mesh.ply", "obj": "mesh.obj", "points": "points.ply"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(files.values())
    shape, written = (read(tmp_path / "out" / name)[0] for name in ("mesh.glb", "mesh.ply"))
    assert shape.colors is not None and len(np.unique(shape.colors, axis=0)) > 10
    assert len(shape.vertices) == len(shape.colors) == summary["mesh"]["vertices"]
    assert is_watertight(written) and volume(written) > 0
    low, high = written.vertices.min(0), written.vertices.max(0)
    assert (high - low).max() == pytest.approx(2.0, rel=1e-5) and low[2] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose((low + high)[:2], 0, atol=1e-5)


def test_the_points_around_a_vertex_agree_on_its_colour(tmp_path: Path) -> None:
    _, summary = make(replace(QUICK, prompt="a red chair"), tmp_path / "out")
    cloud, shape = read(tmp_path / "out" / "points.ply")[0], read(tmp_path / "out" / "mesh.ply")[0]
    assert len(cloud.vertices) == summary["objects"][0]["points"] == 3 * tiny_point_e.POINTS
    assert cloud.colors is not None and shape.colors is not None
    kept = enclosure.without_strays(cloud.vertices)
    points, colours = cloud.vertices[kept], cloud.colors[kept]
    agreed = enclosure.usual_colours(points, colours, shape.vertices)
    assert (agreed == shape.colors).all(1).mean() > 0.98  # the files hold rounded places


@pytest.mark.usefixtures("installed")
def test_vertices_have_the_colour_of_the_nearest_point(tmp_path: Path) -> None:
    make(QUICK, tmp_path / "out")
    cloud, shape = read(tmp_path / "out" / "points.ply")[0], read(tmp_path / "out" / "mesh.ply")[0]
    assert cloud.colors is not None and shape.colors is not None
    kept = enclosure.without_strays(cloud.vertices)
    away = np.linalg.norm(shape.vertices[:, None] - cloud.vertices[kept], axis=2)
    for colour, distances in zip(shape.colors, away, strict=True):
        assert (cloud.colors[kept][distances <= distances.min() + 1e-5] == colour).all(1).any()


def test_more_points_are_the_same_thing_once_more(tmp_path: Path) -> None:
    """Each copy is what cleaning the first points anew makes of them, as a cloud of its own."""
    stage = Stage(FOLDER, 6, Sampling(3, 1e-3, 0.5, 0.0, 1.0), copies=2)
    points = torch.randn(2, 6, 3)
    draws = [torch.randn(2, 6, 6)]
    state = point_e.again(stage, stage.sampling, lambda shape: draws[0].view(*shape), points)
    assert state.x.shape == state.clean.shape == (4, 6, 3)
    for row in range(2):
        for copy in range(2):
            clean = stage.diffusion.scale(points[row : row + 1].double())[0]
            noise = draws[0][row, :, 3 * copy : 3 * copy + 3].double()
            assert torch.allclose(state.x[2 * row + copy], clean + 0.5 * noise)
            assert torch.allclose(state.clean[2 * row + copy], clean)


def test_the_more_points_the_steps_do_not_change(tmp_path: Path) -> None:
    told, _ = make(replace(QUICK, prompt="a red chair"), tmp_path / "out")
    steps = {phase: max(p.step for p in told if p.phase == phase) for phase in ("points", "upsample")}
    assert steps == {"points": STEPS, "upsample": 2}


def test_each_seed_is_what_it_is_alone(tmp_path: Path) -> None:
    _, several = make(replace(QUICK, prompt="a red chair", seed=5, count=3), tmp_path / "several")
    _, alone = make(replace(QUICK, prompt="a red chair", seed=6), tmp_path / "alone")
    assert [made["seed"] for made in several["objects"]] == [5, 6, 7]
    assert several["files"]["mesh_2"] == several["objects"][1]["files"]["mesh"] == "mesh_2.glb"
    for role, name in alone["objects"][0]["files"].items():
        same = (tmp_path / "several" / several["objects"][1]["files"][role]).read_bytes()
        assert same == (tmp_path / "alone" / name).read_bytes()
    assert (tmp_path / "several" / "mesh.ply").read_bytes() != (tmp_path / "alone" / "mesh.ply").read_bytes()


@pytest.mark.usefixtures("installed")
def test_a_job_goes_on_where_it_was(tmp_path: Path) -> None:
    settings = replace(QUICK, count=2)
    (tmp_path / "whole").mkdir()
    snapshots, pipeline = [], point_e.generate(settings, tmp_path / "whole")
    while True:
        try:
            progress = next(pipeline)
        except StopIteration as end:
            summary = end.value
            break
        if progress.snapshot is not None:
            snapshots.append((progress.phase, progress.step, progress.snapshot()))
    picked = [one for one in snapshots if one[:2] in (("points", 2), ("upsample", 1), ("upsample", STEPS), ("mesh", 1))]
    assert {one[0] for one in picked} == {"points", "upsample", "mesh"} and len(picked) >= 7
    for index, (_, _, snapshot) in enumerate(picked[:7]):
        _, again = make(settings, tmp_path / str(index), snapshot)
        assert again["notes"] == summary["notes"]
        for made in summary["objects"]:
            for name in made["files"].values():
                assert (tmp_path / str(index) / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_snapshot_of_another_prior_is_refused(prior_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    pipeline = point_e.generate(replace(QUICK, weights=str(prior_folder)), tmp_path / "out")
    snapshot = next(progress for progress in pipeline if progress.snapshot).snapshot
    assert snapshot is not None
    taken = snapshot()
    with pytest.raises(ValueError, match="not of embedded"):
        make(replace(QUICK, prompt="a red chair"), tmp_path / "other", taken)


def test_previews_show_the_points(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    job = point_e.generate(replace(QUICK, prompt="a red chair"), tmp_path / "out")
    previews = [progress.preview() for progress in job if progress.preview is not None]
    assert len(previews) == STEPS + 2 + 1  # as each of both stages begins, after each step, and of the mesh
    for image in previews:
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10


# -------------------------------------------------------------------------------------------- what the models are told


def by_hand(
    stages: tuple[Stage, ...],
    sources: list[str],
    seen: dict[str, torch.Tensor],
    seed: int = 0,
    half: torch.dtype | None = None,
) -> torch.Tensor:
    """The cloud of one seed, stage after stage, [6, N]."""
    noise = karras.drawn([torch.Generator().manual_seed(seed)])
    points = None
    for stage, source in zip(stages, sources, strict=True):
        model: Any = stage.build()
        weights.load(model, source)
        if stage.copies and points is not None:
            state, told = point_e.again(stage, stage.sampling, noise, points), seen[stage.embeds]
            told = told.expand(stage.copies, -1, -1)
            *_, last = karras.sample(model.eval(), stage.diffusion, stage.sampling, state, noise, told, half=half)
            points = torch.cat([points, *stage.diffusion.unscale(last.clean)[:, None]], 2)
            continue
        sampling = replace(stage.sampling, karras_steps=STEPS)
        state = karras.start(sampling, noise, (1, 6, stage.points))
        grid = seen.get(stage.embeds)
        *_, last = karras.sample(model.eval(), stage.diffusion, sampling, state, noise, grid, points, half)
        clean = stage.diffusion.unscale(last.clean)
        points = clean if points is None else torch.cat([points, clean], 2)
    assert points is not None
    return points[0]


def assert_made_of(
    told: list[Progress],
    stages: tuple[Stage, ...],
    sources: list[str],
    seen: dict[str, torch.Tensor],
    seed: int = 0,
    half: torch.dtype | None = None,
) -> None:
    """The cloud is what the stages make of what was seen, and they make another one of other things."""
    assert told[-1].snapshot is not None
    found = told[-1].snapshot().tensors["clouds"][0]
    torch.testing.assert_close(found, by_hand(stages, sources, seen, seed, half), rtol=1e-3, atol=1e-3)
    for name in {stage.embeds for stage in stages} & seen.keys():
        other = by_hand(stages, sources, {**seen, name: seen[name].flip(1)}, seed, half)
        assert float((found - other).abs().max()) > 0.1


def test_a_folder_reads_the_prompt_as_it_is(prior_folder: Path, tmp_path: Path) -> None:
    folder, config = shutil.copytree(prior_folder, tmp_path / "own"), tiny_point_e.FOLDER
    words = WordGrid(folder / "text_encoder", folder / "tokenizer", config["cond_tokens"])
    grid = words.encode("red cat")
    assert grid.shape == (1, config["feature_dim"], config["cond_tokens"])
    count, more = config["n_ctx"], config["more_points"]
    first = Stage(config, count, karras.Sampling.of(config["sampling"]))
    second = Stage(config, 2 * count, karras.Sampling.of(more), more["copies"])
    half = half_precision(torch.device("cpu"), trained_so=True)
    told, summary = make(replace(QUICK, weights=str(folder), seed=3), tmp_path / "out")
    assert summary["prior"] == str(folder)
    assert_made_of(told, (first, second), [str(folder / "model.safetensors")] * 2, {"grid": grid}, 3, half)


@pytest.mark.usefixtures("installed")
def test_words_through_clip_once_it_is_installed(tmp_path: Path) -> None:
    vector = Clip(weights.require("clip-vit-l14")).encode_text(["red cat"])
    stages = published("base40M-textvec")
    assert [stage.sampling.guidance_scale for stage in stages] == [3.0, 0.0]
    told, summary = make(QUICK, tmp_path / "out")
    assert summary["prior"] == "base40M-textvec" and summary["steps"] == 2 * STEPS
    assert {progress.phase for progress in told} == {"prepare", "points", "upsample", "mesh"}
    assert summary["objects"][0]["points"] == tiny_point_e.POINTS + tiny_point_e.MORE
    assert_made_of(told, stages, ["base40M-textvec", "upsample"], {"vector": vector})
    _, chosen = make(replace(QUICK, prompt="a red chair", weights="embedded"), tmp_path / "chosen")
    assert chosen["prior"] == "embedded"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["base40M", "base40M-imagevec"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_picture_through_clip(tmp_path: Path, name: str, mode: str) -> None:
    path = picture(tmp_path / "view.png", mode=mode)
    clip = Clip(weights.require("clip-vit-l14"))
    with Image.open(path) as image:
        clear = image.convert("RGBA")
    white = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    pixels = clip.preprocess([white])
    seen = {"grid": clip.patch_grid(pixels), "vector": clip.encode_image(pixels)}
    told, summary = make(replace(QUICK, prompt="", image=str(path), weights=name), tmp_path / "out")
    assert_made_of(told, published(name), [name, "upsample"], seen)
    with Image.open(tmp_path / "out" / summary["files"]["view"]) as view:
        np.testing.assert_allclose(np.asarray(view) / 255, pixels[0].permute(1, 2, 0).numpy(), atol=1 / 255)


@pytest.mark.usefixtures("installed")
def test_the_best_of_what_looks_at_pictures_is_taken(tmp_path: Path) -> None:
    settings = replace(QUICK, image=str(picture(tmp_path / "view.png")))
    assert point_e_priors.choose(settings, True).name == "base1B"
    models.remove("base1B")
    assert point_e_priors.choose(settings, True).name == "base300M"
    models.remove("upsample")
    with pytest.raises(Gen3DError, match="looks at words, not at pictures"):
        point_e_priors.choose(settings, True)


@pytest.mark.usefixtures("installed")
def test_words_become_a_view_first(tmp_path: Path) -> None:
    source = tiny.write_text_to_image(tmp_path / "artist")
    settings = replace(QUICK, text_to_image=str(source), weights="base40M", seed=2)
    drawing = TextToImage(source).draw("red cat", seed=2)
    while True:
        try:
            next(drawing)
        except StopIteration as end:
            view = end.value
            break
    clip = Clip(weights.require("clip-vit-l14"))
    seen = {"grid": clip.patch_grid(clip.preprocess([view]))}
    told, _ = make(settings, tmp_path / "out")
    assert "view" in {progress.phase for progress in told}
    assert_made_of(told, published("base40M"), ["base40M", "upsample"], seen, 2)


@pytest.mark.usefixtures("installed")
def test_settings_reach_the_sampler(tmp_path: Path) -> None:
    _, summary = make(replace(QUICK, guidance=7.0, steps=3, points=50), tmp_path / "out")
    assert summary["objects"][0]["points"] == 50 + tiny_point_e.MORE and summary["steps"] == 6
    job = Job(replace(QUICK, guidance=7.0), torch.device("cpu"), point_e_priors.choose(QUICK, False))
    job.seen["vector"] = torch.zeros(1, tiny.DIMENSIONS)
    assert [sampling.guidance_scale for sampling in job.samplings] == [7.0, 0.0]  # the second stage is told nothing


def test_the_surface_is_that_of_the_model(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    points = random.uniform(-0.4, 0.4, (80, 3)).astype(np.float32)
    colours = random.integers(0, 255, (80, 3), np.uint8)
    model = tiny_point_e.distance_model()
    kept = enclosure.without_strays(points)
    with torch.no_grad():
        field = sdf.dense_field(sdf.distance_to(model, torch.from_numpy(points[kept])), torch.device("cpu"), 32)
        while True:
            try:
                next(field)
            except StopIteration as end:
                vertices, _ = sdf.solid(end.value)
                break
    made = point_e.surface(points, colours, model, 32, 0, torch.device("cpu"))
    while True:
        try:
            next(made)
        except StopIteration as end:
            mesh, fine = end.value
            break
    assert is_watertight(mesh) and volume(mesh) > 0 and fine.vertices is mesh.vertices
    known = {tuple(row) for row in np.round(vertices, 5).tolist()}
    assert {tuple(row) for row in np.round(mesh.vertices, 5).tolist()} <= known
