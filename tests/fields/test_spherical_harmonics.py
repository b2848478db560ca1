# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import sph_harm_y
from torch import Tensor

from backend.fields.spherical_harmonics import TERMS, spherical_harmonics


def sphere() -> tuple[Tensor, Tensor]:
    """Directions [N, 3] and weights [N] that integrate polynomials up to degree 7 exactly: Gauss times trapezoid."""
    z, shares = np.polynomial.legendre.leggauss(4)
    angles = np.arange(8) * (2 * np.pi / 8) + 0.1
    z, turn = (a.ravel() for a in np.meshgrid(z, angles, indexing="ij"))
    r = np.sqrt(1 - z**2)
    directions = np.stack([r * np.cos(turn), r * np.sin(turn), z], -1)
    return torch.from_numpy(directions), torch.from_numpy(np.repeat(shares, 8) * 2 * np.pi / 8)


def test_orthonormal_over_the_sphere() -> None:
    directions, weights = sphere()
    assert math.isclose(weights.sum().item(), 4 * math.pi)
    values = spherical_harmonics(directions)
    assert values.shape == (len(directions), TERMS)
    products = torch.einsum("n,ni,nj->ij", weights, values, values)
    torch.testing.assert_close(products, torch.eye(TERMS, dtype=torch.float64), atol=1e-12, rtol=0)


def test_real_forms_of_the_complex_harmonics_with_condon_shortley_phase() -> None:
    """Y_l^m, m < 0: √2 Im Y_l^|m|; m > 0: √2 Re Y_l^m; in the order l, then m from -l to l."""
    directions = torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).double())
    x, y, z = directions.numpy().T
    polar, turn = np.arccos(z), np.arctan2(y, x)
    expected = []
    for band in range(4):
        for order in range(-band, band + 1):
            value = sph_harm_y(band, abs(order), polar, turn)
            expected.append(value.real if order == 0 else math.sqrt(2) * (value.real if order > 0 else value.imag))
    np.testing.assert_allclose(spherical_harmonics(directions).numpy(), np.stack(expected, -1), atol=1e-12)


def test_each_band_has_the_same_power_in_every_direction() -> None:
    """The addition theorem: squares of band l sum to (2 l + 1) / 4π."""
    directions = torch.nn.functional.normalize(torch.randn(100, 3, generator=torch.Generator().manual_seed(1)))
    for band, values in enumerate(torch.split(spherical_harmonics(directions), [1, 3, 5, 7], -1)):
        expected = torch.full((100,), (2 * band + 1) / (4 * math.pi))
        torch.testing.assert_close(values.square().sum(-1), expected, atol=1e-6, rtol=0)
