# SPDX-License-Identifier: GPL-3.0-or-later
"""The network against its drawing in the paper, written out in NumPy, and what must hold of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backend.fields.nerf_mlp import NerfMlp
from backend.fields.positional_encoding import positional_encoding

Array = NDArray[np.float64]


def inputs(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    points = torch.rand(*shape, 3, generator=random, dtype=torch.float64) * 2 - 1
    directions = torch.randn(*shape, 3, generator=random, dtype=torch.float64)
    return points, nn.functional.normalize(directions, dim=-1)


def make(width: int = 256, depth: int = 8) -> NerfMlp:
    """A network whose biases and densities are not zero."""
    torch.manual_seed(0)
    net = NerfMlp(width, depth).double()
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    nn.init.constant_(net.density.bias, 1.0)
    return net


def drawn(net: NerfMlp, points: Tensor, directions: Tensor) -> tuple[Array, Array]:
    """Fig. 7 of the paper, box by box, with the join after the fifth layer as in its code."""
    values: dict[str, Any] = {name: value.numpy() for name, value in net.state_dict().items()}

    def dense(name: str, x: Array) -> Array:
        result: Array = x @ values[f"{name}.weight"].T + values[f"{name}.bias"]
        return result

    def relu(x: Array) -> Array:
        return np.maximum(x, 0.0)

    position, direction = positional_encoding(points, 10).numpy(), positional_encoding(directions, 4).numpy()
    x = relu(dense("trunk.0", position))
    x = relu(dense("trunk.1", x))
    x = relu(dense("trunk.2", x))
    x = relu(dense("trunk.3", x))
    x = relu(dense("trunk.4", x))
    x = relu(dense("trunk.5", np.concatenate([position, x], -1)))
    x = relu(dense("trunk.6", x))
    x = relu(dense("trunk.7", x))
    hidden = relu(dense("hidden", np.concatenate([dense("feature", x), direction], -1)))
    return relu(dense("density", x))[..., 0], 1 / (1 + np.exp(-dense("colour", hidden)))


def test_computes_what_the_paper_draws() -> None:
    net = make()
    points, directions = inputs(5, 7)
    with torch.no_grad():
        density, colour = net(points, directions)
    expected_density, expected_colour = drawn(net, points, directions)
    assert (expected_density > 0).any() and expected_colour.std() > 0.01
    np.testing.assert_allclose(density.numpy(), expected_density, rtol=1e-10)
    np.testing.assert_allclose(colour.numpy(), expected_colour, rtol=1e-10)


def test_parameters_of_the_papers_network() -> None:
    width, position, direction = 256, 63, 27
    trunk = (position + 1) * width + 6 * (width + 1) * width + (width + position + 1) * width
    heads = (width + 1) + (width + 1) * width + (width + direction + 1) * width // 2 + (width // 2 + 1) * 3
    assert sum(p.numel() for p in NerfMlp().parameters()) == trunk + heads == 595_844


def test_weights_begin_as_glorot_and_bengio_have_them() -> None:
    torch.manual_seed(0)
    for module in NerfMlp().modules():
        if isinstance(module, nn.Linear):
            bound = math.sqrt(6 / (module.in_features + module.out_features))
            assert not module.bias.any()
            assert 0.9 * bound < module.weight.abs().max().item() <= bound
            assert module.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)


def test_the_position_joins_again_after_the_fifth_layer() -> None:
    net = make(width=16)
    before, after = net.trunk[4], net.trunk[5]
    assert isinstance(before, nn.Linear) and isinstance(after, nn.Linear)
    nn.init.zeros_(before.weight)
    points, directions = inputs(50)
    assert net(points, directions)[0].std() > 1e-3
    with torch.no_grad():
        after.weight[:, :63] = 0
    assert net(points, directions)[0].std() < 1e-12


def test_density_does_not_depend_on_the_direction_but_colour_does() -> None:
    net = make(width=32)
    points, directions = inputs(50)
    density, colour = net(points, directions)
    other_density, other_colour = net(points, -directions)
    assert torch.equal(density, other_density)
    assert ((colour - other_colour).abs().amax(-1) > 1e-4).all()


def test_ranges_and_shapes() -> None:
    net = make(width=8, depth=2)
    for shape in [(), (0,), (4,), (2, 3)]:
        density, colour = net(*inputs(*shape))
        assert density.shape == shape and colour.shape == (*shape, 3)
        assert (density >= 0).all() and (colour > 0).all() and (colour < 1).all()


def test_every_parameter_learns() -> None:
    net = make(width=32)
    density, colour = net(*inputs(200))
    (density.sum() + colour.square().sum()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_gradient_by_finite_differences() -> None:
    net = make(width=8)
    points, directions = inputs(3)
    assert torch.autograd.gradcheck(net, (points.requires_grad_(), directions.requires_grad_()), eps=1e-7)


def test_noise_is_normal_before_the_relu_and_leaves_colours_alone() -> None:
    net = NerfMlp(8, 2).double()
    nn.init.zeros_(net.density.weight)
    points, directions = inputs(40_000)
    with torch.no_grad():
        density, colour = net(points, directions, 2.0, torch.Generator().manual_seed(3))
        again, _ = net(points, directions, 2.0, torch.Generator().manual_seed(3))
        still, plain = net(points, directions)
    assert torch.equal(density, again) and torch.equal(colour, plain) and not still.any()
    assert (density == 0).double().mean().item() == pytest.approx(0.5, abs=0.01)
    assert density.mean().item() == pytest.approx(2 / math.sqrt(2 * math.pi), rel=0.02)
    assert density.square().mean().item() == pytest.approx(2.0, rel=0.03)
