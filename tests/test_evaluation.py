# SPDX-License-Identifier: GPL-3.0-or-later
"""``gen3d eval`` from end to end, with small CLIP and PointNet++ models of random weights in the published formats."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from backend import __main__ as cli
from backend import evaluation, weights
from backend.errors import Gen3DError
from backend.geometry import export, reading
from backend.geometry.mesh import Mesh
from backend.guidance.clip import Clip
from backend.metrics import point_cloud, pointnet
from backend.metrics.r_precision import r_precision
from backend.priors import embedded, world
from backend.settings import EvaluateSettings

from .guidance import tiny

COUNT, POINTS = 4, 128


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clip/, and pointnet/ as it is shipped: config.json and half precision without the batch counts."""
    folder = tmp_path_factory.mktemp("models")
    tiny.write_clip(folder / "clip")
    torch.manual_seed(0)
    state = pointnet.PointNet(classes=6, width=0.25).state_dict()
    (folder / "pointnet").mkdir()
    (folder / "pointnet" / "config.json").write_text('{"classes": 6, "width": 0.25}')
    half = {name: value.half() for name, value in state.items() if value.is_floating_point()}
    save_file(half, folder / "pointnet" / "model.safetensors")
    return folder


def as_mesh(thing: world.Thing) -> Mesh:
    vertices, faces, colours = world.mesh_of(thing)
    corners = np.arange(3 * len(faces), dtype=np.int32).reshape(-1, 3)
    return Mesh(vertices[faces].reshape(-1, 3), corners, np.repeat((colours * 255).astype(np.uint8), 3, axis=0))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results as `gen3d generate` leaves them: the first without its points."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        thing = world.sample(rng)
        place = folder / f"result {i}"
        place.mkdir()
        files = export.write_all(as_mesh(thing), np.eye(4), place)
        if i:
            points = world.points_of(thing, 300, rng)
            cloud = Mesh(points[:, :3].copy(), np.empty((0, 3), np.int32), (points[:, 3:] * 255).astype(np.uint8))
            (place / "points.ply").write_bytes(export.ply(cloud, np.eye(4)))
            files["points"] = "points.ply"
        prompt = "a red cat" if i == 3 else f"thing {i}"
        (place / "result.json").write_text(json.dumps({"files": files, "settings": {"prompt": prompt}}))
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> Any:
    assert cli.main(["eval", *map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def judges(models: Path) -> list[str | Path]:
    return ["--clip", models / "clip", "--pointnet", models / "pointnet", "--points", str(POINTS), "--views", "2"]


def test_the_figures_are_those_of_the_metrics(
    made: Path, models: Path, judges: list[str | Path], capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(capsys, made, *judges)
    (row,) = report["rows"]
    assert row["folder"] == str(made) and row["count"] == COUNT
    assert report["clip"] == str(models / "clip") and report["pointnet"] == str(models / "pointnet")
    assert (report["captions"], report["views"], report["points"]) == (COUNT, 2, POINTS)
    assert "embedded world" in report["reference"]

    results = [json.loads((made / f"result {i}" / "result.json").read_text()) for i in range(COUNT)]
    prompts = [result["settings"]["prompt"] for result in results]
    shapes = [reading.read(made / f"result {i}" / "mesh.ply")[0] for i in range(COUNT)]
    score = r_precision(zip(shapes, prompts, strict=True), prompts, Clip(models / "clip"), 2)
    assert (row["r_precision_colour"], row["r_precision_geometry"]) == (score.colour, score.geometry)
    assert 1 <= row["p_is"] <= 6 and row["p_fid"] > 0
    assert any("chance alone gives 25.0 %" in note for note in report["notes"])
    assert any("too high" in note for note in report["notes"])


def test_a_set_is_no_distance_from_itself_wherever_it_is(
    made: Path, judges: list[str | Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Two rows, one reference; the second is the first without colours, twice as large and somewhere else."""
    other = tmp_path / "other"
    shutil.copytree(made, other)
    for path in other.rglob("*.ply"):
        (mesh,) = reading.read(path)
        moved = replace(mesh, colors=None, vertices=(2 * mesh.vertices + np.float32(1)).astype(np.float32))
        path.write_bytes(export.ply(moved, np.eye(4)))
    report = run(capsys, made, other, "--reference", made, *judges)
    first, second = report["rows"]
    assert first["p_fid"] == pytest.approx(0, abs=1e-6) and report["reference"].startswith(f"{COUNT} of ")
    assert second["p_fid"] == pytest.approx(0, abs=1e-3)
    assert second["p_is"] == pytest.approx(first["p_is"], rel=1e-3)
    assert second["r_precision_geometry"] == first["r_precision_geometry"]
    assert second["r_precision_colour"] == second["r_precision_geometry"]


def test_the_table(made: Path, judges: list[str | Path], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a blue dog\n\n thing 1 \na green house\n", encoding="utf-8")
    one = made / "result 2"
    command = ["eval", made, one, "--captions", captions, "--reference", made, *judges]
    assert cli.main([str(word) for word in command]) == 0
    text = capsys.readouterr().out
    head, first, second, *rest = text.splitlines()
    assert head.split() == [
        "results",
        "R-Prec.",
        "colour",
        "↑",
        "R-Prec.",
        "geometry",
        "↑",
        "P-IS",
        "↑",
        "P-FID",
        "↓",
        "folder",
    ]
    assert first.endswith(f"  {made}") and first.split()[0] == str(COUNT) and "%" in first
    assert second.endswith(f" -  {one}") and second.split()[0] == "1"
    assert len({line.index("/") for line in (first, second)}) == 1
    assert f"2 views, among {COUNT + 2} captions." in rest[0] and f"{POINTS} points, against {COUNT} of" in rest[1]
    assert "Note: No P-FID of a single cloud." in rest


@pytest.mark.parametrize("table", ["prompts.json", "prompts.csv", ""])
def test_plain_files_and_their_prompts(
    made: Path, tmp_path: Path, judges: list[str | Path], table: str, capsys: Any
) -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(3, 60, 3)).astype(np.float32)
    np.savez(tmp_path / "many.npz", arr_0=points)
    np.savez(tmp_path / "one.npz", coords=points[0])
    (tmp_path / "one.glb").write_bytes(b"the same thing once more, and not looked at")
    (tmp_path / "readme.txt").write_text("nothing")
    if table == "prompts.json":
        (tmp_path / table).write_text(json.dumps({"many": "a red cat", "one.npz": "a blue dog"}))
    elif table:
        (tmp_path / table).write_text("\ufeffmany.npz, a red cat\n\none,a blue dog\n", encoding="utf-8")
    report = run(capsys, tmp_path, *judges, "--reference", made)
    (row,) = report["rows"]
    assert row["count"] == 4 and row["p_fid"] > 0
    assert any("4 clouds have fewer than 128 points" in note for note in report["notes"])
    if table:
        assert report["captions"] == 2 and 0 <= row["r_precision_colour"] == row["r_precision_geometry"] <= 100
    else:
        assert row["r_precision_colour"] is None and any("do not say their prompts" in n for n in report["notes"])


def test_every_cloud_is_given_as_many_points(made: Path) -> None:
    settings = EvaluateSettings(points=100)
    report = evaluation.Report([])
    found = list(evaluation.results(made))
    clouds = evaluation._clouds(found, settings, report)
    assert [cloud.shape for cloud in clouds] == [(100, 3)] * COUNT and not report.notes
    for result, cloud in zip(found[1:], clouds[1:], strict=True):
        places = {tuple(row) for row in result.cloud().vertices.tolist()}
        assert len({tuple(row) for row in cloud.tolist()} & places) == 100
    again = evaluation._clouds(found, settings, report)
    assert all(np.array_equal(a, b) for a, b in zip(clouds, again, strict=True))


def test_installed_weights_come_before_the_embedded(
    made: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GEN3D_HOME", str(tmp_path / "home"))
    for name in ("CLIP_SCORER", "POINTNET"):
        monkeypatch.setattr(embedded, name, tmp_path / "absent")
    arguments: list[str | Path] = [made / "result 1", "--points", "64", "--views", "1", "--reference", made]
    assert "neither a CLIP nor a PointNet++" in run(capsys, *arguments, code=2)["error"]["cause"]
    monkeypatch.setattr(embedded, "POINTNET", models / "pointnet")
    report = run(capsys, *arguments)
    assert report["pointnet"] == "embedded/pointnet" and report["rows"][0]["r_precision_colour"] is None
    assert any("gen3d models install clip-vit-b32" in note for note in report["notes"])
    shutil.copytree(models / "clip", tmp_path / "clip_scorer")
    monkeypatch.setattr(embedded, "CLIP_SCORER", tmp_path / "clip_scorer")
    assert run(capsys, *arguments)["clip"] == "embedded/clip_scorer"
    for name, path in (("clip-vit-l14", models / "clip"), ("pointnet", models / "pointnet" / "model.safetensors")):
        assert cli.main(["models", "use", name, str(path)]) == 0
    capsys.readouterr()
    report = run(capsys, *arguments)
    assert (report["clip"], report["pointnet"]) == ("clip-vit-l14", "pointnet")


def test_refusals(made: Path, judges: list[str | Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    broken.mkdir()
    (broken / "a.ply").write_bytes(b"ply\nnot really")
    shutil.copytree(made / "result 1", tmp_path / "bare")
    (tmp_path / "bare" / "result.json").write_text('{"settings": {"prompt": "x"}}')
    (tmp_path / "w.safetensors").write_bytes(b"nonsense")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    cases: list[tuple[list[str | Path], str, str]] = [
        ([empty], "holds no results", "results"),
        ([tmp_path / "absent"], "is not a folder", "results"),
        ([broken], "a.ply cannot be read", "results"),
        ([tmp_path / "bare"], "holds no mesh and no points", "results"),
        ([made, "--clip", "no-such"], "no-such", "weights"),
        ([made, "--clip", made], "holds no whole CLIP model", "weights"),
        ([made, "--pointnet", "no-such"], "no-such", "weights"),
        ([made, "--pointnet", tmp_path / "w.safetensors"], "damaged", "weights"),
        ([made, "--pointnet", tmp_path / "other.safetensors"], "no PointNet++", "pointnet"),
        ([made, "--reference", empty], "holds 0 clouds", "reference"),
        ([made, "--captions", tmp_path / "absent.txt"], "absent.txt cannot be read", "results"),
        ([made, "--views", "0"], "--views = 0 is out of range", "params.views"),
    ]
    for arguments, words, named in cases:
        error = run(capsys, *judges, *arguments, code=2)["error"]
        assert words in error["cause"] and error["field"] == named, arguments
    for name, text in (("prompts.json", "[1]"), ("prompts.csv", "a,b,c")):
        np.savez(empty / "a.npz", coords=np.zeros((4, 3)))
        (empty / name).write_text(text)
        assert name in run(capsys, empty, *judges, code=2)["error"]["cause"]
        (empty / name).unlink()


def test_scores_of_the_world_against_itself_are_better_than_of_noise(models: Path, tmp_path: Path) -> None:
    model = pointnet.load(weights.read(models / "pointnet" / "model.safetensors"))
    settings = EvaluateSettings(points=POINTS)
    things = evaluation._world(24, settings)
    noise = list(np.random.default_rng(2).normal(size=(24, POINTS, 3)).astype(np.float32))
    others = evaluation._world(24, replace(settings, seed=1))
    true, same, far = (point_cloud.classify(clouds, model).features for clouds in (things, others, noise))
    assert math.sqrt(point_cloud.frechet_distance(same, true)) < math.sqrt(point_cloud.frechet_distance(far, true))
    with pytest.raises(Gen3DError):
        list(evaluation.results(tmp_path / "absent"))


def test_the_judges_that_are_shipped_know_the_world(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing installed, things of the world are what their captions say, and of many kinds."""
    monkeypatch.setenv("GEN3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    rng, prompts = np.random.default_rng(7), {}
    (tmp_path / "true").mkdir()
    (tmp_path / "mixed").mkdir()
    for category in world.CATEGORIES:
        thing = world.sample(rng, category)
        data = export.ply(as_mesh(thing), np.eye(4))
        prompts[category] = world.caption(thing, rng)
        for folder in ("true", "mixed"):
            (tmp_path / folder / f"{category}.ply").write_bytes(data)
    (tmp_path / "true" / "prompts.json").write_text(json.dumps(prompts))
    others = dict(zip(prompts, [*prompts.values()][7:] + [*prompts.values()][:7], strict=True))
    (tmp_path / "mixed" / "prompts.json").write_text(json.dumps(others))
    (tmp_path / "chairs").mkdir()
    for number in range(8):
        data = export.ply(as_mesh(world.sample(rng, "chair")), np.eye(4))
        (tmp_path / "chairs" / f"{number}.ply").write_bytes(data)
    report = run(capsys, tmp_path / "true", tmp_path / "mixed", tmp_path / "chairs")
    assert report["clip"] == "embedded/clip_scorer" and report["pointnet"] == "embedded/pointnet"
    true, mixed, chairs = report["rows"]
    assert true["r_precision_colour"] > 70 > 20 > mixed["r_precision_colour"]
    assert true["r_precision_colour"] > true["r_precision_geometry"] > 3 * 100 / len(world.CATEGORIES)
    guide = run(capsys, tmp_path / "true", "--clip", embedded.CLIP)["rows"][0]
    assert guide["r_precision_colour"] > guide["r_precision_geometry"] > 20
    assert true["p_is"] > 8 > 2 > chairs["p_is"], "1 for things of one kind, at most 39"
    assert true["p_fid"] < chairs["p_fid"] / 2
