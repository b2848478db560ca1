# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from backend.rendering.empty_space import free_blocks
from backend.rendering.marching import Path as Walk
from backend.rendering.marching import march

from ..fields.warp_modules import compiled, every_architecture, needs_cuda
from .rays import towards_box
from .test_marching import PATHS, blocks, clumps, grid, same, shifts, solidity

pytest.importorskip("warp", reason="NVIDIA Warp is not made for this system")

from backend.rendering import marching_cuda

every_path = pytest.mark.parametrize("name", PATHS)
solids = pytest.mark.parametrize("ends_in_solids", [False, True])


@every_path
@solids
@blocks
@pytest.mark.parametrize("count", [0, 1, 3000])
def test_kernel_on_the_cpu_gives_the_same_to_the_last_bit(
    name: str, ends_in_solids: bool, in_blocks: bool, count: int
) -> None:
    """As the other kernel for CPUs, which is compared with the definition."""
    origins, directions = towards_box(count)
    occupied, solid = clumps() if in_blocks else grid(32), solidity(32) if ends_in_solids else None
    how = (shifts(count), occupied, PATHS[name], solid, free_blocks(occupied) if in_blocks else None)
    expected, found = march(origins, directions, *how), marching_cuda.march(origins, directions, *how)
    assert same(expected, found)
    assert len(found) > 300 or count < 3000


@pytest.mark.parametrize("place", [-1.0, 1.0, 1.01])
def test_rays_within_a_face_of_the_box_belong_to_it(place: float) -> None:
    occupied = torch.ones((4, 4, 4), dtype=torch.bool)
    rays = (torch.tensor([[place, -2.0, 0.1]]), torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([0.5]))
    assert len(marching_cuda.march(*rays, occupied, Walk(0.25))) == (8 if abs(place) <= 1 else 0)


def test_nothing_occupied_gives_no_samples() -> None:
    samples = marching_cuda.march(*towards_box(7), shifts(7), grid(part=0.0), Walk(0.1))
    assert len(samples) == 0 and samples.offsets.tolist() == [0] * 8


@every_architecture
def test_it_compiles_for_gpus_that_are_not_here(capability: int, tmp_path: Path) -> None:
    code, assembly = compiled(marching_cuda, capability, tmp_path)
    assert code[:4] == b"\x7fELF"
    # Strict arithmetic, so that both walks of a ray take the same steps: nothing fused, no approximate division.
    assert re.search(r"div\.rn\.f32", assembly) and re.search(r"mul\.(rn\.)?f32", assembly)
    assert not re.search(r"\bfma\.|\bmad\.[a-z]+\.f32|div\.(approx|full)|\.ftz", assembly)


@needs_cuda
@every_path
@solids
@blocks
def test_a_cuda_device_gives_the_same_to_the_last_bit(name: str, ends_in_solids: bool, in_blocks: bool) -> None:
    count, found = 3000, []
    for device in ("cpu", "cuda"):
        origins, directions, begin = (x.to(device) for x in (*towards_box(count), shifts(count)))
        occupied, solid = (clumps() if in_blocks else grid(32)).to(device), solidity(32).to(device)
        free = free_blocks(occupied) if in_blocks else None
        how = (occupied, PATHS[name], solid if ends_in_solids else None, free)
        found.append(march(origins, directions, begin, *how))
    assert found[1].t.is_cuda and same(*found)
