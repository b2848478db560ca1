# SPDX-License-Identifier: GPL-3.0-or-later
"""Each technique of the paper against its definition, and the whole on a small guide."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from safetensors.torch import load_file, save_file

from backend.driver import Listener, drive
from backend.errors import Gen3DError
from backend.geometry.mesh import Mesh, is_watertight
from backend.geometry.reading import read
from backend.geometry.surface import EmptyFieldError
from backend.guidance.clip import Clip
from backend.pipelines import dream_fields, dreaming, nerf, radiance
from backend.pipelines.dream_field import SPAN, UNIT, DreamField, DreamShape
from backend.pipelines.dream_fields import (
    BEGUN,
    CROP,
    FAST,
    PAPER,
    PAPER_SHAPE,
    DreamFieldsTraining,
    jittered,
    pictures,
    sparsity,
    target_transmittance,
)
from backend.pipelines.progress import Progress, Snapshot
from backend.pipelines.start_shape import FILLED, begin_as
from backend.rendering.viewpoints import Viewpoints, draw, rays
from backend.rendering.volume import composite_reference
from backend.settings import DreamFieldsSettings, GenerateSettings, MeshSettings, RemeshSettings, RenderSettings
from tests.guidance import tiny

from .runs import finish

SMALL = DreamShape(steps=24, resolution=16, levels=2, finest=16, log2_rows=12)


def test_the_target_is_annealed_from_40_to_88_percent_and_scaled() -> None:
    assert target_transmittance(PAPER, 0, 1.2, 4) == pytest.approx(0.40)
    assert target_transmittance(PAPER, 250, 1.2, 4) == pytest.approx(0.64)
    assert target_transmittance(PAPER, 500, 1.2, 4) == target_transmittance(PAPER, 10_000, 1.2, 4)
    assert target_transmittance(PAPER, 500, 1.2, 4) == pytest.approx(0.88)
    assert target_transmittance(PAPER, 500, 2.4, 4) == target_transmittance(PAPER, 500, 1.2, 2) == pytest.approx(0.76)
    assert target_transmittance(PAPER, 0, 9.0, 1) == 0


def test_light_beyond_the_target_gains_nothing() -> None:
    passing = torch.tensor([0.2, 0.9], requires_grad=True)
    loss = sparsity(passing, torch.tensor([0.88, 0.88]))
    assert float(loss.detach()) == pytest.approx(-(0.2 + 0.88) / 2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert passing.grad is not None and passing.grad.tolist() == [-0.5, 0.0]


def test_pictures_are_crops_in_front_of_backgrounds_of_their_own() -> None:
    light = torch.zeros(2, 4, 70, 70)
    light[:, 0, 20:50, 20:50] = light[:, 3, 20:50, 20:50] = 1
    shown = pictures(light, replace(PAPER, crops=3), 64, torch.Generator().manual_seed(0))
    assert shown.shape == (6, 3, 64, 64) and shown.min() >= 0 and shown.max() <= 1
    assert torch.allclose(shown[:, :, 30, 30], torch.tensor([1.0, 0.0, 0.0]).expand(6, 3))
    corners = shown[:, :, 0, 0]
    assert torch.cdist(corners, corners).fill_diagonal_(1).min() > 1e-3, "every one has another background"
    plain = pictures(light, replace(PAPER, textures=False), 64, torch.Generator().manual_seed(0))
    assert float(plain.sum()) == pytest.approx(2 * 900) and round(CROP * 70) == 64


@pytest.mark.parametrize("shape", [SMALL, replace(PAPER_SHAPE, steps=24, resolution=16)])
def test_a_field_is_bounded_by_its_cube_and_looks_alike_from_every_side(shape: DreamShape) -> None:
    torch.manual_seed(0)
    field = DreamField(shape).eval()
    field.origin.copy_(torch.tensor([0.2, -0.1, 0.0]))
    points = torch.rand(4000, 3) * 2 - 1
    density = field.density(points).detach()
    inside = (points - field.origin).abs().amax(1) <= UNIT
    assert (density[~inside] == 0).all() and (density[inside] > 0).all() and 0.2 < float(inside.float().mean()) < 0.4
    one, other = (field.colour(points, direction.expand(4000, 3)).detach() for direction in torch.eye(3)[:2])
    assert torch.equal(one, other) and float(one.min()) >= 0 and float(one.max()) <= 1
    origins = torch.tensor([[0.0, -3.0, 0.1], [0.3, -3.0, 0.2]])
    ahead = torch.tensor([[0.0, 1.0, 0.0]]).expand(2, 3).contiguous()
    samples = field.walk(origins, ahead, torch.full((2,), 0.5))
    expected = composite_reference(*field.seen(origins, ahead, samples), samples)
    seen = field.render(origins, ahead)
    assert torch.allclose(seen.rgb, expected.rgb, atol=2e-3) and torch.allclose(
        seen.opacity, expected.opacity, atol=2e-3
    )


def test_the_cube_follows_the_centre_of_mass_and_stays_in_the_box() -> None:
    field = DreamField(SMALL)
    points, mass = torch.tensor([[0.3, 0.0, 0.0], [0.0, 0.3, 0.0], [9.0, 9.0, 9.0]]), torch.tensor([1.0, 1.0, 0.0])
    field.follow(points, mass, 0.9)
    assert torch.allclose(field.origin, torch.tensor([0.015, 0.015, 0.0]))
    for _ in range(400):
        field.follow(torch.tensor([[1.0, 0.0, 0.0]]), torch.ones(1), 0.9)
    assert torch.allclose(field.origin, torch.tensor([1 - 1 / SPAN, 0.0, 0.0]), atol=1e-3)
    field.follow(points, torch.zeros(3), 0.9)
    assert torch.isfinite(field.origin).all()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return Clip(tiny.write_clip(tmp_path_factory.mktemp("clip")))


@pytest.mark.parametrize("shape", [SMALL, replace(PAPER_SHAPE, steps=24, resolution=16)])
def test_a_training_comes_nearer_to_the_words_and_goes_on_where_it_was(clip: Clip, shape: DreamShape) -> None:
    steady = Viewpoints(azimuth=(0, 0))  # so that what it shows is not chance
    plan = replace(
        FAST,
        iterations=40,
        views=1,
        crops=1,
        learning=replace(FAST.learning, rate=1e-2 if shape.network == "grid" else 1e-3),
        viewpoints=steady,
        textures=False,
        tinted=False,
    )

    def begin() -> DreamFieldsTraining:
        torch.manual_seed(0)
        return DreamFieldsTraining(DreamField(shape), clip, "a red chair", plan, seed=0)

    training = begin()
    told = [training.step() for _ in range(24)]
    assert sum(t["similarity"] for t in told[-4:]) > sum(t["similarity"] for t in told[:4])
    tensors, facts = training.state()
    held = {name: value.detach().clone() for name, value in tensors.items()}
    weights = {name: value.clone() for name, value in training.field.state_dict().items()}
    expected = [training.step() for _ in range(3)]
    again = begin()
    again.step()
    again.field.load_state_dict(weights)
    again.restore(held, facts)
    for told_again, first in zip([again.step() for _ in range(3)], expected, strict=True):
        assert told_again == pytest.approx(first, rel=1e-4)


def test_what_may_be_covered_is_what_the_shape_covers_that_it_begins_as(clip: Clip) -> None:
    """A ball that no light passes covers the circle that it is seen as; a training that goes on still knows it."""
    ball = trimesh.creation.icosphere(3)
    shape = DreamShape(steps=64, resolution=32, levels=2, finest=32, log2_rows=14, density=30.0, air=-6.0)
    field = DreamField(shape)
    begin_as(field, Mesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int32), None), 0)
    training = DreamFieldsTraining(field, clip, "a red chair", replace(BEGUN, iterations=10), seed=0)
    radius, distance, focal = FILLED, 4.0, 1.2
    circle = np.pi * (focal * radius / np.sqrt(distance**2 - radius**2)) ** 2
    for share in (0, 9):
        assert 1 - target_transmittance(training.plan, share, focal, distance) == pytest.approx(circle, rel=0.1)
    training.step()
    fog = DreamFieldsTraining(DreamField(shape), clip, "a red chair", replace(BEGUN, iterations=10), seed=0)
    assert fog.plan.opacity != training.plan.opacity
    fog.restore(*training.state())
    assert fog.plan.opacity == training.plan.opacity


def test_a_field_begins_in_the_colour_that_the_guide_likes_best(clip: Clip) -> None:
    plan = replace(FAST, viewpoints=Viewpoints(azimuth=(0, 0)), textures=False)

    def likes(tint: torch.Tensor | None) -> float:
        torch.manual_seed(0)
        field = DreamField(SMALL)
        if tint is not None:
            field.network.leave.bias.data[1:] = torch.logit(tint)
        training = DreamFieldsTraining(field, clip, "a red chair", replace(plan, tinted=tint is None), seed=0)
        views = draw(plan.viewpoints, 1, np.random.default_rng(0))
        seen = field.render(*rays(views, training.size, field.origin, UNIT))
        light = torch.cat([seen.rgb, seen.opacity[:, None]], 1).view(1, training.size, training.size, 4)
        shown = pictures(light.permute(0, 3, 1, 2), plan, clip.size, torch.Generator().manual_seed(0))
        return float((clip.encode_image(shown) @ training.said).mean())

    others = [
        likes(torch.tensor(tint)) for tint in ((0.5, 0.5, 0.5), (0.9, 0.1, 0.1), (0.1, 0.9, 0.1), (0.1, 0.1, 0.1))
    ]
    assert likes(None) > max(others) - 0.02 and max(others) - min(others) > 0.02


# ------------------------------------------------------------------------------------------------------------- the job


def job(folder: Path, **changes: Any) -> GenerateSettings:
    """A dozen steps of the fast preset on a small guide."""
    values: dict[str, Any] = {"prompt": "red cat", "system": "dream-fields", "device": "cpu", "resolution": 32}
    return GenerateSettings(**{**values, "weights": str(folder), "iterations": 12, **changes})


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Fields and pictures of which nobody has to see anything: in a dozen steps they are but fog, which is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dream_fields, "FAST_SHAPE", SMALL)
        patch.setattr(dreaming, "SHEET", 24)
        patch.setattr(dreaming, "SMALL", 32)
        yield


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_clip(tmp_path_factory.mktemp("guide"))


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_clip(tmp_path_factory.mktemp("judge"), seed=1)


@pytest.fixture(scope="module")
def made(
    guide: Path, judge: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Progress], dict[str, Any]]:
    out = tmp_path_factory.mktemp("made")
    return out, *finish(dream_fields.generate(job(guide, count=2, size=0.5, scorer=str(judge)), out))


def test_words_become_closed_coloured_meshes_that_stand(made: tuple[Path, list[Progress], dict[str, Any]]) -> None:
    out, told, summary = made
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions) and fractions[-1] <= 1
    for number, own in enumerate(summary["objects"]):
        mesh = read(out / own["files"]["ply"])[0]
        assert is_watertight(mesh) and mesh.colors is not None
        size = np.ptp(mesh.vertices, axis=0)
        assert size.max() == pytest.approx(0.5, rel=1e-3) and abs(mesh.vertices[:, 2].min()) < 1e-4
        assert {path.name for path in out.iterdir()} >= set(own["files"].values())
        assert summary["files"]["mesh" + ("_2" if number else "")] == own["files"]["mesh"]
    with Image.open(out / summary["files"]["view"]) as sheet:
        assert sheet.size == (4 * dreaming.SHEET, 2 * dreaming.SHEET)


def test_the_one_that_the_scorer_likes_best_comes_first(
    made: tuple[Path, list[Progress], dict[str, Any]], judge: Path
) -> None:
    out, _, summary = made
    scores = [own["score"] for own in summary["objects"]]
    assert scores == sorted(scores, reverse=True) and {own["seed"] for own in summary["objects"]} == {0, 1}
    field, scene = radiance.load(out, torch.device("cpu"))
    assert isinstance(field, DreamField) and scene.preset == radiance.WORDS
    assert dreaming.liking(partial(dreaming.looked_at, field), Clip(judge), "red cat") == pytest.approx(
        scores[0], abs=1e-3
    )
    assert any("ranked" in note for note in summary["notes"])


def test_a_job_goes_on_where_it_was(guide: Path, tmp_path: Path) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    for folder in (whole, again):
        folder.mkdir()
    held: list[Snapshot] = []
    pipeline = dream_fields.generate(job(guide, count=2), whole)
    while True:
        try:
            progress = next(pipeline)
        except StopIteration:
            break
        if progress.snapshot is not None:
            held.append(progress.snapshot())
    middle = next(one for one in held if one.facts["done"] == 1 and one.facts["training"])
    for snapshot in (middle, held[-1]):
        finish(dream_fields.generate(job(guide, count=2), again, snapshot))
        for name in ("field.safetensors", "field_2.safetensors"):
            one, other = (load_file(folder / name) for folder in (whole, again))
            assert one.keys() == other.keys()
            worst = max(float((one[key].float() - other[key].float()).abs().max()) for key in one)
            assert worst < 1e-3


def test_a_saved_field_gives_other_meshes_and_views(
    made: tuple[Path, list[Progress], dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "mesh").mkdir()
    (tmp_path / "views").mkdir()
    wanted = RemeshSettings(str(made[0]), mesh=MeshSettings(resolution=48, texture=128))
    _, remeshed = finish(nerf.remesh(wanted, tmp_path / "mesh"))
    assert remeshed["mesh"]["colour"] == "texture"
    finish(nerf.render(RenderSettings(str(made[0]), frames=2, width=32, film=False), tmp_path / "views"))
    with Image.open(tmp_path / "views" / "views" / "0000.png") as view:
        assert view.size == (32, 32) and np.asarray(view).std() > 1


def test_techniques_can_be_left_out(guide: Path) -> None:
    off = DreamFieldsSettings(poses=False, transmittance=False, backgrounds=False, localisation=False)
    plan, shape = dream_fields.planned(job(guide, dream_fields=off, iterations=0), own=False)
    usual, _ = dream_fields.planned(job(guide, iterations=0), own=False)
    assert usual == FAST and plan.iterations == FAST.iterations
    assert plan.viewpoints.azimuth == (0, 0) and plan.sparse == 0 and not plan.textures and plan.kept == 1
    points = torch.rand(500, 3) * 2 - 1
    assert (DreamField(shape).density(points) > 0).all() and shape.blob == 0, "it is nowhere in particular"
    assert dream_fields.planned(job(guide, preset="paper", iterations=0), own=False) == (PAPER, PAPER_SHAPE)


def test_cameras_can_be_unsteady_and_pictures_looked_at_more_often(guide: Path) -> None:
    chosen = DreamFieldsSettings(elevation_jitter=10.0, focal_jitter=0.25, crops=3)
    plan, _ = dream_fields.planned(job(guide, preset="paper", iterations=0, dream_fields=chosen), own=False)
    assert plan.viewpoints.elevation == (20.0, 40.0) and plan.viewpoints.focal == (0.75 * 1.2, 1.25 * 1.2)
    assert plan.crops == 3
    assert jittered(Viewpoints(elevation=(0.0, 85.0)), 60.0, 0.0).elevation == (-60.0, 90.0)


def test_what_is_not_read_and_not_seen_is_said(guide: Path, tmp_path: Path) -> None:
    wanted = job(guide, prompt="red cat " * 16 + "with a hat", rendered=200, iterations=2)
    _, summary = finish(dream_fields.generate(wanted, tmp_path))
    assert any("too long" in note and "hat" in note for note in summary["notes"])
    assert f"The guide looks at {tiny.SIZE} pixels a side, so that 35 are rendered." in summary["notes"]


def test_words_that_the_scorer_does_not_know_rank_nothing(guide: Path, tmp_path: Path) -> None:
    wanted = job(guide, prompt="qx zorb", count=2, scorer="embedded", iterations=2)
    _, summary = finish(dream_fields.generate(wanted, tmp_path))
    assert any("not ranked" in note for note in summary["notes"])
    assert [made["seed"] for made in summary["objects"]] == [0, 1] and "score" not in summary["objects"][0]


def test_a_seed_of_which_nothing_comes_is_left_out(clip: Clip, judge: Path, tmp_path: Path) -> None:
    """It is said, and the others are there; where that are all, there is no result."""
    still = replace(FAST, learning=replace(FAST.learning, rate=0.0), tinted=False)

    def begin(seed: int, start: Any) -> DreamFieldsTraining:
        torch.manual_seed(seed)
        field = DreamField(SMALL)
        if seed not in full:
            field.network.leave.bias.data[0] = -60.0
        return DreamFieldsTraining(field, clip, "red cat", still, seed)

    wanted = job(Path("guide"), count=3, seed=4, scorer=str(judge))
    full = {4, 6}
    _, summary = finish(dreaming.make(wanted, tmp_path, None, begin, 2, "guide", "red cat"))
    assert {made["seed"] for made in summary["objects"]} == full and "mesh_2" in summary["files"]
    assert "Nothing came of seed 5, which is left out." in summary["notes"]
    full = set()
    with pytest.raises(EmptyFieldError, match="seeds 4, 5, 6: the field is empty") as error:
        finish(dreaming.make(wanted, tmp_path, None, begin, 2, "guide", "red cat"))
    assert "points" in error.value.next_step


def test_a_guide_that_says_nothing_ends_the_job_and_nothing_is_saved(guide: Path, tmp_path: Path) -> None:
    broken = tmp_path / "guide"
    shutil.copytree(guide, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["visual_projection.weight"][0] = float("inf")
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    folder, final = tmp_path / "job", tmp_path / "result"
    folder.mkdir()
    with pytest.raises(Gen3DError, match="diverged") as error:
        drive("generate", dream_fields.generate, job(broken), folder, final, Listener())
    assert error.value.field == "diverged" and "seed" in error.value.next_step and "dataset" not in str(error.value)
    assert not final.exists() and not list(folder.glob("checkpoints/*"))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt": "  "}, "prompt"),
        ({"image": "cat.png"}, "image"),
        ({}, "scorer"),
        ({"weights": "embedded", "prompt": "qx"}, "prompt"),
    ],
)
def test_refusals(guide: Path, tmp_path: Path, changes: dict[str, str], field: str) -> None:
    with pytest.raises(Gen3DError) as error:
        finish(dream_fields.generate(job(guide, **{"scorer": str(guide)} | changes), tmp_path))
    assert error.value.field == field and not list(tmp_path.iterdir())
