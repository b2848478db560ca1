# SPDX-License-Identifier: GPL-3.0-or-later
"""The lens model against OpenCV's formula, written out term by term, and against its own inverse."""

from __future__ import annotations

import numpy as np
import pytest

from backend.data.lens import Intrinsics, distort_xy

from .scene import pixel_rays

COEFFICIENTS = (0.0578421, -0.0805099, -0.000980296, 0.00015575, 0.02)


@pytest.mark.parametrize("only", [None, 0, 1, 2, 3, 4])
def test_matches_opencv_term_by_term(only: int | None) -> None:
    k1, k2, p1, p2, k3 = (c if only in (None, i) else 0.0 for i, c in enumerate(COEFFICIENTS))
    x, y = np.random.default_rng(0).uniform(-0.8, 0.8, (2, 50))
    r = np.sqrt(x**2 + y**2)
    expected_x = x * (1 + k1 * r**2 + k2 * r**4 + k3 * r**6) + 2 * p1 * x * y + p2 * (r**2 + 2 * x**2)
    expected_y = y * (1 + k1 * r**2 + k2 * r**4 + k3 * r**6) + p1 * (r**2 + 2 * y**2) + 2 * p2 * x * y
    actual = distort_xy(x, y, k1, k2, p1, p2, k3)
    np.testing.assert_allclose(actual, (expected_x, expected_y), rtol=1e-13)


def test_rays_of_pixels_land_on_those_pixels() -> None:
    lens = Intrinsics(40, 30, 35.0, 36.0, 19.0, 16.0, COEFFICIENTS)
    pixels = np.stack(np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5), axis=-1)
    rays = pixel_rays(lens, pixels)
    x, y = distort_xy(rays[..., 0] / -rays[..., 2], -rays[..., 1] / -rays[..., 2], *COEFFICIENTS)
    np.testing.assert_allclose(np.stack((x * 35.0 + 19.0, y * 36.0 + 16.0), axis=-1), pixels, atol=1e-9)


def test_reach_is_infinite_without_distortion_and_holds_the_picture_with_it() -> None:
    assert Intrinsics(40, 30, 35.0, 36.0, 19.0, 16.0).reach == np.inf
    assert Intrinsics(40, 30, 35.0, 36.0, 19.0, 16.0, COEFFICIENTS).reach == pytest.approx(
        1.5 * np.hypot(21 / 35, 16 / 36)
    )
