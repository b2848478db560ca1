# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.spatial import cKDTree

from backend import storage
from backend.data import posed_images
from backend.data.training_pixels import TrainingPixels
from backend.errors import Gen3DError
from backend.pipelines import nerf, radiance
from backend.pipelines.nerf_fast import FastNerf, Shape
from backend.pipelines.nerf_paper import PaperNerf, PaperTraining
from backend.pipelines.progress import Snapshot
from backend.settings import MeshSettings
from tests.data.scene import Written, distance_to_surface, similarity, surface_points, write_scene

from .runs import MESH, Run, best_constant, learn, on_white, read, run, same, settings

PHASES = ["prepare", "train", "evaluate", "render", "mesh"]
PRUNED = 130  # steps: until then the field prunes samples, and knows solid cells


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_scene(tmp_path_factory.mktemp("tiny"), views=8, size=24, test_views=1)


# ------------------------------------------------------------------------------------------------ the whole of it


def test_phases_come_in_order_and_fractions_never_fall(trained: Run) -> None:
    assert [phase for phase, _ in itertools.groupby(trained.told, lambda p: p.phase)] == PHASES
    fractions = [progress.fraction for progress in trained.told]
    assert fractions == sorted(fractions) and fractions[0] == 0 and 0.9 < fractions[-1] <= 1
    training = [progress for progress in trained.told if progress.phase == "train"]
    assert [progress.step for progress in training] == list(range(1, 301))
    assert {progress.total for progress in training} == {300}
    assert all(progress.seconds_left is not None and progress.seconds_left >= 0 for progress in training)
    assert sum(p.loss or 0 for p in training[-20:]) < 0.25 * sum(p.loss or 0 for p in training[:20])


def test_all_files_that_the_summary_names_are_written(trained: Run) -> None:
    files = trained.summary["files"]
    assert set(files) == {"mesh", "ply", "obj", "field", "metrics", "film"}
    assert all((trained.out / name).stat().st_size > 100 for name in files.values())
    assert trained.summary["steps"] == 300 and not trained.summary["unbounded"]
    json.dumps(trained.summary, allow_nan=False)
    for index, image in enumerate(trained.written.images[trained.written.train :]):
        assert read(trained.out / "views" / f"{index:04}.png").shape == (*image.shape[:2], 3)


def test_held_out_views_are_seen_as_no_constant_picture_could_be(trained: Run) -> None:
    truths = [on_white(image) for image in trained.written.images[trained.written.train :]]
    assert trained.summary["metrics"]["psnr"] > best_constant(truths) + 7
    assert 0.8 < trained.summary["metrics"]["ssim"] <= 1


def test_metrics_are_those_of_the_pictures_beside_them(trained: Run) -> None:
    metrics = json.loads((trained.out / "metrics.json").read_text())
    assert metrics["held_out"] == len(metrics["views"]) == 3
    for index, view in enumerate(metrics["views"]):
        seen = on_white(read(trained.out / "views" / f"{index:04}.png"))
        truth = on_white(trained.written.images[trained.written.train + index])
        assert view["psnr"] == pytest.approx(-10 * np.log10(np.mean((seen - truth) ** 2)), abs=0.05)
        assert view["name"] == trained.written.names[trained.written.train + index]
    assert metrics["mean"]["psnr"] == pytest.approx(np.mean([view["psnr"] for view in metrics["views"]]))
    assert trained.summary["metrics"]["psnr"] == metrics["mean"]["psnr"]


def assert_on_surface(job: Run, transform: np.ndarray | None) -> None:
    """The mesh, as other programs read it, lies on the scene and covers it; distances in cells of its grid."""
    mesh = trimesh.load_mesh(job.out / "mesh.ply")
    scale = 1.0 if transform is None else float(np.cbrt(np.linalg.det(transform[:3, :3])))
    cell = float(np.cbrt(np.linalg.det(job.box_to_world[:3, :3]))) * 2 / MESH.resolution
    assert cell < 0.025 * scale
    away = distance_to_surface(np.asarray(mesh.vertices), transform) / cell
    assert np.median(away) < 2 and np.quantile(away, 0.95) < 6
    near, _ = cKDTree(mesh.vertices).query(surface_points(2000, transform))
    assert np.median(near) / cell < 2


def test_the_mesh_lies_on_the_object(trained: Run) -> None:
    assert_on_surface(trained, None)
    mesh = trimesh.load_mesh(trained.out / "mesh.ply")
    assert trained.summary["mesh"]["vertices"] == len(mesh.vertices) > 1000
    assert trained.summary["mesh"]["faces"] == len(mesh.faces)
    assert trained.summary["mesh"]["colour"] == "vertex"


def test_a_scene_turned_moved_and_scaled_is_found_where_it_is(tmp_path: Path) -> None:
    transform = similarity(1.1, 7.0, (30.0, -12.0, 5.0))
    written = write_scene(tmp_path / "scene", views=24, size=48, test_views=3, transform=transform)
    job = run(settings(written, steps=250), written, tmp_path / "out")
    truths = [on_white(image) for image in written.images[written.train :]]
    assert job.summary["metrics"]["psnr"] > best_constant(truths) + 6
    assert_on_surface(job, transform)


# --------------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("exposure", [False, True])
def test_resumed_training_ends_like_one_undisturbed(tiny: Written, tmp_path: Path, exposure: bool) -> None:
    wanted = settings(tiny, steps=PRUNED, exposure=exposure)
    end, during, losses = learn(wanted, tmp_path / "whole", at=(7, PRUNED - 10))
    assert end.tensors["field.occupancy.solid"].max() > 0
    for step, snapshot in during.items():
        storage.write_checkpoint(tmp_path, snapshot.tensors, snapshot.facts)
        found = storage.read_checkpoint(tmp_path)
        assert found is not None
        assert same(Snapshot(*found), snapshot)
        resumed, _, again = learn(wanted, tmp_path / f"from {step}", Snapshot(*found))
        assert again == losses[step:]
        assert same(resumed, end)


def test_exposure_is_learnt(tiny: Written, tmp_path: Path) -> None:
    end, _, _ = learn(settings(tiny, steps=30, exposure=True), tmp_path / "out")
    assert end.tensors["training.exposure"].shape == (8, 3)
    assert end.tensors["training.exposure"].abs().min() > 0


def test_snapshots_are_offered_from_the_first_step_on_and_keep_what_they_hold(trained: Run) -> None:
    begun = list(itertools.dropwhile(lambda progress: progress.phase == "prepare", trained.told))
    assert all(progress.snapshot is not None for progress in begun)
    assert set(trained.snapshots) == set(PHASES[1:])
    assert trained.snapshots["train"].facts["steps"] == 1
    assert all(trained.snapshots[phase].facts["steps"] == 300 for phase in PHASES[2:])
    name = "field.field.grid.table"
    assert not torch.equal(trained.snapshots["train"].tensors[name], trained.snapshots["mesh"].tensors[name])


@pytest.mark.parametrize("phase", ["evaluate", "mesh"])
def test_what_was_trained_is_not_trained_again(trained: Run, tmp_path: Path, phase: str) -> None:
    again = run(
        replace(trained.settings, turntable=0), trained.written, tmp_path / "out", resume=trained.snapshots[phase]
    )
    assert [name for name, _ in itertools.groupby(again.told, lambda p: p.phase)] == ["prepare", "evaluate", "mesh"]
    assert again.summary["metrics"] == trained.summary["metrics"]
    assert again.summary["seconds"] == trained.summary["seconds"]
    assert (again.out / "mesh.ply").read_bytes() == (trained.out / "mesh.ply").read_bytes()


def test_time_already_trained_counts(trained: Run, tmp_path: Path) -> None:
    spent = trained.snapshots["evaluate"].facts["seconds"]
    timed = replace(trained.settings, seconds=0.9 * spent, steps=0)
    _, _, losses = learn(timed, tmp_path / "out", trained.snapshots["evaluate"])
    assert losses == []


@pytest.mark.parametrize("changes", [{"preset": "paper"}, {"exposure": True}])
def test_a_snapshot_of_another_training_is_refused_before_there_is_one(
    trained: Run, tmp_path: Path, changes: dict[str, str]
) -> None:
    pipeline = nerf.train(replace(trained.settings, **changes), tmp_path, trained.snapshots["train"])  # type: ignore[arg-type]
    with pytest.raises((KeyError, ValueError, RuntimeError)):
        for progress in pipeline:
            assert progress.snapshot is None


def test_same_seed_same_field_and_looking_changes_nothing(tiny: Written, tmp_path: Path) -> None:
    first, _, _ = learn(settings(tiny, steps=40), tmp_path / "first")
    looked, _, _ = learn(settings(tiny, steps=40), tmp_path / "looked", at=range(0, 41, 4), look=True)
    other, _, _ = learn(settings(tiny, steps=40, seed=1), tmp_path / "other")
    assert same(first, looked)
    assert not torch.equal(first.tensors["field.field.grid.table"], other.tensors["field.field.grid.table"])


# ----------------------------------------------------------------------------------------------------- datasets


def test_surroundings_are_contracted(tmp_path: Path) -> None:
    written = write_scene(tmp_path / "scene", views=16, size=32, test_views=3, opaque=True)
    job = run(settings(written, steps=250, scene="unbounded"), written, tmp_path / "out")
    assert job.summary["unbounded"]
    truths = [on_white(image) for image in written.images[written.train :]]
    assert job.summary["metrics"]["psnr"] > best_constant(truths) + 1
    losses = [progress.loss for progress in job.told if progress.loss is not None]
    assert np.mean(losses[-20:]) < 0.4 * np.mean(losses[:20])
    _, scene = radiance.load(job.out, torch.device("cpu"))
    assert not scene.alpha and scene.shape["unbounded"]


def test_without_transparency_auto_takes_a_scene_for_unbounded(tmp_path: Path) -> None:
    written = write_scene(tmp_path / "scene", views=6, size=24, test_views=1, opaque=True)
    end, _, losses = learn(settings(written, steps=2), tmp_path / "out")
    assert end.tensors["field.occupancy.occupied"].all() and len(losses) == 2


def test_what_lies_under_masks_does_not_matter(tmp_path: Path) -> None:
    written = write_scene(tmp_path / "scene", "nerfstudio", views=8, size=24, test_views=1)
    clean, _, _ = learn(settings(written, steps=20), tmp_path / "clean")
    for name in written.names:
        pixels = read(written.folder / name)
        pixels[: len(pixels) // 4] = (255, 0, 255, 255)
        Image.fromarray(pixels).save(written.folder / name)
    dirty, _, _ = learn(settings(written, steps=20), tmp_path / "dirty")
    assert same(clean, dirty)


def test_masked_pixels_are_not_measured(trained: Run, tmp_path: Path) -> None:
    images = posed_images.load(trained.written.folder)
    first = int(images.splits["test"][0])
    trusted = np.ones(images.images[first].shape[:2], np.bool_)
    trusted[:12] = False
    spoilt = images.images[first].copy()
    spoilt[:12] = (255, 0, 255, 255)
    masked = replace(
        images,
        images=tuple(spoilt if i == first else image for i, image in enumerate(images.images)),
        masks=tuple(trusted if i == first else mask for i, mask in enumerate(images.masks)),
    )
    device = torch.device("cpu")
    field, scene = radiance.load(trained.out, device)
    for _ in nerf.evaluate(field, scene, masked, scene.world_to_box, device, tmp_path, None):
        pass
    view = json.loads((tmp_path / "metrics.json").read_text())["views"][0]
    seen, truth = on_white(read(tmp_path / "views" / "0000.png")), on_white(images.images[first])
    assert view["psnr"] == pytest.approx(-10 * np.log10(np.mean((seen[12:] - truth[12:]) ** 2)), abs=0.05)


def test_masks_that_leave_nothing_are_an_error(tmp_path: Path) -> None:
    written = write_scene(tmp_path / "scene", "nerfstudio", views=4, size=24, test_views=1)
    Image.fromarray(np.zeros((24, 24), np.uint8)).save(written.folder / "mask.png")
    (tmp_path / "out").mkdir()
    with pytest.raises(Gen3DError):
        list(nerf.train(settings(written, steps=1), tmp_path / "out"))


def test_sixteen_bits_teach_what_eight_do(tmp_path: Path) -> None:
    losses = []
    for deep in (False, True):
        written = write_scene(tmp_path / f"{deep}", views=8, size=24, test_views=1, deep=deep)
        losses.append(learn(settings(written, steps=20), tmp_path / f"out {deep}")[2])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_a_set_too_small_to_hold_out_any_is_trained_all_the_same(tmp_path: Path) -> None:
    written = write_scene(tmp_path / "scene", views=3, size=24, test_views=0)
    job = run(settings(written, steps=60, mesh=MeshSettings(resolution=32)), written, tmp_path / "out")
    assert job.summary["metrics"]["views"] == job.summary["metrics"]["held_out"] == 0
    assert json.loads((job.out / "metrics.json").read_text())["views"] == []


def test_pictures_too_small_to_learn_from_are_an_error(tmp_path: Path) -> None:
    written = write_scene(tmp_path / "scene", views=4, size=15, test_views=1)
    with pytest.raises(Gen3DError, match="15 x 15"):
        list(nerf.train(settings(written, steps=1), tmp_path))


def test_exposure_and_the_paper_exclude_each_other(tiny: Written, tmp_path: Path) -> None:
    with pytest.raises(Gen3DError) as error:
        list(nerf.train(settings(tiny, steps=1, preset="paper", exposure=True), tmp_path))
    assert error.value.field == "exposure"


# --------------------------------------------------------------------------------------------------------- parts


def test_a_field_that_is_no_longer_numbers_is_not_kept() -> None:
    field = FastNerf(Shape(False, 0.05, 8, resolution=16))
    nerf.settle(field)
    assert not field.training and field.field.dtype == torch.float32
    for value in (float("nan"), float("inf")):
        with torch.no_grad():
            field.field.weights[3][5, 5] = value
        with pytest.raises(FloatingPointError):
            nerf.settle(field)


@pytest.fixture(scope="module")
def paper(tiny: Written) -> Callable[[int], PaperTraining]:
    images = posed_images.load(tiny.folder)
    pixels = TrainingPixels(images, np.diag((1.6, 1.6, 1.6, 1.0)), torch.device("cpu"))

    def begin(seed: int) -> PaperTraining:
        torch.manual_seed(seed)
        return PaperTraining(PaperNerf(Shape(False, 0.05, 8, resolution=8), width=16), pixels, seed, rays=48)

    return begin


def test_the_paper_resumes_like_one_undisturbed(paper: Callable[[int], PaperTraining], tmp_path: Path) -> None:
    whole = paper(0)
    losses = [float(whole.step(step / 6)) for step in range(3)]
    tensors, facts = whole.state()
    state = {f"training.{name}": value for name, value in tensors.items()}
    state |= {f"field.{name}": value.detach() for name, value in whole.model.state_dict().items()}
    storage.write_checkpoint(tmp_path, state, {**facts, "seconds": 1.5})
    losses += [float(whole.step(step / 6)) for step in range(3, 6)]

    found = storage.read_checkpoint(tmp_path)
    assert found is not None
    resumed = paper(1)
    assert nerf.restore(resumed, Snapshot(*found)) == 1.5
    assert [float(resumed.step(step / 6)) for step in range(3, 6)] == losses[3:]
    assert resumed.steps == whole.steps == 6
    after, before = resumed.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_the_paper_learns(paper: Callable[[int], PaperTraining]) -> None:
    training = paper(0)
    losses = [float(training.step(0.0)) for _ in range(120)]
    assert np.mean(losses[-20:]) < 0.7 * np.mean(losses[:20])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_paper_runs_from_pictures_to_checkpoint(tmp_path: Path) -> None:
    written = write_scene(tmp_path / "scene", views=6, size=16, test_views=1)
    wanted = settings(written, steps=2, preset="paper")
    end, during, losses = learn(wanted, tmp_path / "whole", at=(1,))
    resumed, _, again = learn(wanted, tmp_path / "resumed", during[1])
    assert again == losses[1:] and same(resumed, end)
