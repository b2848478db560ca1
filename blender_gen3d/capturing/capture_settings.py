# SPDX-License-Identifier: GPL-3.0-or-later
"""What a capture can be told to do. Needs no bpy; limits and explanations stand here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from ..bridge import errors, settings

option = settings.option
SPHERE_SIZE = 400  # pixels each way, unless told: what small objects need, and minutes instead of hours
_SIZE = f"0 means {SPHERE_SIZE} for cameras on a sphere, else the scene's resolution"


@dataclass(frozen=True)
class CaptureSettings:
    """Which views of the scene are rendered, how, and in which dialect they are written."""

    mode: str = option(
        "sphere",
        choices=("sphere", "animation", "cameras"),
        help="cameras on a sphere around the objects, the scene's camera along its animation, or all chosen cameras",
    )
    dialect: str = option(
        "nerfstudio",
        choices=("nerfstudio", "instant-ngp", "nerf-synthetic"),
        help="how the poses are written: the programs that read them differ",
    )
    views: int = option(100, low=2, high=100_000, help="number of cameras on the sphere")
    radius: float = option(
        0.0, low=0.0, high=1e6, help="distance of the cameras from the centre; 0 lets the objects fill the picture"
    )
    around: str = option(
        "objects", choices=("objects", "cursor"), help="centre of the sphere: middle of the objects, or the 3D cursor"
    )
    lens: float = option(50.0, low=1.0, high=5000.0, help="focal length of the cameras on the sphere in millimetres")
    elevation_min: float = option(-90.0, low=-90.0, high=90.0, help="lowest camera, in degrees above the horizon")
    elevation_max: float = option(90.0, low=-90.0, high=90.0, help="highest camera, in degrees above the horizon")
    upper_half: bool = option(False, help="no camera below the horizon, as for objects that stand on the ground")
    seed: int = option(0, low=0, high=settings.SEED_MAX, help="same seed: same cameras on the sphere, same noise")
    step: int = option(1, low=1, high=10_000, help="along an animation, every how many frames a view is rendered")
    width: int = option(0, low=0, high=16_384, help=f"picture width in pixels; {_SIZE}")
    height: int = option(0, low=0, high=16_384, help=f"picture height in pixels; {_SIZE}")
    engine: str = option(
        "cycles", choices=("cycles", "scene"), help="render with Cycles, or with the engine the scene is set to"
    )
    samples: int = option(64, low=1, high=65_536, help="Cycles samples for each pixel")
    denoise: bool = option(False, help="remove the noise of few samples; can smear fine texture")
    isolate: bool = option(
        True, help="only the chosen objects are seen; with Cycles the others still light and shade them"
    )
    val: float = option(0.0, low=0.0, high=0.5, help="share of the views set aside for validation")
    test: float = option(0.1, low=0.0, high=0.5, help="share of the views set aside to measure the quality")
    depth: bool = option(False, help="also write depth: 16-bit PNG in millimetres along the view, 0 for no surface")
    normal: bool = option(False, help="also write normals: 8-bit PNG, world axes, 0 to 255 for -1 to 1")
    mask: bool = option(False, help="also write masks: white where the chosen objects are seen")


def checked(values: dict[str, object]) -> CaptureSettings:
    """Capture settings from plain values. Raises Gen3DError naming the one at fault."""
    plan: CaptureSettings = settings.parse(CaptureSettings, values, "capture")
    if (plan.width == 0) != (plan.height == 0):
        raise errors.Gen3DError(
            f"The picture size {plan.width} x {plan.height} is half given.",
            "Give width and height, or neither.",
            field="capture.width",
        )
    if plan.mode == "sphere" and lowest(plan) >= plan.elevation_max:
        raise errors.Gen3DError(
            f"No camera fits between {lowest(plan):g} and {plan.elevation_max:g} degrees of elevation.",
            "Raise the highest elevation or lower the lowest.",
            field="capture.elevation_max",
        )
    return plan


def lowest(plan: CaptureSettings) -> float:
    """The lowest elevation in degrees, the horizon where only the upper half is wanted."""
    return max(0.0, plan.elevation_min) if plan.upper_half else plan.elevation_min
