# SPDX-License-Identifier: GPL-3.0-or-later
"""Both stages in turn, resumed in either, and what an edit and a shape that stays leave as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from safetensors.torch import load_file

from backend.errors import Gen3DError
from backend.geometry import export
from backend.geometry.mesh import Mesh, is_watertight
from backend.geometry.reading import read
from backend.pipelines import dreaming, magic3d, radiance, start_shape
from backend.pipelines.distillation import Critic
from backend.pipelines.dream_field import UNIT, DreamField, DreamShape
from backend.pipelines.magic3d import FAST, OWN, PAPER
from backend.pipelines.progress import Snapshot
from backend.settings import DreamFusionSettings, GenerateSettings, Magic3DSettings
from tests.guidance import tiny

from .runs import finish

SMALL = DreamShape(steps=24, resolution=16, levels=2, finest=16, log2_rows=12, bound=1.4, facing=True)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(magic3d, "FAST_SHAPE", SMALL)
        patch.setattr(magic3d, "FAST", replace(FAST, coarse=replace(FAST.coarse, size=16)))
        patch.setattr(magic3d, "RESOLUTION", 24)
        patch.setattr(start_shape, "POINTS", 2**10)
        patch.setattr(dreaming, "SHEET", 24)
        patch.setattr(dreaming, "SMALL", 32)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_text_to_image(tmp_path_factory.mktemp("drawing"))


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A red one, two metres long, standing somewhere else."""
    made = trimesh.creation.box((2.0, 1.0, 1.0)).subdivide().subdivide()
    colours = np.tile(np.array([[220, 20, 20]], np.uint8), (len(made.vertices), 1))
    mesh = Mesh((made.vertices + 5).astype(np.float32), made.faces.astype(np.int32), colours)
    path = tmp_path / "box.ply"
    path.write_bytes(export.ply(mesh, np.eye(4)))
    return path


STAGES = Magic3DSettings(tetrahedra=16, fine_iterations=4, fine_rendered=24)
NO_PICTURE = DreamFusionSettings(first_image=False)


def job(folder: Path, **changes: Any) -> GenerateSettings:
    values: dict[str, Any] = {"prompt": "red cat", "device": "cpu", "weights": str(folder), "iterations": 4}
    usual = {"texture": 64, "faces": 500, "magic3d": STAGES, "dreamfusion": NO_PICTURE, "system": "magic3d"}
    return GenerateSettings(**{**values, **usual, **changes})


def test_words_become_a_mesh_with_a_texture(folder: Path, tmp_path: Path) -> None:
    told, summary = finish(magic3d.generate(job(folder), tmp_path))
    mesh = read(tmp_path / summary["files"]["ply"])[0]
    assert is_watertight(mesh)
    facts = summary["objects"][0]["mesh"]
    assert facts["colour"] == "texture" and facts["faces"] <= 500
    made: Any = trimesh.load(tmp_path / summary["files"]["mesh"], force="mesh")
    assert np.asarray(made.visual.material.baseColorTexture).shape[:2] == (64, 64)
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions) and fractions[-1] <= 1
    steps = [progress.step for progress in told if progress.phase == "train"]
    assert steps[-1] == 8, "four of each stage"


@pytest.mark.parametrize("stage", ["coarse", "fine"])
def test_a_job_goes_on_in_either_stage(folder: Path, tmp_path: Path, stage: str) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    held: list[Snapshot] = []
    for out in (whole, again):
        out.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dreaming, "YIELD_SECONDS", 0.0)
        for progress in magic3d.generate(job(folder), whole):
            if progress.snapshot is not None and progress.phase == "train":
                held.append(progress.snapshot())
    chosen = held[1 if stage == "coarse" else 5]
    assert bool(chosen.tensors["field.refined"]) == (stage == "fine")
    finish(magic3d.generate(job(folder), again, chosen))
    one, other = (load_file(out / "field.safetensors") for out in (whole, again))
    assert max(float((one[name].float() - other[name].float()).abs().max()) for name in one) < 1e-3
    ours, theirs = (read(out / "mesh.ply")[0].vertices for out in (whole, again))
    assert ours.shape == theirs.shape and np.abs(ours - theirs).max() < 1e-3


def test_a_shape_that_stays_is_where_it_was(folder: Path, box: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    chosen = replace(STAGES, shape=False)
    _, summary = finish(magic3d.generate(job(folder, start=str(box), magic3d=chosen), out))
    mesh, before = read(out / summary["files"]["ply"])[0], read(box)[0]
    assert {tuple(np.round(v, 3)) for v in mesh.vertices} == {tuple(np.round(v, 3)) for v in before.vertices}
    assert len(mesh.faces) == len(before.faces)


def test_a_result_is_painted_where_it_stands(folder: Path, box: Path, tmp_path: Path) -> None:
    """Its field has coordinates of its own, which are not those that the shape is painted in."""
    made, painted = tmp_path / "made", tmp_path / "painted"
    for each in (made, painted):
        each.mkdir()
    _, first = finish(magic3d.generate(job(folder, start=str(box), iterations=1), made))
    (made / "result.json").write_text(json.dumps(first))
    chosen = replace(STAGES, shape=False, fine_iterations=1)
    _, second = finish(magic3d.generate(job(folder, start=str(made), magic3d=chosen), painted))
    before, after = (read(out / "mesh.ply")[0].vertices for out in (made, painted))
    assert np.abs(np.sort(before, 0) - np.sort(after, 0)).max() < 1e-4
    field, _ = radiance.load(painted, torch.device("cpu"))
    back = np.linalg.inv(np.array(second["box_to_world"]))
    inside = (after.mean(0) @ back[:3, :3].T + back[:3, 3])[None]
    outside = inside + np.array([[0.0, 0.0, 0.9 * UNIT]])
    with torch.no_grad():
        density = field.density(torch.from_numpy(np.concatenate([inside, outside])).float())
    assert density[0] > 10 * density[1]


def test_an_edit_leaves_the_shape_recognisable(folder: Path, box: Path, tmp_path: Path) -> None:
    """Of a few iterations at little noise: nearly the box, in the middle, about as long as it was to be."""
    out = tmp_path / "out"
    out.mkdir()
    chosen = replace(STAGES, fine_iterations=1)
    edit = job(folder, start=str(box), iterations=1, size=2.0, magic3d=chosen)
    _, summary = finish(magic3d.generate(edit, out))
    sides = np.ptp(read(out / summary["files"]["ply"])[0].vertices, axis=0)
    assert sides.max() == pytest.approx(2.0, abs=1e-3) and sorted(sides)[0] == pytest.approx(1.0, abs=0.3)


def test_plans_follow_the_paper_and_the_settings() -> None:
    def planned(own: bool = True, **asked: Any) -> magic3d.Magic3DPlan:
        return magic3d.planned(GenerateSettings(prompt="cat", **asked), own=own)[0]

    plan = planned(own=False, preset="paper")
    assert plan == PAPER
    assert (plan.coarse.iterations, plan.coarse.views, plan.fine.iterations, plan.fine.size) == (5000, 32, 3000, 512)
    assert plan.fine.asking.times == (0.02, 0.5) and plan.fine.layers == 128
    shape = magic3d.PAPER_SHAPE
    assert shape.facing and shape.path.most == 1024
    usual = planned()
    assert usual == OWN
    more = Magic3DSettings(tetrahedra=33, fine_iterations=5, fine_rendered=40)
    plan = planned(iterations=7, guidance=9.0, dreamfusion=DreamFusionSettings(perp_neg=2.0), magic3d=more)
    assert (plan.coarse.iterations, plan.fine.iterations, plan.fine.layers, plan.fine.size) == (7, 5, 32, 40)
    for asking in (plan.coarse.asking, plan.fine.asking):
        assert asking.guidance == 9.0 and asking.avoided == 2.0
    bare = planned(dreamfusion=DreamFusionSettings(shading=False, orientation=False, opacity=False))
    assert bare.coarse.albedo_until == bare.fine.albedo_until == 1
    assert bare.coarse.sparse == 0 and bare.coarse.orientation == (0, 0)
    edit = planned(start="x")
    assert edit.coarse.iterations == round(magic3d.EDITED * magic3d.OWN_EDIT.iterations)
    assert edit.coarse.iterations < usual.coarse.iterations
    assert edit.coarse.asking.times[1] < usual.coarse.asking.times[1]
    assert planned(start="x", magic3d=Magic3DSettings(coarse=False)).coarse.iterations == 0


def test_the_coarse_shape_is_offered_once_when_the_fine_stage_begins(folder: Path, tmp_path: Path) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept"
    for each in (out, kept):
        each.mkdir()
    offered = 0
    for progress in magic3d.generate(job(folder), out):
        if progress.so_far is None:
            continue
        offered += 1
        assert progress.step == 5, "the first of the fine stage"
        summary = progress.so_far(kept)
        assert {path.name for path in kept.iterdir()} == {*summary["files"].values()}
        assert len(read(kept / summary["files"]["ply"])[0].faces)
        assert "coarse" in summary["notes"][0]
    assert offered == 1
    held = [progress.snapshot() for progress in magic3d.generate(job(folder), out) if progress.snapshot]
    (refined,) = held[-1:]
    assert not any(progress.so_far for progress in magic3d.generate(job(folder), out, refined)), "that was then"


def test_the_model_can_be_shown_normals_instead_of_colours(
    folder: Path, box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A red box is red, or as blue as what faces a camera is."""
    seen: list[torch.Tensor] = []
    loss = Critic.loss

    def watched(critic: Critic, pictures: torch.Tensor, *how: Any) -> torch.Tensor:
        seen.append(pictures.detach()[:, :, 8:16, 8:16].mean((0, 2, 3)))
        return loss(critic, pictures, *how)

    monkeypatch.setattr(Critic, "loss", watched)
    for share in (0.0, 1.0):
        out = tmp_path / str(share)
        out.mkdir()
        chosen = replace(STAGES, coarse=False, normal_views=share, fine_iterations=3)
        plain = DreamFusionSettings(first_image=False, shading=False)
        finish(magic3d.generate(job(folder, start=str(box), magic3d=chosen, dreamfusion=plain), out))
    red, blue = (torch.stack(some).mean(0) for some in (seen[:3], seen[3:]))
    assert red.argmax() == 0 and blue.argmax() == 2 and blue[2] > 0.7


def test_the_first_picture_is_shown_and_kept_and_the_coarse_stage_goes_by_it(folder: Path, tmp_path: Path) -> None:
    wanted = DreamFusionSettings(reference=True)
    told, summary = finish(magic3d.generate(job(folder, dreamfusion=wanted), tmp_path))
    assert any(progress.phase == "view" and progress.preview for progress in told)
    assert (tmp_path / summary["files"]["picture"]).is_file()


def test_normals_that_the_grid_tells_point_outwards_at_first() -> None:
    torch.manual_seed(0)
    field = magic3d.Magic(SMALL, 8).coarse
    points = torch.nn.functional.normalize(torch.randn(100, 3), dim=1) * 0.4
    normals = field.normal(points).detach()
    assert torch.allclose(normals.norm(dim=1), torch.ones(100), atol=1e-5)
    assert float((normals * points).sum(1).mean()) > 0
    differences = DreamField(replace(SMALL, facing=False)).normal(points).detach()
    assert differences.shape == normals.shape


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"weights": "nowhere"}, "weights"),
        ({"magic3d": Magic3DSettings(coarse_weights="nowhere")}, "weights"),
        ({"magic3d": Magic3DSettings(shape=False)}, "start"),
        ({"magic3d": Magic3DSettings(coarse=False)}, "start"),
        ({"start": "nowhere"}, "start"),
        ({"lora": "nowhere"}, "lora"),
        ({"inversion": "nowhere"}, "inversion"),
        ({"style": "nowhere.png"}, "style"),
    ],
)
def test_refusals(folder: Path, tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Gen3DError) as error:
        finish(magic3d.generate(job(folder, **changes), tmp_path))
    assert error.value.field == field and not list(tmp_path.iterdir())
