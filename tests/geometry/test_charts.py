# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest

from backend.geometry import charts


def test_rasteriser_agrees_with_brute_force() -> None:
    """Nearest point of any triangle, for every texel, by dense barycentric sampling."""
    rng = np.random.default_rng(3)
    places = rng.uniform(2, 22, (9, 2)).astype(np.float32)
    faces = np.arange(9, dtype=np.int32).reshape(3, 3)
    face, weights = charts.rasterise(places, faces, 4, 16, 24, 2.0)
    step = np.linspace(0, 1, 81)
    u, v = (w.ravel() for w in np.meshgrid(step, step))
    inside = u + v <= 1 + 1e-9
    dense = np.stack([1 - u - v, u, v], axis=1)[inside]
    candidates = np.concatenate([dense @ places[f] for f in faces])
    for row in range(16):
        for column in range(24):
            middle = np.array([column + 0.5, row + 4 + 0.5])
            nearest = np.linalg.norm(candidates - middle, axis=1).min()
            if face[row, column] < 0:
                assert nearest > 2.0 - 1e-6
                continue
            assert weights[row, column].sum() == pytest.approx(1, abs=1e-5)
            assert weights[row, column].min() >= 0
            found = weights[row, column] @ places[faces[face[row, column]]]
            assert np.linalg.norm(found - middle) == pytest.approx(nearest, abs=0.25)
            assert np.linalg.norm(found - middle) <= nearest + 1e-4


def test_filling_takes_the_neighbours_and_keeps_what_is_there() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(100, 140, (37, 53, 3)).astype(np.uint8)
    covered = np.zeros((37, 53), dtype=bool)
    covered[5:9, 40:47] = True
    covered[30, 2] = True
    image[30, 2] = 250
    filled = charts.filled(np.where(covered[..., None], image, 0).astype(np.uint8), covered)
    np.testing.assert_array_equal(filled[covered], image[covered])
    assert filled.min() >= 100
    assert (filled[31, 2] == 250).all()
    assert (filled[10, 47] < 141).all()
