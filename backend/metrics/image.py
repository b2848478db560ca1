# SPDX-License-Identifier: GPL-3.0-or-later
"""How alike two pictures are: PSNR, SSIM (Wang et al. 2004) and LPIPS (Zhang et al. 2018).

Pictures are float [H, W, 3], sRGB in [0, 1].
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

Picture = NDArray[np.floating]

PSNR_LIMIT = 100.0
"""Decibels written for equal pictures, whose PSNR is infinite and cannot stand in JSON."""


@dataclass(frozen=True)
class ViewMetrics:
    """The figures of one held-out view; ``lpips`` is None where it could not be computed."""

    name: str
    psnr: float
    ssim: float
    lpips: float | None = None


def psnr(picture: Picture, truth: Picture) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 1; infinite for equal pictures."""
    error = float(np.mean((np.asarray(picture, dtype=np.float64) - np.asarray(truth, dtype=np.float64)) ** 2))
    return math.inf if error == 0 else -10.0 * math.log10(error)


def ssim(picture: Picture, truth: Picture) -> float:
    """Structural similarity, mean over pixels and channels: Gaussian window 11 x 11 of σ = 1.5, K = (0.01, 0.03).

    Pixels nearer than 5 to the border are left out. Pictures must be at least 11 pixels high and wide.
    """
    return float(
        structural_similarity(  # type: ignore[no-untyped-call]
            np.asarray(picture, dtype=np.float64),
            np.asarray(truth, dtype=np.float64),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=-1,
        )
    )


def load_lpips(device: str = "cpu") -> tuple[Callable[[Picture, Picture], float] | None, str]:
    """The LPIPS function (AlexNet, version 0.1) if all it needs is on this machine, else None and why not.

    Nothing is downloaded: the package ``lpips`` holds its own linear weights, and AlexNet's must already lie where
    torchvision keeps them.
    """
    for package in ("lpips", "torchvision"):
        if importlib.util.find_spec(package) is None:
            return None, f"The Python package {package} is not installed."
    import torch

    weights = Path(torch.hub.get_dir()) / "checkpoints" / "alexnet-owt-7be5be79.pth"
    if not weights.is_file():
        return None, f"AlexNet's weights are not on this machine ({weights})."
    network = importlib.import_module("lpips").LPIPS(net="alex", verbose=False).to(device).eval()

    def tensor(picture: Picture) -> torch.Tensor:
        return torch.from_numpy(np.asarray(picture, dtype=np.float32)).permute(2, 0, 1)[None].to(device)

    def distance(picture: Picture, truth: Picture) -> float:
        with torch.no_grad():
            return float(network(tensor(picture), tensor(truth), normalize=True))

    return distance, ""


def summary(views: Sequence[ViewMetrics], without_lpips: str = "") -> dict[str, Any]:
    """What ``metrics.json`` holds: the mean over views of each figure, the figures per view, and why LPIPS is null."""
    rows = [asdict(view) | {"psnr": min(view.psnr, PSNR_LIMIT)} for view in views]
    mean = {}
    for figure in ("psnr", "ssim", "lpips"):
        values = [row[figure] for row in rows]
        mean[figure] = None if not values or None in values else statistics.fmean(values)
    content: dict[str, Any] = {"mean": mean, "views": rows}
    if mean["lpips"] is None:
        content["lpips_missing"] = without_lpips or "There are no held-out views."
    return content
