# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of all CUDA kernels share: Warp runs the same kernels on the CPU, and compiles for absent GPUs."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here")

every_architecture = pytest.mark.parametrize(
    "capability", [75, 90, pytest.param(86, marks=pytest.mark.slow), pytest.param(120, marks=pytest.mark.slow)]
)


def compiled(module: ModuleType, capability: int, folder: Path) -> tuple[bytes, str]:
    """The module's machine code and assembly for GPUs of such a compute capability. Needs no GPU."""
    import warp as wp

    code, assembly = (
        wp.compile_aot_module(module, arch=capability, module_dir=folder, use_ptx=ptx)[0].read_bytes()
        for ptx in (False, True)
    )
    return code, assembly.decode("ascii").rstrip("\0")
