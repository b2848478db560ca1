# SPDX-License-Identifier: GPL-3.0-or-later
"""CLIP (Radford et al. 2021): what words and pictures have in common, as vectors and as a grid of patches.

Works on any folder that holds a ``transformers`` CLIPModel and its tokenizer, published or embedded; sizes come from
its configuration. Point·E conditions on it in two ways (Nichol et al. 2022, §4.3 and its published code): on one
projected vector of *unit length* (its network multiplies it by √D, so that each number has unit variance), and on the
grid of an image's patches, taken after the last transformer layer and *before* the final layer norm, unscaled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import Gen3DError, first_words
from .context import beyond
from .precision import precision
from .quiet import quiet

if TYPE_CHECKING:
    from PIL import Image

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the published training pictures, sRGB 0..1
STD = (0.26862954, 0.26130258, 0.27577711)


class Clip:
    """A CLIP ready to encode, frozen. Gradients reach the pixels, never its weights.

    Attributes: ``size`` (side of its pictures in pixels), ``tokens`` (patches of a picture), ``features`` (width of a
    patch), ``dimensions`` (of the shared vectors), ``device``.
    """

    def __init__(
        self, folder: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        """Loads the model. ``dtype``: float16 on CUDA (as published) and float32 elsewhere, unless given.

        Raises Gen3DError for a folder that does not hold a CLIPModel and its tokenizer, whole.
        """
        self.device = torch.device(device)
        self._model, self._tokenizer = _load(Path(folder), precision(self.device, dtype))
        self._model.to(self.device).eval().requires_grad_(False)
        vision = self._model.config.vision_config
        self.size = int(vision.image_size)
        self.tokens = (self.size // int(vision.patch_size)) ** 2
        self.features = int(vision.hidden_size)
        self.dimensions = int(self._model.config.projection_dim)
        self._length = int(self._model.config.text_config.max_position_embeddings)
        self._mean, self._std = _statistics(Path(folder))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [B, dimensions], float32. What is too long is cut off; see ``beyond``."""
        encoded = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self._length, return_tensors="pt"
        ).to(self.device)
        with torch.no_grad():
            vectors = self._model.get_text_features(**encoded).pooler_output
        return F.normalize(vectors.float(), dim=-1)

    def beyond(self, text: str) -> str:
        """The end of the text that CLIP does not read because its context is full; mostly empty."""
        return beyond(text, self._tokenizer, self._length)

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        """Pictures as CLIP was trained to see them: float32 sRGB [B, 3, size, size] in 0..1, on the device.

        The shorter side is resized to ``size`` (bicubic, antialiased, 8 bit), then the centre is cut out. Transparent
        pixels become their hidden colour, as published: put the picture on a background before.
        """
        arrays = [np.asarray(_square(image, self.size)) for image in images]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).to(self.device, torch.float32) / 255

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Unit vectors [B, dimensions], float32, of sRGB pixels [B, 3, H, W] in 0..1. Differentiable.

        Pixels of another size are resized (bicubic, antialiased) to ``size`` × ``size``.
        """
        vectors = self._model.get_image_features(self._normalised(pixels)).pooler_output
        return F.normalize(vectors.float(), dim=-1)

    def patch_grid(self, pixels: Tensor) -> Tensor:
        """Features of the patches [B, features, tokens], float32, row by row, of pixels as in ``encode_image``.

        The last hidden state before the final layer norm, without the class token (Point·E's "latent grid").
        """
        hidden = self._model.vision_model(self._normalised(pixels)).last_hidden_state
        return hidden[:, 1:].transpose(1, 2).float().contiguous()  # type: ignore[no-any-return]

    def _normalised(self, pixels: Tensor) -> Tensor:
        if pixels.shape[-2:] != (self.size, self.size):
            pixels = F.interpolate(pixels, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (self._mean, self._std))
        return ((pixels - mean) / std).to(self._model.dtype)


def _square(image: Image.Image, size: int) -> Image.Image:
    """Shorter side to ``size``, centre cut out; rounded as in the published preprocessing."""
    from PIL.Image import Resampling

    image = image.convert("RGB")
    width, height = image.size
    short = min(width, height)
    wide, high = int(size * width / short), int(size * height / short)
    resized = image if (wide, high) == image.size else image.resize((wide, high), Resampling.BICUBIC)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    return resized.crop((left, top, left + size, top + size))


def _load(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import CLIPModel, CLIPTokenizer

    quiet()
    step = "Name the folder of a transformers CLIPModel with its tokenizer, or install the published one."
    try:
        if json.loads((folder / "config.json").read_text("utf-8")).get("model_type") != "clip":
            raise Gen3DError(f"{folder} holds another model than CLIP.", step, field="weights")
        loaded: Any = CLIPModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, output_loading_info=True, dtype=dtype
        )
        model, facts = loaded
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Gen3DError:
        raise
    except Exception as error:  # damage shows in many ways
        cause = f"{folder} holds no whole CLIP model: {first_words(error)}."
        raise Gen3DError(cause, step, field="weights") from error
    if wrong := sorted(str(key) for kind in ("missing_keys", "mismatched_keys") for key in facts[kind]):
        cause = (
            f"{folder} holds no whole CLIP model: {len(wrong)} of its tensors are missing or do not fit ({wrong[0]})."
        )
        raise Gen3DError(cause, step, field="weights")
    return model, tokenizer


def _statistics(folder: Path) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation by which the folder's model wants its pixels normalised."""
    path = folder / "preprocessor_config.json"
    facts = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return facts.get("image_mean", MEAN), facts.get("image_std", STD)
