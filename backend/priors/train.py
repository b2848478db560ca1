# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains an embedded prior: ``python -m backend.priors.train points --out FOLDER`` (or sdf, clip, unet, pointnet)."""

from __future__ import annotations

import importlib
import sys

PRIORS = ("points", "sdf", "clip", "unet", "pointnet")


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in PRIORS:
        print(f"Say which prior to train: {', '.join(PRIORS)}. Each has --help.", file=sys.stderr)
        return 2
    importlib.import_module(f".train_{argv[0]}", __package__).main(argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
