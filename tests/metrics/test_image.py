# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.metrics import image
from backend.metrics.image import ViewMetrics


def pair(height: int = 23, width: int = 31) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    truth = rng.random((height, width, 3))
    return np.clip(truth + 0.1 * rng.standard_normal(truth.shape), 0, 1), truth


def brute_force_ssim(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Wang et al. 2004, eq. 13 to 16: every full 11 x 11 window, Gaussian of σ 1.5, pixel by pixel."""
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    values = []
    for channel in range(3):
        for y in range(5, a.shape[0] - 5):
            for x in range(5, a.shape[1] - 5):
                p, q = (v[y - 5 : y + 6, x - 5 : x + 6, channel] for v in (a, b))
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                cov = (window * (p - mp) * (q - mq)).sum()
                c1, c2 = 0.01**2, 0.03**2
                values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(values))


def test_psnr_by_its_definition() -> None:
    a, b = pair()
    assert image.psnr(a, b) == pytest.approx(
        10 * math.log10(1 / np.mean([(x - y) ** 2 for x, y in zip(a.flat, b.flat, strict=True)]))
    )
    assert image.psnr(np.full((4, 4, 3), 0.5), np.full((4, 4, 3), 0.6)) == pytest.approx(20.0)
    assert image.psnr(a, a) == math.inf


def test_ssim_by_brute_force() -> None:
    a, b = pair()
    assert image.ssim(a, b) == pytest.approx(brute_force_ssim(a, b), abs=1e-9)
    assert image.ssim(a, a) == pytest.approx(1.0)
    assert image.ssim(a.astype(np.float32), b.astype(np.float32)) == pytest.approx(brute_force_ssim(a, b), abs=1e-5)


def test_summary_holds_means_views_and_the_missing_lpips() -> None:
    views = [ViewMetrics("a", 30.0, 0.9), ViewMetrics("b", math.inf, 1.0)]
    content = json.loads(json.dumps(image.summary(views, "It is not here."), allow_nan=False))
    assert content["mean"] == {"psnr": 65.0, "ssim": 0.95, "lpips": None}
    assert content["views"][0] == {"name": "a", "psnr": 30.0, "ssim": 0.9, "lpips": None}
    assert content["views"][1]["psnr"] == image.PSNR_LIMIT
    assert content["lpips_missing"] == "It is not here."
    full = image.summary([ViewMetrics("a", 30.0, 0.9, 0.2), ViewMetrics("b", 20.0, 0.8, 0.1)])
    assert full["mean"]["lpips"] == pytest.approx(0.15)
    assert "lpips_missing" not in full
    assert image.summary([])["mean"] == {"psnr": None, "ssim": None, "lpips": None}


def test_lpips_is_computed_or_its_absence_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    function, reason = image.load_lpips()
    assert (function is None) == bool(reason)
    if function is not None:
        a, b = pair(64, 64)
        assert function(a, a) == pytest.approx(0, abs=1e-6)
        assert function(a, b) > 0.001
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # an empty cache: nothing may be fetched into it
    function, reason = image.load_lpips()
    assert function is None
    assert reason
    present = all(importlib.util.find_spec(name) for name in ("lpips", "torchvision"))
    assert ("AlexNet" in reason) == present
    assert not list(tmp_path.iterdir())
