# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a promise may take to be kept on a machine that is slow, or busy with something else."""

from __future__ import annotations

import subprocess
import sys
import time

IDLE = 0.04  # seconds to start a Python on a machine that has nothing else to do


def patience(seconds: float) -> float:
    """As many times longer as a Python takes longer to start now than on an idle machine. Call it afterwards."""
    begun = time.perf_counter()
    for _ in range(3):
        subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=False)
    return seconds * max(1.0, (time.perf_counter() - begun) / 3 / IDLE)
