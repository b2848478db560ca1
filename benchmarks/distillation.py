# SPDX-License-Identifier: GPL-3.0-or-later
"""What DreamFusion adds to the passes of a full-size U-Net: seconds an iteration, and peak memory.

    python benchmarks/distillation.py [--iterations 20] [--rendered 64 512] [--device auto]

The prior is a Stable Diffusion 1.5 with random weights, made by its published sizes and loaded like the published one.
An iteration renders a view, encodes it, asks the U-Net with and without the prompt and changes the field; beside it,
in turns, the bare U-Net is asked the same. Ours is the rest, the encoder of pictures included, which the method needs
too and which is told apart. On a CPU an iteration takes about half a minute.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend.guidance.diffusion_prior import DiffusionPrior
from backend.pipelines import dreamfusion
from backend.pipelines.devices import choose_device
from backend.pipelines.distillation import Critic, Heard
from backend.pipelines.dream_field import DreamField
from backend.priors import tokenizer
from backend.settings import DreamFusionSettings

UNET: dict[str, Any] = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
}
AUTOENCODER: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 512,
}
TEXT: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=20, help="timed, after three that warm up")
    parser.add_argument("--rendered", type=int, nargs="+", default=[64, 512], help="sides in pixels of the renders")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    options = parser.parse_args()
    device = choose_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        prior = DiffusionPrior(folder, device)
    prompts = dreamfusion.prompts("a chair", DreamFusionSettings())
    heard = Heard(tuple(prompts), *prior.say(list(prompts.values())))
    prior.forget_words()
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}; torch {torch.__version__}; U-Net in {str(prior._unet.dtype).removeprefix('torch.')}")
    print(f"{'render':>8}{'iteration':>12}{'U-Net':>10}{'encoder':>10}{'rest':>10}{'over U-Net':>12}{'peak':>10}")
    for side in options.rendered:
        torch.manual_seed(0)
        plan = replace(dreamfusion.FAST, size=side)
        critic = Critic(prior, heard, plan.asking)
        training = dreamfusion.DreamFusionTraining(DreamField(dreamfusion.FAST_SHAPE).to(device), critic, plan, seed=0)
        for _ in range(3):
            training.step()
        took = timed(training, prior, options.iterations, device)
        whole, asked, encoded = (statistics.median(took[part]) for part in ("step", "noise", "encode"))
        rest = whole - asked - encoded
        peak = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device.type == "cuda" else ""
        print(
            f"{side:>6}²  {1e3 * whole:>9.0f} ms{1e3 * asked:>7.0f} ms{1e3 * encoded:>7.0f} ms{1e3 * rest:>7.0f} ms"
            f"{(whole - asked) / asked:>11.0%} {peak:>10}"
        )


def write(folder: Path) -> None:
    """A Stable Diffusion 1.5 with random weights, in half precision, as diffusers keeps it."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    library: Any = diffusers
    encoder: Any = CLIPTextModel
    words = tokenizer.load()
    text = CLIPTextConfig(
        **TEXT,
        vocab_size=len(words),
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    library.StableDiffusionPipeline(
        vae=library.AutoencoderKL(**AUTOENCODER).half(),
        text_encoder=encoder(text).half(),
        tokenizer=words,
        unet=library.UNet2DConditionModel(**UNET).half(),
        scheduler=library.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def timed(
    training: dreamfusion.DreamFusionTraining, prior: DiffusionPrior, iterations: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of whole iterations, of the passes of the U-Net in them, and of encoding pictures, forth and back."""
    took: dict[str, list[float]] = {"step": [], "noise": [], "encode": []}

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def work(*given: Any) -> Any:
            began = clock()
            made = call(*given)
            took[name].append(clock() - began)
            return made

        return work

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    prior.noise = watched("noise", prior.noise)  # type: ignore[method-assign]  # in place of it while that is timed
    try:
        for _ in range(iterations):
            watched("step", training.step)()
    finally:
        del prior.noise
    for _ in range(iterations):
        picture = torch.rand(1, 3, training.size, training.size, device=device, requires_grad=True)
        watched("encode", lambda seen: torch.autograd.grad(prior.encode(seen).sum(), seen))(picture)
    return took


if __name__ == "__main__":
    main()
