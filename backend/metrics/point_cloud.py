# SPDX-License-Identifier: GPL-3.0-or-later
"""How good and how varied point clouds are: P-IS and P-FID (Nichol et al. 2022, "Point-E", §5).

They are the inception score (Salimans et al. 2016) and the Fréchet distance (Heusel et al. 2017) with a PointNet++ in
the place of the picture classifier. Their values mean something beside others of the same classifier only, and P-FID
beside others of as many clouds only: it falls with their number. The published figures are of 10,000 clouds each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import xlogy

from .pointnet import PointNet

BATCH = 64
"""Clouds at a time, as published: where the sampling of a cloud begins depends on its place among them."""

SPLIT = 5000


@dataclass(frozen=True)
class Seen:
    """What the classifier makes of clouds: features float64 [N, D] and class probabilities float64 [N, classes]."""

    features: NDArray[np.float64]
    probabilities: NDArray[np.float64]


def classify(
    clouds: Sequence[NDArray[np.floating]],
    model: PointNet,
    tell: Callable[[int], object] = lambda done: None,
    batch: int = BATCH,
) -> Seen:
    """Features and classes of clouds [N, 3], each with as many finite points as the others.

    ``tell`` is told how many are done. The model, in evaluation mode, says where it is computed.
    """
    device = next(model.parameters()).device
    features, probabilities = [], []
    with torch.inference_mode():
        for first in range(0, len(clouds), batch):
            points = normalised(np.stack(clouds[first : first + batch]))
            logits, found = model(torch.from_numpy(points.astype(np.float32)).to(device))
            features.append(found.double().cpu().numpy())
            probabilities.append(logits.double().softmax(-1).cpu().numpy())
            tell(first + len(points))
    return Seen(np.concatenate(features), np.concatenate(probabilities))


def normalised(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Clouds [..., N, 3] with their mean at the origin and the farthest point at distance 1."""
    centred = points.astype(np.float64) - points.mean(-2, keepdims=True, dtype=np.float64)
    radius = np.linalg.norm(centred, axis=-1, keepdims=True).max(-2, keepdims=True)
    return np.asarray(centred / np.maximum(radius, 1e-12))


def inception_score(probabilities: NDArray[np.floating], split: int = SPLIT) -> float:
    """exp of the mean KL divergence from each row [N, classes] to the mean row, averaged over splits of N.

    1 where all rows are alike; the number of classes where every row is sure and the classes are equally frequent.
    """
    scores = []
    for first in range(0, len(probabilities), split):
        p = np.asarray(probabilities[first : first + split], np.float64)
        mean = p.mean(0)
        scores.append(np.exp((xlogy(p, p) - xlogy(p, mean)).sum(1).mean()))
    return float(np.mean(scores))


def frechet_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Squared Fréchet distance of the Gaussians fitted to rows [N, D] and [M, D]; N and M are at least 2.

    |μa - μb|² + tr(A + B - 2 (A B)^½). With A = P'P and B = Q'Q, the trace of the root is the sum of the singular
    values of P Q'; so neither covariance need be regular, nor is a root of a matrix taken.
    """
    mean_a, root_a = _gaussian(a)
    mean_b, root_b = _gaussian(b)
    both = float(np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum())
    spread = float((root_a**2).sum() + (root_b**2).sum()) - 2 * both
    return float(((mean_a - mean_b) ** 2).sum()) + max(spread, 0.0)


def _gaussian(rows: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean [D] and a root P [min(N, D), D] of the covariance P'P of rows [N, D]."""
    rows = np.asarray(rows, np.float64)
    mean = rows.mean(0)
    return mean, np.linalg.qr((rows - mean) / np.sqrt(len(rows) - 1)).R
