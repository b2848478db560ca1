# SPDX-License-Identifier: GPL-3.0-or-later
"""Sampling: the published loop written out, differential equations with a known solution, and recorded samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d
from torch import Tensor

from backend.point_diffusion import karras, transformer
from backend.point_diffusion.diffusion import Diffusion, as_points
from backend.point_diffusion.karras import Sampling, State

from . import golden

SMALL = Sampling(karras_steps=6, sigma_min=1e-2, sigma_max=20.0, s_churn=2.0, guidance_scale=3.0)
CONFIG = {
    "name": "CLIPImageGridUpsamplePointDiffusionTransformer", "width": 24, "layers": 2, "heads": 2,
    "input_channels": 6, "output_channels": 12, "time_token_cond": True, "feature_dim": 10, "cond_tokens": 4,
    "channel_scales": [2.0, 2.0, 2.0, 0.01, 0.01, 0.01], "channel_biases": [0.0, 0.0, 0.0, -1.0, -1.0, -1.0],
}  # fmt: skip


def replay(draws: Sequence[Tensor]) -> karras.Noise:
    """The draws one after the other; no more, and of the shape that is asked for."""
    left = iter(draws)

    def noise(shape: Sequence[int]) -> Tensor:
        draw = next(left)
        assert tuple(shape) == draw.shape
        return draw

    return noise


def gaussian(deviation: float) -> karras.Denoise:
    """Of normally distributed data, exactly."""
    return lambda x, sigma: x * deviation**2 / (deviation**2 + sigma**2)


def last(states: Iterator[State]) -> State:
    return list(states)[-1]


# ------------------------------------------------------------------------------------------------------ the method


def test_the_noise_levels() -> None:
    levels = karras.sigmas(Sampling(karras_steps=5, sigma_min=0.5, sigma_max=80.0))
    high, low = 80 ** (1 / 7), 0.5 ** (1 / 7)
    expected = [(high + i / 4 * (low - high)) ** 7 for i in range(5)]
    np.testing.assert_allclose(levels.numpy(), [*expected, 0.0], rtol=1e-5)


def by_hand(denoise: karras.Denoise, x: Tensor, levels: Tensor, churn: float, draws: Sequence[Tensor]) -> Tensor:
    """Karras et al., algorithm 2, line by line."""
    for i in range(len(levels) - 1):
        gamma = min(churn / (len(levels) - 1), math.sqrt(2) - 1)
        t, then = levels[i], levels[i + 1]
        hat = t + gamma * t
        x_hat = x + torch.sqrt(hat * hat - t * t) * draws[i]
        slope = (x_hat - denoise(x_hat, hat)) / hat
        x = x_hat + (then - hat) * slope
        if then != 0:
            other = (x - denoise(x, then)) / then
            x = x_hat + (then - hat) * (slope + other) / 2
    return x


@pytest.mark.parametrize("churn", [0.0, 1.5, 100.0])
def test_each_step_is_that_of_the_algorithm(churn: float) -> None:
    random = torch.Generator().manual_seed(0)
    x, *draws = torch.randn(8, 2, 6, 5, dtype=torch.float64, generator=random)
    mix = torch.randn(6, 6, dtype=torch.float64, generator=random)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.tanh(mix @ x / (1 + sigma) + sigma)

    levels = karras.sigmas(Sampling(karras_steps=7, sigma_min=0.02, sigma_max=30.0))
    states = list(karras.heun(denoise, State(0, x * 30, x), levels, churn, replay(draws)))
    assert [state.step for state in states] == [1, 2, 3, 4, 5, 6, 7]
    torch.testing.assert_close(states[-1].x, by_hand(denoise, x * 30, levels, churn, draws), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(states[-1].clean, states[-1].x, rtol=1e-12, atol=1e-12)  # the last level is 0


def test_it_solves_the_equation_and_better_with_more_steps() -> None:
    """For normal data the flow is known: x / √(s² + σ²) stays what it is."""
    deviation, x = 0.7, torch.linspace(-50, 50, 12, dtype=torch.float64).view(1, 6, 2)
    errors = []
    for steps in (20, 40, 80):
        levels = karras.sigmas(Sampling(steps, 1e-3, 80.0))
        end = last(karras.heun(gaussian(deviation), State(0, x, x), levels, 0.0, torch.zeros)).x
        errors.append(float((end - x * deviation / math.hypot(deviation, 80.0)).abs().max()))
    assert errors[2] < 1e-3
    assert errors[0] / errors[1] > 3 and errors[1] / errors[2] > 3  # second order


def test_with_churn_samples_are_spread_as_the_data_are() -> None:
    random = torch.Generator().manual_seed(0)
    noise = karras.drawn([random])
    start = karras.start(Sampling(sigma_max=80.0), noise, (1, 6, 4000))
    levels = karras.sigmas(Sampling(120, 1e-3, 80.0))
    end = last(karras.heun(gaussian(0.7), start, levels, 10.0, noise)).x
    assert float(end.std()) == pytest.approx(0.7, rel=0.02) and abs(float(end.mean())) < 0.02


def test_a_draw_is_taken_at_each_step_used_or_not() -> None:
    draws = [torch.randn(1, 6, 3) for _ in range(SMALL.karras_steps + 1)]
    noise = replay(draws)
    start = karras.start(SMALL, noise, (1, 6, 3))
    torch.testing.assert_close(start.x, draws[0].double() * SMALL.sigma_max)
    list(karras.heun(gaussian(1.0), start, karras.sigmas(SMALL), 0.0, noise))
    with pytest.raises(StopIteration):
        noise((1, 6, 3))


# ------------------------------------------------------------------------------------------------------- the models


@pytest.fixture(scope="module")
def model() -> transformer.PointDiffusionTransformer:
    made = transformer.build(CONFIG)
    golden.random_weights(made)
    return made.double()


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_noise_levels_and_diffusion_steps(schedule: str) -> None:
    diffusion = Diffusion.of({"schedule": schedule})
    alphas = diffusion.alphas_cumprod
    between = interp1d(alphas, np.arange(1024))
    for sigma in np.geomspace(1e-4, 200, 300).tolist():
        alpha = 1 / (sigma**2 + 1)
        expected = 0 if alpha > alphas[0] else 1023 if alpha <= alphas[-1] else int(between(alpha))
        assert karras.nearest_step(diffusion, sigma) == expected
    for step in (0, 1, 500, 1000):  # the level of a step is that step's
        assert karras.nearest_step(diffusion, math.sqrt(1 / alphas[step] - 1) * (1 + 1e-9)) == step


@pytest.mark.parametrize("guidance", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_guidance(model: transformer.PointDiffusionTransformer, guidance: float, prediction: str) -> None:
    diffusion = Diffusion.of({"prediction": prediction})
    random = torch.Generator().manual_seed(0)
    x, embeddings, low_res = (
        torch.randn(shape, dtype=torch.float64, generator=random) for shape in ((2, 6, 7), (2, 10, 4), (2, 6, 5))
    )
    for sigma in (0.05, 1.0, 12.0):
        step = karras.nearest_step(diffusion, sigma)
        alpha = diffusion.alphas_cumprod[step]
        scaled, t = x / math.sqrt(sigma**2 + 1), torch.tensor([step, step])

        found = []
        for share in (1, 0):  # of the condition
            out = model(scaled, t, embeddings=share * embeddings, low_res=share * low_res)[:, :6]
            if prediction == "v":
                found.append((math.sqrt(alpha) * scaled - math.sqrt(1 - alpha) * out).clamp(-1, 1))
            else:
                found.append((math.sqrt(1 / alpha) * scaled - math.sqrt(1 / alpha - 1) * out).clamp(-1, 1))
        expected = found[0] if guidance in (0, 1) else found[1] + guidance * (found[0] - found[1])
        denoise = karras.denoiser(model, diffusion, guidance, 2, embeddings, low_res)
        torch.testing.assert_close(denoise(x, torch.tensor(sigma, dtype=torch.float64)), expected, rtol=1e-6, atol=1e-6)


def test_a_sample_goes_on_where_it_was_and_is_the_same_in_any_batch(
    model: transformer.PointDiffusionTransformer,
) -> None:
    diffusion = Diffusion.of({})
    embeddings, low_res = torch.randn(3, 10, 4), torch.randn(3, 6, 5)

    def generators(seeds: Sequence[int]) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    def sample(rows: slice, own: list[torch.Generator], state: State | None = None) -> Iterator[State]:
        noise = karras.drawn(own)
        state = state or karras.start(SMALL, noise, (len(own), 6, 7))
        return karras.sample(model, diffusion, SMALL, state, noise, embeddings[rows], low_res[rows])

    whole = last(sample(slice(0, 3), generators([7, 8, 9])))
    alone = last(sample(slice(1, 2), generators([8])))
    torch.testing.assert_close(alone.clean, whole.clean[1:2], rtol=0, atol=1e-9)
    own = generators([8])
    states = sample(slice(1, 2), own)
    for _ in range(3):
        half = next(states)
    saved = [generator.get_state() for generator in own]
    states.close()  # type: ignore[attr-defined]
    resumed = [torch.Generator() for _ in own]
    for generator, state in zip(resumed, saved, strict=True):
        generator.set_state(state)
    torch.testing.assert_close(last(sample(slice(1, 2), resumed, half)).clean, alone.clean, rtol=0, atol=0)


# ----------------------------------------------------------------------------------------------------- the recording


def stages(rounding: float = 0.0, seed: int = 0) -> Tensor:
    """The recorded two-stage sampling again, [1, 6, all points]; with ``rounding``, models are that much less exact."""
    recorded, how = golden.tensors("sampling"), golden.META["sampling"]
    noise = replay([recorded[name] for name in sorted(recorded) if name.startswith("noise_")])
    cloud: Tensor | None = None
    for i, name in enumerate(how["stages"]):
        settings = ("karras_steps", "sigma_min", "sigma_max", "s_churn", "guidance_scale")
        sampling = Sampling.of({setting: how[setting][i] for setting in settings})
        model, diffusion = golden.point_model(name), golden.diffusion(name)
        if rounding:
            model.register_forward_hook(blurred(rounding, seed))
        start = karras.start(sampling, noise, (1, 6, how["num_points"][i]))
        found = last(karras.sample(model, diffusion, sampling, start, noise, recorded["embeddings"], cloud)).clean
        part = diffusion.unscale(found)
        cloud = part if cloud is None else torch.cat([cloud, part], 2)
    with pytest.raises(StopIteration):
        noise(())
    assert cloud is not None
    return cloud


def blurred(rounding: float, seed: int) -> Callable[[torch.nn.Module, object, Tensor], Tensor]:
    random = torch.Generator().manual_seed(seed)
    return lambda module, inputs, out: out + rounding * out.abs().max() * torch.randn(out.shape, generator=random)


def test_the_recorded_two_stage_sampling() -> None:
    """1e-4 of each channel's range, as far as float32 reaches.

    Sampling random networks is chaotic: some points move by a hundredth when all outputs change in their last bit, as
    they do from one processor to another. These may be as far off as that; all others are not.
    """
    recorded = golden.tensors("sampling")["samples"]
    extent = recorded.amax((0, 2), keepdim=True) - recorded.amin((0, 2), keepdim=True)
    found = stages()
    off = (found - recorded).abs() / extent
    chaos = torch.stack([(stages(2e-7, seed) - found).abs() / extent for seed in range(4)]).amax(0)
    steady = chaos < golden.TOLERANCE / 2
    assert float(steady.double().mean()) > 0.9
    assert float((off[steady] < golden.TOLERANCE).double().mean()) > 0.99
    assert float((off < golden.TOLERANCE).double().mean()) > 0.9
    assert float((off / (golden.TOLERANCE + 10 * chaos)).max()) < 1
    assert float(off.norm() / chaos.norm()) < 3


def test_recorded_samples_as_points() -> None:
    recorded = golden.tensors("sampling")
    points, colours = as_points(recorded["samples"][0])
    np.testing.assert_array_equal(points, recorded["coords"].numpy())
    channels = np.stack([recorded[f"channel_{name}"].numpy() for name in "RGB"], 1)
    np.testing.assert_allclose(colours / 255, channels, atol=1e-6)
