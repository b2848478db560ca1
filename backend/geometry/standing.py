# SPDX-License-Identifier: GPL-3.0-or-later
"""How a thing that was made of words is put into the world."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FLATTEST = 1e-6


def standing(vertices: NDArray[np.floating], metres: float) -> NDArray[np.float64]:
    """The similarity [4, 4] that sets vertices [V, 3] on the ground at the origin, the largest side ``metres`` long."""
    low, high = vertices.min(0).astype(np.float64), vertices.max(0).astype(np.float64)
    scale = metres / max(float((high - low).max()), FLATTEST)
    matrix = np.diag([scale, scale, scale, 1.0])
    matrix[:3, 3] = -scale * np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    return matrix
