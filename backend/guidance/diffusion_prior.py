# SPDX-License-Identifier: GPL-3.0-or-later
"""A text-to-image diffusion model as a critic of pictures: the same for models of pixels and of latents.

Works on any folder of a diffusers pipeline with a conditional U-Net: Stable Diffusion 1, 2 and XL, DeepFloyd IF's first
stage, and the embedded prior, which has the format of the first. What is diffused, "x" here, is [B, C, h, w]: latents
as the pipeline scales them, or the picture itself in -1..1.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import Gen3DError
from . import image_prompt, lora, text_to_image, textual_inversion
from .context import beyond
from .precision import precision
from .score_distillation import noise_of
from .text_to_image import load_pipeline

if TYPE_CHECKING:
    from PIL import Image

ENCODERS = "text_encoder", "text_encoder_2"
CONTEXT = 77  # tokens that pipelines ask for, whatever their tokenizer knows
OFFLOAD = *ENCODERS, "safety_checker"
SEEN, POOLED = "image_embeds", "text_embeds"  # the names of conditions in diffusers


@dataclass(frozen=True)
class Said:
    """What prompts say, for each [B]: ``words`` [B, T, D] and, where the model takes them, further conditions, among
    which is what it sees in a picture that it was shown."""

    words: Tensor
    added: dict[str, Tensor]

    def of(self, which: Sequence[int]) -> Said:
        """That of these prompts, in this order."""
        index = list(which)
        return Said(self.words[index], {name: value[index] for name, value in self.added.items()})


class DiffusionPrior:
    """A model ready to criticise, frozen. It can be made to know things of one's own, and shown a picture, before it is
    asked.

    Attributes: ``pipeline`` (the whole of it), ``size`` (side in pixels of the pictures it is asked about), ``steps``
    (of its noise schedule), ``signal2`` (ᾱ of each, float32 [steps]), ``prediction`` (of what: "epsilon",
    "v_prediction" or "sample").
    """

    def __init__(
        self,
        folder: str | Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        frugal: bool = False,
        size: int = 0,
        roughly: torch.dtype | None = None,
    ) -> None:
        """Loads it. dtype: float16 on CUDA and float32 elsewhere, unless given. frugal: a pass of the U-Net for each
        prompt, instead of one for all, and words are read on the processor. size: of the pictures; 0: what it was made
        for. roughly: what ``noise`` multiplies in, where that is quicker.

        Raises Gen3DError for a folder that holds no such pipeline, whole.
        """
        from diffusers import AutoencoderKL

        self.device, self.frugal, self.roughly = torch.device(device), frugal, roughly
        self._dtype = precision(self.device, dtype)
        self.pipeline: Any = load_pipeline(Path(folder), self._dtype)
        self._unet: Any = getattr(self.pipeline, "unet", None)
        self._vae: Any = getattr(self.pipeline, "vae", None)
        levels = getattr(self.pipeline.scheduler, "alphas_cumprod", None)
        if self._unet is None or levels is None:
            raise Gen3DError(
                f"{folder} holds a text-to-image pipeline without a U-Net or without a noise schedule of fixed steps.",
                "Take Stable Diffusion 1, 2 or XL, DeepFloyd IF, or a pipeline made of one of them.",
                field="text_to_image",
            )
        for name, part in self.pipeline.components.items():
            if isinstance(part, torch.nn.Module):
                part.to("cpu" if frugal and name in ENCODERS else self.device).eval().requires_grad_(False)
        large = getattr(self.pipeline, "text_encoder_2", None) is not None
        if large and self._dtype == torch.float16 and self.pipeline.vae.config.get("force_upcast", True):
            self.pipeline.vae.float()  # that of Stable Diffusion XL overflows
        # The activations of a full autoencoder are larger than all else; a tiny one forgets to shift what it is given.
        if isinstance(self._vae, AutoencoderKL):
            self._vae.enable_gradient_checkpointing()  # type: ignore[attr-defined]
        self.signal2: Tensor = levels.to(self.device, torch.float32)
        self.steps = len(self.signal2)
        self.prediction = str(self.pipeline.scheduler.config.prediction_type)
        self.channels = int(self._unet.config.in_channels)
        self._shrunk = int(getattr(self.pipeline, "vae_scale_factor", 8)) if self._vae is not None else 1
        self.size = size or int(self._unet.config.sample_size) * self._shrunk
        self._seen: Tensor | None = None  # [2, 1, ...] of no picture, and of the one that it was shown

    def learn(self, path: Path, scale: float = 1.0) -> None:
        """Merges a LoRA, as ``lora.merge`` does."""
        lora.merge(self.pipeline, path, scale)

    def learn_word(self, path: Path, token: str = "") -> str:
        """Adds the word of a textual inversion, as ``textual_inversion.add`` does."""
        return textual_inversion.add(self.pipeline, path, token)

    def look_at(self, picture: Image.Image, adapter: Path, scale: float) -> None:
        """Goes by a picture, too, in all that is said from now on, as ``image_prompt.add`` has it."""
        self._seen = image_prompt.add(self.pipeline, adapter, picture, scale)

    def draw(
        self, prompt: str, *, seed: int = 0, steps: int = 0, guidance: float = 0.0
    ) -> Generator[text_to_image.Step, None, Image.Image]:
        """A picture of the words, as ``text_to_image.draw`` makes it."""
        said, unsaid = self.say([prompt])
        told = {"prompt_embeds": said.words, "negative_prompt_embeds": unsaid.words}
        if POOLED in said.added:
            told |= {"pooled_prompt_embeds": said.added[POOLED], "negative_pooled_prompt_embeds": unsaid.added[POOLED]}
        return text_to_image.draw(self.pipeline, told, seed=seed, steps=steps, guidance=guidance, seen=self._seen)

    def say(self, prompts: Sequence[str], negative: str = "") -> tuple[Said, Said]:
        """What prompts say, and as often what is to be avoided says ("": nothing in particular)."""
        reader = self.pipeline.text_encoder.device
        takes = inspect.signature(self.pipeline.encode_prompt).parameters
        options: dict[str, Any] = {"do_classifier_free_guidance": True, "num_images_per_prompt": 1}
        options |= {"negative_prompt": [negative] * len(prompts)} if negative else {}  # some have an own nothing
        with torch.no_grad():
            told = self.pipeline.encode_prompt(
                list(prompts), device=reader, **{name: options[name] for name in options if name in takes}
            )
        words, avoided, *pooled = (part.to(self.device) for part in told)
        said: dict[str, Tensor] = {}
        unsaid: dict[str, Tensor] = {}
        if len(pooled) == 2:  # Stable Diffusion XL
            side = float(self.size)
            sizes = words.new_tensor([side, side, 0.0, 0.0, side, side]).expand(len(prompts), 6)
            said, unsaid = ({POOLED: vectors, "time_ids": sizes} for vectors in pooled)
        if self._seen is not None:
            unsaid[SEEN], said[SEEN] = (one.expand(len(prompts), *one.shape) for one in self._seen)
        return Said(words, said), Said(avoided, unsaid)

    def beyond(self, text: str) -> str:
        """The end of the text that the model does not read because its context is full; mostly empty."""
        words = self.pipeline.tokenizer
        return beyond(text, words, min(int(words.model_max_length), CONTEXT))

    def fitting(self, text: str, more: str) -> str:
        """As much of the text, to the end of a word, as the model reads where ``more`` comes after it."""
        while " " in text and self.beyond(text + more):
            text = text.rpartition(" ")[0].rstrip(" ,")
        return text

    def forget_words(self) -> None:
        """Moves the text encoders, which are often larger than all else, and what looks at drawn pictures, out of the
        device's memory. Nothing can be said or drawn any more."""
        for name in OFFLOAD:
            if (part := getattr(self.pipeline, name, None)) is not None:
                part.to("cpu")

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

    @property
    def of_pixels(self) -> bool:
        """Whether pictures are diffused, not latents of them."""
        return self._vae is None

    @torch.no_grad()
    def noise(self, noisy: Tensor, t: Tensor, *said: Said) -> list[Tensor]:
        """ε̂ of x at steps t [B], float32, as each of ``said`` would have it: one pass of the U-Net for all."""
        if self.frugal and len(said) > 1:
            return [self.noise(noisy, t, each)[0] for each in said]
        many, signal2 = len(said), self.signal2[t]
        added = {name: torch.cat([each.added[name] for each in said]) for name in said[0].added}
        asked = Said(torch.cat([each.words for each in said]), added)
        with torch.autocast(self.device.type, self.roughly, enabled=self.roughly is not None):
            predicted = self.predict(torch.cat([noisy] * many), torch.cat([t] * many), asked)
        return [noise_of(part, noisy, signal2, self.prediction) for part in predicted.chunk(many)]

    def predict(self, noisy: Tensor, t: Tensor, said: Said) -> Tensor:
        """What the U-Net says of x at steps t [B], float32: ``prediction`` is what that is. Differentiable."""
        added: dict[str, Any] = {name: value.to(self._dtype) for name, value in said.added.items()}
        if SEEN in added:
            added[SEEN] = [added[SEEN]]  # of each adapter
        out = self._unet(
            noisy.to(self._dtype),
            t,
            said.words.to(self._dtype),
            **({"added_cond_kwargs": added} if added else {}),
        ).sample
        found: Tensor = out[:, : self.channels].float()  # some predict a variance, too
        return found
