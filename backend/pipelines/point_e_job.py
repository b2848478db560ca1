# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a Point-E job, from which it can go on after a crash."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..point_diffusion.karras import Sampling, State
from ..settings import GenerateSettings
from .point_e_priors import Prior
from .progress import Snapshot


@dataclass
class Job:
    """How far a job is.

    seen: what the prior is told, by what a stage takes ("vector", "grid"); view: uint8 [H, W, 3]; clouds: the finished
    ones, each [6, K]. Of the samples being drawn: their generators, the points of the stages before, [B, 6, K], and
    the state of this ``stage``.
    """

    settings: GenerateSettings
    device: torch.device
    prior: Prior
    seen: dict[str, Tensor] = field(default_factory=dict)
    view: NDArray[np.uint8] | None = None
    notes: list[str] = field(default_factory=list)
    clouds: list[Tensor] = field(default_factory=list)
    generators: list[torch.Generator] = field(default_factory=list)
    points: Tensor | None = None
    stage: int = 0
    state: State | None = None

    @property
    def samplings(self) -> list[Sampling]:
        """How each stage is sampled: as it says itself, but for what the settings say."""
        found = []
        for stage in self.prior.stages:
            sampling = stage.sampling
            if self.settings.steps and not stage.copies:
                sampling = replace(sampling, karras_steps=self.settings.steps)
            if self.settings.guidance and stage.embeds in self.seen and not stage.copies:
                sampling = replace(sampling, guidance_scale=self.settings.guidance)
            found.append(sampling)
        return found

    def snapshot(self) -> Snapshot:
        tensors = {f"seen.{name}": value for name, value in self.seen.items()}
        if self.view is not None:
            tensors["view"] = torch.from_numpy(self.view)
        if self.clouds:
            tensors["clouds"] = torch.stack(self.clouds)
        if self.generators:
            tensors["generators"] = torch.stack([own.get_state() for own in self.generators])
        if self.points is not None:
            tensors["points"] = self.points
        if self.state is not None:
            tensors |= {"x": self.state.x, "clean": self.state.clean}
        facts = {"prior": self.prior.name, "stage": self.stage, "step": self.state.step if self.state else 0}
        copies = {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}
        return Snapshot(copies, {**facts, "notes": self.notes})

    def restore(self, snapshot: Snapshot) -> None:
        """Raises KeyError or ValueError where the snapshot is of another job."""
        tensors, facts = snapshot.tensors, snapshot.facts
        if facts["prior"] != self.prior.name:
            raise ValueError(f"the snapshot is of {facts['prior']}, not of {self.prior.name}")
        self.seen = {name.removeprefix("seen."): tensors[name] for name in tensors if name.startswith("seen.")}
        self.view = tensors["view"].numpy() if "view" in tensors else None
        self.clouds = list(tensors.get("clouds", ()))
        self.generators = [torch.Generator() for _ in tensors.get("generators", ())]
        for own, state in zip(self.generators, tensors.get("generators", ()), strict=True):
            own.set_state(state)
        self.points, self.stage, self.notes = tensors.get("points"), facts["stage"], list(facts["notes"])
        self.state = State(facts["step"], tensors["x"], tensors["clean"]) if "x" in tensors else None
