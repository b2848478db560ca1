# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from backend.fields.hash_field import FEATURES, HIDDEN, HashField
from backend.fields.hash_grid import encode_reference, levels
from backend.fields.spherical_harmonics import spherical_harmonics

GRID = levels(4, 4, 32, 10)


def field(shift: float = 0.0, seed: int = 0) -> HashField:
    torch.manual_seed(seed)
    module = HashField(GRID, shift)
    torch.nn.init.normal_(module.grid.table, std=0.5)
    return module


def samples(count: int = 200, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 3, generator=generator) * 2 - 1
    return points, torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)


def by_hand(module: HashField, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """The same in float64, from the definition."""
    w = [weight.detach().double() for weight in module.weights]
    x = encode_reference((points.double() + 1) / 2, module.grid.table.detach().double(), GRID)
    features = (x @ w[0].T).clamp_min(0) @ w[1].T
    inputs = torch.cat([features, spherical_harmonics(directions.double())], 1)
    hidden = ((inputs @ w[2].T).clamp_min(0) @ w[3].T).clamp_min(0)
    return torch.exp(features[:, 0] + module.shift), torch.sigmoid(hidden @ w[4].T)


@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_the_field_is_what_its_definition_says(shift: float) -> None:
    module, (points, directions) = field(shift), samples()
    density, colour = module(points, directions)
    expected = by_hand(module, points, directions)
    torch.testing.assert_close(density.double(), expected[0], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(colour.double(), expected[1], rtol=1e-3, atol=1e-4)
    assert density.dtype == colour.dtype == torch.float32
    assert (density > 0).all() and (colour > 0).all() and (colour < 1).all()


def test_before_training_space_is_evenly_filled() -> None:
    """The table begins near zero: the density is 1, or e^shift, everywhere."""
    for shift in (0.0, -3.0):
        torch.manual_seed(0)
        module, (points, directions) = HashField(GRID, shift), samples()
        density, _ = module(points, directions)
        torch.testing.assert_close(density, torch.full_like(density, math.exp(shift)), rtol=0.01, atol=0)


def test_weights_begin_as_uniform_as_he_has_them() -> None:
    for weight in field().weights:
        limit = math.sqrt(6 / weight.shape[1])
        assert weight.abs().max() <= limit
        if weight.numel() > 500:
            assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / weight.shape[1]), rel=0.1)
    assert [tuple(weight.shape) for weight in field().weights][1::2] == [(FEATURES, HIDDEN), (HIDDEN, HIDDEN)]


def test_directions_of_rays_are_those_of_their_samples() -> None:
    module, (points, _) = field(), samples()
    _, directions = samples(7, seed=3)
    rays = torch.arange(200) % 7
    _, features = module.density(module.encode(points))
    torch.testing.assert_close(module.colour(features, directions, rays), module.colour(features, directions[rays]))


def test_density_does_not_depend_on_the_direction_but_colour_does() -> None:
    module, (points, directions) = field(), samples()
    density, colour = module(points, directions)
    again, other = module(points, -directions)
    assert torch.equal(density, again)
    assert (colour - other).abs().max() > 0.01


def test_known_encodings_have_the_same_gradients() -> None:
    module, (points, directions) = field(), samples()
    grads = []
    for known in (None, module.encode(points).detach()):
        module.zero_grad()
        density, features = module.density(module.encode(points, known))
        (density.sum() + module.colour(features, directions).sum()).backward()  # type: ignore[no-untyped-call]
        assert module.grid.table.grad is not None
        grads.append(module.grid.table.grad.clone())
    torch.testing.assert_close(grads[0], grads[1])
    assert grads[0].abs().max() > 0


def test_gradients_are_those_of_the_definition() -> None:
    module, (points, directions) = field(), samples(50)
    density, colour = module(points, directions)
    (density.sum() + colour.sum()).backward()
    assert module.grid.table.grad is not None
    place = int(module.grid.table.grad[:, 1].abs().argmax())
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            module.grid.table[place, 1] += sign * 1e-3
            found = by_hand(module, points, directions)
            ends.append(float(found[0].sum() + found[1].sum()))
            module.grid.table[place, 1] -= sign * 1e-3
    assert float(module.grid.table.grad[place, 1]) == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=0.02)


def test_extreme_logarithms_neither_overflow_nor_lose_their_gradient() -> None:
    module = field(shift=500.0)
    density, _ = module.density(module.encode(samples()[0]))
    density.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(density).all() and float(density.detach().max()) == pytest.approx(math.exp(12), rel=1e-4)
    assert module.weights[1].grad is not None and module.weights[1].grad.abs().max() > 0
    thin, _ = field(shift=-500.0).density(module.encode(samples()[0]))
    assert float(thin.detach().max()) == pytest.approx(math.exp(-15), rel=1e-4)


def test_half_precision_is_near_and_answers_in_whole() -> None:
    module, (points, directions) = field(), samples()
    density, colour = module(points, directions)
    module.dtype = torch.bfloat16
    rough, seen = module(points, directions)
    assert rough.dtype == seen.dtype == torch.float32
    torch.testing.assert_close(rough.log(), density.log(), rtol=0.05, atol=0.3)
    torch.testing.assert_close(seen, colour, rtol=0.05, atol=0.05)
    assert all(weight.dtype == torch.float32 for weight in module.parameters())


def test_no_points_are_no_trouble() -> None:
    module = field()
    density, colour = module(torch.zeros(0, 3), torch.zeros(0, 3))
    assert density.shape == (0,) and colour.shape == (0, 3)
