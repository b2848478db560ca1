# SPDX-License-Identifier: GPL-3.0-or-later
"""A dozen steps of the dual encoder's and the text-to-image prior's trainings, and what they leave behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from backend.errors import Gen3DError
from backend.priors import evaluate_clip, evaluate_unet, tokenizer, train_clip, train_unet
from backend.priors.pictures import block
from backend.priors.training import CHECKPOINT, Ahead, Plan, Session, fit, generator

CLIP = train_clip.Shape(vision_width=32, vision_layers=1, text_width=32, text_layers=1, embedding=16)
UNET = train_unet.Shape(channels=(16, 32), text_width=32, text_layers=1, heads=2)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def trained(kind: str, folder: Path, plan: Plan, until: int) -> dict[str, torch.Tensor]:
    """State of the checkpoint after ``until`` steps in one go or going on."""
    torch.manual_seed(0)
    device = torch.device("cpu")
    model: Any
    step_loss: Callable[[int], torch.Tensor]
    if kind == "clip":
        model = train_clip.build(CLIP)
        batches = train_clip.Batches(plan, train_clip.Pool(things=8, views=2, uses=2), device)
        step_loss = partial(train_clip.step_loss, model, batches)
    else:
        model = train_unet.TextToImage(UNET)
        step_loss = train_unet.Objective(model, train_unet.Batches(plan, train_unet.Pool(things=16), device))

    class Stop(Exception):
        pass

    def loss(step: int) -> torch.Tensor:
        if step == until:
            raise Stop
        return step_loss(step)

    with suppress(Stop):
        fit(model, loss, plan, Session(folder, save_minutes=0))
    held = torch.load(folder / CHECKPOINT, weights_only=True)
    assert held["step"] == until
    flat = {f"model {k}": v for k, v in held["model"].items()} | {f"mean {k}": v for k, v in held["mean"].items()}
    for number, optimiser in enumerate(held["optimisers"]):
        for index, state in optimiser["state"].items():
            flat |= {f"optimiser {number} {index} {k}": v for k, v in state.items()}
    return flat


@pytest.mark.parametrize("kind", ["clip", "unet"])
def test_a_training_that_was_interrupted_goes_on_to_the_bit(kind: str, tmp_path: Path) -> None:
    plan = Plan(samples=16 * 12, batch=16, rate=1e-3, seed=3, warm_up=2)
    whole = trained(kind, tmp_path / "whole", plan, 12)
    trained(kind, tmp_path / "parts", plan, 5)
    parts = trained(kind, tmp_path / "parts", plan, 12)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert not (tmp_path / "parts" / f"{CHECKPOINT}.part").exists()
    with pytest.raises(Gen3DError, match="begun with another rate and seed"):
        trained(kind, tmp_path / "parts", Plan(plan.samples, plan.batch, 2e-3, 4, warm_up=2), 12)


def test_the_dual_encoder_learns_and_its_folder_is_a_published_one(tmp_path: Path) -> None:
    from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

    plan = Plan(samples=32 * 50, batch=32, rate=3e-3, seed=0, warm_up=5)
    session = Session(tmp_path)
    torch.manual_seed(0)
    model = train_clip.build(CLIP)
    losses: list[float] = []
    batches = train_clip.Batches(plan, train_clip.Pool(things=8, views=2, uses=25), session.device)

    def loss(step: int) -> torch.Tensor:
        value = train_clip.step_loss(model, batches, step)
        losses.append(float(value.detach()))
        return value

    mean = fit(model, loss, plan, session)
    assert sum(losses[-8:]) / 8 < 0.9 * sum(losses[:8]) / 8
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [50]

    folder = tmp_path / "export"
    train_clip.export(model, mean, folder, "clip", ["It was measured."])
    with safe_open(folder / "model.safetensors", "pt") as held:
        assert {held.get_tensor(name).dtype for name in held.keys()} == {torch.float16}  # noqa: SIM118
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "It was measured." in card and "mushroom" in card
    loaded = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    words = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
    picture = torch.rand(64, 64, 3)
    inputs = words(["a red chair", "a mug"], padding=True, return_tensors="pt")
    prepared = processor(images=[(picture * 255).byte().numpy()], return_tensors="pt")
    with torch.inference_mode():
        out = loaded(**inputs, **prepared)
        tokens = tokenizer.encode(tokenizer.load(), ["a red chair", "a mug"])
        assert train_clip.read(loaded, tokens) == pytest.approx(out.text_embeds, abs=1e-4)
        rounded = (picture * 255).byte().permute(2, 0, 1)[None] / 255
        assert train_clip.see(loaded, rounded) == pytest.approx(out.image_embeds, abs=1e-4)
    scores = evaluate_clip.evaluate(loaded, count=24)
    assert all(0 <= score <= 1 for score in vars(scores).values())


def test_the_text_to_image_prior_learns_and_its_folder_is_a_published_one(tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    plan = Plan(samples=16 * 30, batch=16, rate=3e-3, seed=0, warm_up=3, ema=0.9)
    session = Session(tmp_path)
    torch.manual_seed(0)
    model = train_unet.TextToImage(UNET)
    objective = train_unet.Objective(model, train_unet.Batches(plan, train_unet.Pool(things=32), session.device))
    losses: list[float] = []

    def loss(step: int) -> torch.Tensor:
        value = objective(step)
        losses.append(float(value.detach()))
        return value

    mean = fit(model, loss, plan, session)
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])
    folder = tmp_path / "export"
    train_unet.export(model, mean, folder)
    load: Any = DiffusionPipeline.from_pretrained
    pipeline = load(folder, dtype=torch.float32, local_files_only=True)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    picture = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        latents = pipeline.vae.encode(picture).latents
        assert latents * pipeline.vae.config.scaling_factor == pytest.approx(picture, abs=1e-4)
        assert pipeline.vae.decode(latents).sample == pytest.approx(picture, abs=1e-4)
    made = evaluate_unet.sample(pipeline, ["a red chair", "a mug, front view"], steps=3)
    assert made.shape == (2, 3, 32, 32) and torch.isfinite(made).all()
    assert torch.equal(made, evaluate_unet.sample(pipeline, ["a red chair", "a mug, front view"], steps=3))
    assert evaluate_unet.sheet(made, columns=2).size == (128, 64)

    # What the pipeline asks is what was trained.
    model.load_state_dict(mean)
    noisy, t = torch.randn(1, 3, 32, 32), torch.tensor([400])
    tokens = tokenizer.encode(tokenizer.load(), ["a red chair"])
    with torch.inference_mode():
        ours = model(noisy, t, tokens)
        states = pipeline.encode_prompt("a red chair", torch.device("cpu"), 1, False)[0]
        theirs = pipeline.unet(noisy, t, states).sample
    assert theirs == pytest.approx(ours, abs=0.02)  # half precision was stored


def test_the_text_encoder_begins_as_that_of_a_prior_that_is_there(tmp_path: Path) -> None:
    source, model = train_unet.TextToImage(UNET), train_unet.TextToImage(UNET)
    assert train_unet.begin_with_words(model, tmp_path) == ""
    (tmp_path / "point").mkdir()
    source.text.save_pretrained(tmp_path / "point" / "text_encoder")
    assert train_unet.begin_with_words(model, tmp_path) == "point/text_encoder"
    ours, theirs = model.text.state_dict(), source.text.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_caption_has_to_prefer_its_picture_to_spoilt_ones_and_shares_it_with_equals() -> None:
    seen = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    said = seen[:3].clone()
    apart = torch.eye(3, dtype=torch.bool)
    scale = torch.tensor(50.0)
    assert float(train_clip.contrast(seen, said, scale, apart)) < 0.05
    seen[3] = seen[0]  # a spoilt picture that looks just like the first
    lost = float(train_clip.contrast(seen, said, scale, apart))
    assert lost == pytest.approx(torch.log(torch.tensor(2.0)).item() / 6, abs=0.02)
    # Two captions of one thing: both of its pictures are right, and half the mass each is the best there is.
    same = torch.tensor([[True, True], [True, True]])
    even = train_clip.contrast(seen[:1].expand(2, -1), said[:1].expand(2, -1), scale, same)
    assert float(even) == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-4)
    tokens, things = torch.tensor([[1, 2], [1, 3], [1, 2]]), torch.tensor([4, 4, 5])
    assert train_clip.truth_of(tokens, things).tolist() == [
        [True, True, True],
        [True, True, False],
        [True, False, True],
    ]


def test_pictures_drawn_by_other_processes_are_the_same() -> None:
    make = partial(block, 5, things=2, views=1, size=16)
    ahead = Ahead(make, 1)
    try:
        for index in range(3):
            assert (ahead[index].rgba == make(index).rgba).all()
    finally:
        ahead.close()


def test_generators_are_functions_of_their_numbers() -> None:
    device = torch.device("cpu")
    seeds = [generator(device, a, b).initial_seed() for a in range(30) for b in range(30)]
    assert len(set(seeds)) == 900
    assert generator(device, 1, 2).initial_seed() == generator(device, 1, 2).initial_seed()


def test_attacks_stay_within_their_bounds_and_raise_the_loss() -> None:
    random = torch.Generator().manual_seed(0)
    pictures = 0.3 + 0.4 * torch.rand(40, 3, 8, 8, generator=random)
    liked = torch.randn(3, 8, 8, generator=random)
    radius = torch.linspace(0, 1, 40)
    found = train_clip.attacked(pictures, radius, lambda x: (x * liked).sum(), random)
    changes = (found - pictures).flatten(1).norm(dim=1)
    assert bool((changes <= radius + 1e-5).all()) and float((changes / radius.clamp_min(1e-6)).mean()) > 0.3
    gained = ((found - pictures) * liked).sum((1, 2, 3))
    straight = changes * liked.norm()
    assert torch.allclose(gained, straight, atol=1e-3)  # of a linear loss, straight up its gradient
    assert float(found.min()) >= 0 and float(found.max()) <= 1


def test_the_dual_encoder_is_trained_on_ruins_that_tempt_it() -> None:
    plan = Plan(samples=16 * 4, batch=16, rate=1e-3, seed=3, warm_up=2)
    torch.manual_seed(0)
    model = train_clip.build(CLIP)
    batches = train_clip.Batches(plan, train_clip.Pool(things=4, views=2, uses=2, ruins=True), torch.device("cpu"))
    rgba, tokens, things, ruins = batches[0]
    assert len(rgba) == len(tokens) == len(things) == 16 and ruins.shape == (8, 4, 64, 64)
    assert bool((ruins != rgba[::2]).flatten(1).any(1).all())
    quiet, loud = (train_clip.step_loss(model, batches, 0, attack) for attack in (0.0, 4.0))
    assert float(loud.detach()) > float(quiet.detach())
