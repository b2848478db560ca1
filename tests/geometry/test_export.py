# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from PIL import Image

from backend.geometry import export, texture
from backend.geometry import mesh as meshes
from backend.geometry.mesh import Mesh

from .shapes import colour, sphere

COMPONENTS = {5126: "<f4", 5123: "<u2", 5125: "<u4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


def placement() -> NDArray[np.float64]:
    """Box to world: scaled by 2.5, turned about a skew axis, moved."""
    axis, angle = np.array([1.0, 2.0, -0.5]) / np.linalg.norm([1.0, 2.0, -0.5]), 0.9
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    matrix = np.eye(4)
    matrix[:3, :3] = 2.5 * (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)
    matrix[:3, 3] = [4.0, -3.0, 7.0]
    return matrix


@pytest.fixture(scope="module")
def coloured() -> Mesh:
    return texture.paint(sphere(0.6, 24, (0.2, 0.1, -0.1)), colour)


@pytest.fixture(scope="module")
def textured(coloured: Mesh) -> Mesh:
    work = texture.bake(coloured, colour, 100)  # a size that is no power of two
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: Mesh = end.value
            return result


@pytest.fixture(scope="module")
def mapped(textured: Mesh) -> Mesh:
    """With a normal map, which is noise."""
    return replace(textured, normal_map=np.random.default_rng(0).integers(0, 256, (50, 50, 3)).astype(np.uint8))


def reread(path: Path) -> Any:
    return trimesh.load(path, process=False)


def parse(data: bytes) -> tuple[dict[str, Any], bytes]:
    magic, version, length, size, kind = struct.unpack_from("<4sIII4s", data)
    assert (magic, version, length, kind, size % 4) == (b"glTF", 2, len(data), b"JSON", 0)
    binary_size, binary_kind = struct.unpack_from("<I4s", data, 20 + size)
    assert (binary_kind, binary_size % 4, 28 + size + binary_size) == (b"BIN\0", 0, len(data))
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def read(document: dict[str, Any], binary: bytes, index: int) -> NDArray[Any]:
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    kind, width = np.dtype(COMPONENTS[accessor["componentType"]]), WIDTHS[accessor["type"]]
    assert view["byteLength"] == accessor["count"] * width * kind.itemsize
    values = np.frombuffer(binary, kind, accessor["count"] * width, view["byteOffset"])
    return values.reshape(-1, width)


@pytest.mark.parametrize("kind", ["plain", "coloured", "textured", "mapped"])
def test_glb_is_valid_by_hand(kind: str, coloured: Mesh, textured: Mesh, mapped: Mesh) -> None:
    plain = Mesh(coloured.vertices, coloured.faces)
    mesh = {"plain": plain, "coloured": coloured, "textured": textured, "mapped": mapped}[kind]
    document, binary = parse(export.glb(mesh, placement()))
    assert document["asset"]["version"] == "2.0"
    assert document["buffers"] == [{"byteLength": len(binary)}]
    end = 0
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0
        assert view["byteOffset"] >= end
        end = view["byteOffset"] + view["byteLength"]
    assert end <= len(binary) < end + 4
    assert len(document["meshes"]) == len(document["nodes"]) == len(document["materials"]) == 1
    (primitive,) = document["meshes"][0]["primitives"]
    attributes = primitive["attributes"]
    positions = read(document, binary, attributes["POSITION"])
    np.testing.assert_array_equal(positions, mesh.vertices)
    limits = document["accessors"][attributes["POSITION"]]
    assert limits["min"] == positions.min(axis=0).tolist()
    assert limits["max"] == positions.max(axis=0).tolist()
    normals = read(document, binary, attributes["NORMAL"])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(read(document, binary, primitive["indices"]).ravel(), mesh.faces.ravel())
    matrix = np.array(document["nodes"][0]["matrix"]).reshape(4, 4).T
    x, y, z = (placement() @ [0.3, -0.2, 0.5, 1])[:3]
    np.testing.assert_allclose(matrix @ [0.3, -0.2, 0.5, 1], [x, z, -y, 1])
    more = {"plain": set(), "coloured": {"COLOR_0"}, "textured": {"TEXCOORD_0"}, "mapped": {"TEXCOORD_0"}}[kind]
    assert set(attributes) == {"POSITION", "NORMAL"} | more
    surface = document["materials"][0]
    assert surface["doubleSided"] is False
    assert surface["pbrMetallicRoughness"]["metallicFactor"] == 0
    assert surface["pbrMetallicRoughness"]["roughnessFactor"] == 1


def test_glb_colours_are_linear_sixteen_bit(coloured: Mesh) -> None:
    document, binary = parse(export.glb(coloured, np.eye(4)))
    index = document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]
    assert document["accessors"][index]["normalized"] is True
    rgba = read(document, binary, index)
    assert rgba.dtype == np.uint16
    assert (rgba[:, 3] == 65535).all()
    back = np.rint(export.linear_to_srgb(rgba[:, :3] / 65535) * 255)
    np.testing.assert_array_equal(back, coloured.colors)


def test_glb_texture_and_its_coordinates(textured: Mesh) -> None:
    document, binary = parse(export.glb(textured, np.eye(4)))
    assert textured.uvs is not None and textured.texture is not None
    uvs = read(document, binary, document["meshes"][0]["primitives"][0]["attributes"]["TEXCOORD_0"])
    np.testing.assert_allclose(uvs, np.stack([textured.uvs[:, 0], 1 - textured.uvs[:, 1]], axis=1))
    surface, expected = document["materials"][0], export.png(textured.texture)
    assert picture(document, binary, surface["pbrMetallicRoughness"]["baseColorTexture"]) == expected
    assert "normalTexture" not in surface


def picture(document: dict[str, Any], binary: bytes, texture: dict[str, Any]) -> bytes:
    """The PNG that a material's texture is, laid over TEXCOORD_0."""
    assert set(texture) == {"index"}
    image = document["images"][document["textures"][texture["index"]]["source"]]
    view = document["bufferViews"][image["bufferView"]]
    assert image["mimeType"] == "image/png"
    return binary[view["byteOffset"] :][: view["byteLength"]]


def test_a_normal_map_stands_beside_the_texture(mapped: Mesh, tmp_path: Path) -> None:
    """In GLB and in what belongs to OBJ, byte by byte as it was; without one there is no trace of it."""
    assert mapped.texture is not None and mapped.normal_map is not None
    document, binary = parse(export.glb(mapped, np.eye(4)))
    surface = document["materials"][0]
    found = picture(document, binary, surface["pbrMetallicRoughness"]["baseColorTexture"])
    assert found == export.png(mapped.texture)
    assert picture(document, binary, surface["normalTexture"]) == export.png(mapped.normal_map)
    files = export.write_all(mapped, placement(), tmp_path, "lego")
    assert sorted(files.values()) == sorted(path.name for path in tmp_path.iterdir())
    with Image.open(tmp_path / files["normal_map"]) as image:
        np.testing.assert_array_equal(np.asarray(image), mapped.normal_map)
    told = (tmp_path / files["mtl"]).read_text().splitlines()
    assert "map_Bump -bm 1 lego_normals.png" in told and "norm lego_normals.png" in told
    glb = reread(tmp_path / files["mesh"]).dump()[0].visual.material
    np.testing.assert_array_equal(np.asarray(glb.normalTexture), mapped.normal_map)
    np.testing.assert_array_equal(np.asarray(glb.baseColorTexture.convert("RGB")), mapped.texture)


def test_normals_agree_across_texture_seams(textured: Mesh) -> None:
    document, binary = parse(export.glb(textured, np.eye(4)))
    normals = read(document, binary, document["meshes"][0]["primitives"][0]["attributes"]["NORMAL"])
    first, place = meshes.weld(textured.vertices)
    assert len(first) < len(textured.vertices)
    np.testing.assert_array_equal(normals, normals[first][place])
    outward = textured.vertices - np.array([0.2, 0.1, -0.1])
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    assert (np.einsum("ni,ni->n", normals, outward) > 0.97).all()


def test_every_format_lands_in_the_world(coloured: Mesh, textured: Mesh, tmp_path: Path) -> None:
    """Read back by an independent reader, each format gives the same place for the same vertex."""
    truth = export.to_world(coloured, placement())
    np.testing.assert_allclose(truth[5], (placement() @ [*coloured.vertices[5].tolist(), 1])[:3])
    volume = meshes.volume(coloured) * 2.5**3
    files = export.write_all(coloured, placement(), tmp_path)
    assert files == {"mesh": "mesh.glb", "ply": "mesh.ply", "obj": "mesh.obj"}
    assert sorted(files.values()) == sorted(path.name for path in tmp_path.iterdir())
    scene = reread(tmp_path / "mesh.glb")
    (glb,) = scene.dump()
    np.testing.assert_allclose(glb.vertices[:, [0, 2, 1]] * [1, -1, 1], truth, atol=1e-5)
    for name in ("mesh.ply", "mesh.obj"):
        mesh = reread(tmp_path / name)
        assert mesh.is_watertight
        assert mesh.volume == pytest.approx(volume, rel=1e-4)  # positive: not inside out
        order, theirs = (np.lexsort(np.round(v, 4).T) for v in (truth, mesh.vertices))
        np.testing.assert_allclose(mesh.vertices[theirs], truth[order], atol=2e-5)
        assert coloured.colors is not None
        shown = mesh.visual.vertex_colors[theirs][:, :3].astype(int)
        assert np.abs(shown - coloured.colors[order].astype(int)).max() <= 1
    (tmp_path / "textured").mkdir()
    files = export.write_all(textured, placement(), tmp_path / "textured", "lego")
    assert files["texture"] == "lego.png"
    ply = reread(tmp_path / "textured" / "lego.ply")
    assert len(ply.vertices) == len(coloured.vertices)  # welded
    assert ply.is_watertight


def test_obj_shows_its_texture(textured: Mesh, tmp_path: Path) -> None:
    export.write_all(textured, placement(), tmp_path)
    mesh = reread(tmp_path / "mesh.obj")
    image = np.asarray(mesh.visual.material.image.convert("RGB"))
    np.testing.assert_array_equal(image, textured.texture)
    box = np.linalg.inv(placement())
    points = mesh.vertices @ box[:3, :3].T + box[:3, 3]
    uvs = mesh.visual.uv
    row = np.clip(((1 - uvs[:, 1]) * 100).astype(int), 0, 99)
    column = np.clip((uvs[:, 0] * 100).astype(int), 0, 99)
    normals = np.zeros_like(points)
    error = np.abs(image[row, column] / 255 - colour(points.astype(np.float32), normals.astype(np.float32)))[:, :2]
    assert np.median(error) < 0.02
    assert error.max() < 0.1
    assert "map_Kd mesh.png" in (tmp_path / "mesh.mtl").read_text()


def test_files_are_the_same_bytes_every_time(textured: Mesh, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        export.write_all(textured, placement(), tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    with Image.open(tmp_path / "a" / "mesh.png") as image:
        assert image.mode == "RGB"


def test_transfer_functions_are_those_of_the_standard() -> None:
    """IEC 61966-2-1 at its known points, each the inverse of the other, monotone over the joint."""
    known = {0.0: 0.0, 0.04045: 0.0031308, 0.5: 0.21404114048, 0.735356983052449: 0.5, 1.0: 1.0}
    for encoded, light in known.items():
        assert export.srgb_to_linear(np.array(encoded)) == pytest.approx(light, abs=1e-7)
        assert export.linear_to_srgb(np.array(light)) == pytest.approx(encoded, abs=1e-6)
    ramp = np.linspace(0, 1, 10001)
    np.testing.assert_allclose(export.linear_to_srgb(export.srgb_to_linear(ramp)), ramp, atol=1e-6)
    assert (np.diff(export.srgb_to_linear(ramp)) > 0).all()
