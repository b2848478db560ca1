# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of field and scene is seen where, what borders look like, cameras of moved objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from . import addon

compositing = addon.module("viewing.compositing")
errors = addon.module("bridge").errors
Layer = compositing.Layer

FRONT, SKY, FIELD = (np.array((*rgb, 1.0), np.float32) for rgb in ((0.1, 0.8, 0.1), (0.9, 0.9, 1.0), (0.8, 0.2, 0.1)))


def plain(rgba: NDArray[np.float32], depth: float, size: int = 12) -> Any:
    return Layer(np.tile(rgba, (size, size, 1)), np.full((size, size), depth, np.float32))


def test_the_nearer_one_is_seen() -> None:
    behind, before = plain(FIELD, 5.0), plain(FIELD, 2.0)
    wall = plain(FRONT, 3.0)
    np.testing.assert_allclose(compositing.compose(behind, wall), wall.rgba, atol=1e-6)
    np.testing.assert_allclose(compositing.compose(before, wall), before.rgba, atol=1e-6)
    np.testing.assert_array_equal(compositing.compose(before, None), before.rgba)


def test_half_transparent_things_are_mixed_in_linear_light() -> None:
    half = plain(0.5 * FIELD, 2.0)
    np.testing.assert_allclose(compositing.compose(half, plain(FRONT, 3.0))[6, 6], 0.5 * FIELD + 0.5 * FRONT, atol=1e-6)
    glass = plain(0.25 * FRONT, 1.0)
    np.testing.assert_allclose(compositing.compose(half, glass)[6, 6], 0.25 * FRONT + 0.75 * 0.5 * FIELD, atol=1e-6)
    nothing = plain(np.zeros(4, np.float32), compositing.NOTHING)
    np.testing.assert_allclose(compositing.compose(half, nothing)[6, 6], 0.5 * FIELD, atol=1e-6)
    empty = Layer(np.zeros((12, 12, 4), np.float32), np.full((12, 12), compositing.NOTHING, np.float32))
    np.testing.assert_allclose(compositing.compose(empty, glass), glass.rgba)


@pytest.mark.parametrize("slant", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_borders_are_smooth_and_without_fringes(slant: float, chance: float) -> None:
    """Something of the scene hides the left of the field. Its edge runs through pixels, whose colours are the truth's
    mixture with the sky beyond, and whose depth is now that of the one and now that of the other."""
    y, x = np.mgrid[:40, :40] + 0.5
    covered = np.clip(15.3 + slant * (y - 20) - x + 0.5, 0.0, 1.0)[..., None].astype(np.float32)
    hit = covered[..., 0] > np.where(np.random.default_rng(0).random((40, 40)) < chance, 0.02, 0.98)
    scene = Layer(covered * FRONT + (1 - covered) * SKY, np.where(hit, 1.0, compositing.NOTHING).astype(np.float32))
    seen = compositing.compose(plain(FIELD, 4.0, 40), scene)
    truth = covered * FRONT + (1 - covered) * FIELD
    away = np.abs(seen - truth).max(axis=2)
    assert away[3:-3, 3:-3].max() < 0.2
    assert away.mean() < 0.004
    assert seen.min() >= 0.0


def matrix(scale: float, turn: float, place: tuple[float, float, float]) -> NDArray[np.float64]:
    made = np.eye(4)
    made[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    made[:3, :3] *= scale
    made[:3, 3] = place
    return made


def test_cameras_follow_an_object_that_was_moved() -> None:
    """What the camera has before it at the moved object, it has at the field's own place, but for the scale."""
    home = matrix(1.5, 0.4, (1.0, 2.0, 3.0))
    camera = matrix(1.0, 2.0, (4.0, -3.0, 2.0))
    pose, unit = compositing.into_field(home, home, camera)
    np.testing.assert_allclose(pose, camera, atol=1e-12)
    assert unit == pytest.approx(1.0)
    moved = matrix(4.5, -1.1, (-7.0, 0.5, 0.1))
    pose, unit = compositing.into_field(home, moved, camera)
    assert unit == pytest.approx(3.0)
    np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)
    point = np.array((0.3, -0.2, 0.6, 1.0))
    in_scene = np.linalg.inv(camera) @ moved @ point
    in_field = np.linalg.inv(pose) @ home @ point
    np.testing.assert_allclose(in_scene[:3], unit * in_field[:3], atol=1e-12)


@pytest.mark.parametrize("sides", [(1.0, 1.0, 1.3), (-1.0, 1.0, 1.0), (0.0, 0.0, 0.0)])
def test_a_field_cannot_be_squeezed_or_mirrored(sides: tuple[float, float, float]) -> None:
    with pytest.raises(errors.Gen3DError, match="scaled unevenly"):
        compositing.into_field(np.eye(4), np.diag((*sides, 1.0)), np.eye(4))
