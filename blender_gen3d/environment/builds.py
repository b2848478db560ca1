# SPDX-License-Identifier: GPL-3.0-or-later
"""Which build of torch suits a machine.

For each version, PyTorch offers builds for several versions of CUDA, for ROCm and for processors alone, each at an
address of its own; what PyPI has is one of them. The builds here are those of the version that requirements.txt
pins: https://github.com/pytorch/pytorch/blob/main/RELEASE.md has the table of CUDA versions and architectures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .machine import Machine, Version

ADDRESS = "https://download.pytorch.org/whl/"
CUDA_126_DRIVER, CUDA_130_DRIVER = (525,), (580,)  # oldest drivers
_OLDEST, _TURING, _BLACKWELL = (5, 0), (7, 5), (10, 0)  # compute capabilities: 12.6 ends below 10.0, 13.0 has no 7.0


@dataclass(frozen=True)
class Build:
    """``download`` and ``disk`` are the megabytes of the whole environment, about. ``local``: what follows the
    version's "+"; "" for whatever pip's own settings offer."""

    name: str
    title: str
    local: str
    download: int
    disk: int

    @property
    def index(self) -> str:
        """The address that has it; "" for pip's own."""
        return f"{ADDRESS}{self.local}" if self.local else ""

    def requirement(self, requirements: str) -> str:
        """What to ask pip for, given the text of requirements.txt: "torch==2.13.0+cu130"."""
        found = re.search(r"^torch==([^\s;+]+)", requirements, re.MULTILINE)
        assert found, "requirements.txt pins torch"
        return f"torch=={found[1]}+{self.local}" if self.local else f"torch=={found[1]}"


BUILDS = {
    build.name: build
    for build in (
        Build("cpu", "Processor only", "cpu", 450, 2300),
        Build("cuda-12.6", "CUDA 12.6, for NVIDIA GPUs", "cu126", 3300, 8200),
        Build("cuda-13.0", "CUDA 13.0, for NVIDIA GPUs", "cu130", 3000, 7400),
        Build("rocm-7.2", "ROCm 7.2, for AMD GPUs", "rocm7.2", 5200, 17000),
        Build("default", "What pip offers; Metal on Apple's computers", "", 450, 2300),
    )
}


@dataclass(frozen=True)
class Choice:
    """A build, and in one sentence why it was chosen."""

    build: Build
    why: str


def choose(machine: Machine, wanted: str = "auto") -> Choice:
    """The build that uses what the machine has; ``wanted`` names another one."""
    if wanted != "auto":
        return Choice(BUILDS[wanted], "Chosen in the preferences.")
    if machine.system == "darwin":
        return Choice(BUILDS["default"], "Apple's GPU is used through Metal.")
    if machine.driver:
        return _for_nvidia(machine)
    if machine.amd and machine.system == "linux" and machine.processor == "x86_64":
        rocm = ".".join(map(str, machine.rocm)) or "none"
        return Choice(BUILDS["rocm-7.2"], f"{machine.amd} AMD GPU, ROCm on this system: {rocm}.")
    return Choice(BUILDS["cpu"], "No GPU that torch can use was found.")


def _for_nvidia(machine: Machine) -> Choice:
    driver = ".".join(map(str, machine.driver))
    known = [gpu.compute for gpu in machine.nvidia if gpu.compute]
    names = ", ".join(dict.fromkeys(gpu.name for gpu in machine.nvidia)) or "an NVIDIA GPU"
    here = f"{names}, driver {driver}"
    newest = max(known, default=_TURING)
    if newest < _OLDEST:
        return Choice(BUILDS["cpu"], f"{here}: the GPU is too old for torch.")
    if machine.driver >= CUDA_130_DRIVER and (newest >= _BLACKWELL or min(known, default=_TURING) >= _TURING):
        return Choice(BUILDS["cuda-13.0"], f"{here}.")
    if newest >= _BLACKWELL:
        return Choice(BUILDS["cpu"], f"{here}: the GPU needs driver {_dotted(CUDA_130_DRIVER)} or newer.")
    if machine.driver >= CUDA_126_DRIVER:
        return Choice(BUILDS["cuda-12.6"], f"{here}.")
    return Choice(BUILDS["cpu"], f"{here}: torch needs driver {_dotted(CUDA_126_DRIVER)} or newer.")


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
