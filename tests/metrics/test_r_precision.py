# SPDX-License-Identifier: GPL-3.0-or-later
"""CLIP R-Precision by encoders whose answers are known, and the pictures that they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_fill_holes
from torch import Tensor

from backend.geometry.mesh import Mesh, is_watertight, volume
from backend.metrics import r_precision as module
from backend.metrics.r_precision import hits, portraits, r_precision, splats
from tests.geometry.shapes import sphere

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ByColour:
    """Sees the mean colour of what is not background; knows three words, and "grey"."""

    def encode_text(self, texts: Sequence[str], /) -> Tensor:
        vectors = COLOURS | {"grey": (100, 100, 100)}
        return torch.tensor([vectors[text] for text in texts], dtype=torch.float32)

    def encode_image(self, pixels: Tensor, /) -> Tensor:
        seen = (pixels < 1).any(1, keepdim=True)
        return (pixels * seen).sum((2, 3))


def ball(colour: str) -> Mesh:
    mesh = sphere(0.6, 16)
    return replace(mesh, colors=np.tile(np.array(COLOURS[colour], np.uint8), (len(mesh.vertices), 1)))


def tower() -> Mesh:
    """Nothing alike from two sides."""
    low, high = sphere(0.5, 16), sphere(0.3, 16, (0.3, -0.2, 0.4))
    return Mesh(
        np.concatenate([low.vertices, high.vertices]), np.concatenate([low.faces, high.faces + len(low.vertices)])
    )


def test_right_and_wrong_colours_are_told_apart() -> None:
    objects = [(ball("red"), "red"), (ball("green"), "green"), (ball("blue"), "red"), (ball("blue"), "grey")]
    score = r_precision(objects, ["red", "green", "blue", "grey", "red"], ByColour(), views=2)
    assert (score.colour, score.views, score.captions) == (50.0, 2, 4)
    assert score.geometry == 25.0  # only the last is said to be grey


def test_the_nearest_is_by_angle_and_counts_view_by_view() -> None:
    captions = torch.tensor([[10.0, 0.0], [0.0, 0.1]])
    pictures = torch.tensor([[1.0, 2.0], [2.0, 1.0], [0.0, 5.0], [0.0, 0.2]])
    assert (hits(pictures, captions, 0), hits(pictures, captions, 1)) == (0.25, 0.75)


def test_a_caption_that_is_not_among_them_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="red"):
        r_precision([(ball("red"), "red")], ["green"], ByColour())


def test_pictures_are_on_white_from_all_sides_and_of_any_size() -> None:
    mesh = tower()
    pictures = portraits(mesh, 3, 48)
    assert pictures.shape == (3, 3, 48, 48) and pictures.dtype == torch.float32
    assert float(pictures.min()) > 0 and (pictures[:, :, [0, 0, -1, -1], [0, -1, 0, -1]] == 1).all()
    assert (pictures < 1).any(1).float().mean((1, 2)).min() > 0.1
    for i in range(3):
        assert (pictures[i] - pictures[i - 1]).abs().mean() > 0.005
    moved = replace(mesh, vertices=(mesh.vertices * 7 + np.float32(3)).astype(np.float32))
    assert float((portraits(moved, 3, 48) - pictures).abs().mean()) < 1e-3


def test_bare_shapes_are_grey_and_shaded() -> None:
    grey = portraits(replace(ball("red"), colors=None), 1, 48)[0]
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[0], grey[2])
    inside = grey[0][grey[0] < 1]
    assert inside.std() > 0.05
    assert grey[0, 16, 16] > grey[0, 32, 32] + 0.1  # the lamp is up and on the left


def test_clouds_are_drawn_as_closed_points() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 3)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    colours = rng.integers(0, 256, (300, 3), dtype=np.uint8)
    cloud = Mesh(points, np.empty((0, 3), np.int32), colours)
    drawn = splats(cloud)
    assert is_watertight(drawn) and len(drawn.faces) == 8 * 300
    assert drawn.colors is not None and np.array_equal(drawn.colors[::6], colours)
    radius = float(np.linalg.norm(drawn.vertices[0] - points[0]))
    assert volume(drawn) == pytest.approx(300 * 4 / 3 * radius**3, rel=1e-3)
    np.testing.assert_allclose(drawn.vertices.reshape(300, 6, 3).mean(1), points, atol=1e-6)
    covered = (portraits(cloud, 1, 64)[0] < 1).any(0).numpy()
    assert covered.mean() > 0.3 and covered.sum() / binary_fill_holes(covered).sum() > 0.98


def test_colours_are_of_vertices_however_many_faces_there_are() -> None:
    """A tetrahedron has as many of both; red below, its top is green."""
    corners = np.array([[1, 0, 0], [-1, 1, 0], [-1, -1, 0], [0, 0, 2]], np.float32)
    faces = np.array([[0, 1, 3], [1, 2, 3], [2, 0, 3], [0, 2, 1]], np.int32)
    red, green = COLOURS["red"], COLOURS["green"]
    picture = portraits(Mesh(corners, faces, np.array([red, red, red, green], np.uint8)), 1, 64)[0]
    rows = (picture.amin(0) < 0.5).any(1).nonzero()[:, 0].tolist()
    top, bottom = picture[:, rows[0] + 2], picture[:, rows[-1] - 2]
    assert (top[1] > 2 * top[0]).any() and (bottom[0] > 2 * bottom[1]).any()
    assert not (top[0] > 2 * top[1]).any()


def test_one_point_and_equal_points_can_be_seen() -> None:
    for count in (1, 5):
        cloud = Mesh(np.zeros((count, 3), np.float32), np.empty((0, 3), np.int32))
        assert (portraits(cloud, 1, 32) < 1).any()


def test_the_default_is_what_is_documented() -> None:
    assert portraits(tower()).shape == (module.VIEWS, 3, module.SIZE, module.SIZE)
