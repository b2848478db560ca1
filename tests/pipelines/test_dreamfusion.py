# SPDX-License-Identifier: GPL-3.0-or-later
"""The gradient that reaches the field is score distillation's; and the whole, on small models in the real formats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from backend.errors import Gen3DError
from backend.geometry.mesh import is_watertight
from backend.geometry.reading import read
from backend.guidance import lora, text_to_image
from backend.guidance.diffusion_prior import DiffusionPrior
from backend.guidance.score_distillation import noised
from backend.pipelines import dreamfusion, dreaming
from backend.pipelines.distillation import SIDES, Asking, Critic, Heard
from backend.pipelines.dream_field import UNIT, DreamField, DreamShape
from backend.pipelines.dreamfusion import OWN, PAPER, PAPER_SHAPE, DreamFusionPlan, DreamFusionTraining
from backend.pipelines.progress import Progress, Snapshot
from backend.priors import embedded
from backend.rendering import viewpoints
from backend.rendering.viewpoints import View
from backend.settings import DreamFusionSettings, GenerateSettings
from tests.guidance import tiny

from .runs import finish

SMALL = DreamShape(steps=24, resolution=16, levels=2, finest=16, log2_rows=12, bound=1.4)
QUICK = replace(OWN, iterations=30, size=16, views=2)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Fields and pictures of which nobody has to see anything: in a dozen steps they are but fog, which is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dreamfusion, "FAST_SHAPE", SMALL)
        patch.setattr(dreamfusion, "FAST", replace(dreamfusion.FAST, size=16))
        patch.setattr(dreaming, "SHEET", 24)
        patch.setattr(dreaming, "SMALL", 32)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_text_to_image(tmp_path_factory.mktemp("drawing"))


@pytest.fixture(scope="module")
def prior(folder: Path) -> DiffusionPrior:
    return DiffusionPrior(folder)


def begin(prior: DiffusionPrior, plan: DreamFusionPlan, shape: DreamShape = SMALL, **more: Any) -> DreamFusionTraining:
    torch.manual_seed(0)
    asked = dreamfusion.prompts("red cat", DreamFusionSettings(), bearings=True)
    heard = Heard(tuple(asked), *prior.say(list(asked.values())))
    return DreamFusionTraining(DreamField(shape), Critic(prior, heard, plan.asking), plan, 0, **more)


def test_the_field_gets_the_gradient_of_the_definition(prior: DiffusionPrior) -> None:
    """∂L/∂θ = w(t) (ε̂ − ε) ∂x/∂θ: with everything else off, what the training adds to the weights' gradients."""
    asking = replace(QUICK.asking, avoided=0.0)
    plan = replace(QUICK, asking=asking, orientation=(0.0, 0.0), sparse=0.0, albedo_until=1.0, views=1)
    training = begin(prior, plan)
    weight = training.field.network.leave.weight
    caught: list[torch.Tensor] = []
    weight.register_hook(lambda gradient: caught.append(gradient.clone()))  # type: ignore[no-untyped-call]
    before = training.generator.get_state()
    training.step()

    training = begin(prior, plan)
    training.generator.set_state(before)
    views = viewpoints.draw(plan.viewpoints, 1, np.random.default_rng((0, 0)))
    rgb, _, _ = training._render(views, "albedo", [])
    x = prior.encode(rgb)
    t = training.critic.times(0.0, 1, training.generator)
    noise = torch.randn(x.shape, generator=training.generator)
    noisy = noised(x.detach(), noise, prior.signal2[t])
    said, unsaid = prior.say([f"red cat, {plan.asking.named(views[0])}"])
    nothing, wanted = prior.noise(noisy, t, unsaid, said)
    score = nothing + plan.asking.guidance * (wanted - nothing)
    by_hand = (1 - prior.signal2[t]).view(-1, 1, 1, 1) * (score - noise)
    (expected,) = torch.autograd.grad((by_hand * x).sum(), training.field.network.leave.weight)
    assert torch.allclose(caught[0], expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


def test_what_is_lit_differs_and_reaches_the_shape(prior: DiffusionPrior) -> None:
    training = begin(prior, QUICK)
    views = viewpoints.draw(QUICK.viewpoints, 1, np.random.default_rng(3))
    seen = {}
    for how in ("albedo", "lambertian", "textureless"):
        training.generator.manual_seed(0)
        with torch.no_grad():
            seen[how], opacity, facing = training._render(views, how, [np.array([0.0, -1.0, 1.0])])
        assert torch.isfinite(seen[how]).all() and 0 < float(opacity.max()) <= 1
        assert (float(facing) > 0) == (how != "albedo")
    assert float(seen["lambertian"].mean()) < float(seen["albedo"].mean())
    grey = seen["textureless"][0].permute(1, 2, 0).reshape(-1, 3)
    assert float((grey.amax(1) - grey.amin(1)).max()) < 1e-4, "no colours, in front of a grey"


def test_nothing_is_outside_of_the_sphere() -> None:
    field = DreamField(SMALL)
    points = torch.rand(4000, 3) * 2 - 1
    inside = points.norm(dim=1) <= 1.4 * UNIT
    density = field.density(points).detach()
    assert (density[~inside] == 0).all() and (density[inside] > 0).all()


def test_times_are_drawn_between_those_of_the_plan_and_annealed(prior: DiffusionPrior) -> None:
    training = begin(prior, replace(QUICK, asking=Asking(times=(0.2, 0.9), until=0.4)))
    for share, high in ((0.0, 0.9), (0.5, 0.65), (1.0, 0.4)):
        drawn = training.critic.times(share, 4000, training.generator).float() / prior.steps
        assert 0.199 <= float(drawn.min()) < 0.21 and high - 0.01 < float(drawn.max()) <= high


@pytest.mark.parametrize("shape", [SMALL, replace(PAPER_SHAPE, steps=24, resolution=16)])
@pytest.mark.parametrize("avoided", [0.0, 1.5])
def test_a_training_goes_on_where_it_was(prior: DiffusionPrior, shape: DreamShape, avoided: float) -> None:
    plan = replace(QUICK, asking=replace(QUICK.asking, avoided=avoided), plain=0.5, albedo_until=0.0)
    picture = np.full((20, 20, 3), 200, np.uint8)
    training = begin(prior, plan, shape, reference=picture)
    for _ in range(3):
        training.step()
    tensors, facts = training.state()
    held = {name: value.detach().clone() for name, value in tensors.items()}
    weights = {name: value.clone() for name, value in training.field.state_dict().items()}
    expected = [training.step() for _ in range(3)]
    again = begin(prior, plan, shape, reference=picture)
    again.step()
    again.field.load_state_dict(weights)
    again.restore(held, facts)
    for told, first in zip([again.step() for _ in range(3)], expected, strict=True):
        assert told == pytest.approx(first, rel=1e-3)


# ------------------------------------------------------------------------------------------------------------- the job


def job(folder: Path, **changes: Any) -> GenerateSettings:
    values: dict[str, Any] = {"prompt": "red cat", "system": "dreamfusion", "device": "cpu", "resolution": 32}
    return GenerateSettings(**{**values, "weights": str(folder), "iterations": 8, **changes})


def test_words_become_a_closed_coloured_mesh_after_a_first_picture(folder: Path, tmp_path: Path) -> None:
    told, summary = finish(dreamfusion.generate(job(folder, negative_prompt="dog"), tmp_path))
    first = next(progress for progress in told if progress.phase == "view" and progress.preview is not None)
    assert first.preview is not None
    with Image.open(tmp_path / summary["files"]["picture"]) as picture:
        assert (np.asarray(picture) == first.preview()).all()
    mesh = read(tmp_path / summary["files"]["ply"])[0]
    assert is_watertight(mesh) and mesh.colors is not None
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions) and fractions[-1] <= 1
    assert summary["prior"] == str(folder) and (tmp_path / "views.png").exists()


def test_a_job_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    wanted = job(folder, dreamfusion=DreamFusionSettings(first_image=False))
    whole, again = tmp_path / "whole", tmp_path / "again"
    held: list[Snapshot] = []
    for out in (whole, again):
        out.mkdir()
    for progress in dreamfusion.generate(wanted, whole):
        assert isinstance(progress, Progress)
        if progress.snapshot is not None and progress.phase == "train":
            held.append(progress.snapshot())
    finish(dreamfusion.generate(wanted, again, held[0]))
    one, other = (load_file(out / "field.safetensors") for out in (whole, again))
    assert max(float((one[name].float() - other[name].float()).abs().max()) for name in one) < 1e-3


def test_personal_things_and_a_style_reach_the_prior(folder: Path, tmp_path: Path) -> None:
    """As if the prior had been told of them directly; and the first picture is drawn by it."""
    unet = DiffusionPrior(folder).pipeline.unet
    adapter = tiny.write_ip_adapter(tmp_path / "adapter", unet)
    for value in lora.begin(unet, 2, 0):
        value.data += 0.2
    save_file(lora.tensors(unet), tmp_path / "thing.safetensors")
    save_file({"<thing>": torch.randn(tiny.TEXT["hidden_size"])}, tmp_path / "word.safetensors")
    style = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 4), dtype=np.uint8))
    style.save(tmp_path / "style.png")
    personal = {"lora": str(tmp_path / "thing.safetensors"), "lora_scale": 0.5, "token": "[V]"}
    personal |= {"inversion": str(tmp_path / "word.safetensors"), "style": str(tmp_path / "style.png")}
    wanted = job(folder, prompt="red [V] cat", style_adapter=str(adapter), style_scale=0.8, **personal)
    adapted, expected = DiffusionPrior(folder), DiffusionPrior(folder)
    dreaming.adapt(adapted, wanted, own=False)
    expected.learn_word(tmp_path / "word.safetensors", "[V]")
    expected.learn(tmp_path / "thing.safetensors", 0.5)
    expected.look_at(text_to_image.on_background(style), adapter, 0.8)
    noisy, t = torch.randn(1, 4, 8, 8), torch.tensor([400])
    heard = [prior.noise(noisy, t, prior.say(["red [V] cat"])[0])[0] for prior in (adapted, expected)]
    assert torch.equal(*heard)
    (tmp_path / "out").mkdir()
    _, summary = finish(dreamfusion.generate(wanted, tmp_path / "out"))
    drawing = expected.draw(f"red [V] cat, {SIDES[0]}", seed=wanted.seed)
    picture = Image.open(tmp_path / "out" / summary["files"]["picture"]).convert("RGB")
    with pytest.raises(StopIteration) as end:
        while True:
            next(drawing)
    assert (np.asarray(picture) == np.asarray(end.value.value)).all()


def test_the_embedded_prior_reads_ones_own_words_and_takes_over_no_style(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dreaming.said("a [V] zorb", "embedded/text_to_image", "", personal=True)[0] == "a [V] zorb"
    monkeypatch.setattr(embedded, "TEXT_TO_IMAGE", tiny.write_embedded(tmp_path / "own"))
    Image.new("RGB", (8, 8)).save(tmp_path / "style.png")
    with pytest.raises(Gen3DError, match="embedded prior has no image-conditioned path") as error:
        finish(dreamfusion.generate(job(Path("embedded"), style=str(tmp_path / "style.png")), tmp_path))
    assert error.value.field == "style"


def test_without_a_name_the_published_adapter_of_the_model_is_wanted(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "style.png")
    for model, name in ((folder, "ip-adapter-sd15"), (tiny.write_extra_large(tmp_path), "ip-adapter-sdxl")):
        with pytest.raises(Gen3DError, match=f"gen3d models install {name}"):
            dreaming.adapt(DiffusionPrior(model), job(model, style=str(tmp_path / "style.png")), own=False)


def test_settings_and_sides() -> None:
    chosen = DreamFusionSettings(shading=False, orientation=False, opacity=False, view_prompts=False, annealing=True)
    plan, _ = dreamfusion.planned(job(Path(), dreamfusion=chosen, iterations=0), own=True)
    assert plan.albedo_until == 1 and plan.orientation == (0, 0) and plan.sparse == 0 and not plan.asking.told
    assert plan.asking.until == dreamfusion.ANNEALED
    usual = dreamfusion.planned(job(Path(), iterations=0, preset="paper"), own=False)
    assert usual == (PAPER, PAPER_SHAPE) and PAPER.asking.guidance == 100 and PAPER.asking.times == (0.02, 0.98)
    small, _ = dreamfusion.planned(job(Path(), rendered=32, views=2), own=True)
    assert (small.size, small.views) == (32, 2)
    asked = dreamfusion.prompts("cat", DreamFusionSettings(back="a tail"))
    assert list(asked.values()) == ["cat", "cat, front view", "cat, side view", "a tail", "cat, overhead view"]
    exact = dreamfusion.prompts("cat", DreamFusionSettings(back="a tail"), bearings=True)
    assert len(exact) == 5 + 16 * 7 and (exact["a0"], exact["i2"]) == ("cat, a0", "a tail, i2")


def test_views_are_told_as_the_model_was_taught() -> None:
    front, above = View(np.eye(4), 1.0, 3.0, 20.0), View(np.eye(4), 1.0, -100.0, 80.0)
    sides, exact = Asking(), Asking(bearings=True)
    assert [sides.named(view) for view in (front, above)] == ["front view", "overhead view"]
    assert [exact.named(view) for view in (front, above)] == ["a1", "m5"]
    assert sides.others(front) == ["side view", "back view"] and exact.others(above) == ["a5", "e5"]
    assert Asking(told=False, bearings=True).named(front) == ""


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"image": "cat.png"}, "image"),
        ({"weights": "nowhere"}, "weights"),
        ({"lora": "nowhere"}, "lora"),
        ({"inversion": "nowhere"}, "inversion"),
        ({"style": "nowhere.png"}, "style"),
    ],
)
def test_refusals(folder: Path, tmp_path: Path, changes: dict[str, str], field: str) -> None:
    with pytest.raises(Gen3DError) as error:
        finish(dreamfusion.generate(job(folder, **changes), tmp_path))
    assert error.value.field == field and not list(tmp_path.iterdir())
