# SPDX-License-Identifier: GPL-3.0-or-later
"""The integrated encoding is what sampling a Gaussian gives."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from backend.fields.integrated_encoding import BANDS, integrated_encoding


def test_it_is_the_mean_of_waves_over_the_gaussian() -> None:
    torch.manual_seed(0)
    basis, direction = F.normalize(torch.randn(5, 3), dim=1), F.normalize(torch.randn(1, 3), dim=1)
    mean, along, across = torch.randn(1, 3) * 0.3, torch.tensor([0.05]), torch.tensor([0.01])
    noise = torch.randn(400_000, 3)
    inside = noise @ direction.T
    drawn = mean + along * inside * direction + across * (noise - inside * direction)
    angles = torch.pi * (2.0 ** torch.arange(BANDS))[:, None] * (drawn @ basis.T)[:, None]
    expected = torch.cat([torch.sin(angles).mean(0).flatten(), torch.cos(angles).mean(0).flatten()])
    encoded = integrated_encoding(mean, direction, basis, along, across)[0]
    assert encoded.shape == (2 * BANDS * 5,)
    assert torch.allclose(encoded, expected, atol=6e-3)


def test_without_width_it_is_plain_and_with_much_only_low_bands_are_left() -> None:
    points, up = torch.rand(7, 3) - 0.5, torch.tensor([[0.0, 0.0, 1.0]]).expand(7, 3)
    basis, none = torch.eye(3), torch.zeros(7)
    sharp = integrated_encoding(points, up, basis, none, none).view(7, 2, BANDS, 3)
    assert torch.allclose(sharp[:, 0, 3], torch.sin(torch.pi * 8 * points), atol=1e-4)
    for opened in (2.0, 2.5):
        part = integrated_encoding(points, up, basis, none, none, opened).view(7, 2, BANDS, 3)
        assert torch.equal(part[:, :, :2], sharp[:, :, :2]) and (part[:, :, 3:] == 0).all()
        assert torch.allclose(part[:, :, 2], (opened - 2.0) * sharp[:, :, 2], atol=1e-6), "half way up, a half"
    wide = integrated_encoding(points, up, basis, none + 0.5, none + 0.5).view(7, 2, BANDS, 3)
    assert wide[:, :, 3:].abs().max() < 1e-6 and wide[:, :, 0].abs().max() > 0.05
