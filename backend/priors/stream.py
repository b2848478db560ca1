# SPDX-License-Identifier: GPL-3.0-or-later
"""An endless stream of captioned clouds, drawn while training goes on: no fixed set that could be learned by heart."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from . import tokenizer, world

DENSE = 2048  # points kept of a thing, of which each use takes some
USES = 4  # of a thing, before a new one takes its place


@dataclass
class CloudStream:
    """``next`` gives a batch; the same seed gives the same batches."""

    seed: int
    kept: int = 1024
    _rng: np.random.Generator = field(init=False)
    _clouds: Tensor = field(init=False)
    _tokens: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._tokenizer = tokenizer.load()
        self._clouds = torch.empty(self.kept, 6, DENSE)
        self._tokens = torch.empty(self.kept, tokenizer.TOKENS, dtype=torch.long)
        self._renew(np.arange(self.kept))

    def _renew(self, places: np.ndarray) -> None:  # type: ignore[type-arg]
        captions = []
        for place in places:
            thing = world.sample(self._rng)
            self._clouds[place] = torch.from_numpy(world.points_of(thing, DENSE, self._rng).T)
            captions.append(world.caption(thing, self._rng))
        self._tokens[places] = encode(self._tokenizer, captions)

    def next(self, batch: int, points: int) -> tuple[Tensor, Tensor]:
        """float32 [batch, 6, points], coordinates in the unit cube and colours in 0..255, and tokens [batch, T]."""
        self._renew(self._rng.choice(self.kept, -(-batch // USES), replace=False))
        places = torch.from_numpy(self._rng.choice(self.kept, batch, replace=False))
        columns = torch.from_numpy(self._rng.integers(0, DENSE - points + 1, batch))[:, None] + torch.arange(points)
        clouds = self._clouds[places].gather(2, columns[:, None].expand(-1, 6, -1))
        clouds[:, 3:] *= 255
        return clouds, self._tokens[places]


def encode(with_tokenizer: object, captions: list[str]) -> Tensor:
    """Tokens [B, T] of captions, as long as they may be."""
    found = with_tokenizer(  # type: ignore[operator]
        captions, padding="max_length", max_length=tokenizer.TOKENS, truncation=True, return_tensors="pt"
    )
    tokens: Tensor = found.input_ids
    return tokens
