# SPDX-License-Identifier: GPL-3.0-or-later
"""The radiance field of Mildenhall et al., "NeRF", 2020 (§3, §5.1; App. A and its fig. 7)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .positional_encoding import positional_encoding

POSITION_BANDS = 10
DIRECTION_BANDS = 4
JOIN = 5
"""The layer, counted from 0, that is given the encoded position beside the activations of the one before."""


class NerfMlp(nn.Module):
    """Density and colour of points in box coordinates, [-1, 1]^3.

    Eight layers of 256 with ReLU read the encoded position, which joins once more as in the paper's code; the density
    hangs on the last of them, the colour on a linear feature of it, the encoded direction and one layer of half the
    width. Weights begin as Glorot and Bengio (2010) have them, uniform, and biases at zero, Keras' custom. A net of
    other ``width`` or ``depth`` is built alike; one of at most five layers has nothing to join.
    """

    def __init__(self, width: int = 256, depth: int = 8) -> None:
        super().__init__()
        position, direction = 3 + 6 * POSITION_BANDS, 3 + 6 * DIRECTION_BANDS
        inputs = [position if i == 0 else width + position if i == JOIN else width for i in range(depth)]
        self.trunk = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.density = nn.Linear(width, 1)
        self.feature = nn.Linear(width, width)
        self.hidden = nn.Linear(width + direction, width // 2)
        self.colour = nn.Linear(width // 2, 3)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self, points: Tensor, directions: Tensor, noise: float = 0.0, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Points and unit directions [..., 3] -> density [...] >= 0 per unit of the box, colour [..., 3] in [0, 1].

        ``noise``: standard deviation of what is added to the density before its ReLU, a regulariser for training on
        real scenes (App. A); drawn from ``generator``, which lives on the device of the points.
        """
        encoded = positional_encoding(points, POSITION_BANDS)
        x = encoded
        for i, layer in enumerate(self.trunk):
            x = torch.relu(layer(torch.cat([encoded, x], -1) if i == JOIN else x))
        raw = self.density(x)[..., 0]
        if noise > 0:
            raw = raw + noise * torch.randn(raw.shape, generator=generator, device=raw.device, dtype=raw.dtype)
        seen = torch.cat([self.feature(x), positional_encoding(directions, DIRECTION_BANDS)], -1)
        return torch.relu(raw), torch.sigmoid(self.colour(torch.relu(self.hidden(seen))))
