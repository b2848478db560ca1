# SPDX-License-Identifier: GPL-3.0-or-later
"""From pixels to rays."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ITERATIONS = 10


@dataclass(frozen=True)
class Cameras:
    """N cameras in the training box.

    to_box: float32 [N, 3, 4], camera to box, a rotation and a position; OpenGL cameras (look down -Z, +Y up).
    lens: float32 [N, 4]: fl_x, fl_y, cx, cy in pixels. distortion: float32 [N, 5] (k1, k2, p1, p2, k3 as OpenCV has
    them), or None where no lens distorts.
    """

    to_box: Tensor
    lens: Tensor
    distortion: Tensor | None = None

    def to(self, device: torch.device) -> Cameras:
        distortion = None if self.distortion is None else self.distortion.to(device)
        return Cameras(self.to_box.to(device), self.lens.to(device), distortion)

    def rays(self, index: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Origins and unit directions [R, 3] of the rays of cameras ``index`` [R] through ``pixels`` [R, 2].

        Pixels are (x, y), float, y down; the middle of the first one is (0.5, 0.5).
        """
        lens = self.lens[index]
        plane = (pixels - lens[:, 2:]) / lens[:, :2]
        if self.distortion is not None:
            plane = undistort(plane, self.distortion[index])
        x, y = plane.unbind(-1)
        local = torch.nn.functional.normalize(torch.stack([x, -y, -torch.ones_like(x)], -1), dim=-1)
        pose = self.to_box[index]
        return pose[:, :, 3].contiguous(), torch.einsum("nij,nj->ni", pose[:, :, :3], local)


def undistort(plane: Tensor, distortion: Tensor) -> Tensor:
    """Where on the plane at depth 1 a point seen at ``plane`` [N, 2] (x right, y down) is; distortion [N, 5].

    Newton's method on OpenCV's model with its analytic derivative; converges quadratically within the picture of any
    lens whose model does not fold there. What the model shows nowhere gets a finite place that means nothing.
    """
    k1, k2, p1, p2, k3 = distortion.unbind(-1)
    x, y = plane.unbind(-1)
    limit = 0.5 + plane.norm(dim=-1)  # of one step: where the lens has folded, the next may go anywhere
    for _ in range(ITERATIONS):
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        slope = k1 + r2 * (2 * k2 + 3 * r2 * k3)  # d radial / d r2
        ex = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) - plane[:, 0]
        ey = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y - plane[:, 1]
        cross = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
        xx = radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
        yy = radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x
        determinant = xx * yy - cross * cross
        x = x - ((yy * ex - cross * ey) / determinant).clamp(-limit, limit)
        y = y - ((xx * ey - cross * ex) / determinant).clamp(-limit, limit)
    return torch.stack([x, y], -1)
