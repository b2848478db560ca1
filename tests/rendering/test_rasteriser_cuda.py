# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from backend.rendering.rasteriser import (
    NEAR,
    Fragments,
    interpolate,
    interpolate_reference,
    rasterise,
    rasterise_reference,
)

from ..fields.warp_modules import compiled, every_architecture, needs_cuda
from .meshes import SCENES, scene

pytest.importorskip("warp", reason="NVIDIA Warp is not made for this system")

from backend.rendering import rasteriser_cuda

every_scene = pytest.mark.parametrize("name", SCENES)


def kernel(positions: Tensor, faces: Tensor, height: int, width: int, cull: bool) -> Fragments:
    shape = (len(positions), height, width)
    seen = Fragments(torch.empty(shape, dtype=torch.int32), torch.empty(*shape, 3), torch.empty(shape))
    rasteriser_cuda.rasterise(positions, faces, cull, NEAR, seen.face, seen.barycentric, seen.depth)
    return seen


def spread(values: Tensor, faces: Tensor, seen: Fragments, vertices: int) -> Tensor:
    out = torch.zeros(len(values), vertices, values.shape[-1])
    rasteriser_cuda.spread(values, faces, seen.face, seen.barycentric, out)
    return out


@every_scene
def test_kernel_on_the_cpu_sees_exactly_what_the_definition_does(name: str) -> None:
    positions, faces, height, width, cull = scene(name)
    found = kernel(positions, faces, height, width, cull)
    expected = rasterise_reference(positions.double(), faces, height, width, cull=cull)
    assert torch.equal(found.face, expected.face)
    torch.testing.assert_close(found.barycentric.double(), expected.barycentric, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.depth.double(), expected.depth, rtol=1e-6, atol=1e-6)


@every_scene
def test_kernel_on_the_cpu_gives_the_gradients_of_the_definition(name: str) -> None:
    positions, faces, height, width, cull = scene(name)
    seen = kernel(positions, faces, height, width, cull)
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(x.shape, generator=generator) for x in seen[1:]]
    moved = torch.full_like(seen.barycentric, torch.nan)
    rasteriser_cuda.surface_gradient(positions, faces, *seen, given[0], given[1], moved)
    exact = positions.double().requires_grad_()
    expected = rasterise_reference(exact, faces, height, width, cull=cull)
    torch.autograd.backward(expected[1:], [x.double() for x in given])
    assert exact.grad is not None
    found = spread(moved, faces, seen, positions.shape[1])
    scale = exact.grad.abs().amax(-1, keepdim=True) if exact.grad.numel() else exact.grad
    assert ((found.double() - exact.grad).abs() <= 1e-4 * scale + 1e-4).all()


@every_scene
@pytest.mark.parametrize("by_view", [False, True])
def test_kernel_on_the_cpu_interpolates_as_the_definition_does(name: str, by_view: bool) -> None:
    positions, faces, height, width, cull = scene(name)
    seen = kernel(positions, faces, height, width, cull)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(len(positions) if by_view else 1, positions.shape[1], 5, generator=generator)
    found = torch.full((*seen.face.shape, 5), torch.nan)
    rasteriser_cuda.interpolate(values, faces, seen.face, seen.barycentric, found)
    given, grad_weights = torch.randn(found.shape, generator=generator), torch.full_like(seen.barycentric, torch.nan)
    rasteriser_cuda.barycentric_gradient(values, faces, seen.face, given, grad_weights)
    exact = [x.double().requires_grad_() for x in (values, seen.barycentric)]
    expected = interpolate_reference(exact[0], faces, seen._replace(barycentric=exact[1]))
    torch.autograd.backward(expected, given.double())
    assert exact[0].grad is not None and exact[1].grad is not None
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad_weights.double(), exact[1].grad, rtol=1e-5, atol=1e-5)
    grad_values = spread(given, faces, seen, positions.shape[1])
    grad_values = grad_values if by_view else grad_values.sum(0, keepdim=True)
    torch.testing.assert_close(grad_values.double(), exact[0].grad, rtol=1e-4, atol=2e-5)


def test_of_equally_deep_faces_the_first_is_seen() -> None:
    positions, faces, height, width, cull = scene("blob")
    twice = kernel(positions, torch.cat([faces, faces]), height, width, cull)
    assert torch.equal(twice.face, kernel(positions, faces, height, width, cull).face)


@every_architecture
def test_it_compiles_for_gpus_that_are_not_here(capability: int, tmp_path: Path) -> None:
    code, assembly = compiled(rasteriser_cuda, capability, tmp_path)
    assert code[:4] == b"\x7fELF"
    assert "fma." not in assembly, "neighbouring faces compute their common edge alike"
    assert "div.approx" not in assembly


def test_warp_is_not_imported_without_cuda() -> None:
    script = (
        "import sys, torch; from backend.rendering.rasteriser import interpolate, rasterise\n"
        "from backend.rendering.antialiasing import adjacency, antialias\n"
        "p, f = torch.tensor([[[-1.0, -1, 1], [1, -1, 1], [0, 1, 1]]]), torch.tensor([[0, 1, 2]], dtype=torch.int32)\n"
        "seen = rasterise(p, f, 4, 4); antialias(interpolate(p[0], f, seen), seen, p, f, adjacency(f))\n"
        "assert 'warp' not in sys.modules and (seen.face == 0).any()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@needs_cuda
@every_scene
def test_a_cuda_device_gives_the_same(name: str) -> None:
    positions, faces, height, width, cull = scene(name)
    values = torch.rand(positions.shape[1], 3, generator=torch.Generator().manual_seed(0))
    results = []
    for device in ("cpu", "cuda"):
        p, v = (x.to(device).requires_grad_() for x in (positions, values))
        seen = rasterise(p, faces.to(device), height, width, cull=cull)
        shown = interpolate(v, faces.to(device), seen)
        torch.autograd.backward(shown.square().sum() + seen.depth.sin().sum())
        assert p.grad is not None and v.grad is not None
        results.append([x.detach().cpu() for x in (*seen, shown, v.grad, p.grad)])
    assert torch.equal(results[0][0], results[1][0])
    for one, other in zip(results[0][1:-1], results[1][1:-1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    scale = results[0][-1].abs().amax(-1, keepdim=True) if results[0][-1].numel() else results[0][-1]
    assert ((results[1][-1] - results[0][-1]).abs() <= 1e-4 * scale + 1e-4).all()
