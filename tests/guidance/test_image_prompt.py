# SPDX-License-Identifier: GPL-3.0-or-later
"""IP-Adapters in the published format are loaded, and change what is heard as the pipelines' own drawing does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from backend.errors import Gen3DError
from backend.guidance.diffusion_prior import DiffusionPrior

from . import tiny

FILE = "ip-adapter.safetensors"


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8))


@pytest.fixture(scope="module", params=[tiny.write_text_to_image, tiny.write_extra_large])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = request.param(tmp_path_factory.mktemp("drawing"))
    return made


@pytest.fixture(scope="module", params=[False, True])
def adapter(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    unet = DiffusionPrior(folder).pipeline.unet
    return tiny.write_ip_adapter(tmp_path_factory.mktemp("adapter é"), unet, plus=request.param)


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_text_to_image(tmp_path_factory.mktemp("small"))


def asked(prior: DiffusionPrior) -> tuple[torch.Tensor, torch.Tensor]:
    noisy = torch.randn(2, prior.channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return noisy, torch.tensor([100, 800])


def heard(prior: DiffusionPrior) -> list[torch.Tensor]:
    said, unsaid = prior.say(["a red cat", "a dog"])
    return prior.noise(*asked(prior), unsaid, said.of([1, 0]).of([1, 0]))


def test_what_is_heard_is_what_its_own_pipeline_asks(folder: Path, adapter: Path) -> None:
    prior = DiffusionPrior(folder)
    prior.look_at(picture(), adapter, 0.8)
    whole: Any = DiffusionPrior(folder).pipeline  # which encodes the picture by itself
    whole.load_ip_adapter(str(adapter), subfolder="", weight_name=FILE)
    whole.set_ip_adapter_scale(0.8)
    calls: list[tuple[torch.Tensor, Any, torch.Tensor]] = []

    def listen(_unet: Any, given: tuple[Any, ...], out: Any) -> None:
        calls.append((*given[:2], out[0]))

    whole.unet.register_forward_hook(listen)
    whole("a red cat", ip_adapter_image=picture(), num_inference_steps=2, guidance_scale=4.0, output_type="latent")
    said, nothing = prior.say(["a red cat"])
    assert len(calls) == 2
    for noisy, t, out in calls:
        found = torch.cat(prior.noise(noisy[:1], torch.tensor([int(t)]), nothing, said))
        assert torch.allclose(found, out, atol=1e-5)
    apart = DiffusionPrior(folder, frugal=True)
    apart.look_at(picture(), adapter, 0.8)
    for one, other in zip(heard(prior), heard(apart), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_other_pictures_say_something_else_and_a_scale_of_nothing_says_nothing(folder: Path, adapter: Path) -> None:
    def looking(seed: int, scale: float) -> list[torch.Tensor]:
        prior = DiffusionPrior(folder)
        prior.look_at(picture(seed), adapter, scale)
        return heard(prior)

    plain = heard(DiffusionPrior(folder))
    assert all(torch.equal(one, other) for one, other in zip(looking(0, 0.0), plain, strict=True))
    first, second = looking(0, 1.0), looking(1, 1.0)
    assert torch.equal(first[0], second[0]), "without a picture, both see none"
    assert not torch.allclose(first[1], second[1], atol=1e-4) and not torch.allclose(first[1], plain[1], atol=1e-3)


def test_without_a_picture_the_vector_is_zero(folder: Path, tmp_path: Path) -> None:
    prior = DiffusionPrior(folder)
    prior.look_at(picture(), tiny.write_ip_adapter(tmp_path / "a", prior.pipeline.unet), 1.0)
    said, unsaid = prior.say(["a red cat", "a dog"])
    assert said.added["image_embeds"].shape == unsaid.added["image_embeds"].shape == (2, 1, tiny.DIMENSIONS)
    assert not unsaid.added["image_embeds"].any() and said.added["image_embeds"].any()
    assert prior.pipeline.image_encoder is None, "it is not needed any more"


def test_it_draws_what_its_own_pipeline_draws(folder: Path, adapter: Path) -> None:
    prior = DiffusionPrior(folder)
    prior.look_at(picture(), adapter, 1.0)
    whole: Any = DiffusionPrior(folder).pipeline
    whole.load_ip_adapter(str(adapter), subfolder="", weight_name=FILE)
    generator = torch.Generator("cpu").manual_seed(3)
    expected = whole("a red cat", ip_adapter_image=picture(), num_inference_steps=2, generator=generator).images[0]
    drawing = prior.draw("a red cat", seed=3, steps=2)
    while True:
        try:
            next(drawing)
        except StopIteration as end:
            assert np.abs(np.asarray(end.value, float) - np.asarray(expected, float)).max() <= 1
            break


# ------------------------------------------------------------------------------------------------------------ refusals


def cut(folder: Path) -> None:
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-100])


def another_width(folder: Path) -> None:
    tensors = {name: x[:, 1:].contiguous() if "_ip." in name else x for name, x in load_file(folder / FILE).items()}
    save_file(tensors, folder / FILE)


def fewer(folder: Path) -> None:
    tensors = load_file(folder / FILE)
    last = max(name for name in tensors if "to_k_ip" in name)
    save_file({name: value for name, value in tensors.items() if name != last}, folder / FILE)


def something_else(folder: Path) -> None:
    save_file({"unet.lora_A.weight": torch.zeros(2, 2)}, folder / FILE)


def another_encoder(folder: Path) -> None:
    tiny.write_image_encoder(folder / "image_encoder", tiny.DIMENSIONS + 8)


def several(folder: Path) -> None:
    shutil.copy(folder / FILE, folder / "more.safetensors")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "damaged"), (another_width, "do not fit this model"), (fewer, "another base model"),
        (something_else, "is no IP-Adapter"), (another_encoder, "do not fit this model"), (several, "several adapters"),
        (lambda folder: shutil.rmtree(folder / "image_encoder"), "do not fit this model"),
        (lambda folder: (folder / FILE).unlink(), "no adapter"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_is_half_loaded(
    drawing: Path, tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    prior = DiffusionPrior(drawing)
    before = heard(prior)
    bad = tiny.write_ip_adapter(tmp_path / "bad", prior.pipeline.unet)
    damage(bad)
    with pytest.raises(Gen3DError, match=words) as caught:
        prior.look_at(picture(), bad, 1.0)
    assert caught.value.field == "style_adapter" and "\n" not in caught.value.cause
    assert all(torch.equal(one, other) for one, other in zip(heard(prior), before, strict=True))
    prior.look_at(picture(), tiny.write_ip_adapter(tmp_path / "good", prior.pipeline.unet), 1.0)
    assert not torch.equal(heard(prior)[1], before[1])


@pytest.mark.parametrize("make", [tiny.write_embedded, tiny.write_deepfloyd])
def test_models_without_an_image_conditioned_path_say_so(
    tmp_path: Path, drawing: Path, make: Callable[[Path], Path]
) -> None:
    adapter = tiny.write_ip_adapter(tmp_path / "adapter", DiffusionPrior(drawing).pipeline.unet)
    with pytest.raises(Gen3DError, match="no image-conditioned path") as caught:
        DiffusionPrior(make(tmp_path / "model")).look_at(picture(), adapter, 1.0)
    assert caught.value.field == "style"
