# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of points."""

from __future__ import annotations

import numpy as np
import pytest

from backend.rendering.point_picture import BACKGROUND, draw

RED, BLUE = (255, 0, 0), (0, 0, 255)


def place(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where the colour is, on average: row and column, 0 to 1."""
    found = np.argwhere((picture == colour).all(-1))
    assert len(found)
    middle: np.ndarray = (found.mean(0) + 0.5) / picture.shape[0]
    return middle


@pytest.mark.parametrize("size", [32, 100, 192])
def test_the_middle_is_in_the_middle_on_a_plain_ground(size: int) -> None:
    picture = draw(np.zeros((1, 3)), np.array([RED], np.uint8), size)
    assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
    np.testing.assert_allclose(place(picture, RED), 0.5, atol=1.5 / size)
    assert (picture == BACKGROUND).all(-1).mean() > 0.99


@pytest.mark.parametrize(
    ("point", "axis", "larger"),
    [((0, 0, 0.4), 0, False), ((0.4, 0, 0), 1, True), ((0, 0.4, 0), 1, True), ((0, -0.4, 0), 0, True)],
)
def test_up_is_up_and_the_front_is_seen(point: tuple[float, float, float], axis: int, larger: bool) -> None:
    found = place(draw(np.array([point]), np.array([RED], np.uint8)), RED)
    assert (found[axis] > 0.52) if larger else (found[axis] < 0.48)


def test_what_is_nearer_hides_what_is_behind() -> None:
    away = np.array([0.5, -0.866, 0.364])  # towards the eye
    points = np.stack([0.3 * away, -0.3 * away])
    for order in ([0, 1], [1, 0]):
        picture = draw(points[order], np.array([RED, BLUE], np.uint8)[order], 65)
        assert (picture == RED).all(-1).any() and not (picture == BLUE).all(-1).any()


def test_what_is_outside_or_no_number_is_left_out() -> None:
    points = np.array([[5.0, 0, 0], [0, 0, -5.0], [np.nan, 0, 0], [np.inf, 0, 0]])
    assert (draw(points, np.full((4, 3), 7, np.uint8)) == BACKGROUND).all()
    assert (draw(np.zeros((0, 3)), np.zeros((0, 3), np.uint8)) == BACKGROUND).all()
