# SPDX-License-Identifier: GPL-3.0-or-later
"""Adam for large tables of which each step touches few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numba as nb
import numpy as np
import torch
from torch import Tensor

EPSILON = 1e-15


class LazyAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015) that leaves entries alone, moments included, while their gradient is zero.

    Instant-NGP trains its hash tables so (Müller et al. 2022, §4): entries that no sample touched keep their value and
    cost nothing. ``step`` also zeroes the gradients it has used, in the same pass over memory.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-2, betas: tuple[float, float] = (0.9, 0.99)
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step for every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
                state["step"] += 1
                t, (beta1, beta2) = float(state["step"]), group["betas"]
                update = _update_kernel if parameter.device.type == "cpu" else _update_torch
                update(
                    parameter.detach(),
                    parameter.grad,
                    state["exp_avg"],
                    state["exp_avg_sq"],
                    group["lr"] / (1 - beta1**t),
                    1 / (1 - beta2**t),
                    beta1,
                    beta2,
                )


def _update_torch(
    values: Tensor,
    grads: Tensor,
    means: Tensor,
    squares: Tensor,
    scale: float,
    correction: float,
    beta1: float,
    beta2: float,
) -> None:
    """The update in plain torch, on any device. All four tensors are changed in place."""
    touched = grads != 0
    means.copy_(torch.where(touched, means.lerp(grads, 1 - beta1), means))
    squares.copy_(torch.where(touched, squares.lerp(grads * grads, 1 - beta2), squares))
    values.sub_(torch.where(touched, scale * means / (torch.sqrt(squares * correction) + EPSILON), 0.0))
    grads.zero_()


def _update_kernel(
    values: Tensor,
    grads: Tensor,
    means: Tensor,
    squares: Tensor,
    scale: float,
    correction: float,
    beta1: float,
    beta2: float,
) -> None:
    """The same on the CPU."""
    flat = (x.view(-1).numpy() for x in (values, grads, means, squares))
    _sweep(*flat, *(np.float32(x) for x in (scale, correction, beta1, beta2)))


@nb.njit(parallel=True, fastmath=True, cache=True)
def _sweep(values, grads, means, squares, scale, correction, beta1, beta2):  # type: ignore[no-untyped-def]
    one = np.float32(1.0)
    for i in nb.prange(values.shape[0] // 4 + 1):
        for k in range(4 * i, min(4 * i + 4, values.shape[0])):
            g = grads[k]
            if g != 0:
                means[k] = beta1 * means[k] + (one - beta1) * g
                squares[k] = beta2 * squares[k] + (one - beta2) * g * g
                values[k] -= scale * means[k] / (np.sqrt(squares[k] * correction) + np.float32(EPSILON))
                grads[k] = 0
