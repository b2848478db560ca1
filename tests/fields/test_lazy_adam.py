# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
from collections.abc import Callable

import numba
import pytest
import torch
from torch import Tensor

from backend.fields import lazy_adam
from backend.fields.lazy_adam import LazyAdam

from .warp_modules import needs_cuda

Update = Callable[..., None]
UPDATES = {"kernel": lazy_adam._update_kernel, "torch": lazy_adam._update_torch}


@pytest.fixture(params=UPDATES)
def update(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test with it runs with the kernel for CPUs and with what other devices use."""
    monkeypatch.setattr(lazy_adam, "_update_kernel", UPDATES[request.param])


def dense(shape: tuple[int, ...], seed: int) -> Tensor:
    """Gradients without zeros, over many magnitudes."""
    generator = torch.Generator().manual_seed(seed)
    sign = torch.randint(0, 2, shape, generator=generator) * 2 - 1
    return sign * 10 ** (8 * torch.rand(shape, generator=generator) - 6)


@pytest.mark.usefixtures("update")
@pytest.mark.parametrize("shape", [(1,), (3,), (1001, 4), (2, 3, 5)])
def test_where_every_gradient_counts_it_is_adam(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(shape))
    theirs = torch.nn.Parameter(ours.detach().clone())
    lazy = LazyAdam([ours], lr=3e-2, betas=(0.9, 0.99))
    adam = torch.optim.Adam([theirs], lr=3e-2, betas=(0.9, 0.99), eps=1e-15)
    for step in range(30):
        ours.grad, theirs.grad = dense(shape, step), dense(shape, step)
        lazy.step()
        adam.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for name in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(lazy.state[ours][name], adam.state[theirs][name], rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("update")
def test_entries_without_gradient_stay_as_they_are_moments_included() -> None:
    torch.manual_seed(1)
    table = torch.nn.Parameter(torch.randn(50, 4))
    optimizer = LazyAdam([table], lr=1e-2)
    table.grad = dense((50, 4), 0)
    optimizer.step()
    state = optimizer.state[table]
    before = [x.clone() for x in (table.detach(), state["exp_avg"], state["exp_avg_sq"])]
    touched = torch.rand(50, 4) < 0.3
    table.grad = torch.where(touched, dense((50, 4), 1), 0.0)
    optimizer.step()
    for now, then in zip((table.detach(), state["exp_avg"], state["exp_avg_sq"]), before, strict=True):
        assert torch.equal(now[~touched], then[~touched])
        assert (now != then)[touched].all()


@pytest.mark.usefixtures("update")
def test_the_first_step_is_as_long_as_the_rate_against_the_gradient() -> None:
    table = torch.nn.Parameter(torch.zeros(4))
    optimizer = LazyAdam([table], lr=0.5)
    table.grad = torch.tensor([1e-6, -3.0, 0.0, 40.0])
    optimizer.step()
    torch.testing.assert_close(table.detach(), torch.tensor([-0.5, 0.5, 0.0, -0.5]))


@pytest.mark.usefixtures("update")
def test_gradients_are_zero_after_the_step_and_parameters_without_one_are_passed_over() -> None:
    one, other = torch.nn.Parameter(torch.ones(7)), torch.nn.Parameter(torch.ones(7))
    optimizer = LazyAdam([one, other], lr=0.1)
    one.grad = torch.ones(7)
    optimizer.step()
    assert torch.equal(one.grad, torch.zeros(7))
    assert torch.equal(other, torch.ones(7)) and not torch.equal(one, torch.ones(7))


def test_both_ways_of_updating_agree_over_many_sparse_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for update in UPDATES.values():
        monkeypatch.setattr(lazy_adam, "_update_kernel", update)
        table = torch.nn.Parameter(torch.linspace(-1, 1, 403))
        optimizer = LazyAdam([table], lr=1e-2)
        for step in range(40):
            generator = torch.Generator().manual_seed(step)
            table.grad = dense((403,), step) * (torch.rand(403, generator=generator) < 0.3)
            optimizer.step()
        ends.append(table.detach())
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


@needs_cuda
def test_a_cuda_device_gives_the_same() -> None:
    ends = []
    for device in ("cpu", "cuda"):
        table = torch.nn.Parameter(torch.linspace(-1, 1, 403).to(device))
        optimizer = LazyAdam([table], lr=1e-2)
        for step in range(20):
            mask = torch.rand(403, generator=torch.Generator().manual_seed(step)) < 0.3
            table.grad = (dense((403,), step) * mask).to(device)
            optimizer.step()
        ends.append(table.detach().cpu())
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


def test_it_goes_on_from_a_saved_state() -> None:
    def train(table: torch.nn.Parameter, optimizer: LazyAdam, steps: range) -> None:
        for step in steps:
            table.grad = dense((20, 4), step)
            optimizer.step()

    straight = torch.nn.Parameter(torch.zeros(20, 4))
    train(straight, LazyAdam([straight]), range(10))
    first = torch.nn.Parameter(torch.zeros(20, 4))
    optimizer = LazyAdam([first])
    train(first, optimizer, range(5))
    second = torch.nn.Parameter(first.detach().clone())
    resumed = LazyAdam([second])
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(second, resumed, range(5, 10))
    assert torch.equal(second, straight)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    if numba.config.NUMBA_NUM_THREADS < 2:  # type: ignore[attr-defined]
        pytest.skip("this machine has one core")
    ends = []
    before = numba.get_num_threads()
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            table = torch.nn.Parameter(torch.zeros(5001))
            optimizer = LazyAdam([table])
            for step in range(3):
                table.grad = dense((5001,), step)
                optimizer.step()
            ends.append(table.detach())
    finally:
        numba.set_num_threads(before)
    assert torch.equal(*ends)
