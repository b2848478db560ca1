# SPDX-License-Identifier: GPL-3.0-or-later
"""One small training whose result the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import pytest
import torch

from backend.pipelines import nerf
from tests.data.scene import write_scene

from .runs import Run, run, settings


@pytest.fixture(scope="session", autouse=True)
def small_steps() -> Iterator[None]:
    """Small steps on one thread, for a small scene, each of which is told."""
    threads = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nerf, "TARGET_CPU", 2048)
        patch.setattr(nerf, "LOG2_ROWS_CPU", 14)
        patch.setattr(nerf, "YIELD_SECONDS", 0.0)
        yield
    torch.set_num_threads(threads[0])
    numba.set_num_threads(threads[1])


@pytest.fixture(scope="session")
def trained(small_steps: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished training with a film, and snapshots of every phase."""
    folder = tmp_path_factory.mktemp("trained")
    written = write_scene(folder / "scene", views=24, size=48, test_views=3)
    return run(settings(written, steps=300, turntable=2), written, folder / "out")
