# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from backend.errors import Gen3DError
from backend.pipelines import nerf, radiance
from backend.pipelines.radiance import FILE, Scene
from backend.settings import RemeshSettings, RenderSettings

from .runs import Run

CPU = torch.device("cpu")
SHAPE = {"unbounded": False, "footprint": 0.05, "log2_rows": 8, "resolution": 16}
SCENE = Scene(
    "fast",
    SHAPE,
    [[2.0, 0.0, 0.0, 1.0], [0.0, 2.0, 0.0, -3.0], [0.0, 0.0, 2.0, 0.5], [0.0, 0.0, 0.0, 1.0]],
    40,
    30,
    (50.0, 51.0, 20.0, 15.0),
    (0.0, 0.0, 1.0),
    True,
    [(2.0, 0.0, 0.5), (0.0, -2.0, 1.0)],
)


@pytest.mark.parametrize("preset", ["fast", "paper"])
def test_a_field_comes_back_as_it_was(tmp_path: Path, preset: str) -> None:
    torch.manual_seed(0)
    allowed = torch.rand(16, 16, 16) < 0.5
    scene = replace(SCENE, preset=preset)
    field = radiance.build(scene, allowed)
    radiance.save(field, scene, tmp_path)
    again, known = radiance.load(tmp_path, CPU)
    assert type(again) is type(field) and not again.training
    # JSON has lists where the dataclass has tuples
    assert json.dumps(asdict(known)) == json.dumps(asdict(scene))
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in field.state_dict().items())
    torch.testing.assert_close(known.world_to_box @ np.array(known.box_to_world), np.eye(4))
    points, directions = torch.rand(50, 3) * 2 - 1, torch.nn.functional.normalize(torch.randn(50, 3), dim=-1)
    with torch.no_grad():
        assert torch.equal(again.density(points), field.density(points))
        assert torch.equal(again.colour(points, directions), field.colour(points, directions))
    origins = -2 * directions
    seen, before = again.render(origins, directions), field.eval().render(origins, directions)
    assert torch.equal(seen.rgb, before.rgb) and torch.equal(seen.opacity, before.opacity)
    if preset == "paper":
        assert torch.equal(again.region(), allowed)


def test_the_result_of_a_training_holds_its_scene(trained: Run) -> None:
    field, scene = radiance.load(trained.out, CPU)
    assert scene.box_to_world == trained.summary["box_to_world"]
    assert (scene.width, scene.height, scene.alpha) == (48, 48, True)
    assert scene.lens == pytest.approx((trained.written.lens.fl_x, trained.written.lens.fl_y, 24, 24))
    eyes = np.array(scene.eyes) @ trained.box_to_world[:3, :3].T + trained.box_to_world[:3, 3]
    np.testing.assert_allclose(eyes, trained.written.poses[: trained.written.train, :3, 3], atol=1e-5)
    assert np.linalg.norm(scene.up) == pytest.approx(1)
    assert field.region().any() and not field.region().all()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def without_scene(path: Path) -> None:
    save_file(load_file(path), path)


def with_scene(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with safe_open(path, "pt") as file:
            scene = json.loads(file.metadata()["scene"])
        save_file(load_file(path), path, {"scene": json.dumps(change(scene))})

    return damage


def without_a_tensor(path: Path) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors.popitem()
    save_file(tensors, path, metadata)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "cut": cut,
    "empty": emptied,
    "noise": noise,
    "no scene": without_scene,
    "scene is a list": with_scene(lambda scene: [1, 2]),
    "scene lacks its lens": with_scene(lambda scene: {k: v for k, v in scene.items() if k != "lens"}),
    "scene has more": with_scene(lambda scene: {**scene, "more": 1}),
    "other preset": with_scene(lambda scene: {**scene, "preset": "paper"}),
    "other size": with_scene(lambda scene: {**scene, "shape": {**SHAPE, "log2_rows": 9}}),
    "a tensor less": without_a_tensor,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_field_is_one_clear_error_for_every_job(tmp_path: Path, trained: Run, damage: str) -> None:
    result = tmp_path / "result"
    result.mkdir()
    shutil.copy(trained.out / FILE, result / FILE)
    DAMAGES[damage](result / FILE)
    for pipeline in (
        nerf.remesh(RemeshSettings(str(result), "cpu"), tmp_path / "mesh"),
        nerf.render(RenderSettings(str(result), device="cpu"), tmp_path / "views"),
    ):
        with pytest.raises(Gen3DError) as error:
            list(pipeline)
        assert error.value.field == "result"
        assert "\n" not in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_an_error(trained: Run, tmp_path: Path) -> None:
    for pipeline in (
        nerf.train(replace(trained.settings, device="cuda"), tmp_path),
        nerf.remesh(RemeshSettings(str(trained.out), "cuda"), tmp_path),
        nerf.render(RenderSettings(str(trained.out), device="cuda"), tmp_path),
    ):
        with pytest.raises(Gen3DError, match="cuda") as error:
            list(pipeline)
        assert error.value.field == "device"
    assert not list(tmp_path.iterdir())
