# SPDX-License-Identifier: GPL-3.0-or-later
"""One small training whose result the tests of this folder share, and small priors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numba
import pytest
import torch

from backend.pipelines import nerf
from backend.priors import embedded
from tests.data.scene import write_scene

from . import tiny_point_e
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


@pytest.fixture(scope="session")
def prior_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior like the embedded one."""
    return tiny_point_e.write_folder(tmp_path_factory.mktemp("prior") / "point")


@pytest.fixture
def small_priors(prior_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is installed, and the embedded prior is a small one."""
    monkeypatch.setenv("GEN3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(embedded, "POINT", prior_folder)
    monkeypatch.setattr(embedded, "SDF", prior_folder.parent / "none")


@pytest.fixture
def installed(small_priors: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All published models, small."""
    tiny_point_e.publish(tmp_path / "weights", monkeypatch)
