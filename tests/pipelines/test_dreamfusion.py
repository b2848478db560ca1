# SPDX-License-Identifier: GPL-3.0-or-later
"""The gradient that reaches the field is score distillation's; and the whole, on small models in the real formats."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from backend.driver import Listener, drive
from backend.errors import Gen3DError
from backend.fields.solid_field import ResidualMlp
from backend.geometry.mesh import is_watertight
from backend.geometry.reading import read
from backend.guidance import lora, text_to_image
from backend.guidance.diffusion_prior import DiffusionPrior
from backend.guidance.score_distillation import noised
from backend.pipelines import dreamfusion, dreaming
from backend.pipelines.distillation import SIDES, Asking, Critic, Heard
from backend.pipelines.dream_field import DEVIATION, SPAN, UNBOUNDED, UNIT, DreamField, DreamShape
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


def test_the_guidance_is_what_is_usual_for_the_kind_of_model(prior: DiffusionPrior, tmp_path: Path) -> None:
    pixels = DiffusionPrior(tiny.write_deepfloyd(tmp_path))
    for model, asking, guidance in ((prior, Asking(), 100), (pixels, Asking(), 20), (pixels, Asking(7.0), 7)):
        said = model.say(["red cat"])
        assert Critic(model, Heard(("",), *said), asking).guidance == guidance


def test_the_gradient_is_clipped_less_and_less(prior: DiffusionPrior) -> None:
    critic = begin(prior, replace(QUICK, asking=replace(QUICK.asking, clipped=(0.25, 1.25)))).critic
    views = viewpoints.draw(QUICK.viewpoints, 2, np.random.default_rng(0))
    pictures, t = torch.rand(2, 3, 16, 16), torch.tensor([900, 900])
    for share, most in ((0.0, 0.25), (0.5, 0.75), (1.0, 1.25)):
        x = prior.encode(pictures).detach().requires_grad_()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(prior, "encode", lambda _, x=x: x)
            critic.loss(pictures, views, t, torch.Generator().manual_seed(0), share).backward()  # type: ignore[no-untyped-call]
        assert x.grad is not None and float(x.grad.abs().max()) == pytest.approx(most / 2)


def test_what_is_behind_has_a_colour_for_each_direction() -> None:
    torch.manual_seed(0)
    background = dreamfusion.Background()
    directions = torch.nn.functional.normalize(torch.randn(50, 3), dim=1)
    colours = background(directions)
    assert colours.shape == (50, 3) and colours.min() >= 0 and colours.max() <= 1
    assert float(colours.detach().std(0).min()) > 1e-3 and torch.equal(background(directions.clone()), colours)


def test_a_field_does_not_become_thinner_to_be_turned_towards_the_camera(prior: DiffusionPrior) -> None:
    """The orientation loss reaches densities through normals alone: how much is seen is taken as it is."""
    training = begin(prior, QUICK)
    views = viewpoints.draw(QUICK.viewpoints, 1, np.random.default_rng(3))
    field, kept = training.field, training.field.normal
    for learned in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not learned:
                patch.setattr(field, "normal", lambda points: kept(points).detach())
            _, _, facing = training._render(views, "lambertian", [np.array([0.0, -1.0, 1.0])])
        assert float(facing.detach()) > 0 and facing.requires_grad == learned


def test_bands_of_the_encoding_come_in_one_after_another(prior: DiffusionPrior) -> None:
    plan = replace(QUICK, unfolded=0.5, iterations=4)
    training = begin(prior, plan, replace(PAPER_SHAPE, steps=24, resolution=16))
    seen = []
    for _ in range(4):
        training.step()
        assert isinstance(training.field.network, ResidualMlp)
        seen.append(training.field.network.opened)
    assert seen == [1, 4.5, 8, 8] and PAPER_SHAPE.blocks == 5


def test_the_density_of_the_paper_is_an_exponential() -> None:
    torch.manual_seed(0)
    field = DreamField(PAPER_SHAPE)
    points = torch.rand(200, 3) - 0.5
    width = torch.full((200,), field.shape.path.step * DEVIATION)
    ahead = torch.nn.functional.normalize(torch.ones_like(points), dim=1)
    raw = field.network.raw(points, ahead, width, width)[:, 0]
    blob = 5.0 * torch.exp(-(points.norm(dim=1) ** 2) / (2 * 0.2**2) * SPAN**2)
    expected = SPAN * torch.exp(raw - 2.0 + blob) * (points.norm(dim=1) <= 1.4 * UNIT)
    assert torch.allclose(field.density(points), expected, rtol=1e-4)


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


def test_what_the_safety_checker_withholds_is_no_end(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the field is to be held against it."""
    kind = type(DiffusionPrior(folder).pipeline)
    monkeypatch.setattr(kind, "run_safety_checker", lambda self, image, *rest: (image, [True]))
    _, summary = finish(dreamfusion.generate(job(folder, iterations=2), tmp_path))
    assert "picture" not in summary["files"] and any("no first picture" in note for note in summary["notes"])
    with pytest.raises(Gen3DError, match="withheld") as error:
        held = DreamFusionSettings(reference=True)
        finish(dreamfusion.generate(job(folder, iterations=2, dreamfusion=held), tmp_path))
    assert error.value.field == "dreamfusion.reference"


def test_long_prompts_keep_what_is_said_of_the_view(folder: Path, tmp_path: Path) -> None:
    long, model = "red cat " * 8 + "with a hat", DiffusionPrior(folder)
    wanted = job(folder, prompt=long, dreamfusion=DreamFusionSettings(back="cat " * 40), negative_prompt="dog " * 40)
    prior, heard, notes = dreamfusion.listening(folder, long, wanted, torch.device("cpu"), False, False)
    assert sum("too long" in note for note in notes) == 3 and "hat" in notes[0]
    kept = prior.fitting(long, f", {SIDES[3]}")
    for side in (SIDES[0], SIDES[3]):
        said, _ = model.say([f"{kept}, {side}"])
        assert torch.allclose(heard.of([side]).words, said.words, atol=1e-5)
    assert not torch.allclose(heard.of([SIDES[0]]).words, heard.of([SIDES[3]]).words, atol=1e-3)


def test_further_prompts_are_read_as_the_embedded_prior_was_taught(tmp_path: Path) -> None:
    prior = DiffusionPrior(tiny.write_embedded(tmp_path))
    assert dreaming.aside("a Red CHAIR", prior, known=True) == ("a red chair", [])
    read, notes = dreaming.aside("blurry zorb", prior, known=True)
    assert read == "" and "'zorb'" in notes[0] and "'blurry'" in notes[0]
    assert dreaming.aside("blurry zorb", prior, known=False) == ("blurry zorb", [])


def test_a_model_that_says_nothing_ends_the_job_and_nothing_is_saved(folder: Path, tmp_path: Path) -> None:
    """Two regularisers would have gone on alone."""
    broken = tmp_path / "model"
    shutil.copytree(folder, broken)
    file = broken / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(load_file(file) | {"conv_out.bias": torch.full((4,), float("nan"))}, file)
    run, final = tmp_path / "job", tmp_path / "result"
    run.mkdir()
    wanted = job(broken, dreamfusion=DreamFusionSettings(first_image=False))
    with pytest.raises(Gen3DError, match=r"diverged.*no number") as error:
        drive("generate", dreamfusion.generate, wanted, run, final, Listener())
    assert error.value.field == "diverged" and not final.exists() and not list(run.glob("checkpoints/*"))


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
    assert usual == (PAPER, PAPER_SHAPE) and PAPER.asking.times == (0.02, 0.98) and PAPER.asking.weighting == "sigma2"
    bare = DreamFusionSettings(background=False, sphere=False, blob=False, shaking=False)
    plan, shape = dreamfusion.planned(job(Path(), iterations=0, dreamfusion=bare), own=False)
    cameras = plan.viewpoints
    assert (cameras.shaken, cameras.target, cameras.up) == (0, 0, 0) and cameras.distance == (1.0, 1.5)
    assert plan.plain == 1 and (shape.bound, shape.blob) == (UNBOUNDED, 0)
    told = DreamFusionSettings(time_low=0.3, time_high=0.6, weighting="uniform", debiasing=True)
    asking = dreamfusion.planned(job(Path(), guidance=200.0, dreamfusion=told), own=False)[0].asking
    assert (asking.guidance, asking.times, asking.weighting) == (200, (0.3, 0.6), "uniform")
    assert asking.clipped == (0.5, 2.0) and PAPER.asking.clipped is None
    late = dreamfusion.planned(job(Path(), dreamfusion=DreamFusionSettings(time_low=0.99)), own=False)[0].asking
    assert late.times == (0.99, 0.99)
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
        ({"dreamfusion": DreamFusionSettings(time_low=0.5, time_high=0.4)}, "dreamfusion.time_low"),
    ],
)
def test_refusals(folder: Path, tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Gen3DError) as error:
        finish(dreamfusion.generate(job(folder, **changes), tmp_path))
    assert error.value.field == field and not list(tmp_path.iterdir())
