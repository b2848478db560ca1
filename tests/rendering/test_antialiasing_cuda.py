# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from backend.rendering.antialiasing import FACES, adjacency, antialias, antialias_reference, silhouettes_reference
from backend.rendering.rasteriser import Fragments, rasterise

from ..fields.warp_modules import compiled, every_architecture, needs_cuda
from .meshes import SCENES, scene

pytest.importorskip("warp", reason="NVIDIA Warp is not made for this system")

from backend.rendering import antialiasing_cuda

every_scene = pytest.mark.parametrize("name", SCENES)


def drawn(name: str) -> tuple[Tensor, Tensor, Tensor, Fragments, Tensor]:
    """Positions, faces, adjacency, fragments and random colours [B, H, W, 4]."""
    positions, faces, height, width, cull = scene(name)
    seen = rasterise(positions, faces, height, width, cull=cull)
    colours = torch.rand(*seen.face.shape, 4, generator=torch.Generator().manual_seed(0))
    return positions, faces, adjacency(faces), seen, colours


@every_scene
def test_kernel_on_the_cpu_finds_exactly_the_edges_of_the_definition(name: str) -> None:
    positions, faces, adjacent, seen, _ = drawn(name)
    found = torch.full((*seen.face.shape, 2), -7, dtype=torch.int32)
    antialiasing_cuda.silhouettes(seen.face, seen.depth, positions, faces, adjacent, FACES, found)
    assert torch.equal(found, silhouettes_reference(seen, positions, faces, adjacent))


@every_scene
def test_kernel_on_the_cpu_blends_and_gives_gradients_as_the_definition_does(name: str) -> None:
    positions, faces, adjacent, seen, colour = drawn(name)
    edges = silhouettes_reference(seen, positions, faces, adjacent)
    found = torch.full_like(colour, torch.nan)
    antialiasing_cuda.blend(colour, positions, faces, edges, found)
    given = torch.randn(colour.shape, generator=torch.Generator().manual_seed(1))
    grad_colour, before = torch.full_like(colour, torch.nan), torch.rand(positions.shape)
    grad_positions = before.clone()
    antialiasing_cuda.blend_backward(colour, positions, faces, edges, given, grad_colour, grad_positions)
    exact = [x.double().requires_grad_() for x in (colour, positions)]
    expected = antialias_reference(exact[0], seen, exact[1], faces, adjacent)
    torch.autograd.backward(expected, given.double())
    assert exact[0].grad is not None and exact[1].grad is not None
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(grad_colour.double(), exact[0].grad, rtol=0, atol=5e-6)
    torch.testing.assert_close(grad_positions.double(), before.double() + exact[1].grad, rtol=1e-4, atol=1e-5)


@every_architecture
def test_it_compiles_for_gpus_that_are_not_here(capability: int, tmp_path: Path) -> None:
    code, assembly = compiled(antialiasing_cuda, capability, tmp_path)
    assert code[:4] == b"\x7fELF"
    assert "fma." not in assembly and "div.approx" not in assembly, "decisions are those of the other kernels"


@needs_cuda
@every_scene
def test_a_cuda_device_gives_the_same(name: str) -> None:
    positions, faces, adjacent, seen, colour = drawn(name)
    given = torch.randn(colour.shape, generator=torch.Generator().manual_seed(1))
    results = []
    for device in ("cpu", "cuda"):
        p, c = (x.to(device).requires_grad_() for x in (positions, colour))
        there = Fragments(*(x.to(device) for x in seen))
        smooth = antialias(c, there, p, faces.to(device), adjacent.to(device))
        torch.autograd.backward(smooth, given.to(device))
        assert p.grad is not None and c.grad is not None
        results.append([x.detach().cpu() for x in (smooth, c.grad, p.grad)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
