# SPDX-License-Identifier: GPL-3.0-or-later
"""Each background is what it is called, and all of them are sRGB in 0..1."""

from __future__ import annotations

import math

import pytest
import torch

from backend.rendering.backgrounds import (
    BLUR,
    CONTRAST,
    SQUARES,
    TEXTURES,
    Maker,
    backgrounds,
    blurred,
    checks,
    fourier,
    noise,
    plain,
)


def test_backgrounds_are_pictures_of_four_kinds() -> None:
    found = backgrounds(400, 32, torch.Generator().manual_seed(0))
    assert found.shape == (400, 3, 32, 32) and found.min() >= 0 and found.max() <= 1
    flat = (found.std(dim=(2, 3)) < 1e-5).all(1)
    assert 0.18 < float(flat.float().mean()) < 0.32
    again = backgrounds(400, 32, torch.Generator().manual_seed(0))
    assert torch.equal(found, again)
    grey = plain(400, 4, torch.Generator().manual_seed(1))[:, :, 0, 0]
    assert 0.4 < float((grey.std(1) == 0).float().mean()) < 0.6


def test_those_of_the_paper_are_a_third_each() -> None:
    for count in (30, 31):
        kinds = [0, 0, 0]

        def maker(kind: int, kinds: list[int] = kinds) -> Maker:
            def make(some: int, size: int, generator: torch.Generator) -> torch.Tensor:
                kinds[kind] += some
                return TEXTURES[kind](some, size, generator)

            return make

        assert len(backgrounds(count, 8, torch.Generator().manual_seed(0), [maker(kind) for kind in range(3)])) == count
        assert kinds == [-(-count // 3)] * 3
    assert (noise, checks, fourier) == TEXTURES


def test_noise_is_gaussian_and_every_pixel_and_channel_for_itself() -> None:
    drawn = noise(40, 32, torch.Generator().manual_seed(0))
    assert drawn.min() == 0 and drawn.max() == 1, "what is beyond black and white is that"
    beyond = math.erfc(0.5 / CONTRAST / math.sqrt(2))
    assert float(((drawn == 0) | (drawn == 1)).float().mean()) == pytest.approx(beyond, rel=0.05)
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)
    apart = drawn.flatten(2) - 0.5
    for one, other in ((apart[:, 0], apart[:, 1]), (apart[..., 1:], apart[..., :-1])):
        assert abs(float((one * other).mean() / drawn.var())) < 0.02


def test_checks_have_two_colours_and_eight_squares_and_fourier_textures_use_the_whole_range() -> None:
    boards = checks(50, 64, torch.Generator().manual_seed(0))
    assert all(len(board.flatten(1).unique(dim=1).T) == 2 for board in boards)
    changes = (boards[:, :, :, 1:] != boards[:, :, :, :-1]).any(1)[:, 5].sum(1)
    assert set(changes.tolist()) <= {SQUARES - 1, SQUARES} and SQUARES == 8
    textures = fourier(20, 32, torch.Generator().manual_seed(0))
    assert float(textures.amin()) < 0.1 and float(textures.amax()) > 0.9
    assert textures.mean() == pytest.approx(0.5, abs=0.05)


def test_blur_is_a_gaussian() -> None:
    dot = torch.zeros(2, 1, 33, 33)
    dot[:, :, 16, 16] = 1
    found = blurred(dot, torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(found[0], dot[0], atol=1e-5, rtol=0)
    away = torch.arange(33) - 16.0
    bell = torch.exp(-(away**2) / 8) / math.sqrt(8 * math.pi)
    torch.testing.assert_close(found[1, 0], bell[:, None] * bell, atol=1e-5, rtol=0)
    assert pytest.approx(10 / 224) == BLUR
