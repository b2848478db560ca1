# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of one thing are learned, the same from the same seed; the file is one that a fresh model reads."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from backend import __main__ as cli
from backend import driver, storage
from backend.driver import Listener, Stopped, drive
from backend.errors import Gen3DError
from backend.guidance import lora
from backend.guidance.diffusion_prior import DiffusionPrior
from backend.guidance.score_distillation import noised, target_of
from backend.pipelines import personalise
from backend.pipelines.progress import Snapshot
from backend.settings import PersonaliseSettings
from tests.guidance import tiny

from .runs import finish, same

PROMPT = "a photo of [V] cat"


@pytest.fixture(scope="module", params=[tiny.write_text_to_image, tiny.write_extra_large, tiny.write_embedded])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = request.param(tmp_path_factory.mktemp("drawing"))
    return made


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_text_to_image(tmp_path_factory.mktemp("drawing"))


def write_pictures(folder: Path, colour: tuple[int, int, int], count: int = 3) -> Path:
    folder.mkdir()
    for index in range(count):
        pixels = np.full((20, 24, 3), colour, np.uint8)
        pixels[4 + index : 12 + index, 8:16] = 255 - np.array(colour)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "of it", (200, 30, 30))


def job(images: Path, folder: Path, **changes: Any) -> PersonaliseSettings:
    values: dict[str, Any] = {"prompt": PROMPT, "steps": 8, "rate": 1e-2, "rank": 4, "device": "cpu", **changes}
    return PersonaliseSettings(str(images), weights=str(folder), **values)


def learn(wanted: PersonaliseSettings, out: Path, resume: Snapshot | None = None) -> dict[str, Tensor]:
    out.mkdir(parents=True)
    _, summary = finish(personalise.train(wanted, out, resume))
    assert summary["files"] == {"lora": "lora.safetensors"}
    return load_file(out / "lora.safetensors")


def wrong(prior: DiffusionPrior, images: Path, prompt: str) -> float:
    """The loss over all pictures at many noise levels."""
    pixels = torch.cat([personalise._pixels(file, "images", prior.size) for file in sorted(images.iterdir())])
    random = torch.Generator().manual_seed(9)
    said, found = prior.say([prompt])[0], []
    with torch.no_grad():
        for one in prior.encode(pixels):
            t = torch.arange(20, prior.steps, 60)
            x = one.expand(len(t), *one.shape)
            noise = torch.randn(x.shape, generator=random)
            signal2 = prior.signal2[t]
            predicted = prior.predict(noised(x, noise, signal2), t, said.of([0] * len(t)))
            found.append((predicted - target_of(x, noise, signal2, prior.prediction)).square().mean())
    return float(torch.stack(found).mean())


def test_it_learns_its_pictures_and_a_fresh_model_reads_the_file(folder: Path, images: Path, tmp_path: Path) -> None:
    learn(job(images, folder, steps=120), tmp_path / "out")
    plain, taught = DiffusionPrior(folder), DiffusionPrior(folder)
    taught.learn(tmp_path / "out")
    before, after = (wrong(prior, images, PROMPT) for prior in (plain, taught))
    assert after < 0.96 * before


def test_the_training_itself_heard_what_the_file_says(folder: Path, images: Path, tmp_path: Path) -> None:
    prior = DiffusionPrior(folder)
    x = prior.encode(personalise._pixels(images / "0.png", "images", prior.size))
    lessons = personalise.Lessons(prior, [(x, prior.say([PROMPT])[0])], rank=2, rate=1e-2, seed=0)
    for _ in range(4):
        lessons.step()
    save_file(lora.tensors(lessons.unet), tmp_path / "l.safetensors")
    fresh = DiffusionPrior(folder)
    fresh.learn(tmp_path / "l.safetensors")
    noise, t, said = torch.randn(x.shape), torch.tensor([300]), fresh.say([PROMPT])[0]
    assert torch.allclose(fresh.noise(noise, t, said)[0], prior.noise(noise, t, said)[0], atol=1e-5)


def test_only_the_matrices_change(drawing: Path, images: Path) -> None:
    prior = DiffusionPrior(drawing)
    x = prior.encode(personalise._pixels(images / "0.png", "images", prior.size))
    lessons = personalise.Lessons(prior, [(x, prior.say([PROMPT])[0])], rank=2, rate=1e-2, seed=0)
    state = {name: value.clone() for name, value in lessons.unet.state_dict().items()}
    lessons.step()
    changed = {name for name, value in lessons.unet.state_dict().items() if not torch.equal(value, state[name])}
    assert changed and all("lora_" in name for name in changed)


def test_a_model_of_half_precision_is_taught_in_whole(folder: Path, images: Path, tmp_path: Path) -> None:
    """As on CUDA; and what was learned is merged into one of half precision, too."""
    prior = DiffusionPrior(folder, dtype=torch.bfloat16)
    x = prior.encode(personalise._pixels(images / "0.png", "images", prior.size))
    lessons = personalise.Lessons(prior, [(x, prior.say([PROMPT])[0])], rank=2, rate=1e-2, seed=0)
    before = [value.detach().clone() for value in lessons.matrices]
    losses = [lessons.step() for _ in range(3)]
    assert np.isfinite(losses).all()
    for value, old in zip(lessons.matrices, before, strict=True):
        assert value.dtype == torch.float32 and not torch.equal(value, old)
    save_file(lora.tensors(lessons.unet), tmp_path / "l.safetensors")
    fresh = DiffusionPrior(folder, dtype=torch.bfloat16)
    fresh.learn(tmp_path / "l.safetensors")
    noise, t, said = torch.randn(x.shape), torch.tensor([300]), fresh.say([PROMPT])[0]
    assert torch.allclose(fresh.noise(noise, t, said)[0], prior.noise(noise, t, said)[0], atol=0.1)


def test_the_same_seed_gives_the_same_and_another_another(drawing: Path, images: Path, tmp_path: Path) -> None:
    once, again, other = (
        learn(job(images, drawing, seed=seed), tmp_path / name) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert all(torch.equal(value, again[name]) for name, value in once.items())
    assert any(not torch.equal(value, other[name]) for name, value in once.items())


def test_it_goes_on_where_it_was_to_the_last_bit(folder: Path, images: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(personalise, "YIELD_SECONDS", 0.0)
        wanted = job(images, folder)
        (tmp_path / "whole").mkdir()
        held: list[Snapshot] = []
        for progress in personalise.train(wanted, tmp_path / "whole"):
            if progress.snapshot is not None:
                held.append(progress.snapshot())
        whole = load_file(tmp_path / "whole" / "lora.safetensors")
        for index in (2, 7):
            found = learn(wanted, tmp_path / f"again {index}", held[index])
            assert all(torch.equal(value, whole[name]) for name, value in found.items())
        pipeline = personalise.train(wanted, tmp_path, held[2])
        first = next(progress.snapshot() for progress in pipeline if progress.snapshot is not None)
        assert same(first, held[3])
        with pytest.raises(KeyError):
            list(personalise.train(wanted, tmp_path, Snapshot({}, {"steps": 1})))


def test_stopped_it_goes_on_from_what_it_left_and_writes_the_same_file(
    drawing: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(personalise, "YIELD_SECONDS", 0.0)
    wanted, told = job(images, drawing), [0]

    def stopping() -> bool:
        told[0] += 1
        return told[0] == 5

    for work in (tmp_path / "whole", tmp_path / "again"):
        work.mkdir()
    drive("personalise", personalise.train, wanted, tmp_path / "whole", tmp_path / "whole" / "result", Listener())
    again = ("personalise", personalise.train, wanted, tmp_path / "again", tmp_path / "again" / "result")
    with pytest.raises(Stopped):
        drive(*again, Listener(stopping=stopping))
    assert storage.has_checkpoint(tmp_path / "again")
    steps: list[int] = []
    drive(*again, Listener(lambda progress: steps.append(progress.step) if progress.phase == "train" else None))
    assert steps == [5, 6, 7, 8]
    one, other = (tmp_path / name / "result" / "lora.safetensors" for name in ("whole", "again"))
    assert one.read_bytes() == other.read_bytes()


def test_a_full_disk_is_said_and_what_was_learned_is_kept(
    drawing: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(driver, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(Gen3DError) as caught:
        drive("personalise", personalise.train, job(images, drawing), tmp_path, tmp_path / "result", Listener())
    assert caught.value.field == storage.DISK_FULL and not (tmp_path / "result").exists()
    assert storage.has_checkpoint(tmp_path)


def test_what_stays_known_is_learned_too(drawing: Path, images: Path, tmp_path: Path) -> None:
    """With pictures of other things, the model forgets less of these."""
    others, said = write_pictures(tmp_path / "others", (20, 60, 220)), "a photo of cat"
    more = {"class_images": str(others), "class_prompt": said}
    alone, both = DiffusionPrior(drawing), DiffusionPrior(drawing)
    learn(job(images, drawing, steps=240), tmp_path / "alone")
    alone.learn(tmp_path / "alone")
    learn(job(images, drawing, steps=240, **more), tmp_path / "both")
    both.learn(tmp_path / "both")
    assert wrong(both, others, said) < wrong(alone, others, said)


def test_pictures_of_every_kind_become_square_and_opaque(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 20), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert torch.equal(personalise._pixels(tmp_path / "clear.png", "images", 8), torch.ones(1, 3, 8, 8))
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert float(personalise._pixels(tmp_path / "wide.png", "images", 10).mean()) > 0.9


def test_the_resolution_is_that_of_the_latents(drawing: Path) -> None:
    prior = DiffusionPrior(drawing, size=24)
    assert prior.encode(torch.rand(1, 3, 24, 24)).shape[-1] == 12


# ------------------------------------------------------------------------------------------------- as a user meets it


def test_the_command_writes_one_file_that_generate_reads(
    drawing: Path, images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "cat é.safetensors"
    command = ["personalise", str(images), "--prompt", PROMPT, "--weights", str(drawing), "--steps", "3"]
    assert cli.main([*command, "--device", "cpu", "--out", str(out), "--json"]) == 0
    content = json.loads(capfd.readouterr().out)
    assert content["file"] == str(out) and [path.name for path in out.parent.iterdir()] == [out.name]
    assert "--lora" in content["notes"][0]
    DiffusionPrior(drawing).learn(out)


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def unreadable(folder: Path) -> Path:
    (empty(folder) / "a.png").write_text("no picture")
    return folder


@pytest.mark.parametrize(
    ("make", "changes", "words", "field"),
    [
        (empty, {}, "holds no pictures", "images"),
        (lambda folder: folder, {}, "There is no folder", "images"),
        (unreadable, {}, "is no picture that can be read", "images"),
        (None, {"prompt": " "}, "There is no prompt", "prompt"),
        (None, {"weights": "nowhere"}, "neither known weights", "weights"),
        (None, {"class_prompt": "a cat"}, "go together", "class_images"),
        (None, {"class_prompt": "a cat", "class_images": "nowhere"}, "There is no folder", "class_images"),
    ],
)
def test_refusals(
    drawing: Path,
    images: Path,
    tmp_path: Path,
    make: Callable[[Path], Path] | None,
    changes: dict[str, str],
    words: str,
    field: str,
) -> None:
    shown = images if make is None else make(tmp_path / "pictures")
    (tmp_path / "out").mkdir()
    values = {"prompt": PROMPT, "weights": str(drawing), "device": "cpu", "steps": 1, **changes}
    with pytest.raises(Gen3DError, match=words) as caught:
        finish(personalise.train(PersonaliseSettings(str(shown), **values), tmp_path / "out"))  # type: ignore[arg-type]
    assert caught.value.field == field and not list((tmp_path / "out").iterdir())
