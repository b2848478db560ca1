# SPDX-License-Identifier: GPL-3.0-or-later
"""How fields made from words descend: Adam, which leaves rows of a hash table alone that no sample touched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..fields.lazy_adam import LazyAdam
from ..fields.solid_field import ResidualMlp, SolidGrid
from . import optimiser_state


@dataclass(frozen=True)
class Learning:
    """The learning rate rises, from a share ``first`` of it on, for ``warm_up`` iterations and falls, over the second
    half of all, to ``end`` of it.

    Unless told otherwise, but for ``first``, as in Jain et al., "Dream Fields", 2022 (App. C).
    """

    rate: float = 1e-4
    warm_up: int = 1500
    end: float = 1.0
    epsilon: float = 1e-5
    first: float = 0.0

    def at(self, step: int, iterations: int) -> float:
        """The rate of a step."""
        late = max(0.0, 2 * step / iterations - 1)
        risen = self.first + (1 - self.first) * min((step + 1) / self.warm_up, 1.0)
        return self.rate * risen * float(self.end**late)


class Networked(Protocol):
    """What has a network."""

    @property
    def network(self) -> SolidGrid | ResidualMlp: ...


class Descent:
    """The optimisers of the network of a field, and of what is learned ``beside`` it."""

    def __init__(self, field: Networked, learning: Learning, beside: Iterable[nn.Parameter] = ()) -> None:
        self.learning, network = learning, field.network
        tables = [network.grid.table] if isinstance(network, SolidGrid) else []
        rest = [weight for weight in network.parameters() if not any(weight is table for table in tables)]
        betas = (0.9, 0.99) if tables else (0.9, 0.999)
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "network": torch.optim.Adam([*rest, *beside], learning.rate, betas, learning.epsilon)
        }
        if tables:
            self.optimisers["tables"] = LazyAdam(tables, learning.rate, betas)

    def step(self, loss: Tensor, step: int, iterations: int) -> None:
        """One step down the gradient of ``loss``."""
        self.optimisers["network"].zero_grad()  # tables zero their own
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in self.optimisers.values():
            optimiser.param_groups[0]["lr"] = self.learning.at(step, iterations)
            optimiser.step()

    def state(self) -> dict[str, Tensor]:
        return optimiser_state.pack(self.optimisers)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Raises KeyError or RuntimeError where they are of another training."""
        optimiser_state.unpack(self.optimisers, tensors)
