# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of one thing to a LoRA, with which a text-to-image model knows it by a word (Ruiz et al., "DreamBooth",
2023, with the low-rank matrices of Hu et al. 2021 in place of all weights, as Magic3D's personal priors may have them).

The model learns to take the noise out of the pictures when it is told their prompt (§3.2) and, where there are pictures
of other such things, out of these when it is told theirs, so that it does not come to take every dog for this one
(§3.3, "prior preservation"; λ = 1).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import save
from torch import Tensor, nn

from .. import weights
from ..data.pictures import read_picture
from ..errors import Gen3DError
from ..guidance import lora
from ..guidance.diffusion_prior import DiffusionPrior, Said
from ..guidance.score_distillation import noised, target_of
from ..guidance.text_to_image import on_background
from ..priors import embedded
from ..priors.training import generator
from ..settings import PersonaliseSettings
from . import dreamfusion
from .devices import choose_device
from .optimiser_state import pack, unpack
from .progress import Pipeline, Progress, Snapshot

FILE = "lora.safetensors"
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
CLIPPED = 1.0  # the longest gradient that a step follows
BEGUN = 0.02  # share of the whole job that is then done
YIELD_SECONDS = 0.1


class Lessons:
    """The training of a LoRA. ``sets``: pictures as x [N, C, h, w] with what is said of them, the thing's first."""

    def __init__(
        self, prior: DiffusionPrior, sets: Sequence[tuple[Tensor, Said]], rank: int, rate: float, seed: int
    ) -> None:
        self.prior, self.sets, self.seed, self.steps = prior, sets, seed, 0
        self.unet = prior.pipeline.unet
        self.matrices = lora.begin(self.unet, rank, seed)
        self.unet.enable_gradient_checkpointing()  # memory counts more than time
        self.optimiser = torch.optim.AdamW(self.matrices, lr=rate)

    def step(self) -> float:
        """One picture of each set; the loss before it."""
        random = generator(self.prior.device, self.seed, self.steps)
        loss = torch.stack([self._loss(x, said, random) for x, said in self.sets]).sum()
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.matrices, CLIPPED)
        self.optimiser.step()
        self.steps += 1
        return float(loss.detach())

    def _loss(self, x: Tensor, said: Said, random: torch.Generator) -> Tensor:
        """Of one picture and one noise level: the mean squared error of what the model predicts."""
        prior, device = self.prior, x.device
        which = torch.randint(len(x), (1,), generator=random, device=device)
        t = torch.randint(prior.steps, (1,), generator=random, device=device)
        clean, signal2 = x[which], prior.signal2[t]
        noise = torch.randn(clean.shape, generator=random, device=device)
        predicted = prior.predict(noised(clean, noise, signal2), t, said)
        return nn.functional.mse_loss(predicted, target_of(clean, noise, signal2, prior.prediction))

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on, besides how many there were; on the CPU."""
        tensors: dict[str, Tensor] = {f"matrix.{index}": value for index, value in enumerate(self.matrices)}
        tensors |= pack({"optimiser": self.optimiser})
        return {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}

    def restore(self, tensors: dict[str, Tensor], steps: int) -> None:
        """The inverse of ``state``. Raises KeyError or RuntimeError where they are of another training."""
        with torch.no_grad():
            for index, value in enumerate(self.matrices):
                value.copy_(tensors[f"matrix.{index}"])
        unpack({"optimiser": self.optimiser}, tensors)
        self.steps = steps


def train(settings: PersonaliseSettings, out: Path, resume: Snapshot | None = None) -> Pipeline:
    """Writes the LoRA, in the format that diffusers reads."""
    yield Progress("prepare", 0, 0, 0.0)
    settings.check()
    began, device = time.perf_counter(), choose_device(settings.device)
    told = [("images", settings.images, settings.prompt.strip())]
    if settings.class_images:
        told.append(("class_images", settings.class_images, settings.class_prompt.strip()))
    files = [_files(Path(folder), field) for field, folder, _ in told]
    folder, guide = weights.choose(settings.weights, dreamfusion.PRIORS, embedded.TEXT_TO_IMAGE)
    if folder is None:
        cause = "There is no text-to-image model to teach."
        raise Gen3DError(cause, f"{dreamfusion.INSTALL.capitalize()}.", field="weights")
    prior = DiffusionPrior(folder, device, _precision(device), size=settings.resolution)
    sets = []
    for (field, _, prompt), named in zip(told, files, strict=True):
        pictures = [_pixels(file, field, prior.size) for file in named]
        sets.append((_encoded(prior, pictures), prior.say([prompt])[0]))
    prior.forget_words()
    lessons = Lessons(prior, sets, settings.rank, settings.rate, settings.seed)
    if resume is not None:
        lessons.restore(resume.tensors, int(resume.facts["steps"]))

    shown, first, losses = 0.0, lessons.steps, []
    begun = time.perf_counter()
    while lessons.steps < settings.steps:
        losses.append(lessons.step())
        now, done = time.perf_counter(), lessons.steps
        if now - shown < YIELD_SECONDS and done < settings.steps:
            continue
        shown = now
        yield Progress(
            "train",
            done,
            settings.steps,
            BEGUN + (1 - BEGUN) * done / settings.steps,
            seconds_left=(settings.steps - done) * (now - begun) / (done - first),
            loss=sum(losses) / len(losses),
            snapshot=lambda: Snapshot(lessons.state(), {"steps": lessons.steps}),
        )
        losses = []
    if not all(bool(torch.isfinite(value).all()) for value in lessons.matrices):
        raise FloatingPointError("the matrices are no longer numbers")
    (out / FILE).write_bytes(save(lora.tensors(lessons.unet), {"format": "pt"}))
    count = f"{len(files[0])} picture{'s' if len(files[0]) > 1 else ''}"
    return {
        "device": str(device),
        "prior": guide,
        "steps": settings.steps,
        "seconds": round(time.perf_counter() - began, 3),
        "files": {"lora": FILE},
        "notes": [f'Made of {count}. Use it with --lora, the same --weights and words such as "{told[0][2]}".'],
    }


def _files(folder: Path, field: str) -> list[Path]:
    """The pictures of a folder, by name."""
    step = "Give a folder with a few PNG, JPEG, WebP or BMP pictures of the thing."
    if not folder.is_dir():
        raise Gen3DError(f"There is no folder {folder}.", step, field=field)
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    if not found:
        raise Gen3DError(f"{folder} holds no pictures.", step, field=field)
    return found


def _pixels(file: Path, field: str, size: int) -> Tensor:
    """The middle square of a picture, sRGB [1, 3, size, size] in 0..1."""
    picture = ImageOps.fit(on_background(read_picture(file, field)), (size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


@torch.no_grad()
def _encoded(prior: DiffusionPrior, pictures: Sequence[Tensor]) -> Tensor:
    return torch.cat([prior.encode(picture.to(prior.device)) for picture in pictures])


def _precision(device: torch.device) -> torch.dtype:
    """Half of it where gradients are not lost by that."""
    half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if half else torch.float32
