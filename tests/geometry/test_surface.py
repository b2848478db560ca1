# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.errors import Gen3DError
from backend.geometry import mesh as meshes
from backend.geometry import surface
from backend.geometry.cleanup import remove_floaters

from .shapes import LOWER, grid, noise, soft, sphere


def radii(mesh: meshes.Mesh) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(mesh.vertices, axis=1))


def test_sphere_has_its_area_volume_and_winding() -> None:
    mesh = sphere(0.6, 64)
    assert meshes.is_watertight(mesh)
    assert meshes.volume(mesh) == pytest.approx(4 / 3 * np.pi * 0.6**3, rel=2e-3)
    assert meshes.area(mesh) == pytest.approx(4 * np.pi * 0.6**2, rel=2e-3)
    outward = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    assert (np.einsum("ni,ni->n", meshes.vertex_normals(mesh), outward) > 0.99).all()


@pytest.mark.parametrize("inside", [100.0, 1000.0])
def test_vertices_of_a_field_sharper_than_its_grid_lie_on_the_surface(inside: float) -> None:
    points, spacing = grid(64)
    centre = np.array([0.013, 0.021, -0.017])
    distance = np.linalg.norm(points - centre, axis=-1) - 0.7
    width, level = 0.3 * spacing, 20.0
    mesh = surface.extract(soft(distance, inside, width), level, LOWER, spacing)
    error = np.linalg.norm(mesh.vertices - centre, axis=1) - (0.7 + width * np.log(inside / level - 1))
    assert abs(error.mean()) < 0.05 * spacing
    assert error.std() < 0.03 * spacing  # linear interpolation of densities leaves 0.08 and more


def test_axes_lower_corner_and_spacing_are_kept() -> None:
    density = np.zeros((20, 30, 40))
    density[4:9, 11:21, 22:37] = 100.0
    mesh = surface.extract(density, 10.0, (1.0, 2.0, 3.0), 0.5)
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    np.testing.assert_allclose(low, [1 + 3.5 * 0.5, 2 + 10.5 * 0.5, 3 + 21.5 * 0.5], atol=0.2)
    np.testing.assert_allclose(high, [1 + 8.5 * 0.5, 2 + 20.5 * 0.5, 3 + 36.5 * 0.5], atol=0.2)


def test_closed_at_the_border_and_watertight_on_noise() -> None:
    for seed in range(3):
        mesh = surface.extract(np.exp(3 * noise(32, 1.0, seed)), 1.0, LOWER, 2 / 31)
        assert meshes.is_watertight(mesh)
        assert np.abs(mesh.vertices).max() <= 1.0 + 0.02 * 2 / 31
        assert meshes.face_areas(mesh).min() > 0


def test_a_level_met_exactly_by_samples_makes_no_degenerate_faces() -> None:
    density = np.zeros((12, 12, 12))
    density[3:9, 3:9, 3:9] = 5.0
    mesh = surface.extract(density, 5.0, LOWER, 2 / 11)
    assert meshes.is_watertight(mesh)
    assert meshes.face_areas(mesh).min() > 0


def fields() -> dict[str, tuple[NDArray[np.float64], float, float]]:
    """Density, true radius and tolerance, at 72 samples a side."""
    points, spacing = grid(72)
    distance = np.linalg.norm(points, axis=-1) - 0.6
    rough, fine = noise(72, 2.0, 1), noise(72, 1.5, 2)
    solid = soft(distance, 500.0, 0.3 * spacing)
    return {
        "sharp": (solid, 0.6, 1.0),
        "very sharp": (soft(distance, 1e6, 0.05 * spacing), 0.6, 1.0),
        "weak": (soft(distance, 30.0, 0.3 * spacing), 0.6, 1.0),
        "noisy": (solid * np.exp(fine) + 0.3 * np.exp(rough), 0.6, 1.5),
        "in thin fog": (solid + 0.3, 0.6, 1.5),
        "with faint floaters": (solid + np.where(distance > 0.1, 3.0, 0.0) * (rough > 2.2), 0.6, 1.5),
        "hollow": (soft(np.abs(distance + 0.05) - 0.05, 500.0, 0.3 * spacing), 0.6, 1.0),
    }


@pytest.mark.parametrize("name", fields())
def test_automatic_level_puts_the_surface_on_the_object(name: str) -> None:
    density, radius, tolerance = fields()[name]
    spacing = 2 / 71
    level = surface.automatic_level(density, spacing)
    mesh = remove_floaters(surface.extract(density, level, LOWER, spacing), 0.5)
    parts = meshes.components(mesh)
    outer = meshes.select(mesh, parts == np.bincount(parts, meshes.signed_volumes(mesh)).argmax())
    assert meshes.volume(outer) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.15)
    assert abs(np.median(radii(outer)) - radius) < tolerance * spacing


def test_automatic_level_of_a_faint_blob_still_finds_its_middle() -> None:
    """No ray loses half of its light."""
    points, spacing = grid(72)
    density = np.exp(-(np.linalg.norm(points, axis=-1) ** 2) / 0.1)
    mesh = surface.extract(density, surface.automatic_level(density, spacing), LOWER, spacing)
    assert 0.1 < np.median(radii(mesh)) < 0.6


@pytest.mark.parametrize("peak", [20.0, 200.0])
def test_automatic_level_of_fog_is_where_half_the_light_is_gone(peak: float) -> None:
    """A Gaussian blob seen along x: the transmittance has a closed form by quadrature on a fine line."""
    points, spacing = grid(72)
    density = peak * np.exp(-(np.linalg.norm(points, axis=-1) ** 2) / 0.1)
    mesh = surface.extract(density, surface.automatic_level(density, spacing), LOWER, spacing)
    line = np.linspace(-1, 1, 20001)
    gathered = np.cumsum(peak * np.exp(-(line**2) / 0.1)) * (line[1] - line[0])
    half = -np.log1p(-(1 - np.exp(-gathered[-1])) / 2)
    nearest = -line[np.searchsorted(gathered, half)]  # the frontal ray; grazing ones see deeper in
    assert 0.6 * nearest - 2 * spacing < np.median(radii(mesh)) < nearest + 2 * spacing
    assert len(np.unique(meshes.components(mesh))) == 1


def test_automatic_level_keeps_a_thin_plate_whole() -> None:
    points, spacing = grid(72)
    distance = np.maximum(np.abs(points[..., 2]) - 1.2 * spacing, np.abs(points[..., :2]).max(axis=-1) - 0.6)
    density = soft(distance, 400.0, 0.3 * spacing)
    mesh = surface.extract(density, surface.automatic_level(density, spacing), LOWER, spacing)
    assert len(np.unique(meshes.components(mesh))) == 1
    assert meshes.area(mesh) == pytest.approx(2 * 1.2**2 + 4 * 1.2 * 2.4 * spacing, rel=0.1)


def test_automatic_level_scales_with_the_unit_of_length() -> None:
    density, _, _ = fields()["in thin fog"]
    one = surface.automatic_level(density, 2 / 71)
    assert surface.automatic_level(density / 1000, 2000 / 71) == pytest.approx(one / 1000, rel=1e-3)


def test_fog_that_fills_its_grid_is_as_large_as_that() -> None:
    """From the side, such fog is opaque at once, at whatever density it has there."""
    points, spacing = grid(24)
    density = 4.0 + 16.0 * np.exp(-(np.linalg.norm(points, axis=-1) ** 2) / 0.1) + 0.1 * points[..., 0]
    level = surface.automatic_level(density / spacing, spacing)
    assert level == (density / spacing).min()
    mesh = surface.extract(density / spacing, level, LOWER, spacing)
    low, high = mesh.vertices.min(axis=0) - LOWER, mesh.vertices.max(axis=0) - LOWER
    np.testing.assert_allclose([low, high], [np.zeros(3), np.full(3, 23 * spacing)], atol=spacing)
    assert meshes.volume(mesh) > (22 * spacing) ** 3


def test_no_surface_is_said() -> None:
    points, spacing = grid(24)
    density = soft(np.linalg.norm(points, axis=-1) - 0.5, 20.0, spacing)
    for level in (25.0, 1e-12, 0.0, -1.0, np.nan, np.inf):
        with pytest.raises(Gen3DError, match="No surface lies at density") as caught:
            surface.extract(density, level, LOWER, spacing)
        assert caught.value.field == "mesh.level"
    with pytest.raises(Gen3DError, match="The field is empty"):
        surface.automatic_level(np.zeros((8, 8, 8)), spacing)
    with pytest.raises(Gen3DError, match="The field is empty"):
        surface.automatic_level(np.full((8, 8, 8), 1e-4), spacing)


def test_numbers_that_are_none_are_said() -> None:
    density = np.ones((8, 8, 8))
    density[3, 4, 5] = np.nan
    for call in (lambda d: surface.extract(d, 0.5, LOWER, 0.1), lambda d: surface.automatic_level(d, 0.1)):
        with pytest.raises(Gen3DError, match="density of 1 of 512 cells is not a number"):
            call(density)
        with pytest.raises(Gen3DError, match="512 of 512"):
            call(np.full((8, 8, 8), np.nan))


def test_infinite_density_is_merely_opaque() -> None:
    points, spacing = grid(32)
    density = np.where(np.linalg.norm(points, axis=-1) < 0.5, np.inf, 0.0)
    mesh = surface.extract(density, surface.automatic_level(density, spacing), LOWER, spacing)
    assert np.isfinite(mesh.vertices).all()
    assert np.median(radii(mesh)) == pytest.approx(0.5, abs=spacing)


def test_too_many_triangles_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    density = np.random.default_rng(0).random((40, 40, 40)) * 10
    made = len(surface.extract(density, 5.0, LOWER, 0.05).faces)
    monkeypatch.setattr(surface, "MAX_FACES", int(made * 1.1))
    assert len(surface.extract(density, 5.0, LOWER, 0.05).faces) == made
    monkeypatch.setattr(surface, "MAX_FACES", int(made * 0.7))
    with pytest.raises(Gen3DError, match="million triangles") as caught:
        surface.extract(density, 5.0, LOWER, 0.05)
    assert caught.value.field == "mesh.resolution"
