# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory a job needs, and what to ask of it where there is less. Standard library only.

The figures are fitted to the most that workers held on a CPU, which ``benchmarks/memory.py`` measures again. A GPU
holds the same tensors, without the libraries; what that takes has not been measured.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from . import dataset_size
from .settings import (
    DISTILLING,
    KINDS,
    BakeSettings,
    GenerateSettings,
    MeshSettings,
    NerfSettings,
    PersonaliseSettings,
    RemeshSettings,
    parse,
)

MIB, GB = 2**20, 1e9
LIBRARIES = 540 * MIB  # torch and what goes with it, at work
CLOUD_VOXEL, FIELD_VOXEL = 105, 6.5  # bytes for each sample of a surface's grid
TEXEL = 90  # bytes for each pixel of a texture that is baked
FIELD = 700 * MIB  # hash tables, their moments and a training step
READING = 120 * MIB  # what reading pictures takes, besides them
PICTURES = 30 * MIB  # where nothing is known of them: a hundred small ones
WEIGHT = 4  # bytes
CLIP, UPSAMPLER = 428, 40  # million weights
MILLIONS = {"base40M-textvec": 40, "base1B": 1240, "base300M": 312, "base40M": 40, "base40M-imagevec": 40}
POINT_E = {"upsample", "sdf", "clip-vit-l14"}  # what each of these goes with
EMBEDDED = 6
GUIDES = {"clip-vit-b16": 150, "clip-vit-b32": 151, "clip-vit-l14": 428}
DIFFUSION = {"stabilityai/stable-diffusion-xl-base-1.0": (2651, 818), "DeepFloyd/IF-I-XL-v1.0": (4300, 4762)}
STABLE = (947, 123)  # any other: a Stable Diffusion. What reads words comes second
FOG = 1500 * MIB  # a field of which everything is still half transparent, being trained at these:
RENDERED = {"dream-fields": 168, "dreamfusion": 64, "magic3d": 64}  # pixels of a side, usually
LOOKED_AT = 70  # by the embedded CLIP, of Dream Fields: it renders no more
FITTED = RENDERED | {"dream-fields": LOOKED_AT}  # pixels of a side, of VIEWS
RAY = 38 * 2**10  # what each ray more than those takes
VIEWS = 4  # a step
PAPERS_VIEWS = {"dream-fields": 8, "dreamfusion": 1, "magic3d": 32}
PLAIN = 1 / 3  # the share of it that does not go with how much is rendered
PASSES = 800 * MIB  # what the activations of a text-to-image model take more with all prompts in one pass
LEARNING = 3.0  # what a text-to-image model takes while it learns a thing, in its weights
STYLE = 650  # million weights of an IP-Adapter and its image encoder
FINE, FINE_PIXEL, FINE_CELL = 230 * MIB, 480, 100  # of Magic3D's second stage; bytes a pixel and a cell of its grid
FINE_RENDERED, TETRAHEDRA = (512, 96), (128, 64)  # what is usual there, and what is with the embedded prior
FINE_TEXTURE = 1024
KEPT_FIELD = 60 * MIB  # one that is finished, until all are

LEAST_RENDERED = 32
LEAST_FINE_RENDERED, LEAST_TETRAHEDRA = 64, 32
SHARE = 0.9  # of the free memory that a job may take
LEAST_RESOLUTION, LEAST_TEXTURE = 64, 512


@dataclass(frozen=True)
class Fit:
    """need: bytes, with ``params``, which are as they were wanted or stepped down; told: "", or what was done."""

    need: int
    params: dict[str, Any]
    told: str


def need(kind: str, params: object, device: str, installed: Collection[str] = ()) -> int:
    """The most bytes that a job takes on a device of this type ("cpu", "cuda", "mps"). ``installed``: the names of
    the weights that are. Of a dataset that is on this computer, the pictures count. Raises Gen3DError for wrong params.
    """
    return _need(parse(KINDS[kind], params, whole=False), device, installed)


def fitted(kind: str, params: object, device: str, free: int | None, installed: Collection[str] = ()) -> Fit:
    """The job as it can run with ``free`` bytes (None: not known): at its best, or with fewer details."""
    wanted = parse(KINDS[kind], params, whole=False)
    most = _need(wanted, device, installed)
    if free is None or most <= SHARE * free:
        return Fit(most, asdict(wanted), "")
    chosen, done = wanted, ""
    for lower, said in rungs(wanted, installed):
        chosen, done = lower, said
        if _need(chosen, device, installed) <= SHARE * free:
            break
    told = f"It needs about {most / GB:.1f} GB, and {free / GB:.1f} GB are free"
    return Fit(
        _need(chosen, device, installed), asdict(chosen), f"{told}: {done}." if done else f"{told}. It may fail."
    )


def rungs(settings: Any, installed: Collection[str] = ()) -> Iterator[tuple[Any, str]]:
    """The ladder down: settings that need less and less, and what is said of each."""
    while True:
        if isinstance(settings, GenerateSettings) and (training := _lower_training(settings, installed)):
            settings, done = training
            yield settings, done
        elif isinstance(settings, GenerateSettings) and settings.texture >= 4 * LEAST_TEXTURE:
            settings = replace(settings, texture=settings.texture // 2)
            yield settings, f"the texture has {settings.texture} pixels a side"
        elif (
            isinstance(settings, GenerateSettings)
            and settings.system != "magic3d"
            and settings.resolution >= 2 * LEAST_RESOLUTION
        ):
            settings = replace(settings, resolution=settings.resolution // 2)
            yield settings, f"the surface is sampled {settings.resolution} times a side"
        elif isinstance(settings, BakeSettings) and settings.texture >= 2 * LEAST_TEXTURE:
            settings = replace(settings, texture=settings.texture // 2)
            yield settings, f"the texture has {settings.texture} pixels a side"
        elif isinstance(settings, NerfSettings | RemeshSettings) and (lower := _lower_mesh(settings.mesh)):
            settings = replace(settings, mesh=lower)
            texture = f", its texture {lower.texture} pixels" if lower.texture else ""
            yield settings, f"the mesh has {lower.resolution} cells a side{texture}"
        else:
            return


def _lower_training(settings: GenerateSettings, installed: Collection[str]) -> tuple[GenerateSettings, str] | None:
    """What a field loses least by first."""
    if settings.system not in RENDERED:
        return None
    if settings.system in DISTILLING and not settings.dreamfusion.frugal:
        lower = replace(settings, dreamfusion=replace(settings.dreamfusion, frugal=True))
        return lower, "the text-to-image model is asked one prompt at a time, and reads them on the processor"
    name = _weights(settings, installed)
    if _views(settings, name) != 1:
        return replace(settings, views=1), "each step looks at one picture"
    if settings.system == "magic3d" and (finer := _lower_fine(settings, installed)):
        return finer
    side = _rendered(settings, name)
    if side >= 2 * LEAST_RENDERED:
        return replace(settings, rendered=side // 2), f"the pictures have {side // 2} pixels a side"
    return None


def _lower_fine(settings: GenerateSettings, installed: Collection[str]) -> tuple[GenerateSettings, str] | None:
    """Magic3D with less of what its second stage takes most for; None where the first one takes more."""
    name = _weights(settings, installed)
    side, layers = _fine_sizes(settings, name)
    if _fine(settings, name) <= _coarse(settings, name):
        return None
    pixels, cells = FINE_PIXEL * _views(settings, name) * side**2, FINE_CELL * layers**3
    if side >= 2 * LEAST_FINE_RENDERED and (pixels >= cells or layers < 2 * LEAST_TETRAHEDRA):
        lower = replace(settings, magic3d=replace(settings.magic3d, fine_rendered=side // 2))
        return lower, f"the fine stage's pictures have {side // 2} pixels a side"
    if layers >= 2 * LEAST_TETRAHEDRA:
        lower = replace(settings, magic3d=replace(settings.magic3d, tetrahedra=layers // 2))
        return lower, f"the fine shape has {layers // 2} layers of tetrahedra"
    return None


def _views(settings: GenerateSettings, name: str) -> int:
    """Pictures of a step: unless told, DreamFusion asks published models about one at a time."""
    if settings.preset == "paper":
        return settings.views or PAPERS_VIEWS[settings.system]
    return settings.views or (1 if settings.system == "dreamfusion" and name != "embedded" else VIEWS)


def _lower_mesh(mesh: MeshSettings) -> MeshSettings | None:
    """The texture first: it takes more, and is missed less."""
    if mesh.texture >= 2 * LEAST_TEXTURE and TEXEL * mesh.texture**2 > FIELD_VOXEL * mesh.resolution**3 / 4:
        return replace(mesh, texture=mesh.texture // 2)
    if mesh.resolution >= 2 * LEAST_RESOLUTION:
        return replace(mesh, resolution=mesh.resolution // 2)
    return None


def _weights(settings: GenerateSettings, installed: Collection[str]) -> str:
    """What they are called; "embedded" also where "auto" finds nothing better."""
    if settings.weights != "auto":
        return settings.weights
    match settings.system:
        case "point-e":
            pictures = bool(settings.image or settings.text_to_image)
            fitting = [
                name for name in MILLIONS if (name != "base40M-textvec") == pictures and set(installed) >= POINT_E
            ]
        case "dream-fields":
            fitting = list(GUIDES)
        case _:
            return _pipeline(settings.weights, installed)
    return next((name for name in fitting if name in installed), "embedded")


def _pipeline(named: str, installed: Collection[str]) -> str:
    """As ``_weights``, of a text-to-image model."""
    fitting = [name for name in installed if "/" in name and not name.startswith("embedded/")]
    return next(iter(fitting), "embedded") if named == "auto" else named


def _need(settings: Any, device: str, installed: Collection[str]) -> int:
    base = 0 if device == "cuda" else LIBRARIES
    match settings:
        case GenerateSettings():
            name = _weights(settings, installed)
            if settings.system == "point-e":
                base_model = MILLIONS.get(name)
                millions = base_model + UPSAMPLER + CLIP if base_model else EMBEDDED
                surface = CLOUD_VOXEL * settings.resolution**3
            else:
                millions = GUIDES.get(name) or _asked(settings, name, device)
                millions += STYLE if settings.style else 0
                surface = (
                    _training(settings, name)
                    + (0 if settings.system == "magic3d" else round(FIELD_VOXEL * settings.resolution**3))
                    + settings.count * KEPT_FIELD
                )
            texture = settings.texture or (FINE_TEXTURE if settings.system == "magic3d" else 0)
            return base + millions * 10**6 * WEIGHT + surface + TEXEL * texture**2
        case NerfSettings():
            return base + READING + _pictures(settings.dataset, device) + FIELD + _surface(settings.mesh)
        case RemeshSettings():
            return base + FIELD // 2 + _surface(settings.mesh)
        case PersonaliseSettings():
            name = _pipeline(settings.weights, installed)
            millions = EMBEDDED if name == "embedded" else sum(DIFFUSION.get(name, STABLE))
            return base + round(millions * 10**6 * WEIGHT * LEARNING)
        case BakeSettings():
            return base + TEXEL * settings.texture**2
    return base + FIELD


def _asked(settings: GenerateSettings, name: str, device: str) -> int:
    """Million weights of the text-to-image model, or of the larger of two."""
    coarse = settings.magic3d.coarse_weights
    names = [name] + ([coarse] if settings.system == "magic3d" and coarse != "auto" else [])
    elsewhere = settings.dreamfusion.frugal and device != "cpu"
    sizes = [DIFFUSION.get(one, STABLE) for one in names if one != "embedded"]
    return max([EMBEDDED, *(model + (0 if elsewhere else words) for model, words in sizes)])


def _training(settings: GenerateSettings, name: str) -> int:
    """What it takes to train a field and, of Magic3D, then a mesh."""
    return max(_coarse(settings, name), _fine(settings, name) if settings.system == "magic3d" else 0)


def _fine_sizes(settings: GenerateSettings, name: str) -> tuple[int, int]:
    """Pixels of a side, and layers of tetrahedra, in the second stage."""
    chosen, own = settings.magic3d, name == "embedded" and settings.preset == "fast"
    return chosen.fine_rendered or FINE_RENDERED[own], chosen.tetrahedra or TETRAHEDRA[own]


def _fine(settings: GenerateSettings, name: str) -> int:
    side, layers = _fine_sizes(settings, name)
    pictures = FINE_PIXEL * _views(settings, name) * side**2
    apart = name == "embedded" or settings.dreamfusion.frugal
    return FINE + pictures + FINE_CELL * layers**3 + (0 if apart else PASSES)


def _coarse(settings: GenerateSettings, name: str) -> int:
    rays = _views(settings, name) * _rendered(settings, name) ** 2
    fitted = VIEWS * FITTED[settings.system] ** 2
    fog = FOG * (PLAIN + (1 - PLAIN) * min(rays / fitted, 1)) + RAY * max(rays - fitted, 0)
    apart = settings.system not in DISTILLING or name == "embedded" or settings.dreamfusion.frugal
    return round(fog) + (0 if apart else PASSES)


def _rendered(settings: GenerateSettings, name: str) -> int:
    """Pixels of a side, of the pictures that a field is trained by."""
    side = settings.rendered or RENDERED[settings.system]
    return min(side, LOOKED_AT) if settings.system == "dream-fields" and name == "embedded" else side


def _pictures(dataset: str, device: str) -> int:
    """What a dataset's pictures take: all of them where they were read, those to train with once more on the device."""
    found = dataset_size.of(dataset)
    if found is None:
        return PICTURES
    return found.drawn_from() + (0 if device == "cuda" else found.kept())


def _surface(mesh: MeshSettings) -> int:
    return round(FIELD_VOXEL * mesh.resolution**3) + TEXEL * mesh.texture**2
