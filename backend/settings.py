# SPDX-License-Identifier: GPL-3.0-or-later
"""What each job can be told to do. Standard library only: both sides of the socket share it.

One dataclass per job kind. The limits stand in the field's metadata and nowhere else: the wire check, the
command line's options and the panel's properties are all made from them, so they cannot disagree.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from .errors import Gen3DError

T = TypeVar("T")

SEED_MAX = 2**31 - 1


def option(
    default: Any = MISSING,
    *,
    help: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    subtype: str | None = None,
    longest: int | None = None,
) -> Any:
    """A dataclass field with its limits (inclusive), its choices and its one-line explanation.

    ``subtype`` says what a text is: "path" (an existing file or folder on the backend's machine), "file" (an existing
    file there); ``longest`` how many characters it has at most.
    """
    metadata = {
        "help": help, "low": low, "high": high, "choices": choices, "subtype": subtype, "longest": longest
    }  # fmt: skip
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


@dataclass(frozen=True)
class MeshSettings:
    """How a surface is taken out of a density field."""

    level: float = option(
        0.0, low=0.0, high=1e4, help="density at which the surface lies, per unit of the training box; 0 finds it"
    )
    resolution: int = option(192, low=32, high=768, help="cells of the iso-surface grid along the longest side")
    faces: int = option(100_000, low=0, high=5_000_000, help="target number of triangles; 0 keeps all")
    floaters: float = option(
        0.02, low=0.0, high=1.0, help="loose parts smaller than this share of the largest part are removed"
    )
    watertight: bool = option(False, help="close every hole, so that the mesh bounds a solid")
    texture: int = option(
        0, low=0, high=8192, help="side of the baked texture in pixels; 0 gives vertex colours instead of UVs"
    )
    normal_map: bool = option(
        False, help="with a texture: also bake what the mesh loses with its triangles into a normal map"
    )


@dataclass(frozen=True)
class NerfSettings:
    """Posed views to a radiance field, its metrics and its mesh."""

    dataset: str = option(subtype="path", help="folder with transforms.json, or the JSON file itself")
    preset: str = option("fast", choices=("fast", "paper"), help="hash grid (minutes), or the MLP of the paper (days)")
    seconds: float = option(
        120.0, low=0.0, high=7 * 86400.0, help="training time; 0 trains for the given number of steps instead"
    )
    steps: int = option(
        0, low=0, high=10_000_000, help="training steps, where seconds is 0 or lasts longer; 0 takes the preset's"
    )
    seed: int = option(0, low=0, high=SEED_MAX, help="same seed, same device, same number of steps: same result")
    scene: str = option(
        "auto",
        choices=("auto", "bounded", "unbounded"),
        help="one object in a box, or a whole surrounding (contracted); auto looks for transparent backgrounds",
    )
    exposure: bool = option(False, help="learn one exposure per image, for photographs taken with automatic exposure")
    device: str = option("auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")
    turntable: int = option(0, low=0, high=720, help="frames of the turntable film; 0 makes none")
    mesh: MeshSettings = field(default_factory=MeshSettings)


@dataclass(frozen=True)
class RemeshSettings:
    """A new mesh from a saved field, without training."""

    result: str = option(subtype="path", help="result folder of a finished job")
    device: str = option("auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")
    mesh: MeshSettings = field(default_factory=MeshSettings)


@dataclass(frozen=True)
class RenderSettings:
    """Novel views of a saved field."""

    result: str = option(subtype="path", help="result folder of a finished job")
    cameras: str = option(
        "",
        subtype="path",
        help="JSON camera path: 4x4 camera-to-world matrices, or frames with transform_matrix and, if they are to have "
        "lenses of their own, w, h, fl_x, fl_y, cx and cy; empty makes a turntable",
    )
    frames: int = option(60, low=1, high=7200, help="frames of the turntable, where no camera path is given")
    width: int = option(0, low=0, high=8192, help="picture width in pixels; 0 takes the path's, or the training's")
    height: int = option(0, low=0, high=8192, help="picture height in pixels; 0 takes the path's, or the training's")
    png: bool = option(
        True, help="write the views as 8-bit PNG in sRGB, with straight alpha where the training pictures had it"
    )
    exr: bool = option(
        False, help="write the views as OpenEXR: linear light premultiplied by alpha, and Z, the depth in world units"
    )
    film: bool = option(True, help="also write the views as an MP4 film")
    device: str = option("auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")


@dataclass(frozen=True)
class BakeSettings:
    """Any mesh to one with UVs and a texture."""

    source: str = option(subtype="file", help="mesh: a PLY or GLB file")
    result: str = option(
        "",
        subtype="path",
        help="result folder of a finished training whose field gives the colours, the mesh in its box coordinates; "
        "empty takes the colours of the mesh's own vertices",
    )
    faces: int = option(0, low=0, high=5_000_000, help="target number of triangles; 0 keeps all")
    texture: int = option(1024, low=16, high=8192, help="side of the baked texture in pixels")
    normal_map: bool = option(False, help="also bake what the mesh loses with its triangles into a normal map")
    device: str = option("auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")


@dataclass(frozen=True)
class DreamFieldsSettings:
    """The techniques of Dream Fields, each of which can be left out."""

    poses: bool = option(True, help="look from all around, not only from the front")
    transmittance: bool = option(True, help="reward light that passes, so that nothing needless stays in the air")
    backgrounds: bool = option(True, help="change what is behind the thing with every look")
    localisation: bool = option(True, help="begin in the middle, bounded by a cube that follows the thing")
    crops: int = option(
        0,
        low=0,
        high=64,
        help="looks at each picture in a step, each in front of another background; 0 takes the preset's",
    )
    elevation_jitter: float = option(
        0.0, low=0.0, high=60.0, help="degrees by which the camera is lower or higher than usual, at most"
    )
    focal_jitter: float = option(0.0, low=0.0, high=0.9, help="share by which its focal length is changed, at most")


@dataclass(frozen=True)
class DreamFusionSettings:
    """The techniques of DreamFusion, and what helps against things with several faces."""

    first_image: bool = option(True, help="draw a picture of the words first, and show it")
    reference: bool = option(False, help="hold the front view against that picture")
    shading: bool = option(True, help="light the thing by random lamps, which shows what is only painted on")
    orientation: bool = option(True, help="keep surfaces turned towards the camera")
    opacity: bool = option(True, help="keep the air clear")
    background: bool = option(True, help="learn what is behind the thing, where the preset does; off: greys are there")
    sphere: bool = option(True, help="bound the thing by a sphere; off: nothing does")
    blob: bool = option(True, help="begin as a ball in the middle; off: as an even fog")
    shaking: bool = option(True, help="move and turn the camera at random, where the preset does")
    view_prompts: bool = option(True, help="say in the prompt from which side the thing is seen")
    front: str = option("", longest=2000, help="prompt of the front view; empty: the prompt and its side")
    side: str = option("", longest=2000, help="prompt of the side views; empty: the prompt and its side")
    back: str = option("", longest=2000, help="prompt of the back view; empty: the prompt and its side")
    overhead: str = option("", longest=2000, help="prompt of the view from above; empty: the prompt and its side")
    perp_neg: float = option(
        -1.0, low=-1.0, high=10.0, help="how much the other sides are avoided in each view; 0: not; -1: as suits"
    )
    annealing: bool = option(False, help="let the noise become less while the thing takes shape")
    debiasing: bool = option(
        False, help="clip what the model says, less and less: another remedy against several faces"
    )
    time_low: float = option(
        0.0,
        low=0.0,
        high=1.0,
        help="least noise that the model is asked about, as a share of all its steps; 0: as suits",
    )
    time_high: float = option(0.0, low=0.0, high=1.0, help="most noise that it is asked about; 0: as suits")
    weighting: str = option(
        "auto",
        choices=("auto", "sigma2", "uniform", "signal-noise"),
        help="how much what it says counts at each noise level; sigma2 is the paper's",
    )
    frugal: bool = option(False, help="ask the model one prompt at a time: less memory, and slower")


@dataclass(frozen=True)
class Magic3DSettings:
    """What Magic3D's two stages do."""

    coarse: bool = option(True, help="make or change the shape as a field first; off: refine the start shape as it is")
    shape: bool = option(True, help="let the shape change in the fine stage; off: only its colours do")
    tetrahedra: int = option(
        0, low=0, high=256, help="layers of the grid that the fine shape follows; 0 takes the preset's"
    )
    fine_iterations: int = option(
        0, low=0, high=1_000_000, help="training steps of the fine stage; 0 takes the preset's"
    )
    fine_rendered: int = option(
        0, low=0, high=1024, help="side in pixels of the pictures in the fine stage; 0 takes the preset's"
    )
    normal_views: float = option(
        0.0, low=0.0, high=1.0, help="share of the fine steps that show the model the surface's normals as colours"
    )
    coarse_weights: str = option(
        "auto", help="model that guides the coarse stage, where it is to be another one, such as one of pixels"
    )


@dataclass(frozen=True)
class GenerateSettings:
    """Words, or a picture, to a coloured mesh."""

    prompt: str = option("", longest=2000, help="what to make, in words")
    negative_prompt: str = option("", longest=2000, help="what not to make, in words")
    image: str = option("", subtype="file", help="picture of the thing, in place of words")
    system: str = option(
        "point-e",
        choices=("point-e", "dream-fields", "dreamfusion", "magic3d"),
        help="how to make it: points, a field that CLIP guides, one that a text-to-image model guides, or such a field "
        "and then a fine mesh of it",
    )
    preset: str = option("fast", choices=("fast", "paper"), help="of fields: hash grid, or the network of the paper")
    weights: str = option(
        "auto", help="auto, embedded, a published model such as base40M-textvec, or a folder; auto: what is installed"
    )
    text_to_image: str = option(
        "", help="name or folder of a diffusers pipeline that draws the words, for models that look at pictures"
    )
    remove_background: bool = option(False, help="cut the thing out of its picture, with the library rembg")
    count: int = option(1, low=1, high=16, help="how many results, of this seed and those after it")
    seed: int = option(0, low=0, high=SEED_MAX, help="same seed, same words, same device: same result")
    guidance: float = option(0.0, low=0.0, high=200.0, help="how closely to follow the words; 0 takes the model's own")
    steps: int = option(0, low=0, high=1024, help="sampling steps of each stage; 0 takes the model's own")
    points: int = option(0, low=0, high=8192, help="points of the first stage; 0 takes the model's own")
    iterations: int = option(0, low=0, high=1_000_000, help="training steps of a field; 0 takes the preset's")
    rendered: int = option(
        0, low=0, high=512, help="side in pixels of the pictures that a field is trained on; 0 takes the preset's"
    )
    views: int = option(0, low=0, high=64, help="pictures of a field in each training step; 0 takes the preset's")
    start: str = option("", subtype="path", help="mesh (PLY or GLB) or result folder that a field begins as")
    begin: str = option(
        "auto",
        choices=("auto", "fog", "points"),
        help="what a field begins as without a start: a ball of fog, or the points that Point-E makes of the words; "
        "auto: points with embedded priors",
    )
    scorer: str = option("", help="CLIP by which several results of one prompt are ranked; empty takes what is there")
    lora: str = option(
        "",
        subtype="path",
        help="LoRA of a thing or a style for the text-to-image model: a file, or a folder of several",
    )
    lora_scale: float = option(1.0, low=-2.0, high=2.0, help="how much of the LoRA is added to the model")
    inversion: str = option("", subtype="path", help="textual inversion: file or folder with what a new word means")
    token: str = option(
        "", longest=80, help="how the prompt calls the textual inversion, such as [V]; empty: as its file says"
    )
    style: str = option("", subtype="file", help="picture whose style is taken over")
    style_adapter: str = option(
        "", help="IP-Adapter that looks at that picture: a name or a path; empty: the published one for the model"
    )
    style_scale: float = option(0.6, low=0.0, high=2.0, help="how much that picture counts beside the words")
    dream_fields: DreamFieldsSettings = field(default_factory=DreamFieldsSettings)
    dreamfusion: DreamFusionSettings = field(default_factory=DreamFusionSettings)
    magic3d: Magic3DSettings = field(default_factory=Magic3DSettings)
    resolution: int = option(128, low=32, high=256, help="samples of the surface's grid along each side")
    faces: int = option(50_000, low=0, high=5_000_000, help="target number of triangles; 0 keeps all")
    texture: int = option(
        0,
        low=0,
        high=8192,
        help="side of the baked texture in pixels; 0 gives vertex colours instead of UVs, and Magic3D the usual 1024",
    )
    normal_map: bool = option(
        False, help="with a texture: also bake what the mesh loses with its triangles into a normal map"
    )
    size: float = option(
        0.0, low=0.0, high=1e4, help="largest side of the result in metres; 0 takes what is usual for such a thing"
    )
    save_points: bool = option(False, help="also write the point cloud")
    device: str = option("auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")

    def check(self) -> None:
        """Raises Gen3DError where there is nothing to make, or a picture for a system that takes words."""
        if self.image and self.system != "point-e":
            cause = f"{TITLES[self.system]} makes things of words, not of a picture."
            raise Gen3DError(cause, "Leave the image out, or take Point-E.", field="image")
        if not self.image and not self.prompt.strip():
            more = ", or give an image of it" if self.system == "point-e" else ""
            raise Gen3DError("There is no prompt.", f"Say in words what to make{more}.", field="prompt")
        low, high = self.dreamfusion.time_low, self.dreamfusion.time_high
        if self.system in DISTILLING and low and high and low > high:
            cause = f"The least noise, {low:g}, is more than the most, {high:g}."
            raise Gen3DError(cause, "Let time_low be at most time_high.", field="dreamfusion.time_low")
        if self.system == "magic3d" and not self.start and not (self.magic3d.coarse and self.magic3d.shape):
            cause = "There is no shape that could stay as it is."
            raise Gen3DError(cause, "Give a mesh or a result to start with, or let the shape change.", field="start")


TITLES = {"point-e": "Point-E", "dream-fields": "Dream Fields", "dreamfusion": "DreamFusion", "magic3d": "Magic3D"}
DISTILLING = ("dreamfusion", "magic3d")
DISTILLED = (
    "negative_prompt", "start", "begin", "preset", "iterations", "rendered", "views", "guidance", "weights", "scorer",
    "lora", "lora_scale", "inversion", "token", "style", "style_adapter", "style_scale", "faces", "texture",
    "normal_map", "dreamfusion",
)  # fmt: skip
"""What systems can be told that a text-to-image model guides."""
SYSTEMS = {
    "point-e": (
        "image", "text_to_image", "remove_background", "weights", "guidance", "steps", "points", "resolution", "faces",
        "texture", "normal_map", "save_points",
    ),
    "dream-fields": (
        "start", "begin", "preset", "iterations", "rendered", "views", "weights", "scorer", "resolution", "faces",
        "texture", "normal_map", "dream_fields",
    ),
    "dreamfusion": (*DISTILLED, "resolution"),
    "magic3d": (*DISTILLED, "magic3d"),
}  # fmt: skip
"""What each system can be told, besides what all can."""
OF_ALL_SYSTEMS = ("system", "prompt", "count", "seed", "size", "device")


@dataclass(frozen=True)
class PersonaliseSettings:
    """Pictures of one thing to a LoRA, with which a text-to-image model knows it."""

    images: str = option(subtype="path", help="folder with three to ten pictures of the thing")
    prompt: str = option("", longest=2000, help='what they show, with a word of its own: "a photo of [V] dog"')
    weights: str = option(
        "auto", help="auto, embedded, or name or folder of a diffusers pipeline; auto: what is installed"
    )
    steps: int = option(500, low=1, high=100_000, help="training steps")
    rate: float = option(1e-4, low=1e-7, high=1.0, help="learning rate")
    rank: int = option(8, low=1, high=256, help="rank of the matrices: how much they can hold")
    resolution: int = option(0, low=0, high=2048, help="side in pixels of the pictures; 0 takes the model's own")
    class_images: str = option(
        "", subtype="path", help="folder with pictures of other such things, which the model is to go on knowing"
    )
    class_prompt: str = option("", longest=2000, help='what those show: "a photo of a dog"')
    seed: int = option(0, low=0, high=SEED_MAX, help="same seed, same pictures, same device: same result")
    device: str = option("auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")

    def check(self) -> None:
        """Raises Gen3DError where there are no words, or only half of what is to stay known."""
        if not self.prompt.strip():
            cause = "There is no prompt."
            raise Gen3DError(cause, 'Say what the pictures show: --prompt "a photo of [V] dog".', field="prompt")
        if bool(self.class_images) != bool(self.class_prompt.strip()):
            cause = "Pictures of other such things and what they show go together."
            raise Gen3DError(cause, "Give both --class-images and --class-prompt, or neither.", field="class_images")


@dataclass(frozen=True)
class EvaluateSettings:
    """How good results are: CLIP R-Precision, P-IS and P-FID. No job: the command line's alone."""

    reference: str = option(
        "", subtype="path", help="folder of clouds or meshes for P-FID; empty takes things of the embedded world"
    )
    captions: str = option("", subtype="path", help="text file of more captions to choose from, one a line")
    clip: str = option("", help="name or path of the CLIP that judges; empty takes an installed, or the embedded one")
    pointnet: str = option("", help="name or path of the PointNet++; empty takes the installed, or the embedded one")
    views: int = option(4, low=1, high=64, help="pictures of each result for R-Precision")
    points: int = option(1024, low=64, high=16384, help="points of each result for P-IS and P-FID")
    seed: int = option(0, low=0, high=SEED_MAX, help="of the points that are taken")
    device: str = option("auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")


KINDS: dict[str, type[Any]] = {
    "generate": GenerateSettings,
    "nerf": NerfSettings,
    "remesh": RemeshSettings,
    "render": RenderSettings,
    "bake": BakeSettings,
    "personalise": PersonaliseSettings,
}

FILES = {"generate": {".glb": "mesh", ".ply": "ply", ".obj": "obj"}, "personalise": {".safetensors": "lora"}}
"""What results may be as a single file, and its role in them."""


def parse(cls: type[T], values: object, where: str = "params", *, whole: bool = True) -> T:
    """Checked settings from decoded JSON.

    Raises Gen3DError naming the field (``params.mesh.level``) that is unknown, missing, of the wrong type, not
    finite, outside its limits or not among its choices. No value is converted silently except int to float. What
    settings ask of each other stands in their ``check``; ``whole=False`` leaves it out, for what is still being chosen.
    """
    if not isinstance(values, dict):
        raise Gen3DError(f"{where} must be an object.", "Send the settings as name and value pairs.", field=where)
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise Gen3DError(
                f"{where}.{str(name)[:60]} is not a setting.",
                f"Known here: {', '.join(sorted(known))}.",
                field=f"{where}.{str(name)[:60]}",
            )
    hints = get_type_hints(cls)
    checked = {}
    for name, spec in known.items():
        path = f"{where}.{name}"
        if name in values:
            checked[name] = _checked(spec, hints[name], values[name], path)
        elif spec.default is MISSING and spec.default_factory is MISSING:
            raise Gen3DError(f"{path} is missing.", f"Give it: {spec.metadata['help']}.", field=path)
    made = cls(**checked)
    if whole and (check := getattr(made, "check", None)):
        check()
    return made


def _checked(spec: Field[Any], kind: Any, value: object, path: str) -> Any:
    if is_dataclass(kind):
        return parse(kind, value, path)  # type: ignore[arg-type]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**63 else math.inf
    if type(value) is not kind:
        raise Gen3DError(f"{path} must be of type {kind.__name__}.", f"It is {spec.metadata['help']}.", field=path)
    low, high, choices = spec.metadata["low"], spec.metadata["high"], spec.metadata["choices"]
    if isinstance(value, float) and not math.isfinite(value):
        raise Gen3DError(f"{path} is not a finite number.", f"Give a number from {low:g} to {high:g}.", field=path)
    if isinstance(value, int | float) and low is not None and high is not None and not low <= value <= high:
        raise Gen3DError(f"{path} = {value:g} is out of range.", f"Give {low:g} to {high:g}.", field=path)
    if choices is not None and value not in choices:
        raise Gen3DError(f"{path} = {value!r:.60} is unknown.", f"Choose one of {', '.join(choices)}.", field=path)
    longest = spec.metadata["longest"]
    if isinstance(value, str) and longest is not None and len(value) > longest:
        raise Gen3DError(f"{path} has {len(value)} characters.", f"Give {longest} at most.", field=path)
    if isinstance(value, str) and "\0" in value:
        raise Gen3DError(f"{path} holds a NUL character.", "Remove it.", field=path)
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):  # not UTF-8
        step = "Rename that file or folder." if spec.metadata["subtype"] else "Type the text anew."
        raise Gen3DError(f"{path} holds half of a character (a lone surrogate).", step, field=path)
    return value
