# SPDX-License-Identifier: GPL-3.0-or-later
"""P-IS and P-FID by closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from scipy.spatial.transform import Rotation

from backend.metrics import point_cloud
from backend.metrics.pointnet import PointNet


def exact(mean: NDArray[np.float64], root: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Rows [400, D] whose mean and covariance root' root are exact."""
    rows = rng.normal(size=(400, len(root)))
    rows -= rows.mean(0)
    rows = np.linalg.qr(rows)[0] * np.sqrt(399)
    return np.asarray(rows @ root + mean)


def test_distance_of_known_gaussians() -> None:
    """Commuting covariances: |μ|² + Σ (σa - σb)²."""
    rng = np.random.default_rng(0)
    turn = Rotation.random(rng=rng).as_matrix()
    a, b, mean = np.array([3.0, 2.0, 0.5]), np.array([1.0, 2.5, 0.0]), np.array([1.0, -2.0, 0.5])
    found = point_cloud.frechet_distance(exact(mean, np.diag(a) @ turn, rng), exact(0 * mean, np.diag(b) @ turn, rng))
    assert found == pytest.approx(float((mean**2).sum() + ((a - b) ** 2).sum()), rel=1e-9)


def test_distance_of_one_dimension() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(3, 2, (50, 1)), rng.normal(-1, 0.3, (9, 1))
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert point_cloud.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_distance_by_the_root_of_the_product() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(300, 12)) @ rng.normal(size=(12, 12)), 2 + rng.normal(size=(200, 12))
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    trace = np.trace(sum(covariances)) - 2 * np.trace(sqrtm(covariances[0] @ covariances[1]).real)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + trace
    assert point_cloud.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [2, 5, 400])
def test_a_set_is_no_distance_from_itself_however_few_they_are(count: int) -> None:
    rows = np.random.default_rng(3).normal(size=(count, 256)) * 10
    assert 0 <= point_cloud.frechet_distance(rows, rows) < 1e-9
    shift = np.full(256, 0.5)
    assert point_cloud.frechet_distance(rows, rows + shift) == pytest.approx(64, rel=1e-9)


def test_what_the_distance_does_not_change_with() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(7, 20)), rng.normal(size=(30, 20)) * 3 + 1
    expected = point_cloud.frechet_distance(a, b)
    turn = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    assert point_cloud.frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)
    assert point_cloud.frechet_distance(a @ turn + 5, b @ turn + 5) == pytest.approx(expected, rel=1e-9)
    assert point_cloud.frechet_distance(2 * a, 2 * b) == pytest.approx(4 * expected, rel=1e-9)
    assert point_cloud.frechet_distance(a[::-1], rng.permutation(b)) == pytest.approx(expected, rel=1e-9)


def test_inception_score_of_sure_and_of_unsure_classes() -> None:
    assert point_cloud.inception_score(np.tile(np.eye(16), (5, 1))) == pytest.approx(16, rel=1e-12)
    assert point_cloud.inception_score(np.full((80, 16), 1 / 16)) == pytest.approx(1, rel=1e-12)
    assert point_cloud.inception_score(np.eye(16)[np.full(80, 3)]) == pytest.approx(1, rel=1e-12)
    assert point_cloud.inception_score(np.eye(16)[np.arange(80) % 4]) == pytest.approx(4, rel=1e-12)


def test_inception_score_by_its_formula_and_in_splits() -> None:
    p = np.random.default_rng(5).dirichlet(np.full(8, 0.3), 70)
    parts = [p[:30], p[30:60], p[60:]]
    each = [np.exp(np.mean([(row * np.log(row / part.mean(0))).sum() for row in part])) for part in parts]
    assert point_cloud.inception_score(p, 30) == pytest.approx(np.mean(each), rel=1e-9)
    assert 1 <= point_cloud.inception_score(p, 30) <= 8


def test_clouds_are_centred_and_scaled_to_the_unit_sphere() -> None:
    clouds = np.random.default_rng(6).normal(size=(4, 90, 3)) * 5 + 100
    found = point_cloud.normalised(clouds)
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1).max(1), 1)
    np.testing.assert_allclose(point_cloud.normalised(clouds * 0.01 - 3), found, atol=1e-9)
    assert not point_cloud.normalised(np.full((1, 9, 3), 7.0)).any()


def test_classes_do_not_change_with_place_and_size_or_with_the_batch() -> None:
    torch.manual_seed(0)
    model = PointNet(classes=5, width=0.25).eval()
    clouds = list(np.random.default_rng(7).normal(size=(5, 30, 3)).astype(np.float32))
    told: list[int] = []
    seen = point_cloud.classify(clouds, model, told.append, batch=3)
    assert seen.features.shape == (5, 64) and seen.probabilities.shape == (5, 5) and told == [3, 5]
    np.testing.assert_allclose(seen.probabilities.sum(1), 1)
    moved = point_cloud.classify([cloud * np.float32(4) + 1 for cloud in clouds], model, batch=3)
    np.testing.assert_allclose(moved.features, seen.features, atol=1e-4)
    alone = point_cloud.classify(clouds[:2], model)
    np.testing.assert_allclose(alone.features, seen.features[:2], atol=1e-5)
