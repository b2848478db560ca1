# SPDX-License-Identifier: GPL-3.0-or-later
"""Which device a name is."""

from __future__ import annotations

import pytest
import torch

from backend.errors import Gen3DError
from backend.pipelines.devices import choose_device


def test_devices_are_chosen_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cuda", "mps", "cpu")
    for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if not there:
            with pytest.raises(Gen3DError, match=f"no {name} device"):
                choose_device(name)
