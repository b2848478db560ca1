# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains the embedded text-to-image prior: a small diffusion U-Net on pixels (Ho et al., 2020; v-prediction of
Salimans and Ho, 2022), with words through cross-attention, for one view of one thing in front of plain grey."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import weights
from . import tokenizer
from .cards import write_card
from .pictures import Block, block
from .tokenizer import encode
from .training import Ahead, Plan, Session, arguments, autocast, chosen, fit, generator

PLAN = Plan(samples=1_000_000, batch=64, rate=1e-3, seed=0, ema=0.9995)
SIZE = 32
DROPPED = 0.1
"""Share of the captions that are left out, for guidance."""
GREYS = (0.3, 1.0)
"""Of backgrounds."""
SMALL = 64.0
"""By this the latents of ``unchanged`` are divided."""
PARTS = {
    "text": ("text_encoder", "model.safetensors"),
    "unet": ("unet", "diffusion_pytorch_model.safetensors"),
}
"""Where an export holds the model's parts."""
STARTS = ("point/text_encoder", "clip")
"""Embedded priors whose text encoder the training begins with, the first that is there and fits."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the U-Net and of the text encoder. The first level, of the most pixels, has no attention.

    A narrow first level is where the time goes least: (32, 64, 128) trains on 1.6 times the pictures of (64, 128), with
    as many weights, and was further after the same time.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    layers: int = 1
    text_width: int = 192
    text_layers: int = 3
    heads: int = 4


@dataclass(frozen=True)
class Pool:
    """Where a batch is taken from: ``things`` things at a time, from ``views`` sides each, ``uses`` times each."""

    things: int = 512
    views: int = 2
    uses: int = 1


class TextToImage(nn.Module):
    """U-Net and text encoder."""

    def __init__(self, shape: Shape) -> None:
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        super().__init__()
        words = tokenizer.load()
        deeper = len(shape.channels) - 1
        self.text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=shape.text_width,
                intermediate_size=4 * shape.text_width,
                projection_dim=shape.text_width,
                num_hidden_layers=shape.text_layers,
                num_attention_heads=shape.text_width // 32,
                max_position_embeddings=tokenizer.TOKENS,
                bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id,
                pad_token_id=words.pad_token_id,
            )
        )
        make: Any = UNet2DConditionModel
        self.unet = make(
            sample_size=SIZE,
            in_channels=3,
            out_channels=3,
            block_out_channels=shape.channels,
            down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * deeper),
            up_block_types=(*["CrossAttnUpBlock2D"] * deeper, "UpBlock2D"),
            layers_per_block=shape.layers,
            attention_head_dim=shape.heads,  # which the class takes for the number of heads
            norm_num_groups=16,
            cross_attention_dim=shape.text_width,
            encoder_hid_dim=shape.text_width,
            addition_embed_type="text",  # the whole prompt beside the time, too
            addition_embed_type_num_heads=shape.heads,
        )

    def forward(self, noisy: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        out: Tensor = self.unet(noisy, t, self.text(input_ids=tokens).last_hidden_state).sample
        return out


def scheduler() -> Any:
    from diffusers import DDIMScheduler

    make: Any = DDIMScheduler
    return make(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        thresholding=True,  # which at this maximum clips pictures to -1..1
        sample_max_value=1.0,
        timestep_spacing="trailing",
        steps_offset=1,
    )


class Batches:
    """Batches by the number of the step: a pool of fresh things serves for some steps, each picture ``uses`` times."""

    def __init__(self, plan: Plan, pool: Pool, device: torch.device, workers: int = 0) -> None:
        self.plan, self.pool, self.device = plan, pool, device
        self.count = pool.things * pool.views
        self.steps = self.count * pool.uses // plan.batch
        self._words = tokenizer.load()
        make = partial(block, plan.seed, things=pool.things, views=pool.views, size=SIZE)
        self._ahead: Ahead[Block] = Ahead(make, workers)
        self._held = -1

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """rgba [N, 4, S, S] in 0..1 and tokens [N, T]."""
        index, turn = divmod(step, self.steps)
        if index != self._held:
            found = self._ahead[index]
            self._held = index
            self._rgba = torch.from_numpy(found.rgba).permute(0, 3, 1, 2).contiguous().to(self.device)
            self._tokens = encode(self._words, found.captions).to(self.device)
        rng = np.random.default_rng((self.plan.seed, index))
        order = np.concatenate([rng.permutation(self.count) for _ in range(self.pool.uses)])
        places = torch.from_numpy(order[turn * self.plan.batch : (turn + 1) * self.plan.batch]).to(self.device)
        return self._rgba[places].float() / 255, self._tokens[places]

    def close(self) -> None:
        self._ahead.close()


class Objective:
    """The loss of a step: mean squared error of v, at times that are spread evenly over the batch."""

    def __init__(self, model: TextToImage, batches: Batches) -> None:
        self.model, self.batches, self.device = model, batches, batches.device
        self.levels = scheduler().alphas_cumprod.to(self.device)
        self.unsaid = encode(tokenizer.load(), [""]).to(self.device)

    def __call__(self, step: int) -> Tensor:
        rgba, tokens = self.batches[step]
        count, random = len(rgba), generator(self.device, self.batches.plan.seed, step)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=random, device=self.device)

        grey = (GREYS[0] + (GREYS[1] - GREYS[0]) * uniform(count))[:, None, None, None]
        clean = 2 * (rgba[:, :3] * rgba[:, 3:] + grey * (1 - rgba[:, 3:])) - 1
        tokens = torch.where(uniform(count, 1) < DROPPED, self.unsaid, tokens)
        steps = len(self.levels)
        t = ((uniform(count) + torch.arange(count, device=self.device)) / count * steps).long().clamp(max=steps - 1)
        noise = torch.randn(clean.shape, generator=random, device=self.device)
        signal, spread = (x.sqrt()[t][:, None, None, None] for x in (self.levels, 1 - self.levels))
        noisy = (signal * clean + spread * noise).to(memory_format=torch.channels_last)
        with autocast(self.device):
            predicted = self.model(noisy, t, tokens)
        return nn.functional.mse_loss(predicted.float(), signal * noise - spread * clean)


def unchanged() -> Any:
    """An autoencoder whose latents are the picture itself, sRGB in -1..1, for pipelines that want one.

    Tiny autoencoders bend what they decode by 3 tanh(x / 3); the latents are made small to stay where that is straight.
    """
    from diffusers import AutoencoderTiny

    make: Any = AutoencoderTiny
    made = make(
        latent_channels=3,
        encoder_block_out_channels=(3,),
        decoder_block_out_channels=(3,),
        num_encoder_blocks=(0,),
        num_decoder_blocks=(0,),
        scaling_factor=SMALL,
    )
    # Encoding halves and shifts to 0..1 before these, decoding undoes it after them; between these is a ReLU.
    (first, second), (third, _, fourth) = made.encoder.layers, made.decoder.layers
    for layer, factor, shift in ((first, 1, 0), (second, 2 / SMALL, -1 / SMALL), (third, SMALL, 1), (fourth, 0.5, 0)):
        nn.init.dirac_(layer.weight)
        layer.weight.data *= factor
        nn.init.constant_(layer.bias, shift)
    return made


def pipeline(model: TextToImage) -> Any:
    """The model as a diffusers pipeline, whose autoencoder does nothing."""
    from diffusers import StableDiffusionPipeline

    make: Any = StableDiffusionPipeline
    return make(
        vae=unchanged().to(model.unet.dtype),
        text_encoder=model.text,
        tokenizer=tokenizer.load(),
        unet=model.unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export(model: TextToImage, mean: dict[str, Tensor], folder: Path, facts: Sequence[str] = ()) -> None:
    """The folder that ``DiffusionPipeline.from_pretrained`` loads; weights in half precision."""
    import copy

    half = copy.deepcopy(model)
    half.load_state_dict(mean)
    pipeline(half.half().cpu()).save_pretrained(folder)
    write_card(folder, "unet", facts)


def begin_with_words(model: TextToImage, priors: Path) -> str:
    """Takes over the text encoder of an embedded prior where one of STARTS fits; its name, or nothing."""
    from transformers import CLIPTextModel

    for name in STARTS:
        if (priors / name / "model.safetensors").exists():
            found = CLIPTextModel.from_pretrained(priors / name, dtype=torch.float32, local_files_only=True)
            state = found.state_dict()
            if {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in model.text.state_dict().items()}:
                model.text.load_state_dict(state)
                return name
    return ""


def hidden(name: str) -> bool:
    """Whether a weight lies between two layers; at the borders are what reads and writes pictures, words and times."""
    return any(part in name for part in ("_blocks.", "mid_block.", "encoder.layers."))


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="train unet", description=__doc__)
    arguments(parser, PLAN)
    parser.add_argument("--channels", type=int, nargs="+", default=Shape.channels, help="of each level")
    parser.add_argument("--pool", type=int, default=Pool.things, help="things drawn at a time")
    parser.add_argument("--start", type=Path, help="exported folder whose weights to begin with")
    given = parser.parse_args(argv)
    shape, pool = Shape(tuple(given.channels)), Pool(given.pool)
    train(*chosen(given, PLAN), shape, pool, given.workers, Path(__file__).parent, given.start)


def train(
    plan: Plan,
    session: Session,
    shape: Shape,
    pool: Pool,
    workers: int = 0,
    priors: Path | None = None,
    begin: Path | None = None,
) -> None:
    """Trains or goes on, and exports what there is to ``export`` in the session's folder.

    priors: the folder of the embedded ones, of which one lends its words; begin: an export to begin with instead.
    """
    from . import evaluate_unet

    torch.manual_seed(plan.seed)
    model = TextToImage(shape)
    if begin is not None:
        parts = {part: weights.read(begin / folder / file) for part, (folder, file) in PARTS.items()}
        model.load_state_dict(
            {f"{part}.{name}": x.float() for part, state in parts.items() for name, x in state.items()}
        )
    elif priors is not None and (name := begin_with_words(model, priors)):
        print(f"The text encoder begins as that of {name}.")
    model.to(session.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if session.device.type == "cpu":
        from diffusers.models.attention_processor import AttnProcessor

        model.unet.set_attn_processor(AttnProcessor())  # plain matrix products, as in autocast
    batches = Batches(plan, pool, session.device, workers)
    try:
        mean = fit(model, Objective(model, batches), plan, session, hidden)
    finally:
        batches.close()
    folder = session.folder / "export"
    export(model, mean, folder)
    export(model, mean, folder, evaluate_unet.facts(folder, session.folder / "sheet.png"))
