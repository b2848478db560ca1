# SPDX-License-Identifier: GPL-3.0-or-later
"""The diffusion process, against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from backend.point_diffusion.diffusion import Diffusion, betas


def test_the_schedules_are_the_published_ones() -> None:
    def kept(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    cosine = [min(1 - kept((i + 1) / 1024) / kept(i / 1024), 0.999) for i in range(1024)]
    linear = [1000 / 1024 * (1e-4 + (0.02 - 1e-4) * i / 1023) for i in range(1024)]
    np.testing.assert_allclose(betas("cosine"), cosine, rtol=1e-12)
    np.testing.assert_allclose(betas("linear"), linear, rtol=1e-12)
    assert Diffusion.of({}).alphas_cumprod[0] == pytest.approx(1 - cosine[0])
    assert Diffusion.of({"schedule": "linear"}).alphas_cumprod[-1] == pytest.approx(math.prod(1 - b for b in linear))


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_target_leads_back_to_the_clean_cloud(prediction: str, schedule: str) -> None:
    diffusion = Diffusion.of({"prediction": prediction, "schedule": schedule})
    random = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 5, 6, 9, dtype=torch.float64, generator=random)
    t = torch.tensor([0, 1, 500, 900, 1023])
    x = diffusion.noised(x0, t, noise)
    target = diffusion.target(x0, t, noise)
    variance = torch.full_like(target, 99.0)  # the other half of what published models predict
    torch.testing.assert_close(diffusion.clean(x, t, torch.cat([target, variance], 1)), x0, rtol=1e-6, atol=1e-6)
    for row, step in enumerate(t.tolist()):
        alpha = diffusion.alphas_cumprod[step]
        torch.testing.assert_close(x[row], math.sqrt(alpha) * x0[row] + math.sqrt(1 - alpha) * noise[row])
    if prediction == "v":  # at the end all is noise, and v is what is left of it: the cloud, turned round
        torch.testing.assert_close(target[4], -x0[4], rtol=0, atol=1e-3) if schedule == "cosine" else None


def test_channels() -> None:
    diffusion = Diffusion.of({})
    cloud = torch.tensor([[[-0.5, 0.5], [0.0, 0.25], [0.5, -0.5], [0.0, 255.0], [127.5, 0.0], [255.0, 51.0]]])
    expected = torch.tensor([[[-1.0, 1.0], [0.0, 0.5], [1.0, -1.0], [-1.0, 1.0], [0.0, -1.0], [1.0, -0.6]]])
    torch.testing.assert_close(diffusion.scale(cloud), expected)
    torch.testing.assert_close(diffusion.unscale(expected), cloud)
    other = Diffusion.of({"channel_scales": [3.0] * 6, "channel_biases": [1.0] * 6})
    torch.testing.assert_close(other.unscale(other.scale(cloud)), cloud)
