# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backend.fields.hash_grid import encode_reference, levels

from .test_hash_grid import COUNTS, GRIDS, encoder, scattered
from .warp_modules import compiled, every_architecture, needs_cuda

pytest.importorskip("warp", reason="NVIDIA Warp is not made for this system")

from backend.fields import hash_grid_cuda

every_grid = pytest.mark.parametrize("name", GRIDS)
every_count = pytest.mark.parametrize("count", COUNTS)


@every_grid
@every_count
def test_kernel_on_the_cpu_agrees_with_the_definition(name: str, count: int) -> None:
    grid, points = GRIDS[name], scattered(count)
    table = encoder(grid).table.detach()
    out = torch.full((count, grid.channels), torch.nan)
    hash_grid_cuda.forward(points, table, grid, out)
    torch.testing.assert_close(out, encode_reference(points, table, grid), rtol=1e-5, atol=1e-5)


@every_grid
@every_count
def test_kernel_on_the_cpu_adds_the_gradient_of_the_definition(name: str, count: int) -> None:
    grid, points = GRIDS[name], scattered(count, seed=1)
    table = encoder(grid).table
    given = torch.randn(count, grid.channels)
    before = torch.randn_like(table)
    found = before.clone()
    hash_grid_cuda.backward(points, given, grid, found)
    torch.autograd.backward(encode_reference(points, table, grid), given)
    assert table.grad is not None
    torch.testing.assert_close(found, before + table.grad, rtol=1e-4, atol=1e-4)


def test_finest_levels_in_use_fit_their_numbers() -> None:
    """2049³ corners are more than 32 bits count."""
    grid, points = levels(2, 16, 2048, 12), scattered(500)
    table = encoder(grid).table.detach()
    out = torch.empty(500, grid.channels)
    hash_grid_cuda.forward(points, table, grid, out)
    torch.testing.assert_close(out, encode_reference(points, table, grid), rtol=1e-4, atol=1e-4)


def test_the_caller_is_told_of_wrong_types_and_shapes() -> None:
    grid, points = GRIDS["one"], scattered(5)
    table, out = encoder(grid).table.detach(), torch.empty(5, grid.channels)
    with pytest.raises(RuntimeError, match="points"):
        hash_grid_cuda.forward(points.double(), table, grid, out)
    with pytest.raises(RuntimeError, match="table"):
        hash_grid_cuda.forward(points, table.view(-1), grid, out)


@every_architecture
def test_it_compiles_for_gpus_that_are_not_here(capability: int, tmp_path: Path) -> None:
    code, assembly = compiled(hash_grid_cuda, capability, tmp_path)
    assert code[:4] == b"\x7fELF"
    reads = re.findall(r"ld\.global(?:\.nc)?\.v4", assembly)
    four_at_once, one_by_one = (len(re.findall(rf"(?:atom|red)\.global\.add{x}\.f32", assembly)) for x in (r"\.v4", ""))
    assert len(reads) == 9  # eight corners forward, one gradient backward
    assert (four_at_once, one_by_one) == ((8, 0) if capability >= 90 else (0, 32))
    assert ".local" not in assembly  # all in registers


def test_nothing_is_printed_and_warp_is_not_imported_without_cuda() -> None:
    script = (
        "import sys, torch; from backend.fields import hash_grid; from backend.rendering import marching, volume\n"
        "grid = hash_grid.HashGrid(hash_grid.levels(1, 4, 4, 8)); grid(torch.rand(5, 3)).sum().backward()\n"
        "assert 'warp' not in sys.modules\n"
        "from backend.fields import hash_grid_cuda\n"
        "hash_grid_cuda.forward(torch.rand(5, 3), grid.table.detach(), grid.grid, torch.empty(5, 4))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@needs_cuda
@every_grid
@every_count
def test_a_cuda_device_gives_the_same(name: str, count: int) -> None:
    module, points = encoder(GRIDS[name]), scattered(count)
    given = torch.randn(count, module.grid.channels)
    expected = module(points)
    expected.backward(given)
    there = encoder(GRIDS[name]).cuda()
    found = there(points.cuda())
    found.backward(given.cuda())
    assert module.table.grad is not None and there.table.grad is not None
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(there.table.grad.cpu(), module.table.grad, rtol=1e-4, atol=1e-4)


@needs_cuda
def test_kernels_run_on_torchs_current_stream() -> None:
    """They come after what the stream still has to do."""
    module, points = encoder(GRIDS["dense"]).cuda(), scattered(5000).cuda()
    expected = module(points)
    torch.cuda.synchronize()
    late = torch.zeros_like(points)
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        torch.cuda._sleep(50_000_000)  # type: ignore[no-untyped-call]
        late.copy_(points)
        found = module(late)
        torch.cuda.current_stream().synchronize()
    assert torch.equal(found, expected)
