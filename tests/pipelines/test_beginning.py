# SPDX-License-Identifier: GPL-3.0-or-later
"""Fields begin as what they are told to: fog, a shape there is, or the points that Point-E makes of the words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from backend.errors import Gen3DError
from backend.geometry.mesh import Mesh, is_watertight
from backend.geometry.reading import read
from backend.pipelines import beginning, dream_fields, dreamfusion, magic3d
from backend.pipelines.beginning import from_points, shape
from backend.pipelines.progress import Pipeline, Progress
from backend.settings import GenerateSettings

from .runs import finish


def job(**changes: Any) -> GenerateSettings:
    values: dict[str, Any] = {"prompt": "a red mushroom", "system": "dream-fields", "device": "cpu", "resolution": 48}
    return GenerateSettings(**{**values, "weights": "embedded", **changes})


@pytest.mark.parametrize(
    ("changes", "own", "points"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"begin": "points"}, False, True),
        ({"begin": "fog"}, True, False),
        ({"preset": "paper"}, True, False),
        ({"preset": "paper", "begin": "points"}, True, True),
        ({"prompt": "something red"}, True, False),
        ({"start": "chair.glb", "begin": "points"}, True, False),
    ],
)
def test_points_are_for_embedded_guides_unless_told(changes: dict[str, str], own: bool, points: bool) -> None:
    assert from_points(job(**changes), own) == points


def test_a_given_start_comes_before_all_and_fog_is_nothing() -> None:
    assert finish(shape(job(start="chair.glb"), True, 0)) == ([], Path("chair.glb"))
    assert finish(shape(job(begin="fog"), True, 0)) == ([], None)


def test_points_become_a_closed_mesh_of_the_words_and_a_field_begins_so(tmp_path: Path) -> None:
    told, mesh = finish(shape(job(), True, 0))
    assert isinstance(mesh, Mesh) and mesh.colors is not None and is_watertight(mesh)
    assert [progress.fraction for progress in told] == sorted(progress.fraction for progress in told)
    assert 0.9 < told[-1].fraction <= 1 and all(progress.snapshot is None for progress in told)
    high = mesh.vertices[:, 2] > mesh.vertices[:, 2].max() - 0.3 * np.ptp(mesh.vertices[:, 2])
    red, green, blue = mesh.colors[high].mean(0)
    assert red > 1.3 * green and red > 1.3 * blue, "the cap"

    with pytest.MonkeyPatch.context() as patch:  # the same again takes as long
        patch.setattr(beginning, "_of_points", lambda *told: _given(mesh))
        told, summary = finish(dream_fields.generate(job(iterations=3), tmp_path))
    assert beginning.NOTE in summary["notes"]
    field = read(tmp_path / summary["files"]["ply"])[0]
    wide, high = (np.ptp(one.vertices, axis=0) / np.ptp(one.vertices, axis=0).max() for one in (mesh, field))
    assert np.abs(wide - high).max() < 0.15, "of the same proportions"


def _given(mesh: Mesh) -> Any:
    yield Progress("points", 0, 1, 0.5)
    return mesh


def test_each_seed_has_points_of_its_own_which_no_job_makes_twice(tmp_path: Path) -> None:
    mesh, asked = made_of_triangles(), []

    def points(settings: GenerateSettings, own: bool, seed: int) -> Any:
        asked.append(seed)
        yield from _given(mesh)
        return mesh

    settings = job(iterations=2, count=2, seed=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beginning, "_of_points", points)
        pipeline: Pipeline = dream_fields.generate(settings, tmp_path)
        told = []
        for progress in pipeline:
            told.append(progress)
            if len(asked) == 2 and progress.phase == "train":
                break
        assert asked == [5, 6] and [progress.fraction for progress in told] == sorted(p.fraction for p in told)
        second = next(p for p in told[1:] if p.phase == "points" and p.snapshot is not None)
        assert second.snapshot is not None and told[-1].snapshot is not None
        resume = told[-1].snapshot()
        pipeline.close()
        finish(dream_fields.generate(settings, tmp_path, resume))
        assert asked == [5, 6]


def made_of_triangles() -> Mesh:
    ball = trimesh.creation.icosphere(2)
    return Mesh(
        ball.vertices.astype(np.float32), ball.faces.astype(np.int32), np.full((len(ball.vertices), 3), 200, np.uint8)
    )


def test_what_points_cannot_be_made_of_may_begin_as_fog() -> None:
    with pytest.raises(Gen3DError, match="fog") as error:
        finish(shape(job(prompt="qx", begin="points"), False, 0))
    assert error.value.field == "begin"


def test_less_is_changed_of_what_is_there() -> None:
    points, fog = (dreamfusion.planned(job(begin=begin), own=True)[0] for begin in ("points", "fog"))
    assert points == dreamfusion.BEGUN and fog == dreamfusion.OWN and points.iterations < fog.iterations
    assert dreamfusion.planned(job(start="x", begin="fog"), own=True)[0] == dreamfusion.BEGUN
    assert magic3d.planned(job(), own=True)[0].coarse == dreamfusion.BEGUN
    paper = magic3d.planned(job(begin="points", preset="paper"), own=True)
    assert paper == (magic3d.PAPER, magic3d.PAPER_SHAPE)
    assert dream_fields.planned(job(), own=True)[0] == dream_fields.BEGUN
    assert dream_fields.planned(job(begin="fog"), own=True)[0] == dream_fields.FAST
