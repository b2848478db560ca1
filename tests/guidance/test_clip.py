# SPDX-License-Identifier: GPL-3.0-or-later
"""CLIP as published: pixels, vectors and patch grids agree with transformers' own, and gradients reach the pixels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from backend.errors import Gen3DError
from backend.guidance.clip import MEAN, STD, Clip

from . import tiny

TEXTS = ["a red cat", "A  RED cat", "日本 {} %s", ""]


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return Clip(clip_folder)


@pytest.fixture(scope="module")
def model(clip_folder: Path) -> Any:
    return CLIPModel.from_pretrained(clip_folder)  # in evaluation mode


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.LANCZOS)


def test_sizes_come_from_the_configuration(clip: Clip) -> None:
    assert (clip.size, clip.tokens, clip.features, clip.dimensions) == (32, 16, tiny.FEATURES, tiny.DIMENSIONS)


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (100, 60), (60, 100), (20, 30), (33, 500), (224, 224)])
def test_pictures_are_prepared_as_published(clip: Clip, size: tuple[int, int]) -> None:
    image = picture(*size)
    long = int(32 * max(size) / min(size))
    if (long - 32) % 2:  # half a pixel to decide about: the published code rounds to even
        image = image.resize((32, long) if size[0] < size[1] else (long, 32), Image.Resampling.BICUBIC)
        start = round((long - 32) / 2)
        expected = np.asarray(image)[start:][:32] if size[0] < size[1] else np.asarray(image)[:, start:][:, :32]
        found = clip.preprocess([image])[0].permute(1, 2, 0).numpy() * 255
        assert np.array_equal(found.round(), expected)
        return
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    expected = processor(images=image, return_tensors="pt")["pixel_values"]
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    torch.testing.assert_close((clip.preprocess([image]) - mean) / std, expected, rtol=1e-5, atol=1e-5)


def test_pictures_of_any_mode_become_rgb(clip: Clip) -> None:
    for mode in ("L", "RGBA", "P", "CMYK", "1"):
        assert clip.preprocess([picture(50, 40).convert(mode)]).shape == (1, 3, 32, 32)


def test_vectors_are_unit_and_those_of_transformers(clip: Clip, model: Any, clip_folder: Path) -> None:
    pixels = clip.preprocess([picture(50, 40), picture(32, 64, seed=1)])
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    inputs = processor(images=[picture(50, 40), picture(32, 64, seed=1)], return_tensors="pt")
    words = tiny.tokenizer()(TEXTS, padding="max_length", truncation=True, max_length=16, return_tensors="pt")
    with torch.no_grad():
        expected = model(pixel_values=inputs["pixel_values"], **words)
    torch.testing.assert_close(clip.encode_image(pixels), expected.image_embeds, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(clip.encode_text(TEXTS), expected.text_embeds, rtol=1e-4, atol=1e-5)
    for vectors in (clip.encode_image(pixels), clip.encode_text(TEXTS)):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(len(vectors)))
    torch.testing.assert_close(clip.encode_text(TEXTS)[0], clip.encode_text(TEXTS)[1])  # case and spaces do not count


def test_text_padding_does_not_matter(clip: Clip, model: Any) -> None:
    words = tiny.tokenizer()(["a red cat"], return_tensors="pt")
    with torch.no_grad():
        alone = model.get_text_features(**words).pooler_output
    torch.testing.assert_close(clip.encode_text(["a red cat"]), torch.nn.functional.normalize(alone, dim=-1))


def test_the_patch_grid_is_the_last_hidden_state_before_the_norm(clip: Clip, model: Any) -> None:
    pixels = clip.preprocess([picture(50, 40), picture(64, 64, seed=1)])
    normalised = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    vision = model.vision_model
    with torch.no_grad():
        hidden = vision.pre_layrnorm(vision.embeddings(normalised))
        for layer in vision.encoder.layers:
            hidden = layer(hidden, attention_mask=None)
        states = vision(normalised, output_hidden_states=True).hidden_states
    grid = clip.patch_grid(pixels)
    assert grid.shape == (2, tiny.FEATURES, 16)
    torch.testing.assert_close(grid, hidden[:, 1:].transpose(1, 2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(grid, states[-1][:, 1:].transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_patches_are_row_by_row(clip: Clip, model: Any) -> None:
    """Before the transformer mixes them, patch (row, column) stands at row · 4 + column."""
    pixels = torch.zeros(1, 3, 32, 32)
    changed = pixels.clone()
    changed[:, :, 8:16, 16:24] = 1
    difference = (model.vision_model.embeddings(changed) - model.vision_model.embeddings(pixels))[0, 1:].abs().sum(-1)
    assert difference.nonzero().flatten().tolist() == [1 * 4 + 2]


def test_gradients_reach_the_pixels_and_not_the_weights(clip: Clip) -> None:
    for size in (32, 48):
        pixels = torch.rand(1, 3, size, size, requires_grad=True)
        target = clip.encode_text(["a red cat"])
        torch.autograd.backward((clip.encode_image(pixels) * target).sum())
        assert pixels.grad is not None and pixels.grad.isfinite().all() and (pixels.grad != 0).float().mean() > 0.9
        step = 1e-2
        direction = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1))
        moved = [(clip.encode_image(pixels.detach() + sign * step * direction) * target).sum() for sign in (1, -1)]
        expected = float(moved[0] - moved[1]) / (2 * step)
        assert float((pixels.grad * direction).sum()) == pytest.approx(expected, rel=0.05, abs=1e-3)


def test_what_is_cut_off_is_told(clip: Clip) -> None:
    assert clip.beyond("") == clip.beyond("a red cat") == ""
    text = "a red cat " * 20
    rest = clip.beyond(text)
    assert rest and text.strip().endswith(rest)
    kept = text.strip().removesuffix(rest).strip()
    assert clip.beyond(kept) == ""
    torch.testing.assert_close(clip.encode_text([kept]), clip.encode_text([text]))


def test_another_mean_is_respected(clip_folder: Path, tmp_path: Path, clip: Clip) -> None:
    folder = shutil.copytree(clip_folder, tmp_path / "c")
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.0] * 3, "image_std": [1.0] * 3}))
    pixels = clip.preprocess([picture(40, 40)])
    same = pixels * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    torch.testing.assert_close(Clip(folder).patch_grid(pixels), clip.patch_grid(same), rtol=1e-4, atol=1e-4)


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def drop(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def bend(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["visual_projection.weight"] = torch.zeros(7, 5)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def other(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert"}')


DAMAGES: list[Callable[[Path], object]] = [
    cut, drop, bend, other,
    lambda folder: (folder / "config.json").write_text("{"),
    lambda folder: (folder / "model.safetensors").unlink(),
    shutil.rmtree,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_folder_that_is_not_whole_is_refused(
    clip_folder: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    folder = shutil.copytree(clip_folder, tmp_path / "c")
    damage(folder)
    with pytest.raises(Gen3DError, match="CLIP") as caught:
        Clip(folder)
    assert caught.value.field == "weights" and str(folder) in caught.value.cause and "\n" not in caught.value.cause
