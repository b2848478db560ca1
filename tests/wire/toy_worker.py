# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker whose jobs take ``seconds``, offer pictures and write a file of ``steps`` bytes; no torch.

Dataset "fail" fails, "nan" reports a loss that is not a number.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from backend import worker
from backend.errors import Gen3DError


def toy(settings: Any, out: Path, resume: Any) -> Generator[Any, None, dict[str, Any]]:
    begun = time.monotonic()
    if settings.dataset == "fail":
        raise Gen3DError("The dataset is a toy.", "Take a real one.", field="params.dataset")
    step = 0
    while True:
        share = (time.monotonic() - begun) / settings.seconds if settings.seconds else 1.0
        yield SimpleNamespace(
            phase="train", step=step, total=0, fraction=min(share, 1.0), seconds_left=None, loss=1.0, snapshot=None,
            so_far=None, preview=lambda: np.full((8, 8, 3), 200, np.uint8),
            shape=lambda: np.full((2, 6), 0.5, np.float32),
        )  # fmt: skip
        if share >= 1.0:
            break
        step += 1
        time.sleep(0.02)
    (out / "mesh.bin").write_bytes(bytes(range(256)) * (settings.steps // 256))
    return {"files": {"mesh": "mesh.bin"}, "worst": float("nan") if settings.dataset == "nan" else 0.0}


if __name__ == "__main__":
    devices = [{"id": "cpu", "type": "cpu", "name": "toy", "memory": None}]
    sys.exit(worker.main(table=lambda: {"nerf": toy, "remesh": toy, "render": toy}, devices=lambda: devices))
