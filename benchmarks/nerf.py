# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hash-grid kernels are worth: the encoder alone, and the fast preset trained with it for equal time.

    .venv/bin/python benchmarks/nerf.py DATASET [--seconds 60] [--encoder-points 65536] [--device auto] [--json]

Compared in one process: our kernel (numba on CPUs, Warp on CUDA), our definition of the encoding in plain torch, and,
where it can be imported, the torch HashEncoding of nerfstudio. All have the same levels, features, and rows for a
hashed level, and that they compute the same values is checked first. Only the encoder differs: samples, MLPs,
compositing and optimisers are ours in every training. nerfstudio gives every level all rows, so that its table is
somewhat larger. The compared take turns, so that a machine that grows slower does so for all of them.

nerfstudio's encoder needs few of the packages that nerfstudio asks for. In an environment of its own:

    python -m venv peer && peer/bin/pip install -r requirements.txt
    peer/bin/pip install --no-deps nerfstudio==1.1.5 jaxtyping==0.3.11 viser==1.1.1 msgspec==0.22.0 zstandard==0.25.0
    peer/bin/python benchmarks/nerf.py DATASET
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend.data import normalise, posed_images
from backend.data.training_pixels import TrainingPixels
from backend.errors import Gen3DError
from backend.fields.hash_grid import FEATURES, PRIMES, HashGrid, Levels, encode_reference
from backend.pipelines import nerf, radiance
from backend.pipelines.devices import choose_device
from backend.pipelines.nerf_fast import FastNerf, FastTraining
from backend.settings import NerfSettings
from backend.shares import ended

try:
    from nerfstudio.field_components.encodings import HashEncoding

    WITHOUT_PEER = ""
except ImportError as error:
    WITHOUT_PEER = f"nerfstudio was not run ({error}); the head of this file says how to install it"

KERNEL, TORCH, PEER = "kernel", "torch", "nerfstudio"
PER = 2**16  # points that times are given for
SLICE = 1.0  # seconds of training before it is the next one's turn
TOLERANCE = 1e-4  # of the largest value


class TorchGrid(nn.Module):
    """The definition of the encoding, differentiated by torch."""

    def __init__(self, grid: HashGrid) -> None:
        super().__init__()
        self.grid, self.table = grid.grid, grid.table

    def forward(self, points: Tensor, known: Tensor | None = None) -> Tensor:
        """As HashGrid's; known values have no history that torch could go back through, and are computed again."""
        return encode_reference(points, self.table, self.grid)

    def as_kernel(self) -> HashGrid:
        """Our kernel, with the same table."""
        return with_table(self.grid, self.table.detach())


class PeerGrid(nn.Module):
    """nerfstudio's encoder, which hashes the coarse levels too."""

    def __init__(self, ours: HashGrid) -> None:
        super().__init__()
        grid = ours.grid
        resolutions = torch.from_numpy(grid.resolutions)
        rows = int((grid.offsets[1:] - grid.offsets[:-1]).max())
        self.encoding = HashEncoding(
            len(resolutions),
            int(resolutions[0]),
            int(resolutions[-1]),
            (rows - 1).bit_length(),
            FEATURES,
            1e-4,
            "torch",
        )
        self.encoding.scalings = resolutions.float()  # as it rounds them itself, the last may be one less
        self.grid = grid

    @property
    def table(self) -> nn.Parameter:
        """[levels x rows, FEATURES]."""
        table: nn.Parameter = self.encoding.hash_table
        return table

    def forward(self, points: Tensor, known: Tensor | None = None) -> Tensor:
        """As TorchGrid's."""
        encoded: Tensor = self.encoding(points)
        return encoded

    def as_kernel(self) -> HashGrid:
        """Our kernel, with a table of the same values: where ours has a row for each corner, that of its hash."""
        levels = []
        for level, values in enumerate(self.table.detach().view(len(self.grid.resolutions), -1, FEATURES)):
            if self.grid.hashed[level]:
                levels.append(values)
            else:
                side = torch.arange(int(self.grid.resolutions[level]) + 1, device=values.device)
                z, y, x = torch.meshgrid(side, side, side, indexing="ij")
                row = (x * PRIMES[0] ^ y * PRIMES[1] ^ z * PRIMES[2]) % len(values)
                levels.append(values[row.reshape(-1)])
        return with_table(self.grid, torch.cat(levels))


def with_table(grid: Levels, table: Tensor) -> HashGrid:
    """Our kernel and a given table."""
    made = HashGrid(grid)
    made.table = nn.Parameter(table.clone())
    return made


def encoders(grid: Levels, device: torch.device) -> dict[str, nn.Module]:
    """All there are, with the same values in their tables."""
    kernel = HashGrid(grid).to(device)
    found = {}
    if not WITHOUT_PEER:
        peer = PeerGrid(kernel).to(device)
        kernel, found[PEER] = peer.as_kernel(), peer
    return {KERNEL: kernel, TORCH: TorchGrid(with_table(grid, kernel.table.detach())), **found}


MAKERS: dict[str, Callable[[HashGrid], nn.Module]] = {KERNEL: lambda ours: ours, TORCH: TorchGrid}
if not WITHOUT_PEER:
    MAKERS[PEER] = PeerGrid


# --------------------------------------------------------------------------------------------------- the encoder alone


def time_encoders(grid: Levels, device: torch.device, count: int, rounds: int) -> dict[str, Any]:
    """Forward and backward of ``count`` uniform points, in milliseconds for 2^16 of them."""
    compared = encoders(grid, device)
    points, gradient = torch.rand(count, 3, device=device), torch.randn(count, grid.channels, device=device)
    times: dict[str, list[float]] = {name: [] for name in compared}
    require_equal(compared, points[:4096], gradient[:4096])
    for index in range(rounds + 1):
        for name, encoder in compared.items():
            began = now(device)
            encoder(points).backward(gradient)
            if index:  # the first round warms up
                times[name].append((now(device) - began) * 1e3 * PER / count)
    return {
        name: {
            "milliseconds": statistics.median(taken),
            "times the kernel's": spread([a / b for a, b in zip(taken, times[KERNEL], strict=True)]),
        }
        for name, taken in times.items()
    }


def require_equal(compared: dict[str, nn.Module], points: Tensor, gradient: Tensor) -> None:
    """Ends the program where encodings are not the same, or the gradients of kernel and definition."""
    seen = {}
    for name, encoder in compared.items():
        encoded = encoder(points)
        encoded.backward(gradient)
        seen[name] = [encoded.detach(), *([encoder.table.grad] if name != PEER else [])]
    for name, values in seen.items():
        for one, other in zip(values, seen[KERNEL], strict=False):
            if float((one - other).abs().max()) > TOLERANCE * float(other.abs().max()):
                sys.exit(f"{name} computes something else than the kernel: there is nothing to compare.")


# ----------------------------------------------------------------------------------------------------------- training


class Run:
    """A training with its own clock."""

    def __init__(self, training: FastTraining) -> None:
        self.training, self.spent, self.rays = training, 0.0, 0
        self.processor = 0.0  # seconds of all threads: far fewer than elsewhere where other programs took the rest

    def turn(self, seconds: float, device: torch.device) -> None:
        """Trains for ``SLICE`` seconds, or what is left of ``seconds``."""
        before, began, used = self.spent, now(device), time.process_time()
        while self.spent < min(before + SLICE, seconds):
            self.rays += self.training.rays
            self.training.step(self.spent / seconds)
            self.spent = before + now(device) - began
        self.processor += time.process_time() - used


def compare_training(scene: Any, data: Any, seconds: float, device: torch.device, folder: Path) -> dict[str, Any]:
    """Trains the fast preset with each encoder for ``seconds``, in turns, and measures it on the held-out views."""
    images, world_to_box, hull = data
    settings = NerfSettings(dataset=folder.name, seconds=seconds)
    pixels = TrainingPixels(images, world_to_box, device)
    runs = {}
    for name, make in MAKERS.items():
        torch.manual_seed(0)
        field = radiance.build(scene, hull)
        assert isinstance(field, FastNerf)
        ours = field.field.grid
        put(field, make(ours))
        training = nerf.start(settings, field.to(device), pixels, hull)
        assert isinstance(training, FastTraining)
        runs[name] = Run(training)
    while any(run.spent < seconds for run in runs.values()):
        for run in runs.values():
            run.turn(seconds, device)
        say("trained " + ", ".join(f"{name} {run.spent:.1f} s" for name, run in runs.items()))

    results: dict[str, Any] = {}
    for name, run in runs.items():
        field = run.training.model
        if name != KERNEL:  # the same values, rendered sooner
            put(field, field.field.grid.as_kernel().to(device))  # type: ignore[operator]
        nerf.settle(field)
        (folder / name).mkdir()
        say(f"rendering the held-out views of {name}")
        found = ended(nerf.evaluate(field, scene, images, world_to_box, device, folder / name, None))
        results[name] = {
            "psnr": found["psnr"],
            "views": found["views"],
            "held out": found["held_out"],
            "seconds": run.spent,
            "processor seconds": run.processor,
            "steps": run.training.steps,
            "rays per second": run.rays / run.spent,
        }
    kernel = results[KERNEL]
    for result in results.values():
        result["dB below the kernel"] = kernel["psnr"] - result["psnr"]
        result["kernel's rays per second, times"] = kernel["rays per second"] / result["rays per second"]
    return results


def put(field: FastNerf, encoder: nn.Module) -> None:
    """Another encoder for a field."""
    field.field.grid = encoder  # type: ignore[assignment]


# ------------------------------------------------------------------------------------------------------------- telling


def now(device: torch.device) -> float:
    """Seconds, once all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def spread(values: list[float]) -> dict[str, float]:
    """The median, and how far others are from it."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def say(text: str) -> None:
    """Progress, beside the output."""
    print(text, file=sys.stderr, flush=True)


def overruns(training: dict[str, Any], seconds: float) -> list[str]:
    """What speaks against the comparison: single steps that the machine held up, charged to who was at it."""
    late = [name for name, row in training.items() if row["seconds"] > 1.1 * seconds]
    return [f"NOT of equal time: {', '.join(late)} took over a tenth longer. Is the machine busy?"] if late else []


def table(report: dict[str, Any]) -> str:
    """The report for reading."""
    lines = [
        f"{report['machine']['device']}; torch {report['machine']['torch']}, threads {report['machine']['threads']}",
        f"levels {report['levels']['resolutions']}, 2^{report['levels']['log2 rows']} rows of {FEATURES}",
        "",
        f"Encoder, forward and backward, per 2^16 points: medians of {report['rounds']} rounds, ratios within rounds",
        f"{'':12}{'ms':>10}{'x kernel':>10}{'least':>8}{'most':>8}",
    ]
    for name, row in report["encoder"].items():
        ratio = row["times the kernel's"]
        lines.append(
            f"{name:12}{row['milliseconds']:10.2f}{ratio['median']:10.2f}{ratio['least']:8.2f}{ratio['most']:8.2f}"
        )
    first = report["training"][KERNEL]
    lines += [
        "",
        f"Training, {report['seconds']:g} s each in turns; mean PSNR of {first['views']} of {first['held out']} views",
        f"{'':12}{'PSNR':>10}{'dB less':>10}{'steps':>8}{'rays/s':>10}{'kernel x':>10}{'s':>8}{'CPU s':>8}",
    ]
    for name, row in report["training"].items():
        less, times = row["dB below the kernel"], row["kernel's rays per second, times"]
        speed = row["rays per second"]
        lines.append(
            f"{name:12}{row['psnr']:10.2f}{less:10.2f}{row['steps']:8}{speed:10.0f}{times:10.2f}"
            f"{row['seconds']:8.1f}{row['processor seconds']:8.1f}"
        )
    return "\n".join([*lines, *report["notes"]])


def main(options: argparse.Namespace) -> None:
    """The whole comparison."""
    device = choose_device(options.device)
    say(f"reading {options.dataset}")
    images = posed_images.load(options.dataset)
    if not len(images.splits["test"]):
        sys.exit(f"{options.dataset} holds out no views to measure by.")
    world_to_box, unbounded, _ = normalise.world_to_box(images, NerfSettings(dataset=options.dataset).scene)
    hull = None if unbounded else torch.from_numpy(normalise.visual_hull(images, world_to_box))
    scene = nerf.describe("fast", images, world_to_box, unbounded, device)
    field = radiance.build(scene, hull)
    assert isinstance(field, FastNerf)
    grid = field.field.grid.grid
    torch.manual_seed(0)
    say("timing the encoders")
    encoder = time_encoders(grid, device, options.encoder_points, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        training = compare_training(scene, (images, world_to_box, hull), options.seconds, device, Path(folder))
    report = {
        "machine": {
            "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or str(device),
            "torch": torch.__version__,
            "threads": f"{torch.get_num_threads()} torch, {numba.get_num_threads()} numba",
        },
        "levels": {"resolutions": grid.resolutions.tolist(), "log2 rows": scene.shape["log2_rows"]},
        "rounds": options.rounds,
        "seconds": options.seconds,
        "encoder": encoder,
        "training": training,
        "notes": [*([WITHOUT_PEER] if WITHOUT_PEER else []), *overruns(training, options.seconds)],
    }
    print(json.dumps(report, indent=1) if options.json else table(report))


def positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """A number above nought, for argparse."""

    def read(text: str) -> Any:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return read


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compares hash-grid encoders, alone and in training.")
    parser.add_argument("dataset", metavar="DATASET", help="folder of posed pictures with held-out views")
    parser.add_argument("--seconds", type=positive(float), default=60.0, help="training time for each encoder (60)")
    parser.add_argument("--encoder-points", type=positive(int), default=PER, help="points of an encoder call (65536)")
    parser.add_argument("--rounds", type=positive(int), default=9, help="encoder calls timed for each (9)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    try:
        main(parser.parse_args())
    except Gen3DError as error:
        sys.exit(str(error))
