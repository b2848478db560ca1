# SPDX-License-Identifier: GPL-3.0-or-later
"""How long Point-E's two stages take at the published 40M sizes, and how long they take as they were published.

    python benchmarks/point_e.py [--steps 64] [--device cpu]

Both networks have the same random weights and the same guidance: 1024 points, then 3072 between them, under 256 patches
of a picture. As published means: attention as softmax(q kᵀ) written out, and both halves of the guidance, conditioned
and not, as one batch. The difference is in ``backend/point_diffusion``: fused attention, and conditions that are the
same for all tokens computed once for all of them.

A stage of 64 steps evaluates its network 127 times, and each takes as long as the others. Unless --steps says otherwise
only some of them are timed, the two networks in turns, and the sum is told for all. Two columns: seconds on the clock,
and seconds of the processor (all threads), which other programs at work disturb less.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend.errors import Gen3DError
from backend.pipelines.devices import choose_device
from backend.point_diffusion import karras, transformer
from backend.point_diffusion.karras import Denoise
from backend.point_diffusion.stages import Stage, published

OURS, PUBLISHED = "this", "published"
TOLERANCE = 1e-3  # of a clean cloud's range, −1 to 1: where noise is strong, rounding counts a hundred times
LEVEL = 2.0  # of the noise at which the two are compared


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention as published: logits, their softmax in float32, and the mean of the values."""
    assert bias is None
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    scale = 1 / math.sqrt(math.sqrt(query.shape[-1]))
    weights = torch.einsum("bthc,bshc->bhts", query * scale, key * scale)
    weights = torch.softmax(weights.float(), -1).type(weights.dtype)
    return torch.einsum("bhts,bshc->bthc", weights, value).flatten(2)


@contextmanager
def written_out() -> Iterator[None]:
    """While it lasts, attention is computed as published."""
    ours = transformer.attend
    transformer.attend = attend
    try:
        yield
    finally:
        transformer.attend = ours


def as_published(model: Any, stage: Stage, embeddings: Tensor, low_res: Tensor | None) -> Denoise:
    """The denoiser with both halves of the guidance in one batch, zeros being the unconditioned one."""
    given = {"embeddings": embeddings} | ({} if low_res is None else {"low_res": low_res})
    pair = {name: torch.cat([value, torch.zeros_like(value)]) for name, value in given.items()}

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        step = karras.nearest_step(stage.diffusion, float(sigma))
        scaled = torch.cat([x, x]) / (sigma**2 + 1) ** 0.5
        t = torch.full((2,), step, device=embeddings.device)
        with torch.no_grad(), written_out():
            out = model(scaled.to(embeddings), t, **pair).to(x)
        clean, free = stage.diffusion.clean(scaled, t.cpu(), out).clamp(-1, 1).chunk(2)
        return free + stage.sampling.guidance_scale * (clean - free)

    return denoise


def time_stage(stage: Stage, low_res: Tensor | None, steps: int, device: torch.device) -> dict[str, Any]:
    """Seconds of an evaluation under guidance, by the clock and of the processor, for either denoiser."""
    made: Any = stage.build()
    model = made.to(device).eval()
    torch.nn.init.normal_(model.output_proj.weight, std=0.02)
    embeddings = torch.randn(1, model.feature_dim, model.cond_tokens, device=device)
    guidance = stage.sampling.guidance_scale
    denoisers = {
        OURS: karras.denoiser(model, stage.diffusion, guidance, 1, embeddings, low_res),
        PUBLISHED: as_published(model, stage, embeddings, low_res),
    }
    x = torch.randn(1, 6, stage.points, dtype=torch.float64)
    require_equal(denoisers, x * LEVEL)  # and warms up
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in denoisers}
    for _ in range(2 * steps - 1):
        for name, denoise in denoisers.items():
            began = time.perf_counter(), time.process_time()
            denoise(x * LEVEL, torch.tensor(LEVEL, dtype=torch.float64))  # its result comes to the CPU: all is done
            times[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return {
        name: {"clock": statistics.median(t[0] for t in taken), "processor": statistics.median(t[1] for t in taken)}
        for name, taken in times.items()
    }


def require_equal(denoisers: dict[str, Denoise], x: Tensor) -> None:
    """Ends the program where the two do not compute the same."""
    ours, other = (denoise(x, torch.tensor(LEVEL, dtype=torch.float64)) for denoise in denoisers.values())
    if float((ours - other).abs().max()) > TOLERANCE * 2:
        sys.exit("The two networks compute different things: there is nothing to compare.")


def table(report: dict[str, Any]) -> str:
    """The report for reading."""
    machine = report["machine"]
    lines = [
        f"{machine['device']}; torch {machine['torch']}, {machine['threads']} threads; float32",
        f"Medians of {report['timed']} of the 127 evaluations of each stage; two stages of 64 steps, in seconds",
        f"{'':26}{'clock':>10}{'processor':>12}",
    ]
    for stage, row in report["evaluation"].items():
        for name, taken in row.items():
            lines.append(f"{stage + ', one, ' + name:26}{taken['clock']:10.2f}{taken['processor']:12.2f}")
    for name, taken in report["sample"].items():
        lines.append(f"{'a sample, ' + name:26}{taken['clock']:10.0f}{taken['processor']:12.0f}")
    ratio = report["published takes, times"]
    return "\n".join([*lines, f"{'published / this':26}{ratio['clock']:10.2f}{ratio['processor']:12.2f}"])


def main(options: argparse.Namespace) -> None:
    """The whole comparison."""
    device = choose_device(options.device)
    torch.manual_seed(0)
    first, second = published("base40M")
    low_res = torch.cat([torch.rand(1, 3, first.points) - 0.5, 255 * torch.rand(1, 3, first.points)], 1).to(device)
    found = {}
    for name, stage, seen in (("1024 points", first, None), ("4096 points", second, low_res)):
        print(f"timing {name}", file=sys.stderr, flush=True)
        found[name] = time_stage(stage, seen, options.steps, device)
    evaluations = 2 * first.sampling.karras_steps - 1
    sample = {
        network: {
            kind: evaluations * sum(row[network][kind] for row in found.values()) for kind in ("clock", "processor")
        }
        for network in (OURS, PUBLISHED)
    }
    report = {
        "machine": {
            "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or str(device),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
        "timed": 2 * options.steps - 1,
        "evaluation": found,
        "sample": sample,
        "published takes, times": {kind: sample[PUBLISHED][kind] / sample[OURS][kind] for kind in sample[OURS]},
    }
    print(json.dumps(report, indent=1) if options.json else table(report))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Times Point-E's sampling beside the published way of computing it.")
    parser.add_argument("--steps", type=int, choices=range(1, 65), metavar="1..64", default=2, help="steps timed (2)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    try:
        main(parser.parse_args())
    except Gen3DError as error:
        sys.exit(str(error))
