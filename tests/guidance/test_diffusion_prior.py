# SPDX-License-Identifier: GPL-3.0-or-later
"""Diffusion models of every kind, in the real formats, criticise as their own pipelines would draw."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.errors import Gen3DError
from backend.guidance.diffusion_prior import DiffusionPrior
from backend.guidance.score_distillation import noised

from . import tiny

diffusers: Any = importlib.import_module("diffusers")


def stable_diffusion(folder: Path) -> Path:
    return tiny.write_text_to_image(folder)


def predicting_v(folder: Path) -> Path:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(tiny.write_text_to_image(folder), safety_checker=None)
    config = {**pipeline.scheduler.config, "prediction_type": "v_prediction"}
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(config)
    pipeline.save_pretrained(folder)
    return folder


KINDS: list[Callable[[Path], Path]] = [stable_diffusion, predicting_v, tiny.write_extra_large, tiny.write_embedded]


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = request.param(tmp_path_factory.mktemp(request.param.__name__))
    return made


def test_what_is_drawn_without_guidance_is_a_chain_of_its_noise(folder: Path) -> None:
    """The scheduler's own steps, fed with our ε̂, lead to the picture that the pipeline draws."""
    prior = DiffusionPrior(folder)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    scheduler = pipeline.scheduler
    scheduler.register_to_config(clip_sample=False, thresholding=False)
    begin = torch.randn(1, prior.channels, *[int(pipeline.unet.config.sample_size)] * 2)
    options = {"guidance_scale": 3.0, "num_inference_steps": 4, "output_type": "latent"}
    expected = pipeline("a red cat", latents=begin.clone(), **options).images
    said, nothing = prior.say(["a red cat"])
    scheduler.set_timesteps(4)
    x = begin * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        without, wanted = prior.noise(x, t.view(1), nothing, said)
        guided = without + 3.0 * (wanted - without)
        signal2 = prior.signal2[t]
        if prior.prediction == "v_prediction":
            clean = (x - (1 - signal2).sqrt() * guided) / signal2.sqrt()
            guided = signal2.sqrt() * guided - (1 - signal2).sqrt() * clean
        x = scheduler.step(guided, t, x).prev_sample
    assert torch.allclose(x, expected, atol=2e-3 * float(expected.abs().max()))


def test_pictures_are_encoded_as_the_pipeline_decodes_them_and_pass_gradients(folder: Path) -> None:
    prior = DiffusionPrior(folder)
    pixels = torch.rand(2, 3, prior.size // 2, prior.size // 2, requires_grad=True)
    x = prior.encode(pixels)
    assert x.shape == (2, prior.channels, *x.shape[2:]) and x.shape[-1] == int(prior._unet.config.sample_size)
    with torch.no_grad():
        assert torch.allclose(prior.encode(pixels), x, atol=1e-5), "learned from or not"
    x.square().sum().backward()  # type: ignore[no-untyped-call]
    assert pixels.grad is not None and float(pixels.grad.abs().sum()) > 0
    t = torch.tensor([5, 900])
    score = prior.noise(noised(x.detach(), torch.randn_like(x), prior.signal2[t]), t, prior.say(["a cat", "a dog"])[0])
    assert score[0].shape == x.shape and not score[0].requires_grad
    prior.forget_words()


def test_one_prompt_at_a_time_hears_the_same(folder: Path) -> None:
    together, apart = DiffusionPrior(folder), DiffusionPrior(folder, frugal=True)
    side = int(together._unet.config.sample_size)
    noisy, t = torch.randn(2, together.channels, side, side), torch.tensor([20, 700])
    said = together.say(["a cat", "a dog"])
    for one, other in zip(together.noise(noisy, t, *said), apart.noise(noisy, t, *said), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_first_picture_is_what_the_pipeline_itself_draws(folder: Path) -> None:
    """From what the text encoders have said before, which may be elsewhere by then."""
    prior = DiffusionPrior(folder, frugal=True)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    options = {"num_inference_steps": 2, "guidance_scale": 4.0}
    expected = pipeline("a red cat", generator=torch.Generator().manual_seed(5), **options).images[0]
    drawing = prior.draw("a red cat", seed=5, steps=2, guidance=4.0)
    while True:
        try:
            next(drawing)
        except StopIteration as end:
            assert np.abs(np.asarray(end.value, np.int16) - np.asarray(expected, np.int16)).max() <= 1
            break


def test_the_autoencoder_that_overflows_is_as_exact_as_its_own_pipeline_has_it(tmp_path: Path) -> None:
    large = DiffusionPrior(tiny.write_extra_large(tmp_path / "xl"), dtype=torch.float16)
    assert large.pipeline.vae.dtype == torch.float32 and large.pipeline.unet.dtype == torch.float16
    assert torch.isfinite(large.encode(torch.rand(1, 3, 16, 16))).all()
    usual = DiffusionPrior(tiny.write_text_to_image(tmp_path / "sd"), dtype=torch.float16)
    assert usual.pipeline.vae.dtype == torch.float16


def test_the_end_of_a_prompt_gives_way_to_what_comes_after_it(folder: Path) -> None:
    prior = DiffusionPrior(folder)
    length = min(prior.pipeline.tokenizer.model_max_length, 77)
    fitting = " ".join(["red"] * (length - 2))
    assert prior.beyond(fitting) == "" and prior.beyond(f"{fitting} red red") == "red red"
    kept = prior.fitting(fitting, ", red")
    assert fitting.startswith(kept) and 0 < len(kept) < len(fitting) and prior.beyond(f"{kept}, red") == ""
    assert prior.fitting("red", ", red") == "red"


def test_multiplying_roughly_hears_nearly_the_same(folder: Path) -> None:
    exactly, roughly = DiffusionPrior(folder), DiffusionPrior(folder, roughly=torch.bfloat16)
    side = int(exactly._unet.config.sample_size)
    noisy, t = torch.randn(2, exactly.channels, side, side), torch.tensor([20, 700])
    said = exactly.say(["a cat", "a dog"])
    for one, other in zip(exactly.noise(noisy, t, *said), roughly.noise(noisy, t, *said), strict=True):
        assert other.dtype == torch.float32 and not torch.equal(one, other)
        assert float((one - other).norm() / one.norm()) < 0.02


def test_what_has_no_unet_is_refused(clip_folder: Path) -> None:
    with pytest.raises(Gen3DError, match="model_index"):
        DiffusionPrior(clip_folder)


def test_deepfloyd_hears_what_its_own_pipeline_does(tmp_path: Path) -> None:
    prior = DiffusionPrior(tiny.write_deepfloyd(tmp_path))
    assert (prior.size, prior.channels, prior.prediction) == (16, 3, "epsilon")
    asked: list[tuple[Any, ...]] = []
    prior.pipeline.unet.register_forward_hook(lambda _unet, given, out: asked.append((*given, out[0])))
    prior.pipeline("a red cat", num_inference_steps=3, guidance_scale=4.0, clean_caption=False)
    said, nothing = prior.say(["a red cat"])
    assert len(asked) == 3
    for noisy, t, out in list(asked):
        heard = prior.noise(noisy[:1], torch.tensor([int(t)]), nothing, said)
        assert torch.allclose(torch.cat(heard), out[:, :3], atol=1e-5)
    pixels = torch.rand(2, 3, 32, 32, requires_grad=True)
    x = prior.encode(pixels)
    assert x.shape == (2, 3, 16, 16) and float(x.detach().abs().max()) <= 1
    x.sum().backward()  # type: ignore[no-untyped-call]
    assert pixels.grad is not None and float(pixels.grad.abs().min()) > 0
