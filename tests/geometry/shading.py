# SPDX-License-Identifier: GPL-3.0-or-later
"""How a renderer reads a normal map: MikkTSpace corner by corner, as its author describes it, and bilinear texels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backend.geometry.mesh import Mesh


def bilinear(image: NDArray[np.uint8], uvs: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a renderer shows at ``uvs`` (origin bottom-left), in [0, 1]."""
    height, width = image.shape[:2]
    x, y = uvs[:, 0] * width - 0.5, (1 - uvs[:, 1]) * height - 0.5
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    total = np.zeros((len(uvs), 3))
    for i, wy in ((0, 1 - (y - row)), (1, y - row)):
        for j, wx in ((0, 1 - (x - column)), (1, x - column)):
            texel = image[np.clip(row + i, 0, height - 1), np.clip(column + j, 0, width - 1)]
            total += texel * (wx * wy)[:, None]
    return np.asarray(total / 255)


def mikktspace(mesh: Mesh, normals: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tangents [F, 3, 3] and signs of the bitangent [F]."""
    assert mesh.uvs is not None
    groups: dict[tuple[float, ...], NDArray[np.float64]] = {}
    keys: list[list[tuple[float, ...]]] = []
    signs = []
    for face in mesh.faces:
        places, uvs = mesh.vertices[face].astype(float), mesh.uvs[face].astype(float)
        to_uv = np.stack([uvs[1] - uvs[0], uvs[2] - uvs[0]])
        determinant = float(np.linalg.det(to_uv))
        sign = 1.0 if determinant >= 0 else -1.0
        along = np.zeros(3)
        if determinant:
            along = (np.linalg.inv(to_uv) @ np.stack([places[1] - places[0], places[2] - places[0]]))[0]
        keys.append([])
        signs.append(sign)
        for k in range(3):
            normal = normals[face[k]].astype(float)

            def flat(vector: NDArray[np.float64], normal: NDArray[np.float64] = normal) -> NDArray[np.float64]:
                vector = vector - (vector @ normal) * normal
                length = float(np.linalg.norm(vector))
                return vector / length if length else vector

            cosine = flat(places[(k + 1) % 3] - places[k]) @ flat(places[(k + 2) % 3] - places[k])
            key = (*places[k].tolist(), *uvs[k].tolist(), sign)
            groups[key] = groups.get(key, np.zeros(3)) + np.arccos(np.clip(cosine, -1, 1)) * flat(along)
            keys[-1].append(key)
    made = np.array([[groups[key] for key in row] for row in keys])
    return made / np.maximum(np.linalg.norm(made, axis=2, keepdims=True), 1e-30), np.array(signs)


def shaded(
    mesh: Mesh, normals: NDArray[np.float32], face: NDArray[np.integer], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Unit normals [N, 3] that light falls on, of a mesh with its ``normal_map``, in points of its faces."""
    assert mesh.uvs is not None and mesh.normal_map is not None
    along, signs = mikktspace(mesh, normals)
    tangent = np.einsum("nk,nkd->nd", weights, along[face])
    normal = np.einsum("nk,nkd->nd", weights, normals[mesh.faces[face]].astype(float))
    bitangent = signs[face][:, None] * np.cross(normal, tangent)
    told = 2 * bilinear(mesh.normal_map, np.einsum("nk,nkd->nd", weights, mesh.uvs[mesh.faces[face]].astype(float))) - 1
    found = told[:, :1] * tangent + told[:, 1:2] * bitangent + told[:, 2:] * normal
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def degrees(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Angles [N] between vectors [N, 3] and [N, 3]."""
    return np.asarray(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), np.einsum("ni,ni->n", a, b))))
