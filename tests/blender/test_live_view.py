# SPDX-License-Identifier: GPL-3.0-or-later
"""Points of running jobs: which are shown, where, and for how long. That they are drawn is seen in a window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from . import addon

live_view = addon.module("live_view")
protocol = addon.module("bridge").protocol
pump = addon.module("connection.pump")

PACKED = np.array([((0.1, 0.2, 0.3), (255, 128, 0, 0))], live_view.POINT)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Any]:
    yield pump.connect(tmp_path, start=False)
    pump.disconnect()


def tell(session: Any, *, shape: bool = False, **told: Any) -> None:
    values = {"kind": "generate", "state": "running", "seq": 1}
    session.client._take(protocol.JobRow("job", session.client.name, "asked", **(values | told)))
    if shape:
        session.client._take(protocol.Shape("job", PACKED.tobytes()))
    pump.pump()


def test_points_stand_where_the_result_will(session: Any) -> None:
    bpy.context.scene.unit_settings.scale_length = 0.01
    session.want("asked", (4.0, 5.0, 6.0))
    tell(session, shape=True)
    ((job, matrix),) = live_view.shown(session)
    assert job == "job"
    np.testing.assert_allclose(matrix @ bpy.context.scene.cursor.location, (4.0, 5.0, 6.0))
    np.testing.assert_allclose((matrix.to_3x3() @ matrix.to_3x3()).median_scale, 1e4, rtol=1e-5)
    shape = live_view._shapes["job"].points
    np.testing.assert_array_equal(shape["place"], PACKED["place"])
    np.testing.assert_array_equal(shape["colour"], PACKED["colour"])
    assert not bpy.data.objects, "nothing that undo or a save could meet"


def test_what_is_captured_is_where_it_was(session: Any) -> None:
    session.want("asked", None)
    tell(session, shape=True, kind="nerf")
    ((_, matrix),) = live_view.shown(session)
    np.testing.assert_array_equal(matrix, np.eye(4))


def test_only_in_the_file_that_wants_it(session: Any) -> None:
    tell(session, shape=True)
    assert live_view.shown(session) == []
    session.want("asked", None)
    assert len(live_view.shown(session)) == 1
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert live_view.shown(session) == []


@pytest.mark.parametrize("end", [{"state": "failed"}, {"state": "removed"}, {"state": "done", "imported": True}])
def test_points_go_with_the_job(session: Any, end: dict[str, Any]) -> None:
    session.want("asked", None)
    tell(session, shape=True)
    tell(session, state="done", seq=2)
    assert len(live_view.shown(session)) == 1, "until the result is there"
    tell(session, seq=3, **end)
    assert live_view.shown(session) == []
    assert "job" not in live_view._shapes
