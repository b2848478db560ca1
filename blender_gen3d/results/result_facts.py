# SPDX-License-Identifier: GPL-3.0-or-later
"""What result.json says. No bpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bridge import errors


def read_facts(folder: Path) -> dict[str, Any]:
    """The decoded result.json of a result folder."""
    path = folder / "result.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise errors.Gen3DError(
            f"{folder} holds no finished result.", "Choose the folder that holds result.json.", field="folder"
        ) from None
    except (OSError, ValueError, RecursionError) as fault:
        raise errors.Gen3DError(f"{path} cannot be read: {fault}.", "Train again.", field="folder") from fault
    if not isinstance(facts, dict) or facts.get("format") != 1:
        raise errors.Gen3DError(f"{path} is of a format this version does not know.", "Update Gen3D.", field="folder")
    return facts


def placement(facts: dict[str, Any]) -> NDArray[np.float64]:
    """The similarity [4, 4] from training-box to world coordinates that the result stores."""
    try:
        matrix = np.array(facts["box_to_world"], np.float64)
        lengths = np.linalg.norm(matrix[:3, :3], axis=0)
        turned = matrix[:3, :3] / lengths.mean()
        sound = (
            matrix.shape == (4, 4)
            and np.isfinite(matrix).all()
            and np.allclose(turned.T @ turned, np.eye(3), atol=1e-4)
            and np.linalg.det(turned) > 0.0
            and np.allclose(matrix[3], (0.0, 0.0, 0.0, 1.0))
        )
    except (KeyError, ValueError, TypeError, IndexError):
        sound = False
    if not sound:
        raise errors.Gen3DError(
            "The result does not say where its object stands (box_to_world is not a similarity).", "Make it again."
        )
    return matrix
