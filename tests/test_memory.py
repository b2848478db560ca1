# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backend import memory
from backend.errors import Gen3DError
from backend.settings import KINDS, parse

GB = 10**9
PARAMS: dict[str, dict[str, Any]] = {
    "generate": {"prompt": "a chair", "resolution": 256, "texture": 4096},
    "nerf": {"dataset": "x", "mesh": {"resolution": 768, "texture": 8192}},
    "remesh": {"result": "x", "mesh": {"resolution": 512}},
    "render": {"result": "x"},
    "bake": {"source": "x", "texture": 8192},
    "personalise": {"images": "x", "prompt": "a photo of [V] dog"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_with_room_a_job_is_left_as_it_is(kind: str) -> None:
    for free in (None, 256 * GB):
        fit = memory.fitted(kind, PARAMS[kind], "cpu", free)
        assert fit.params == asdict(parse(KINDS[kind], PARAMS[kind])) and fit.told == ""
        assert fit.need == memory.need(kind, PARAMS[kind], "cpu") > 2**28


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("render", "personalise")])
def test_each_rung_needs_less_than_the_one_before_and_the_first_that_fits_is_taken(kind: str) -> None:
    settings = parse(KINDS[kind], PARAMS[kind])
    ladder = [settings, *(lower for lower, _ in memory.rungs(settings))]
    needs = [memory.need(kind, asdict(rung), "cpu") for rung in ladder]
    assert len(ladder) > 2 and needs == sorted(needs, reverse=True) and len(set(needs)) == len(needs)
    for rung, need in zip(ladder[1:], needs[1:], strict=True):
        fit = memory.fitted(kind, PARAMS[kind], "cpu", int(need / memory.SHARE) + 1)
        assert fit.params == asdict(rung) and fit.need == need
        assert fit.told.startswith(f"It needs about {needs[0] / GB:.1f} GB, and {need / memory.SHARE / GB:.1f} GB are")


def test_where_nothing_helps_it_is_said() -> None:
    assert memory.fitted("render", PARAMS["render"], "cpu", 2**20).told.endswith("are free. It may fail.")
    least = memory.fitted("generate", PARAMS["generate"], "cpu", 2**20)
    assert least.params["resolution"] == 64 and least.need > 2**20


def test_a_published_model_takes_its_weights_more() -> None:
    small, large = (memory.need("generate", {"prompt": "x", "weights": name}, "cuda") for name in ("base40M", "base1B"))
    assert large - small == 1200 * 10**6 * memory.WEIGHT


def test_fields_and_textures_take_more_than_points() -> None:
    needs = [
        memory.need("generate", {"prompt": "x", **more}, "cpu")
        for more in ({}, {"texture": 2048}, {"system": "dream-fields"}, {"system": "dreamfusion", "count": 8})
    ]
    assert needs == sorted(needs) and needs[2] - needs[0] > 10**9
    guided = [
        memory.need("generate", {"prompt": "x", "system": system, "weights": weights}, "cuda")
        for system, weights in (("dream-fields", "clip-vit-b32"), ("dreamfusion", "owner/name"))
    ]
    assert guided[0] < guided[1]
    rendered = [
        memory.need("generate", {"prompt": "x", "system": "dream-fields", "weights": "clip-vit-b32", **more}, "cuda")
        for more in ({}, {"rendered": 70})
    ]
    assert rendered[0] - rendered[1] > 3 * 10**9, "168 pixels a side are nearly six times as many"
    styled = memory.need("generate", {"prompt": "x", "system": "dreamfusion", "style": "x.png"}, "cpu")
    assert styled > memory.need("generate", {"prompt": "x", "system": "dreamfusion"}, "cpu") + 10**9


def test_a_rung_that_would_change_nothing_is_left_out() -> None:
    def told(**more: str) -> list[str]:
        settings = parse(KINDS["generate"], {"prompt": "x", "system": "dreamfusion", **more})
        return [said for _, said in memory.rungs(settings, ["owner/pipeline"])]

    one = "each step looks at one picture"
    assert one in told(weights="embedded") and one in told(system="magic3d")
    assert one not in told() and one not in told(weights="owner/other")
    assert told()[0].startswith("the text-to-image model is asked one prompt at a time")
    sides = {
        weights: [said for said in told(system="dream-fields", weights=weights) if "pixels a side" in said]
        for weights in ("embedded", "clip-vit-b32")
    }
    assert sides["embedded"] == ["the pictures have 35 pixels a side"], "its guide sees 70"
    assert sides["clip-vit-b32"] == [f"the pictures have {side} pixels a side" for side in (84, 42)]


def test_models_of_the_hub_take_what_they_hold_and_words_can_stay_on_the_processor() -> None:
    def million(
        name: str, frugal: bool = False, device: str = "cuda", system: str = "dreamfusion", **more: Any
    ) -> float:
        chosen = {"prompt": "x", "system": system, "weights": name, "dreamfusion": {"frugal": frugal}, **more}
        return memory.need("generate", chosen, device) / memory.WEIGHT / 10**6

    small, large = "stable-diffusion-v1-5/stable-diffusion-v1-5", "DeepFloyd/IF-I-XL-v1.0"
    assert million(large) - million(small) == pytest.approx(9062 - 1070)
    assert million(large, frugal=True) < million(large) - 4700
    assert million(large, True, "cpu") > million(large, True) + 4700, "there it is the same memory"
    both = million(small, system="magic3d", magic3d={"coarse_weights": large})
    assert both == million(large, system="magic3d") > million(small, system="magic3d") + 7000


def test_magic3d_is_stepped_down_where_it_takes_most() -> None:
    def told(views: int = 4, **more: int) -> list[str]:
        wanted = {"prompt": "x", "system": "magic3d", "weights": "embedded", "views": views, "magic3d": more}
        settings = parse(KINDS["generate"], {**wanted, "dreamfusion": {"frugal": True}})
        ladder = [settings, *(lower for lower, _ in memory.rungs(settings))]
        needs = [memory.need("generate", asdict(rung), "cpu") for rung in ladder]
        assert needs == sorted(needs, reverse=True) and len(set(needs)) == len(needs)
        return [said for _, said in memory.rungs(settings)]

    coarse = "the pictures have 32 pixels a side"
    assert told() == ["each step looks at one picture", coarse]
    fine = "the fine shape has {} layers of tetrahedra"
    assert told(tetrahedra=256) == ["each step looks at one picture", fine.format(128), coarse]
    assert "the fine stage's pictures have 512 pixels a side" in told(views=1, fine_rendered=1024, tetrahedra=128)


def test_teaching_a_published_model_takes_more() -> None:
    own, published = (memory.need("personalise", PARAMS["personalise"], "cuda", names) for names in ((), ("a/b",)))
    assert published > own + 10**9 * memory.WEIGHT


def test_wrong_settings_are_refused_by_name() -> None:
    with pytest.raises(Gen3DError, match="resolution"):
        memory.need("generate", {"resolution": 1}, "cpu")


def test_auto_means_what_is_installed() -> None:
    def needs(system: str, *installed: str, **more: str) -> int:
        return memory.need("generate", {"system": system, **more}, "cuda", installed)

    whole = ("upsample", "sdf", "clip-vit-l14")
    base = needs("point-e")
    assert needs("point-e", "base40M-textvec") == needs("point-e", "base1B", *whole) == base
    assert needs("point-e", "base40M-textvec", *whole) > base + 400 * 10**6 * memory.WEIGHT
    large = needs("point-e", "base40M-textvec", "base1B", *whole, image="x.png")
    assert large > needs("point-e", "base40M-textvec", *whole) + 10**9 * memory.WEIGHT
    assert needs("dream-fields", "clip-vit-b32") > needs("dream-fields")
    assert needs("dreamfusion", "owner/pipeline") > needs("dreamfusion", "embedded/text_to_image", "base1B")
    assert needs("dream-fields", "clip-vit-b32", weights="embedded") == needs("dream-fields")


def test_the_pictures_of_a_dataset_count(tmp_path: Path) -> None:
    """All of them on a CPU, those to train with on a GPU; where they are elsewhere, as many as are usual."""
    Image.new("RGBA", (200, 100)).save(tmp_path / "a.png")
    listed = {"frames": [{"file_path": "a.png"}] * 100, "test_filenames": ["a.png"] * 10}
    (tmp_path / "transforms.json").write_text(json.dumps(listed))

    def pictures(dataset: str, device: str) -> int:
        base = memory.READING + memory.FIELD + (memory.LIBRARIES if device == "cpu" else 0)
        mesh = {"resolution": 32, "texture": 0}
        surface = memory.need("remesh", {"result": "x", "mesh": mesh}, "cuda") - memory.FIELD // 2
        return memory.need("nerf", {"dataset": dataset, "mesh": mesh}, device) - base - surface

    each = 200 * 100 * 4
    assert pictures(str(tmp_path), "cuda") == 90 * each
    assert pictures(str(tmp_path), "cpu") == 190 * each
    assert pictures("", "cpu") == pictures("nowhere", "cuda") == memory.PICTURES
