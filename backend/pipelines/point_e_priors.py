# SPDX-License-Identifier: GPL-3.0-or-later
"""The models that Point-E can be made of: the published ones, the embedded one, or a folder like it.

A folder holds config.json (a stage's configuration, with how it is ``sampling``), model.safetensors, and the
text_encoder whose last hidden states it looks at, whose tokenizer may lie beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
from torch import nn

from .. import weights
from ..errors import Gen3DError
from ..point_diffusion import sdf
from ..point_diffusion.karras import PointModel, Sampling
from ..point_diffusion.stages import BASES, SDF, Stage, published
from ..priors import embedded
from ..settings import GenerateSettings
from ..storage import read_json

Module = TypeVar("Module", bound=nn.Module)
Sees = Literal["words", "text", "picture", "patches"]
"""An own encoder's words, CLIP's vector of a text or of a picture, or CLIP's grid of a picture's patches."""

CLIP, UPSAMPLE, DISTANCE = "clip-vit-l14", "upsample", "sdf"
OF_WORDS = "base40M-textvec"
OF_PICTURES = ("base1B", "base300M", "base40M", "base40M-imagevec")  # the best first
INSTALL = "install the published weights with `gen3d models install point-e`"


@dataclass(frozen=True)
class Prior:
    """Stages with the weights of each; what they are told; and the model that finds the surface, where there is one."""

    name: str
    stages: tuple[Stage, ...]
    weights: tuple[str | Path, ...]
    sees: Sees
    distance: tuple[Mapping[str, Any], str | Path] | None
    folder: Path | None = None

    @property
    def embedded(self) -> bool:
        return self.folder == embedded.POINT

    def load_stage(self, index: int, device: torch.device) -> PointModel:
        """Raises Gen3DError where the weights are missing, damaged, or another model's."""
        model = _load(cast(nn.Module, self.stages[index].build()), self.weights[index], device)
        return cast(PointModel, model)

    def load_distance(self, device: torch.device) -> sdf.CrossAttentionPointCloudSDFModel | None:
        """As ``load_stage``."""
        if self.distance is None:
            return None
        config, source = self.distance
        return _load(sdf.build(config), source, device)


def choose(settings: GenerateSettings, picture: bool) -> Prior:
    """The models that are asked for; where that is left open, the published ones if they are installed.

    picture: whether there is one to look at. Raises Gen3DError where something is missing, or does not fit.
    """
    draws = picture or bool(settings.text_to_image)
    if settings.weights == "auto":
        names = OF_PICTURES if draws else (OF_WORDS,)
        parts = (UPSAMPLE, DISTANCE, CLIP)
        name = next((n for n in names if all(weights.installed(part) for part in (n, *parts))), "embedded")
        prior = _embedded() if name == "embedded" else _published(name)
    elif settings.weights == "embedded":
        prior = _embedded()
    elif settings.weights in BASES:
        prior = _published(settings.weights)
    elif Path(settings.weights).expanduser().is_dir():
        prior = _folder(settings.weights, Path(settings.weights).expanduser().absolute())
    else:
        cause = f"There are no weights {settings.weights[:80]!r} to generate with."
        step = f"Choose auto, embedded, {', '.join(BASES)}, or a folder."
        if Path(settings.weights).expanduser().is_file():
            cause = f"Of which model {settings.weights[:200]} holds the weights, it does not say."
            step = f"Say it with `gen3d models use NAME {settings.weights[:200]}`, and choose that name."
        raise Gen3DError(cause, step, field="weights")
    _require_fit(prior, settings, draws)
    return prior


def _require_fit(prior: Prior, settings: GenerateSettings, draws: bool) -> None:
    which = "The embedded prior" if prior.embedded else prior.name
    if prior.sees in ("words", "text"):
        if draws:
            raise Gen3DError(
                f"{which} looks at words, not at pictures.",
                f"Choose {', '.join(reversed(OF_PICTURES))}, or {INSTALL}."
                if not prior.embedded
                else f"Give only words, or {INSTALL}.",
                field="image" if settings.image else "text_to_image",
            )
    elif not draws:
        raise Gen3DError(
            f"{which} looks at pictures, not at words.",
            f"Give an image, or a text_to_image pipeline that draws one, or choose {OF_WORDS}.",
            field="weights",
        )


def _published(name: str) -> Prior:
    for part in (name, UPSAMPLE, DISTANCE, CLIP):
        weights.require(part)
    sees: Sees = "text" if name == OF_WORDS else "picture" if name == "base40M-imagevec" else "patches"
    return Prior(name, published(name), (name, UPSAMPLE), sees, (SDF, DISTANCE))


def _embedded() -> Prior:
    return _folder("embedded", embedded.POINT)


def _folder(name: str, folder: Path) -> Prior:
    config = _config(folder)
    try:
        stages = _stages(config)
        usable = stages[0].embeds == "grid"
    except (KeyError, TypeError, ValueError):
        usable = False
    if not usable:
        raise Gen3DError(
            f"{folder / 'config.json'} does not describe a point model that looks at words.",
            "Name a folder like that of the embedded prior.",
            field="weights",
        )
    found = embedded.SDF / "config.json"
    distance = (_config(embedded.SDF), embedded.SDF / "model.safetensors") if found.exists() else None
    return Prior(name, stages, (folder / "model.safetensors",) * len(stages), "words", distance, folder)


def _stages(config: Mapping[str, Any]) -> tuple[Stage, ...]:
    points = int(config.get("n_ctx", 1024))
    first = Stage(config, points, Sampling.of(config.get("sampling", {})))
    more = config.get("more_points")
    if not more:
        return (first,)
    copies = int(more["copies"])
    return first, Stage(config, copies * points, Sampling.of(more), copies)


def _config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    if config is None:
        step = "Install Gen3D again." if folder.parent == embedded.POINT.parent else "Name another folder."
        raise Gen3DError(f"{folder} holds no prior: config.json is missing or damaged.", step, field="weights")
    return config


def _load(model: Module, source: str | Path, device: torch.device) -> Module:
    weights.load(model, source)
    return model.to(device).eval().requires_grad_(False)
