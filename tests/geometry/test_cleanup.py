# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import Gen3DError
from backend.geometry import cleanup
from backend.geometry import mesh as meshes
from backend.geometry.mesh import Mesh
from backend.geometry.surface import extract
from backend.metrics.surface import surface_distance

from .shapes import LOWER, bumpy, colour, grid, noise, soft, sphere


def together(*parts: Mesh) -> Mesh:
    shifts = np.cumsum([0] + [len(part.vertices) for part in parts])
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + shift for part, shift in zip(parts, shifts, strict=False)]).astype(np.int32),
    )


def agreed_watertight(mesh: Mesh) -> bool:
    """Our verdict and trimesh's, which must not differ."""
    theirs = trimesh.Trimesh(mesh.vertices, mesh.faces)
    assert (theirs.is_watertight and theirs.is_winding_consistent) == meshes.is_watertight(mesh)
    return meshes.is_watertight(mesh)


def test_floaters_go_by_their_share_of_the_largest() -> None:
    big = sphere(0.5, 40)
    small, tiny = (sphere(r, 40, c) for r, c in ((0.2, (0.75, 0.0, 0.0)), (0.06, (-0.8, 0.0, 0.0))))
    mesh = together(tiny, big, small)
    count = [len(part.faces) for part in (big, small, tiny)]
    assert len(cleanup.remove_floaters(mesh, 0.0).faces) == sum(count)
    assert len(cleanup.remove_floaters(mesh, 0.05).faces) == count[0] + count[1]
    assert len(cleanup.remove_floaters(mesh, 0.2).faces) == count[0]
    only = cleanup.remove_floaters(mesh, 1.0)
    np.testing.assert_array_equal(only.vertices, big.vertices)
    np.testing.assert_array_equal(only.faces, big.faces)


def shells() -> tuple[Mesh, Mesh]:
    """A hollow sphere with a ball in its cavity and a ball beside it; and what of that can be seen from outside."""
    points, spacing = grid(64)
    centre = np.array([-0.3, 0.0, 0.0])
    radius = np.linalg.norm(points - centre, axis=-1)
    beside = np.linalg.norm(points - [0.75, 0, 0], axis=-1) - 0.2
    full = np.minimum(radius - 0.6, beside)
    hollow = np.minimum(np.minimum(np.maximum(radius - 0.6, 0.45 - radius), radius - 0.2), beside)
    return tuple(extract(soft(d, 20.0, 0.5 * spacing), 10.0, LOWER, spacing) for d in (hollow, full))  # type: ignore[return-value]


def test_inner_shells_and_what_floats_in_them_go() -> None:
    hollow, full = shells()
    assert meshes.components(hollow).max() + 1 == 4
    seen = cleanup.remove_inside(hollow)
    assert meshes.components(seen).max() + 1 == 2
    assert meshes.volume(seen) == pytest.approx(meshes.volume(full), rel=1e-3)


def test_a_room_with_cameras_in_it_is_not_an_inner_shell() -> None:
    hollow, _ = shells()
    kept = cleanup.remove_inside(hollow, np.array([[-0.3, 0.3, 0.0]]))
    assert len(kept.faces) == len(hollow.faces)
    outside = cleanup.remove_inside(hollow, np.array([[0.4, 0.9, 0.0]]))
    assert len(outside.faces) == len(cleanup.remove_inside(hollow).faces)


def test_winding_numbers_tell_inside_from_outside() -> None:
    mesh = sphere(0.6, 40)
    points = np.random.default_rng(0).uniform(-1, 1, (60, 3))
    points = points[np.abs(np.linalg.norm(points, axis=1) - 0.6) > 0.05]
    inside = np.linalg.norm(points, axis=1) < 0.6
    np.testing.assert_allclose(cleanup.winding_numbers(mesh, points), inside.astype(float), atol=1e-6)
    turned = Mesh(mesh.vertices, mesh.faces[:, ::-1])
    np.testing.assert_allclose(cleanup.winding_numbers(turned, points), -inside.astype(float), atol=1e-6)


def test_clean_welds_and_drops() -> None:
    mesh = sphere(0.6, 24)
    loose = mesh.vertices[mesh.faces.ravel()]
    faces = np.arange(len(loose), dtype=np.int32).reshape(-1, 3)
    faces = np.concatenate([faces, np.roll(faces[:7], 1, axis=1), [[0, 0, 1]], [[5, 4, 5]]]).astype(np.int32)
    tidy = cleanup.clean(Mesh(np.concatenate([loose, [[9, 9, 9]]]).astype(np.float32), faces))
    assert len(tidy.vertices) == len(mesh.vertices)
    assert len(tidy.faces) == len(mesh.faces)
    assert agreed_watertight(tidy)
    fin = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.int32)
    assert not len(cleanup.clean(Mesh(mesh.vertices[:3], fin)).faces)


@pytest.mark.parametrize("target", [20_000, 4_000, 500])
def test_decimation_keeps_count_closedness_and_distance(target: int) -> None:
    mesh = bumpy()
    assert agreed_watertight(mesh)
    reduced = cleanup.decimate(mesh, target)
    assert agreed_watertight(reduced)
    assert 0.5 * target < len(reduced.faces) <= 1.3 * target
    spacing = 2 / 63
    bound = {20_000: 0.1, 4_000: 0.35, 500: 2.0}[target] * spacing
    assert surface_distance(mesh, reduced, 4000).median < bound
    assert meshes.volume(reduced) == pytest.approx(meshes.volume(mesh), rel=0.3 if target == 500 else 0.02)


def test_decimated_noise_stays_closed() -> None:
    mesh = extract(np.exp(3 * noise(40, 1.0)), 1.0, LOWER, 2 / 39)
    for share in (3, 10, 30):
        assert agreed_watertight(cleanup.decimate(mesh, len(mesh.faces) // share))


def test_decimation_that_asks_for_more_or_nothing_changes_nothing() -> None:
    mesh = sphere(0.6, 24)
    assert cleanup.decimate(mesh, 0) is mesh
    assert cleanup.decimate(mesh, 10**6) is mesh


def test_an_open_mesh_stays_open_until_closing_is_asked_for() -> None:
    mesh = sphere(0.6, 40)
    bowl = meshes.select(mesh, mesh.vertices[mesh.faces][:, :, 2].max(axis=1) < 0.1)
    assert not agreed_watertight(cleanup.decimate(bowl, 800))
    closed = cleanup.make_watertight(bowl)
    assert agreed_watertight(closed)
    cap = np.pi * (0.6 + 0.08) ** 2 * (3 * 0.6 - 0.68) / 3  # the part of the ball below z = 0.08
    assert meshes.volume(closed) == pytest.approx(cap, rel=0.03)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.9))
def test_any_rubble_can_be_closed(seed: int, loss: float) -> None:
    rng = np.random.default_rng(seed)
    mesh = sphere(0.6, 16)
    broken = meshes.select(mesh, rng.random(len(mesh.faces)) > loss)
    spikes = rng.integers(0, len(broken.vertices), (20, 3)).astype(np.int32)
    closed = cleanup.make_watertight(Mesh(broken.vertices, np.concatenate([broken.faces, spikes])))
    assert agreed_watertight(closed)
    assert np.isfinite(closed.vertices).all()


def test_closing_a_closed_mesh_changes_nothing_and_closing_nothing_is_said() -> None:
    mesh = sphere(0.6, 24)
    again = cleanup.make_watertight(mesh)
    assert len(again.faces) == len(mesh.faces)
    assert meshes.volume(again) == pytest.approx(meshes.volume(mesh), rel=1e-6)
    with pytest.raises(Gen3DError, match="No closed surface") as caught:
        cleanup.make_watertight(Mesh(mesh.vertices[:3], np.array([[0, 1, 1]], dtype=np.int32)))
    assert caught.value.field == "mesh.watertight"


def test_smoothing_halves_the_staircase_without_shrinking() -> None:
    points, spacing = grid(64)
    distance = np.linalg.norm(points - np.array([0.013, 0.021, -0.017]), axis=-1) - 0.6
    mesh = extract(np.where(distance < 0, 100.0, 0.0), 10.0, LOWER, spacing)  # all or nothing: steps of a whole cell
    smoothed = cleanup.smooth(mesh)

    def deviation(m: Mesh) -> float:
        return float(np.linalg.norm(m.vertices - [0.013, 0.021, -0.017], axis=1).std())

    assert deviation(smoothed) < 0.7 * deviation(mesh)
    assert meshes.volume(smoothed) == pytest.approx(meshes.volume(mesh), rel=5e-3)
    np.testing.assert_array_equal(smoothed.faces, mesh.faces)


def test_colours_follow_their_vertices() -> None:
    mesh = together(sphere(0.2, 24, (0.6, 0, 0)), sphere(0.5, 24, (-0.4, 0, 0)))
    painted = Mesh(mesh.vertices, mesh.faces, np.rint(colour(mesh.vertices, mesh.vertices) * 255).astype(np.uint8))
    kept = cleanup.clean(cleanup.remove_floaters(painted, 0.9))
    assert kept.colors is not None
    np.testing.assert_array_equal(kept.colors, np.rint(colour(kept.vertices, kept.vertices) * 255).astype(np.uint8))
