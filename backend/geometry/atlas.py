# SPDX-License-Identifier: GPL-3.0-or-later
"""UV atlas by xatlas, run as a program of its own.

xatlas may take minutes and cannot be interrupted, nor does it let another thread of its process run meanwhile. So
``texture.py`` runs this file as a child process and ends that when the work is abandoned. It stands alone: an ``.npz``
with vertices, faces and size comes in on standard input, one with corner, faces and uvs goes out on standard output.
"""

from __future__ import annotations

import io
import sys

import numpy as np
import xatlas
from numpy.typing import NDArray

PADDING = 4  # texels between charts, before the square is scaled to the size (usually by 0.7 to 0.85)


def unwrap(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], size: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Old vertex of each new vertex [W], faces in new vertices [F, 3], and UVs [W, 2] in [0, 1] without overlap."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    unit = np.sqrt(np.linalg.norm(np.cross(b - a, c - a), axis=1).mean())  # xatlas gives no place to areas below 1e-7
    atlas = xatlas.Atlas()
    atlas.add_mesh((vertices / unit).astype(np.float32), faces.astype(np.uint32))
    packing = xatlas.PackOptions()
    packing.resolution = size
    packing.padding = PADDING
    packing.bilinear = True
    atlas.generate(xatlas.ChartOptions(), packing)
    corner, corners, uvs = atlas[0]
    return corner.astype(np.int32), corners.astype(np.int32), uvs.astype(np.float32)


def main() -> None:
    """Read, unwrap, write."""
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as work:
        corner, faces, uvs = unwrap(work["vertices"], work["faces"], int(work["size"]))
    answer = io.BytesIO()
    np.savez(answer, corner=corner, faces=faces, uvs=uvs)
    sys.stdout.buffer.write(answer.getvalue())


if __name__ == "__main__":
    main()
