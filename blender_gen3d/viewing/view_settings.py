# SPDX-License-Identifier: GPL-3.0-or-later
"""What rendering views, a turntable and a new surface can be told. Needs no bpy."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..bridge import settings

option = settings.option


@dataclass(frozen=True)
class ViewSettings:
    """Which views of a trained field are rendered, and into what."""

    frames: str = option(
        "current",
        choices=("current", "animation"),
        help="the current frame, or every one from the scene's start to end",
    )
    step: int = option(1, low=1, high=10_000, help="of an animation, every how many frames a view is rendered")
    with_scene: bool = option(
        True,
        help="render the scene as well and put the field into it, each pixel by its depth; without, the field alone",
    )
    device: str = option("auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute the field's part")


@dataclass(frozen=True)
class TurntableSettings:
    """A camera that goes around the selected objects once."""

    frames: int = option(120, low=2, high=100_000, help="frames for once around, from the scene's first frame on")
    elevation: float = option(20.0, low=-89.0, high=89.0, help="how high the camera stands, above the horizon")
    distance: float = option(
        0.0, low=0.0, high=1e6, help="from the middle of the objects; 0 lets them fill the picture"
    )
    lens: float = option(50.0, low=1.0, high=5000.0, help="focal length of the camera in millimetres")


@dataclass(frozen=True)
class ResultSettings:
    """How an imported object is made again."""

    density: float = option(
        0.0,
        low=-6.0,
        high=6.0,
        help="where the surface lies, in doublings of the density that was found to be best: below 0 it becomes fuller "
        "and keeps thin parts, above 0 tighter and free of haze",
    )
    mesh: settings.MeshSettings = field(default_factory=settings.MeshSettings)
    bake_size: int = option(1024, low=16, high=8192, help="side of the texture in pixels")
    bake_normals: bool = option(False, help="also bake what the mesh loses with its triangles into a normal map")
    bake_faces: int = option(
        0, low=0, high=5_000_000, help="target number of triangles before the texture is made; 0 keeps all"
    )
    refine_prompt: str = option(
        "", longest=2000, help="what the object is to become, in words; empty refines it as what it is"
    )
    refine_shape: bool = option(True, help="let the shape change; off: only its colours do")
    quads: int = option(5000, low=100, high=200_000, help="about how many faces there are to be")
