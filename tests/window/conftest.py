# SPDX-License-Identifier: GPL-3.0-or-later
"""A screen beside every Blender that has windows here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .story import BLENDERS, VERSIONS, places_of
from .window import Screen, screen_of


@pytest.fixture(params=BLENDERS, ids=VERSIONS)
def screen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Screen]:
    """Whose Blender sees this checkout's own backend."""
    with screen_of(request.param, tmp_path, *places_of(sys.executable)) as made:
        yield made
