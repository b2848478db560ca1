# SPDX-License-Identifier: GPL-3.0-or-later
"""Models that the tests of this folder share, on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from . import tiny


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_clip(tmp_path_factory.mktemp("models") / "clip é")


@pytest.fixture(scope="session")
def drawing_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_text_to_image(tmp_path_factory.mktemp("models") / "draw é")
