# SPDX-License-Identifier: GPL-3.0-or-later
"""A text-to-image diffusion model as a critic of pictures: the same for models of pixels and of latents.

Works on any folder of a diffusers pipeline with a conditional U-Net: Stable Diffusion 1, 2 and XL, DeepFloyd IF's first
stage, and the embedded prior, which has the format of the first. What is diffused, "x" here, is [B, C, h, w]: latents
as the pipeline scales them, or the picture itself in -1..1.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import Gen3DError
from .precision import precision
from .score_distillation import noise_of
from .text_to_image import load_pipeline

OFFLOAD = "text_encoder", "text_encoder_2"


@dataclass(frozen=True)
class Said:
    """What prompts say, for each [B]: ``words`` [B, T, D] and, where the model takes them, further conditions."""

    words: Tensor
    added: dict[str, Tensor]

    def of(self, which: Sequence[int]) -> Said:
        """That of these prompts, in this order."""
        index = list(which)
        return Said(self.words[index], {name: value[index] for name, value in self.added.items()})


class DiffusionPrior:
    """A model ready to criticise, frozen.

    Attributes: ``pipeline`` (the whole of it), ``size`` (side in pixels of the pictures it was made for), ``steps`` (of
    its noise schedule), ``signal2`` (ᾱ of each, float32 [steps]), ``prediction`` (of what: "epsilon", "v_prediction" or
    "sample").
    """

    def __init__(
        self,
        folder: str | Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        frugal: bool = False,
    ) -> None:
        """Loads it. dtype: float16 on CUDA and float32 elsewhere, unless given. frugal: a pass of the U-Net for each
        prompt, instead of one for all.

        Raises Gen3DError for a folder that holds no such pipeline, whole.
        """
        self.device, self.frugal = torch.device(device), frugal
        self.pipeline: Any = load_pipeline(Path(folder), precision(self.device, dtype))
        self._unet: Any = getattr(self.pipeline, "unet", None)
        self._vae: Any = getattr(self.pipeline, "vae", None)
        levels = getattr(self.pipeline.scheduler, "alphas_cumprod", None)
        if self._unet is None or levels is None:
            raise Gen3DError(
                f"{folder} holds a text-to-image pipeline without a U-Net or without a noise schedule of fixed steps.",
                "Take Stable Diffusion 1, 2 or XL, DeepFloyd IF, or a pipeline made of one of them.",
                field="text_to_image",
            )
        for part in self.pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.to(self.device).eval().requires_grad_(False)
        if self._vae is not None and hasattr(self._vae, "enable_gradient_checkpointing"):
            self._vae.enable_gradient_checkpointing()  # its activations are larger than all else
        self.signal2: Tensor = levels.to(self.device, torch.float32)
        self.steps = len(self.signal2)
        self.prediction = str(self.pipeline.scheduler.config.prediction_type)
        self.channels = int(self._unet.config.in_channels)
        self._shrunk = int(getattr(self.pipeline, "vae_scale_factor", 8)) if self._vae is not None else 1
        self.size = int(self._unet.config.sample_size) * self._shrunk

    def say(self, prompts: Sequence[str], negative: str = "") -> tuple[Said, Said]:
        """What prompts say, and as often what is to be avoided says ("": nothing in particular)."""
        takes = inspect.signature(self.pipeline.encode_prompt).parameters
        options: dict[str, Any] = {"do_classifier_free_guidance": True, "num_images_per_prompt": 1}
        options |= {"negative_prompt": [negative] * len(prompts)} if negative else {}  # some have an own nothing
        with torch.no_grad():
            told = self.pipeline.encode_prompt(
                list(prompts), device=self.device, **{name: options[name] for name in options if name in takes}
            )
        words, avoided, *pooled = told
        if len(pooled) != 2:
            return Said(words, {}), Said(avoided, {})
        side = float(self.size)  # Stable Diffusion XL
        sizes = words.new_tensor([side, side, 0.0, 0.0, side, side]).expand(len(prompts), 6)
        said, unsaid = ({"text_embeds": vectors, "time_ids": sizes} for vectors in pooled)
        return Said(words, said), Said(avoided, unsaid)

    def forget_words(self) -> None:
        """Moves the text encoders, which are often larger than all else, out of the device's memory."""
        for name in OFFLOAD:
            if (encoder := getattr(self.pipeline, name, None)) is not None:
                encoder.to("cpu")

    def encode(self, pixels: Tensor) -> Tensor:
        """x of sRGB pixels [B, 3, S, S] in 0..1, resized to the model's size. Differentiable, in float32."""
        if pixels.shape[-1] != self.size:
            pixels = F.interpolate(pixels, (self.size, self.size), mode="bilinear", antialias=True)
        picture = 2 * pixels - 1
        if self._vae is None:
            return picture
        found = self._vae.encode(picture.to(self._vae.dtype))
        latents = found.latents if hasattr(found, "latents") else found.latent_dist.mode()
        scaled: Tensor = latents.float() * self._vae.config.scaling_factor
        return scaled

    @torch.no_grad()
    def noise(self, noisy: Tensor, t: Tensor, *said: Said) -> list[Tensor]:
        """ε̂ of x at steps t [B], float32, as each of ``said`` would have it: one pass of the U-Net for all."""
        if self.frugal and len(said) > 1:
            return [self.noise(noisy, t, each)[0] for each in said]
        many, signal2 = len(said), self.signal2[t]
        dtype = self._unet.dtype
        added = {name: torch.cat([each.added[name] for each in said]).to(dtype) for name in said[0].added}
        predicted = self._unet(
            torch.cat([noisy] * many).to(dtype),
            torch.cat([t] * many),
            torch.cat([each.words for each in said]).to(dtype),
            **({"added_cond_kwargs": added} if added else {}),
        ).sample[:, : self.channels]  # some predict a variance, too
        return [noise_of(part.float(), noisy, signal2, self.prediction) for part in predicted.chunk(many)]
