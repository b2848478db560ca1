# SPDX-License-Identifier: GPL-3.0-or-later
"""Training that can be stopped at any moment and goes on exactly as if it had not been.

The pictures and the randomness of a step are functions of the seed and of the step's number; all else is in the
checkpoint, which takes the place of the one before only when it is whole.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import Gen3DError

CHECKPOINT = "checkpoint.pt"
MUON = 2.0  # its rate in AdamW's
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """What a training is: none of it may change while it lasts. ``rate`` is the highest learning rate."""

    samples: int
    batch: int
    rate: float
    seed: int
    warm_up: int = 200
    decay: float = 0.01
    ema: float = 0.999

    @property
    def steps(self) -> int:
        return -(-self.samples // self.batch)

    def rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine down to a hundredth at the end."""
        share = min(step / self.steps, 1.0)
        return self.rate * min((step + 1) / self.warm_up, 1.0) * (0.01 + 0.99 * math.cos(share * math.pi / 2) ** 2)


@dataclass(frozen=True)
class Session:
    """How this run of it goes: where it keeps its state, for how many minutes, on what."""

    folder: Path
    minutes: float = math.inf
    save_minutes: float = 5.0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def arguments(parser: argparse.ArgumentParser, plan: Plan) -> None:
    """The options that every training has, with those of ``plan`` as the usual ones."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint, and of export/ in it")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many; the same command goes on")
    parser.add_argument("--samples", type=int, default=plan.samples, help="length of the whole training, in pictures")
    parser.add_argument("--batch", type=int, default=plan.batch)
    parser.add_argument("--rate", type=float, default=plan.rate, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw pictures; 0: draw between steps")


def chosen(given: argparse.Namespace, plan: Plan) -> tuple[Plan, Session]:
    """What the options of ``arguments`` make of ``plan``, and of this run, on the best device there is."""
    torch.set_num_threads(given.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plan = replace(plan, samples=given.samples, batch=given.batch, rate=given.rate, seed=given.seed)
    return plan, Session(given.out, given.minutes, device=device)


@contextmanager
def autocast(device: torch.device) -> Iterator[None]:
    """Forward passes in bfloat16, on GPUs and on CPUs that multiply it.

    On CPUs attention is plain matrix products: for short sequences they are half as fast again as its fused kernel
    (a training of the dual encoder: 160 -> 260 pictures per second of one core).
    """
    fast = device.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    kernels = nullcontext() if device.type == "cuda" else sdpa_kernel(SDPBackend.MATH)
    with kernels, torch.autocast(device.type, torch.bfloat16, enabled=fast):
        yield


def generator(device: torch.device, *numbers: int) -> torch.Generator:
    """A generator on ``device`` that is a function of these numbers."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 1_000_003 + number + 1) % (1 << 61)
    return torch.Generator(device).manual_seed(mixed)


class Ahead(Generic[T]):
    """``make(index)`` for ascending indices, drawn ahead of time by other processes where there are ``workers``."""

    def __init__(self, make: Callable[[int], T], workers: int) -> None:
        self._make, self._workers = make, workers
        self._pool = ProcessPoolExecutor(workers, get_context("spawn")) if workers else None
        self._coming: dict[int, Future[T]] = {}

    def __getitem__(self, index: int) -> T:
        if self._pool is None:
            return self._make(index)
        for near in range(index, index + 2 * self._workers):
            if near not in self._coming:
                self._coming[near] = self._pool.submit(self._make, near)
        return self._coming.pop(index).result()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def fit(
    model: nn.Module,
    loss: Callable[[int], Tensor],
    plan: Plan,
    session: Session,
    hidden: Callable[[str], bool] = lambda name: False,
) -> dict[str, Tensor]:
    """Trains ``model`` by ``loss(step)`` and returns the moving average of its state.

    hidden: names the matrices between two layers of a block, which Muon orthogonalises (Jordan et al., 2024), the
    kernels of convolutions among them; all else is AdamW's. Raises Gen3DError where the folder holds a training by
    another plan.
    """
    model.to(session.device).train()
    inner = [Inner(p) for name, p in model.named_parameters() if p.requires_grad and p.ndim > 1 and hidden(name)]
    optimisers = _optimisers(model, plan, inner)
    mean = {name: value.detach().clone() for name, value in model.state_dict().items()}
    step = _resume(session, plan, model, optimisers, mean)
    began = saved = time.monotonic()
    first, losses = step, []
    while step < plan.steps and time.monotonic() - began < session.minutes * 60:
        value = loss(step)
        model.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in inner:
            each.matrix.grad = flat(each.of.grad)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = plan.rate_at(step) * group["share"]
            optimiser.step()
        step += 1
        _follow(mean, model, min(plan.ema, (1 + step) / (10 + step)))
        losses.append(value.detach())
        if step % 50 == 0 or step == plan.steps:
            speed = (step - first) * plan.batch / (time.monotonic() - began)
            _note(session.folder, step, plan, float(torch.stack(losses).mean()), speed)
            losses = []
        if time.monotonic() - saved > session.save_minutes * 60:
            _save(session, plan, model, optimisers, mean, step)
            saved = time.monotonic()
    _save(session, plan, model, optimisers, mean, step)
    return mean


class Inner:
    """A weight, and the same memory as a matrix: a row for each thing that comes out."""

    def __init__(self, of: nn.Parameter) -> None:
        self.of, matrix = of, flat(of.detach())
        assert matrix is not None and matrix.data_ptr() == of.data_ptr()
        self.matrix = nn.Parameter(matrix)


def flat(weight: Tensor | None) -> Tensor | None:
    """[out, in] of a weight [out, in] or [out, in, height, width], as it lies in memory."""
    if weight is None or weight.ndim == 2:
        return weight
    return (weight if weight.is_contiguous() else weight.permute(0, 2, 3, 1)).flatten(1)


def _optimisers(model: nn.Module, plan: Plan, inner: list[Inner]) -> list[torch.optim.Optimizer]:
    """Weight decay is for matrices only; Muon's steps are scaled to be as long as AdamW's, and may be longer."""
    taken = {id(each.of) for each in inner}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    matrices, others = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": plan.decay}, {"params": others, "weight_decay": 0.0}]
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.98), fused=True)]
    if inner:
        found.append(
            torch.optim.Muon(
                [each.matrix for each in inner], lr=plan.rate, weight_decay=plan.decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    for optimiser, share in zip(found, (1.0, MUON), strict=False):
        for group in optimiser.param_groups:
            group["share"] = share
    return found


@torch.no_grad()
def _follow(mean: dict[str, Tensor], model: nn.Module, keep: float) -> None:
    pairs = [(mean[name], value) for name, value in model.state_dict().items() if value.is_floating_point()]
    torch._foreach_lerp_([old for old, _ in pairs], [new for _, new in pairs], 1 - keep)


def _note(folder: Path, step: int, plan: Plan, loss: float, speed: float) -> None:
    line = {"step": step, "of": plan.steps, "loss": round(loss, 5), "samples_per_second": round(speed, 1)}
    print(json.dumps(line), flush=True)
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def _save(
    session: Session,
    plan: Plan,
    model: nn.Module,
    optimisers: list[torch.optim.Optimizer],
    mean: dict[str, Tensor],
    step: int,
) -> None:
    held = {"plan": asdict(plan), "model": model.state_dict(), "mean": mean}
    part = session.folder / f"{CHECKPOINT}.part"
    with part.open("wb") as file:
        torch.save({**held, "optimisers": [each.state_dict() for each in optimisers], "step": step}, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(session.folder / CHECKPOINT)


def _resume(
    session: Session, plan: Plan, model: nn.Module, optimisers: list[torch.optim.Optimizer], mean: dict[str, Tensor]
) -> int:
    """Takes over the checkpoint where there is one; the number of steps done."""
    session.folder.mkdir(parents=True, exist_ok=True)
    path = session.folder / CHECKPOINT
    if not path.exists():
        return 0
    held: dict[str, Any] = torch.load(path, map_location=session.device, weights_only=True)
    changed = [name for name, value in asdict(plan).items() if held["plan"].get(name) != value]
    if changed:
        raise Gen3DError(
            f"The training in {session.folder} was begun with another {' and '.join(changed)}.",
            "Give the same options to go on with it, or another folder to begin anew.",
        )
    model.load_state_dict(held["model"])
    for optimiser, state in zip(optimisers, held["optimisers"], strict=True):
        optimiser.load_state_dict(state)
    for name, value in held["mean"].items():
        mean[name].copy_(value)
    return int(held["step"])
