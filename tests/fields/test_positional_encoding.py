# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import pytest
import torch

from backend.fields.positional_encoding import positional_encoding


def test_every_entry_written_out() -> None:
    x = torch.tensor([[0.3, -0.7, 0.9], [-1.0, 0.0, 1.0]], dtype=torch.float64)
    for point, encoded in zip(x.tolist(), positional_encoding(x, 10), strict=True):
        expected = [*point]
        for k in range(10):
            for wave in (math.sin, math.cos):
                expected += [wave(2**k * c) for c in point]
        torch.testing.assert_close(encoded, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(3,), (5, 3), (0, 3), (2, 4, 3)])
@pytest.mark.parametrize("bands", [0, 1, 4])
def test_shapes(shape: tuple[int, ...], bands: int) -> None:
    x = torch.rand(shape)
    encoded = positional_encoding(x, bands)
    assert encoded.shape == (*shape[:-1], 3 + 6 * bands)
    assert torch.equal(encoded[..., :3], x)


def test_opposite_faces_of_the_box_differ_in_every_pair_of_waves() -> None:
    ends = positional_encoding(torch.tensor([[-1.0] * 3, [1.0] * 3]), 10)[:, 3:].view(2, 10, 2, 3)
    assert ((ends[0] - ends[1]).norm(dim=1) > 0.01).all()


def test_single_precision_suffices_for_the_highest_band() -> None:
    x = torch.linspace(-1, 1, 3000).view(-1, 3)
    torch.testing.assert_close(
        positional_encoding(x, 10).double(), positional_encoding(x.double(), 10), atol=1e-6, rtol=0
    )


def test_gradient() -> None:
    x = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: positional_encoding(x, 4), (x,))
