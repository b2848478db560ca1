# SPDX-License-Identifier: GPL-3.0-or-later
"""Fields that begin as a shape there is: a mesh, the result of any system, or a field of the same kind."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from .. import storage
from ..errors import Gen3DError
from ..geometry import reading
from ..geometry.mesh import Mesh, face_crosses, sample
from . import radiance
from .dream_descent import Descent, Learning
from .dream_field import UNIT, DreamField

FILLED = 0.75  # of the cube's side, by the largest side of the shape
STEPS, POINTS = 200, 2**13
NEAR = 0.05  # how far around the surface most points are, in box units
OPTICAL = 0.3  # of a step within the shape
SURFACE = 2**16  # points that stand for it
CELLS = 64  # along the longest side of a shape, of the grid that tells what is inside
APART = 1.0  # cells from the surface's points, between which no way leads through it
CLEAR = APART + 0.5 * np.sqrt(3)  # from where a point's own cell is so far away, too


@dataclass(frozen=True)
class Shape:
    """Points spread over a closed surface, box coordinates [N, 3], with unit normals and sRGB colours in 0..1."""

    points: NDArray[np.float64]
    normals: NDArray[np.float64]
    colours: NDArray[np.float64] | None
    _tree: cKDTree = field(init=False, repr=False, compare=False)
    _regions: tuple[NDArray[np.float64], float, NDArray[np.bool_]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tree", cKDTree(self.points))
        object.__setattr__(self, "_regions", self._divided())

    @classmethod
    def of(cls, mesh: Mesh, rng: np.random.Generator) -> Shape:
        """Of a mesh in box coordinates."""
        points, face, weights = sample(mesh, SURFACE, rng)
        crosses = face_crosses(mesh)[face]
        normals = crosses / np.maximum(np.linalg.norm(crosses, axis=1, keepdims=True), 1e-30)
        colours = None
        if mesh.colors is not None:
            colours = np.einsum("nk,nkc->nc", weights, mesh.colors[mesh.faces[face]] / 255.0)
        return cls(points, normals, colours)

    def near(self, points: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        """Which of ``points`` [M, 3] are inside, and which of the surface's points is nearest to each."""
        away, nearest = self._nearest(points)
        inside = self._facing(points, nearest)
        low, step, solid = self._regions
        far = away > CLEAR * step
        cells = np.floor((points[far] - low) / step).astype(np.intp)
        known = ((cells >= 0) & (cells < solid.shape)).all(1)
        inside[far] = known & solid[tuple(np.where(known[:, None], cells, 0).T)]
        return inside, nearest

    def _nearest(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        found: tuple[NDArray[np.float64], NDArray[np.intp]] = self._tree.query(points)
        return found

    def _facing(self, points: NDArray[np.float64], nearest: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which points the nearest one of the surface faces away from. Close to it that is what is inside; far from a
        sharp edge it may as well be what is before the edge, when the nearest point is of the face behind."""
        faces_away: NDArray[np.bool_] = ((points - self.points[nearest]) * self.normals[nearest]).sum(1) < 0
        return faces_away

    def _divided(self) -> tuple[NDArray[np.float64], float, NDArray[np.bool_]]:
        """A grid around the shape: its corner [3], its step, and which of its cells are inside. The surface parts the
        cells that it does not come near to into regions: each is on one side of it, on that which most of it is on."""
        low, high = self.points.min(0), self.points.max(0)
        step = max(float((high - low).max()), 1e-9) / CELLS
        low, count = low - 2 * step, np.ceil((high - low) / step).astype(int) + 4
        middles = low + step * (np.stack(np.meshgrid(*map(np.arange, count), indexing="ij"), -1) + 0.5)
        away, nearest = self._nearest(middles.reshape(-1, 3))
        region, most = ndimage.label((away > APART * step).reshape(count))
        facing = self._facing(middles.reshape(-1, 3), nearest)
        mostly = np.bincount(region.ravel(), facing, most + 1) > 0.5 * np.bincount(region.ravel(), minlength=most + 1)
        mostly[[0, region[0, 0, 0]]] = False
        solid: NDArray[np.bool_] = mostly[region]
        return low, step, solid


def begin_as(field: DreamField, start: Mesh | Path, seed: int) -> None:
    """Makes an untrained field a mesh, or what is at a path: a mesh file, or a result folder.

    Raises Gen3DError where there is no mesh.
    """
    if isinstance(start, Path) and (start / radiance.FILE).is_file():
        known, _ = radiance.load(start, field.origin.device)
        if isinstance(known, DreamField) and known.shape == field.shape:
            field.load_state_dict(known.state_dict())
            _look(field, seed)
            return
    mesh = mesh_at(start) if isinstance(start, Path) else start
    imitate(field, Shape.of(fitted(mesh)[0], np.random.default_rng(seed)), seed)


def fitted(mesh: Mesh) -> tuple[Mesh, NDArray[np.float64]]:
    """The mesh in the middle of the cube, FILLED of it large; and the matrix [4, 4] that takes it back."""
    low, high = mesh.vertices.min(0).astype(np.float64), mesh.vertices.max(0).astype(np.float64)
    middle, scale = (low + high) / 2, 2 * UNIT * FILLED / max(float((high - low).max()), 1e-9)
    back = np.diag([1 / scale] * 3 + [1.0])
    back[:3, 3] = middle
    return replace(mesh, vertices=((mesh.vertices - middle) * scale).astype(np.float32)), back


def imitate(field: DreamField, shape: Shape, seed: int) -> None:
    """Fits density and, where the shape has some, colours."""
    device, step = field.origin.device, field.shape.path.step
    rng = np.random.default_rng(seed)
    descent = Descent(field, Learning(1e-2, 10, end=0.1, epsilon=1e-15))
    for index in range(STEPS):
        spread = rng.uniform(-UNIT, UNIT, (POINTS // 4, 3))
        close = shape.points[rng.integers(len(shape.points), size=POINTS - len(spread))]
        points = np.concatenate([spread, close + rng.normal(0, NEAR, close.shape)])
        inside, nearest = shape.near(points)
        x = torch.from_numpy(points).float().to(device)
        density, colour = field.at(x)
        wanted = -np.expm1(-OPTICAL) * torch.from_numpy(inside).float().to(device)
        loss = torch.nn.functional.mse_loss(-torch.expm1(-density * step), wanted)
        if shape.colours is not None:
            known = torch.from_numpy(shape.colours[nearest[len(spread) :]]).float().to(device)
            loss = loss + 0.1 * torch.nn.functional.mse_loss(colour[len(spread) :], known)
        descent.step(loss, index, STEPS)
    _look(field, seed)


@torch.no_grad()
def _look(field: DreamField, seed: int) -> None:
    """Has the occupancy grid know all of the field."""
    generator = torch.Generator(field.origin.device).manual_seed(seed)
    for _ in range(8):  # each forgets a part of what it took the cells for
        field.occupancy.update(field.density, 0, 1.0, generator)


def mesh_at(path: Path) -> Mesh:
    """Z up; of a result folder, its first object."""
    file = path
    if path.is_dir():
        files = (storage.read_result(path) or {}).get("files", {})
        file = path / str(files.get("ply") or files.get("mesh") or "")
    mesh = reading.read(file)[0] if file.is_file() else None
    if mesh is None or not len(mesh.faces):
        cause = f"{path} holds no mesh to begin with."
        raise Gen3DError(cause, "Give a PLY or GLB file, or the folder of a result.", field="start")
    return mesh
