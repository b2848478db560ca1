# SPDX-License-Identifier: GPL-3.0-or-later
"""LoRA files of every dialect change the noise as W + s·BA, computed by hand, does; those that do not fit change
nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from backend.errors import Gen3DError
from backend.guidance import lora
from backend.guidance.diffusion_prior import DiffusionPrior

from . import tiny

RANK, ALPHA = 3, 6.0
WORDS = "encoder.layers.1.self_attn."
T = torch.tensor([400])


@pytest.fixture(scope="module", params=[tiny.write_text_to_image, tiny.write_extra_large])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = request.param(tmp_path_factory.mktemp("drawing"))
    return made


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_text_to_image(tmp_path_factory.mktemp("small"))


def targets(prior: DiffusionPrior) -> dict[str, Tensor]:
    """Weights of the U-Net and of the words' encoder that a LoRA is for, by name."""
    endings = ("attn1.to_q", "attn2.to_v", "attn2.to_out.0", "ff.net.2", f"{WORDS}q_proj", f"{WORDS}out_proj")
    return {
        f"{part}.{name}": module.weight
        for part in ("unet", "text_encoder")
        for name, module in getattr(prior.pipeline, part).named_modules()
        if name.endswith(endings)
    }


def factors(weights: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """A [rank, in] and B [out, rank] for each."""
    random = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random) / 4

    return {name: (drawn(RANK, value.shape[1]), drawn(value.shape[0], RANK)) for name, value in weights.items()}


def heard(prior: DiffusionPrior) -> Tensor:
    noisy = torch.randn(1, prior.channels, 8, 8, generator=torch.Generator().manual_seed(1))
    return prior.noise(noisy, T, prior.say(["a red cat"])[0])[0]


def changed_by_hand(folder: Path, scale: float) -> tuple[DiffusionPrior, dict[str, tuple[Tensor, Tensor]]]:
    prior = DiffusionPrior(folder)
    weights = targets(prior)
    low = factors(weights)
    for name, (a, b) in low.items():
        weights[name].data += scale * b @ a
    return prior, low


def peft_names(low: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    return {f"{name}.lora_{'AB'[index]}.weight": x for name, pair in low.items() for index, x in enumerate(pair)}


def older_names(low: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, (a, b) in low.items():
        if name.startswith("text"):
            name = name.replace("text_encoder", "text_encoder.text_model") + ".lora_linear_layer"
        else:
            name = f"{name}.lora"
        found |= {f"{name}.down.weight": a, f"{name}.up.weight": b}
    return found


def kohya_names(low: dict[str, tuple[Tensor, Tensor]], two: bool) -> dict[str, Tensor]:
    """As other trainers write them, with an α of their own: s = α / rank."""
    found: dict[str, Tensor] = {}
    for name, (a, b) in low.items():
        part, _, rest = name.partition(".")
        words = f"text_model.{rest}".replace(".", "_")
        prefix = f"lora_unet_{rest.replace('.', '_')}" if part == "unet" else f"lora_te{'1' * two}_{words}"
        found |= {f"{prefix}.lora_down.weight": a, f"{prefix}.lora_up.weight": b}
        found[f"{prefix}.alpha"] = torch.tensor(ALPHA)
    return found


@pytest.mark.parametrize("dialect", ["peft", "older", "kohya"])
def test_it_is_w_plus_s_times_ba(folder: Path, tmp_path: Path, dialect: str) -> None:
    scale = 0.7
    expected, low = changed_by_hand(folder, scale * (ALPHA / RANK if dialect == "kohya" else 1.0))
    two = hasattr(expected.pipeline, "text_encoder_2")
    tensors = {"peft": peft_names(low), "older": older_names(low), "kohya": kohya_names(low, two)}[dialect]
    save_file(tensors, tmp_path / "a é.safetensors")
    prior = DiffusionPrior(folder)
    plain = heard(prior)
    prior.learn(tmp_path / "a é.safetensors", scale)
    assert torch.allclose(heard(prior), heard(expected), atol=1e-5)
    assert float((heard(prior) - plain).abs().max()) > 1e-2
    assert not any(value.requires_grad for value in prior.pipeline.unet.parameters())


def test_a_folder_and_one_after_the_other_add_up(drawing: Path, tmp_path: Path) -> None:
    expected, low = changed_by_hand(drawing, 1.0)
    half = dict(list(low.items())[::2]), dict(list(low.items())[1::2])
    for name, part in zip("ab", half, strict=True):
        save_file(peft_names(part), tmp_path / f"{name}.safetensors")
    together, apart = DiffusionPrior(drawing), DiffusionPrior(drawing)
    together.learn(tmp_path)
    for name in "ab":
        apart.learn(tmp_path / f"{name}.safetensors")
    assert torch.allclose(heard(together), heard(expected), atol=1e-5)
    assert torch.allclose(heard(apart), heard(expected), atol=1e-5)


def test_a_pickle_is_read_without_running_it(drawing: Path, tmp_path: Path) -> None:
    expected, low = changed_by_hand(drawing, 1.0)
    torch.save(peft_names(low), tmp_path / "good.bin")
    prior = DiffusionPrior(drawing)
    prior.learn(tmp_path / "good.bin")
    assert torch.allclose(heard(prior), heard(expected), atol=1e-5)
    torch.save({"unet.lora_A.weight": Path()}, tmp_path / "bad.bin")
    with pytest.raises(Gen3DError, match="could run code"):
        prior.learn(tmp_path / "bad.bin")


def cut(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors, path)
    path.write_bytes(path.read_bytes()[:-100])


def bent(tensors: dict[str, Tensor], path: Path) -> None:
    """As if of a model with another width."""
    save_file({name: x[:, :-1].contiguous() if "lora_A" in name else x for name, x in tensors.items()}, path)


def elsewhere(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name.replace("blocks.1", "blocks.7"): value for name, value in tensors.items()}, path)


def partly(tensors: dict[str, Tensor], path: Path) -> None:
    more = {name.replace("blocks.1", "blocks.7"): value.clone() for name, value in tensors.items()}
    save_file(tensors | more, path)


def infinite(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: value / 0 for name, value in tensors.items()}, path)


def other(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({"decoder.weight": torch.zeros(2)}, path)


def half_words(tensors: dict[str, Tensor], path: Path) -> None:
    """Of which the U-Net's part is loaded before the words' does not fit."""
    save_file({name: x[:, 1:].contiguous() if WORDS in name else x for name, x in tensors.items()}, path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "damaged"), (bent, "another base model"), (elsewhere, "another base model"),
        (partly, "another base model"), (infinite, "no number"), (other, "holds no LoRA"),
        (half_words, "another base model"),
        (lambda _, path: None, "is not a file"), (lambda _, path: path.mkdir(), r"holds no \.safetensors"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_is_half_loaded(
    drawing: Path, tmp_path: Path, damage: Callable[[dict[str, Tensor], Path], object], words: str
) -> None:
    prior = DiffusionPrior(drawing)
    before, names = heard(prior), [name for name, _ in prior.pipeline.unet.named_modules()]
    good = peft_names(factors(targets(prior)))
    path = tmp_path / "b.safetensors"
    damage(good, path)
    with pytest.raises(Gen3DError, match=words) as caught:
        prior.learn(path)
    assert caught.value.field == "lora" and str(path) in caught.value.cause and "\n" not in caught.value.cause
    if path.is_file():
        save_file(good, tmp_path / "a.safetensors")  # which would be loaded first
        with pytest.raises(Gen3DError, match=words):
            prior.learn(tmp_path)
    assert torch.equal(heard(prior), before)
    assert [name for name, _ in prior.pipeline.unet.named_modules()] == names
    save_file(good, tmp_path / "c.safetensors")
    prior.learn(tmp_path / "c.safetensors")
    assert not torch.equal(heard(prior), before)


def test_a_whole_pipeline_is_no_lora(drawing: Path) -> None:
    with pytest.raises(Gen3DError, match="whole pipeline"):
        DiffusionPrior(drawing).learn(drawing)


@pytest.mark.parametrize(
    "make", [tiny.write_text_to_image, tiny.write_extra_large, tiny.write_embedded, tiny.write_deepfloyd]
)
def test_one_that_is_begun_changes_nothing_and_is_read_back(make: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = make(tmp_path / "model")
    prior: Any = DiffusionPrior(folder)
    before = heard(prior)
    first = [value.detach().clone() for value in lora.begin(prior.pipeline.unet, 2, 5)]
    assert torch.equal(heard(prior), before)
    again: Any = DiffusionPrior(folder)
    matrices = lora.begin(again.pipeline.unet, 2, 5)
    assert all(torch.equal(one, other) for one, other in zip(first, matrices, strict=True))
    for value in matrices:
        value.data += 0.1
    save_file(lora.tensors(again.pipeline.unet), tmp_path / "new.safetensors")
    fresh = DiffusionPrior(folder)
    fresh.learn(tmp_path / "new.safetensors")
    assert torch.allclose(heard(fresh), heard(again), atol=1e-5) and not torch.allclose(heard(fresh), before, atol=1e-3)
