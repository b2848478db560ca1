# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numba
import pytest
import torch
from torch import Tensor

from backend.fields.hash_grid import FEATURES, PRIMES, HashGrid, Levels, encode_reference, levels

GRIDS = {
    "dense and hashed": levels(8, 4, 64, 11),
    "dense": levels(3, 2, 8, 12),
    "hashed": levels(2, 32, 100, 8),
    "one": levels(1, 5, 5, 10),
    "sixteen": levels(16, 4, 200, 10),
}
COUNTS = (0, 1, 7, 2049)


def scattered(count: int, resolution: int = 16, seed: int = 0) -> Tensor:
    """Points [N, 3] of the cube; some lie on its faces, edges and corners and some on corners of cells."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 3, generator=generator)
    kind = torch.randint(0, 8, (count, 3), generator=generator)
    points[kind == 0] = 0.0
    points[kind == 1] = 1.0
    points[kind == 2] = (points[kind == 2] * resolution).round() / resolution
    return points


def encoder(grid: Levels, seed: int = 0) -> HashGrid:
    torch.manual_seed(seed)
    module = HashGrid(grid)
    torch.nn.init.normal_(module.table)
    return module


def test_levels_grow_geometrically_and_share_rows_when_there_are_too_few() -> None:
    grid = levels(8, 16, 512, 17)
    ratio = grid.resolutions[1:] / grid.resolutions[:-1]
    assert (grid.resolutions[0], grid.resolutions[-1]) == (16, 512)
    assert ratio == pytest.approx(32 ** (1 / 7), rel=0.04)
    corners = (grid.resolutions.astype(int) + 1) ** 3
    rows = grid.offsets[1:] - grid.offsets[:-1]
    assert grid.offsets[0] == 0
    assert (rows == corners)[~grid.hashed].all()
    assert (rows == 2**17)[grid.hashed].all() and (corners > 2**17)[grid.hashed].all()
    assert grid.hashed.any() and not grid.hashed.all()
    assert grid.channels == 32


@pytest.mark.parametrize("name", GRIDS)
def test_equal_features_everywhere_are_encoded_as_they_are(name: str) -> None:
    grid = GRIDS[name]
    row = torch.tensor([1.0, -2.0, 0.5, 3.0])
    encoded = encode_reference(scattered(300), row.expand(int(grid.offsets[-1]), FEATURES), grid)
    torch.testing.assert_close(encoded, row.repeat(300, len(grid.resolutions)))


def test_a_field_linear_in_the_point_is_reproduced_exactly() -> None:
    resolution, points = 5, scattered(300, 5)
    corner = torch.arange(resolution + 1) / resolution
    z, y, x = torch.meshgrid(corner, corner, corner, indexing="ij")  # x-fastest order
    features = torch.stack([x, y, z, 1 + 2 * x - y], -1).reshape(-1, FEATURES)
    x, y, z = points.unbind(-1)
    encoded = encode_reference(points, features, GRIDS["one"])
    torch.testing.assert_close(encoded, torch.stack([x, y, z, 1 + 2 * x - y], -1))


def test_a_corner_that_shares_its_row_is_found_by_the_published_hash() -> None:
    grid = Levels(*(levels(1, 600, 600, 9).__dict__.values()))
    table = torch.randn(512, FEATURES)
    for x, y, z in [(0, 0, 0), (1, 2, 3), (599, 598, 7), (600, 600, 600), (37, 600, 0)]:
        row = (x ^ y * PRIMES[1] ^ z * PRIMES[2]) % 2**32 % 512
        encoded = encode_reference(torch.tensor([[x, y, z]]) / 600, table, grid)
        torch.testing.assert_close(encoded[0], table[row], rtol=0, atol=2e-3)  # x / 600 * 600 is not quite x


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("count", COUNTS)
def test_kernel_agrees_with_the_definition(name: str, count: int) -> None:
    module, points = encoder(GRIDS[name]), scattered(count)
    # In double precision, points on the far side of a cell's border by rounding are in the neighbour, with the same
    # value: the interpolation is continuous.
    expected = encode_reference(points.double(), module.table.detach().double(), module.grid)
    found = module(points)
    assert found.shape == (count, module.grid.channels) and found.dtype == torch.float32
    torch.testing.assert_close(found.detach().double(), expected, rtol=0, atol=2e-4 if count else 0)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("count", COUNTS)
def test_kernel_gives_the_gradient_of_the_definition(name: str, count: int) -> None:
    module, points = encoder(GRIDS[name]), scattered(count, seed=1)
    given = torch.randn(count, module.grid.channels)
    module(points).backward(given)
    table = module.table.detach().clone().requires_grad_()
    torch.autograd.backward(encode_reference(points, table, module.grid), given)
    assert module.table.grad is not None and table.grad is not None
    torch.testing.assert_close(module.table.grad, table.grad, rtol=1e-4, atol=2e-4)


def test_backward_is_the_adjoint_of_forward() -> None:
    """Exact for a linear map: <encode(table), given> = <table, gradient(given)>."""
    module, points = encoder(GRIDS["dense and hashed"]), scattered(4000)
    given = torch.randn(4000, module.grid.channels)
    encoded = module(points)
    encoded.backward(given)
    assert module.table.grad is not None
    there = (encoded.detach().double() * given).sum()
    back = (module.table.detach().double() * module.table.grad).sum()
    assert float(there) == pytest.approx(float(back), rel=1e-4)


def test_gradients_add_up_until_they_are_cleared() -> None:
    module, points = encoder(GRIDS["dense"]), scattered(100)
    given = torch.randn(100, module.grid.channels)
    module(points).backward(given)
    assert module.table.grad is not None
    once = module.table.grad.clone()
    module(points).backward(given)
    torch.testing.assert_close(module.table.grad, 2 * once)


def test_rows_of_cells_without_points_have_no_gradient() -> None:
    module = encoder(GRIDS["one"])
    module(torch.tensor([[0.1, 0.1, 0.1]])).backward(torch.ones(1, FEATURES))
    assert module.table.grad is not None
    touched = module.table.grad.abs().sum(1).nonzero()[:, 0]
    assert touched.tolist() == [0, 1, 6, 7, 36, 37, 42, 43]


def test_known_values_are_taken_over_and_still_pass_gradients() -> None:
    module, points = encoder(GRIDS["dense and hashed"]), scattered(500)
    known = module(points).detach()
    given = torch.randn_like(known)
    module(points).backward(given)
    assert module.table.grad is not None
    expected, module.table.grad = module.table.grad, None
    again = module(points, known)
    assert torch.equal(again, known)
    again.backward(given)
    assert module.table.grad is not None and torch.equal(module.table.grad, expected)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    if numba.config.NUMBA_NUM_THREADS < 2:  # type: ignore[attr-defined]
        pytest.skip("this machine has one core")
    results = []
    before = numba.get_num_threads()
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            module, points = encoder(GRIDS["dense and hashed"]), scattered(6000)
            encoded = module(points)
            encoded.backward(torch.cos(torch.arange(encoded.numel()).view_as(encoded)))
            assert module.table.grad is not None
            results.append((encoded.detach(), module.table.grad))
    finally:
        numba.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


def test_points_need_not_be_contiguous() -> None:
    module, points = encoder(GRIDS["dense"]), scattered(50)
    assert torch.equal(module(points.T.contiguous().T), module(points))


def test_a_device_without_kernels_uses_the_definition() -> None:
    module = HashGrid(GRIDS["sixteen"]).to("meta")
    assert module(torch.empty(9, 3, device="meta")).shape == (9, module.grid.channels)
