# SPDX-License-Identifier: GPL-3.0-or-later
"""A trained radiance field: what every preset can do, what is known of its scene, and its file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as as_bytes
from torch import Tensor

from ..errors import Gen3DError
from ..rendering.volume import Composited
from .dream_field import DreamField, DreamShape
from .nerf_fast import FastNerf, Shape
from .nerf_paper import PaperNerf

FILE = "field.safetensors"
WORDS = "words"  # the preset of fields that were made from them

Known = FastNerf | PaperNerf | DreamField


class RadianceField(Protocol):
    """Points are in box coordinates [N, 3], directions unit vectors [N, 3], colours sRGB in [0, 1].

    softness: the standard deviation in box units by which the density is blurred before a surface is looked for.
    """

    @property
    def softness(self) -> float: ...

    def density(self, points: Tensor) -> Tensor:
        """[N], per unit of the box."""

    def colour(self, points: Tensor, directions: Tensor) -> Tensor:
        """[N, 3]."""

    def region(self) -> Tensor:
        """bool [G, G, G]: cells of [-1, 1]^3, in the order x, y, z, outside of which the density means nothing."""

    def render(self, origins: Tensor, directions: Tensor) -> Composited:
        """What rays see."""


@dataclass(frozen=True)
class Scene:
    """What a field's file says beside its weights; JSON-ready.

    shape: the field's own. box_to_world: similarity [4, 4]. lens: fl_x, fl_y, cx, cy of the first training picture,
    whose size is width x height, without its distortion. up: unit vector, box coordinates. alpha: whether the pictures
    had a transparent background. eyes: [N, 3], the training cameras in box coordinates.
    """

    preset: str
    shape: dict[str, Any]
    box_to_world: list[list[float]]
    width: int
    height: int
    lens: tuple[float, float, float, float]
    up: tuple[float, float, float]
    alpha: bool
    eyes: list[tuple[float, float, float]]

    @property
    def world_to_box(self) -> NDArray[np.float64]:
        """[4, 4]."""
        return np.asarray(np.linalg.inv(np.array(self.box_to_world)), np.float64)


def build(scene: Scene, allowed: Tensor | None = None) -> FastNerf | PaperNerf:
    """An untrained field. allowed: bool [G, G, G], cells that may hold something; None: all."""
    shape = Shape(**scene.shape)
    return FastNerf(shape, allowed) if scene.preset == "fast" else PaperNerf(shape, allowed)


def save(field: Known, scene: Scene, folder: Path, name: str = FILE) -> None:
    """Writes the field's file into ``folder``."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in field.state_dict().items()}
    content = as_bytes(tensors, {"scene": json.dumps(asdict(scene))})
    (folder / name).write_bytes(content)  # save_file would let nobody else read it, whatever the user's umask


def load(folder: Path, device: torch.device) -> tuple[Known, Scene]:
    """The field of a result folder, its first where there are several, or of a file in one.

    Raises Gen3DError when there is none, or it is damaged.
    """
    path = folder if folder.is_file() else folder / FILE
    if not path.is_file():
        raise Gen3DError(
            f"{folder} holds no trained field ({FILE}).",
            "Give the result folder of a finished training.",
            field="result",
        )
    try:
        with safe_open(path, "pt") as file:
            scene = Scene(**json.loads(file.metadata()["scene"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        field: Known = DreamField(DreamShape(**scene.shape)) if scene.preset == WORDS else build(scene)
        field.load_state_dict(tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Gen3DError(
            f"{path} cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__:.200}.",
            "Train again.",
            field="result",
        ) from error
    return field.to(device).eval(), scene
