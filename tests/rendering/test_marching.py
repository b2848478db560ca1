# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math
from dataclasses import replace

import numba
import numpy as np
import pytest
import torch
from torch import Tensor

from backend.rendering import marching_cpu
from backend.rendering.contraction import contract
from backend.rendering.empty_space import free_blocks
from backend.rendering.marching import DARK, Path, Samples, march, march_reference

from .rays import towards_box

PATHS = {
    "box": Path(0.05),
    "cone": Path(0.03, cone=0.02),
    "between near and far": Path(0.05, near=0.8, far=2.1),
    "contracted": Path(0.04, cone=0.05, near=0.05, far=60.0, contracted=True),
    "contracted, even steps": Path(0.06, near=0.05, far=8.0, contracted=True),
    "few samples": Path(0.05, most=3),
    "few samples in a cone": Path(0.03, cone=0.02, most=3),
}
every_path = pytest.mark.parametrize("name", PATHS)
blocks = pytest.mark.parametrize("in_blocks", [False, True])


def grid(resolution: int = 8, part: float = 0.3, seed: int = 0) -> Tensor:
    return torch.rand((resolution,) * 3, generator=torch.Generator().manual_seed(seed)) < part


def clumps(resolution: int = 32) -> Tensor:
    """Between them, most blocks are empty, large ones too."""
    coarse = grid(-(-resolution // 8), 0.15, seed=1)
    for axis in range(3):
        coarse = coarse.repeat_interleave(8, axis).narrow(axis, 0, resolution)
    return coarse & grid(resolution)


def solidity(resolution: int = 8) -> Tensor:
    """Half of the cells clear, half so solid that few steps in them take all light."""
    generator = torch.Generator().manual_seed(5)
    values = torch.rand((resolution,) * 3, generator=generator)
    return torch.where(values > 0.5, values * 60, 0.0)


def shifts(count: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(9))


def same(one: Samples, other: Samples) -> bool:
    """To the last bit."""
    return all(torch.equal(getattr(one, x), getattr(other, x).cpu()) for x in ("rays", "t", "dt", "offsets"))


def along(samples: Samples, ray: int) -> tuple[Tensor, Tensor]:
    piece = slice(int(samples.offsets[ray]), int(samples.offsets[ray + 1]))
    return samples.t[piece], samples.dt[piece]


def alike(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return len(one[0]) == len(other[0]) and all(
        torch.allclose(a.double(), b.double(), rtol=1e-5, atol=1e-4) for a, b in zip(one, other, strict=True)
    )


@every_path
@pytest.mark.parametrize("ends_in_solids", [False, True])
@blocks
def test_kernel_agrees_with_the_definition(name: str, ends_in_solids: bool, in_blocks: bool) -> None:
    """On all rays on which rounding does not decide: those whose samples stay when the grid moves by a hair."""
    count, path = 60, PATHS[name]
    origins, directions = towards_box(count)
    occupied = clumps(32) if in_blocks else grid()
    how = (shifts(count), occupied, path, solidity(len(occupied)) if ends_in_solids else None)
    expected = march_reference(origins, directions, *how)
    found = march(origins, directions, *how, free=free_blocks(occupied) if in_blocks else None)
    sure = torch.ones(count, dtype=torch.bool)
    for nudge in (2e-5, -2e-5):
        # Off the ray's own line, along which the first sample would move as well.
        aside = torch.linalg.cross(directions, torch.tensor([[0.36, 0.48, 0.8]])) * nudge
        moved = march_reference(origins + aside, directions, *how)
        sure &= torch.tensor([alike(along(expected, ray), along(moved, ray)) for ray in range(count)])
    assert sure.double().mean() > 0.8
    same = torch.tensor([alike(along(expected, ray), along(found, ray)) for ray in range(count)])
    assert same[sure].all()
    assert len(found) > 20


def brute_force(origin: Tensor, direction: Tensor, shift: float, occupied: Tensor, step: float) -> tuple[Tensor, bool]:
    """Every step through the box, in double precision, of which those in occupied cells are kept; and whether any of
    them is so close to a cell's border, or to the end, that rounding decides."""
    o, d, resolution = origin.double(), direction.double(), len(occupied)
    first, last = 0.0, math.inf
    for axis in range(3):
        if d[axis] == 0:
            if abs(o[axis]) > 1:
                return torch.empty(0), False
            continue
        ends = sorted([float((-1 - o[axis]) / d[axis]), float((1 - o[axis]) / d[axis])])
        first, last = max(first, ends[0]), min(last, ends[1])
    if last <= first:
        return torch.empty(0), first - last < 1e-4
    t = first + (shift + torch.arange(int(6 / step), dtype=torch.float64)) * step
    close = bool(((t - last).abs() < 5e-5).any())
    t = t[t < last]
    place = (o + t[:, None] * d + 1) * resolution / 2
    moving = d != 0
    close |= bool(((place - place.round())[:, moving].abs() < 5e-4).any())
    cell = place.long().clamp(0, resolution - 1)
    return t[occupied[cell.unbind(1)]], close


@pytest.mark.parametrize("part", [0.02, 0.3, 1.0])
def test_samples_are_those_of_all_steps_that_are_in_occupied_cells(part: float) -> None:
    count, occupied, path = 300, grid(16, part), Path(0.037)
    origins, directions = towards_box(count, seed=4)
    begin = shifts(count)
    found = march(origins, directions, begin, occupied, path)
    compared = 0
    for ray in range(count):
        expected, close = brute_force(origins[ray], directions[ray], float(begin[ray]), occupied, path.step)
        if close:
            continue
        t, dt = along(found, ray)
        torch.testing.assert_close(t.double(), expected.double(), rtol=0, atol=3e-5)
        torch.testing.assert_close(dt, torch.full_like(dt, path.step), rtol=1e-5, atol=0)
        compared += 1
    assert compared > count / 2


def every_step_in(occupied: Tensor, origins: Tensor, directions: Tensor, begin: Tensor, path: Path) -> Samples:
    """Every step through the box, in single precision as in the kernels, of which those in occupied cells are kept."""
    steps = march(origins, directions, begin, torch.ones_like(occupied), path)
    place = origins[steps.rays] + steps.t[:, None] * directions[steps.rays]
    cell = ((place + 1) * 0.5 * len(occupied)).int().clamp(0, len(occupied) - 1)
    return steps.kept(occupied[cell.unbind(1)])


def rays_of(kind: str, count: int, resolution: int) -> tuple[Tensor, Tensor]:
    origins, directions = towards_box(count, seed=8)
    if kind == "from afar":  # where places are rounded to a tenth of a step
        aim = origins.clamp(-1, 1)
        return aim - 1e4 * directions, directions
    if kind == "along borders of cells":
        origins = ((origins.clamp(-0.99, 0.99) + 1) * (resolution / 2)).round() * (2 / resolution) - 1
        directions = torch.nn.functional.normalize((directions * 2).round(), dim=-1)
        lame = directions.norm(dim=-1) == 0
        directions[lame] = torch.tensor([0.0, 0.0, 1.0])
        directions[::3, 1] += 1e-7
        origins = origins - 2 * directions
    return origins, directions


@pytest.mark.parametrize("kind", ["around", "from afar", "along borders of cells"])
@pytest.mark.parametrize("resolution", [8, 27, 32, 72])
@pytest.mark.parametrize("part", [0.0, 0.003, 0.3, "clumps"])
@blocks
def test_no_step_is_ever_jumped_over(kind: str, resolution: int, part: float | str, in_blocks: bool) -> None:
    """The samples are, to the last bit, those of all steps in occupied cells, however many are left at once."""
    count, path = 3000, Path(0.0113)
    occupied = grid(resolution, part) if isinstance(part, float) else clumps(resolution)
    rays = (*rays_of(kind, count, resolution), shifts(count))
    found = march(*rays, occupied, path, free=free_blocks(occupied) if in_blocks else None)
    assert same(found, every_step_in(occupied, *rays, path))
    assert len(found) > 30 or not occupied.any()


@every_path
@pytest.mark.parametrize("ends_in_solids", [False, True])
def test_free_blocks_change_nothing(name: str, ends_in_solids: bool) -> None:
    count, occupied = 3000, clumps()
    origins, directions = towards_box(count, seed=5)
    how = (shifts(count), occupied, PATHS[name], solidity(32) if ends_in_solids else None)
    found = march(origins, directions, *how, free=free_blocks(occupied))
    assert same(found, march(origins, directions, *how)) and len(found) > 300


def test_blocks_that_are_said_to_be_free_are_left_at_once() -> None:
    """It is by them that rays are quick: all but the first cell of the first block is not looked at."""
    occupied = torch.ones((16, 16, 16), dtype=torch.bool)
    occupied[0, 5, 5] = False
    free = torch.zeros((4, 4, 4), dtype=torch.uint8)
    free[:2, :2, :2] = 3
    rays = (torch.tensor([[-2.0, -0.3, -0.3]]), torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0.5]))
    samples = march(*rays, occupied, Path(0.125), free=free)
    assert torch.equal(samples.t, 2 + 0.125 * (torch.arange(8) + 0.5))


@pytest.mark.parametrize("most", [0, 1, 7, 10**6])
@pytest.mark.parametrize("cone", [0.0, 0.02])
def test_rays_end_after_so_many_samples(most: int, cone: float) -> None:
    count, occupied, path = 300, grid(), Path(0.02, cone)
    rays = (*towards_box(count, seed=7), shifts(count))
    whole, cut = march(*rays, occupied, path), march(*rays, occupied, replace(path, most=most))
    assert torch.equal(cut.offsets.diff(), whole.offsets.diff().clamp_max(most))
    first = torch.arange(len(whole)) - whole.offsets[whole.rays] < most
    assert same(cut, whole.kept(first))


@every_path
def test_samples_are_packed_in_order_front_to_back_without_overlap(name: str) -> None:
    count, path = 500, PATHS[name]
    origins, directions = towards_box(count, seed=1)
    samples = march(origins, directions, shifts(count), grid(), path)
    assert samples.offsets[0] == 0 and int(samples.offsets[-1]) == len(samples) == len(samples.rays)
    numbers = samples.offsets.diff()
    assert (numbers >= 0).all() and (numbers <= path.most).all() and (numbers == 0).any() and (numbers > 2).any()
    assert torch.equal(samples.rays, torch.repeat_interleave(torch.arange(count), numbers))
    assert (samples.t >= path.near).all() and (samples.t < path.far).all()
    torch.testing.assert_close(samples.dt, (samples.t * path.cone).clamp_min(path.step))
    follows = samples.rays[1:] == samples.rays[:-1]
    assert (samples.t[1:] - samples.t[:-1] >= samples.dt[:-1] * (1 - 1e-4))[follows].all()


@every_path
def test_samples_are_in_occupied_cells_only(name: str) -> None:
    count, occupied, path = 500, grid(), PATHS[name]
    origins, directions = towards_box(count, seed=2)
    samples = march(origins, directions, shifts(count), occupied, path)
    points = samples.points(origins, directions)
    if path.contracted:
        points = contract(points)
    assert (points.abs() <= 1 + 1e-5).all()
    hair, near = 2e-5, torch.zeros(len(points), dtype=torch.bool)
    for nudge in torch.cartesian_prod(*[torch.tensor([-hair, hair])] * 3):
        cell = ((points + nudge + 1) * len(occupied) / 2).long().clamp(0, len(occupied) - 1)
        near |= occupied[cell.unbind(1)]
    assert near.all() and len(points) > 500


def test_steps_across_free_cells_are_whole() -> None:
    """So that a ray samples the same places whatever is known to be free."""
    count, path = 300, Path(0.031)
    origins, directions = towards_box(count, seed=3)
    begin = shifts(count)
    everything = march(origins, directions, begin, torch.ones((4, 4, 4), dtype=torch.bool), path)
    some = march(origins, directions, begin, grid(16, 0.1), path)
    steps = (some.t - everything.t[everything.offsets[:-1].clamp_max(len(everything) - 1)][some.rays]) / path.step
    assert (some.offsets.diff()[everything.offsets.diff() == 0] == 0).all()
    assert (steps - steps.round()).abs().max() < 2e-3 and (steps > -0.5).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_rays_along_an_axis_take_exactly_their_steps(axis: int, sign: float) -> None:
    """All numbers are binary fractions: nothing is rounded."""
    occupied = torch.ones((4, 4, 4), dtype=torch.bool)
    places = [1, 2, 0]
    cell = [0, 0, 0]
    cell[axis], cell[places[axis]] = 2, 3
    occupied[tuple(cell)] = False  # from 0 to 0.5 along the axis, beside 0.625
    origin, direction = torch.full((1, 3), -0.875), torch.zeros(1, 3)
    origin[0, places[axis]], origin[0, axis], direction[0, axis] = 0.625, -2.0 * sign, sign
    samples = march(origin, direction, torch.tensor([0.5]), occupied, Path(0.125))
    expected = 1 + 0.125 * (torch.arange(16) + 0.5)
    at = (expected - 2) * sign
    free = (at >= 0) & (at < 0.5)
    assert torch.equal(samples.t, expected[~free]) and (samples.dt == 0.125).all()


@pytest.mark.parametrize("place", [-1.0, 1.0])
def test_rays_within_a_face_of_the_box_belong_to_it(place: float) -> None:
    occupied = torch.ones((4, 4, 4), dtype=torch.bool)
    rays = (torch.tensor([[place, -2.0, 0.1]]), torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([0.5]))
    for render in (march, march_reference):
        assert len(render(*rays, occupied, Path(0.25))) == 8
        assert len(render(rays[0] * torch.tensor([1.01, 1.0, 1.0]), *rays[1:], occupied, Path(0.25))) == 0


def test_rays_that_miss_or_leave_have_no_samples() -> None:
    occupied = torch.ones((4, 4, 4), dtype=torch.bool)
    origins = torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, -5.0], [1.5, 1.5, 1.5]])
    directions = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.6, 0.0, 0.8], [0.0, 0.0, -1.0]])
    for render in (march, march_reference):
        samples = render(origins, directions, torch.zeros(4), occupied, Path(0.1))
        assert len(samples) == 0 and samples.offsets.tolist() == [0] * 5


@pytest.mark.parametrize("count", [0, 1, 3])
def test_nothing_occupied_or_no_rays_give_no_samples(count: int) -> None:
    origins, directions = towards_box(count)
    samples = march(origins, directions, shifts(count), grid(part=0.0), Path(0.1))
    assert len(samples) == 0 and samples.offsets.tolist() == [0] * (count + 1)
    assert samples.points(origins, directions).shape == (0, 3)


def test_points_are_where_the_samples_are() -> None:
    origins, directions = towards_box(50)
    samples = march(origins, directions, shifts(50), grid(), Path(0.1))
    points = samples.points(origins, directions)
    torch.testing.assert_close((points - origins[samples.rays]).norm(dim=1), samples.t, rtol=1e-4, atol=1e-5)


def test_rays_end_where_solid_cells_have_taken_all_light() -> None:
    occupied, solid = torch.ones((8, 8, 8), dtype=torch.bool), torch.zeros(8, 8, 8)
    solid[4:] = 20.0
    ray = (torch.tensor([[-2.0, 0.1, 0.1]]), torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0.5]))
    path = Path(0.0625)
    whole, cut = march(*ray, occupied, path), march(*ray, occupied, path, solid)
    assert len(whole) == 32
    assert len(cut) == 16 + math.floor(DARK / (20 * path.step)) + 1
    assert torch.equal(cut.t, whole.t[: len(cut)])


def test_a_camera_very_far_away_does_not_stall() -> None:
    """Steps shorter than what single precision resolves at that distance would never end."""
    origins, directions = torch.tensor([[1e6, 0.0, 0.0]]), torch.tensor([[-1.0, 0.0, 0.0]])
    occupied = torch.ones((4, 4, 4), dtype=torch.bool)
    assert 0 < len(march(origins, directions, torch.zeros(1), occupied, Path(1e-3))) < 10
    outward = march(torch.zeros(1, 3), -directions, torch.zeros(1), occupied, Path(1.0, far=3e6, contracted=True))
    assert outward.dt.max() > 2


def test_both_walks_of_a_ray_take_the_same_steps() -> None:
    """The second one writes as many samples as the first one counted: no more, no fewer."""
    count, path = 3000, Path(0.0113, cone=0.004)
    origins, directions = towards_box(count, seed=6)
    rays = (origins.numpy(), directions.numpy(), shifts(count).numpy(), np.float32(0), np.float32(1e9))
    cells = (grid(32).numpy(), solidity(32).numpy(), np.empty((0, 0, 0), np.uint8))
    how = (*cells, np.float32(path.step), np.float32(path.cone), False)
    counts = np.empty(count, np.int64)
    marching_cpu.count(*rays, *how, path.most, counts)
    spare = 3
    offsets = np.concatenate([[0], np.cumsum(counts + spare)])
    ts, dts = np.full(offsets[-1], -1, np.float32), np.full(offsets[-1], -1, np.float32)
    marching_cpu.fill(*rays, *how, offsets, np.empty(offsets[-1], np.int64), ts, dts)
    written = np.add.reduceat(ts >= 0, offsets[:-1])
    assert (written == counts).all() and counts.max() > 20
    assert ((ts >= 0) == (dts > 0)).all()


@every_path
def test_results_do_not_depend_on_the_number_of_threads(name: str) -> None:
    if numba.config.NUMBA_NUM_THREADS < 2:  # type: ignore[attr-defined]
        pytest.skip("this machine has one core")
    origins, directions = towards_box(1000)
    before, results = numba.get_num_threads(), []
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            results.append(march(origins, directions, shifts(1000), grid(), PATHS[name], solidity()))
    finally:
        numba.set_num_threads(before)
    assert same(*results)
