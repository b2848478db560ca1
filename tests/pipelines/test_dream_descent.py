# SPDX-License-Identifier: GPL-3.0-or-later
"""Learning rates are those of the papers."""

from __future__ import annotations

import pytest

from backend.pipelines import dream_fields, dreamfusion
from backend.pipelines.dream_descent import Learning


def test_dream_fields_rate_rises_from_a_tenth_and_stays() -> None:
    learning, steps = dream_fields.PAPER.learning, dream_fields.PAPER.iterations
    assert learning.at(0, steps) == pytest.approx(1e-5, rel=0.01) and learning.epsilon == 1e-5
    assert learning.at(749, steps) == pytest.approx((1e-5 + 1e-4) / 2)
    assert learning.at(1499, steps) == learning.at(steps - 1, steps) == pytest.approx(1e-4)


def test_a_rate_falls_over_the_second_half() -> None:
    learning = Learning(0.01, 10, end=0.1)
    assert learning.at(0, 100) == pytest.approx(0.001) and learning.at(9, 100) == learning.at(50, 100) == 0.01
    assert learning.at(75, 100) == pytest.approx(0.01 * 0.1**0.5) and learning.at(100, 100) == pytest.approx(0.001)
    falling = [dreamfusion.OWN.learning.at(step, 250) for step in range(125, 250)]
    assert falling == sorted(falling, reverse=True) and falling[-1] < 0.12 * falling[0]
