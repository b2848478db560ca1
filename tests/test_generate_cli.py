# SPDX-License-Identifier: GPL-3.0-or-later
"""``gen3d generate`` as a user meets it, with a small prior in place of the embedded one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend import __main__ as cli
from backend import settings, storage
from backend.errors import Gen3DError
from backend.geometry.mesh import is_watertight
from backend.geometry.reading import read
from backend.priors import embedded

from .guidance import tiny
from .pipelines.tiny_point_e import write_folder

QUICK = ("--steps", "8", "--resolution", "32", "--device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("prior") / "point")


@pytest.fixture(autouse=True)
def small_prior(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(embedded, "POINT", folder)
    monkeypatch.setattr(embedded, "SDF", folder.parent / "none")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def generate(*arguments: str) -> int:
    return cli.main(["generate", *QUICK, *arguments])


@pytest.mark.parametrize("ending", ["glb", "ply", "OBJ"])
def test_one_file_and_nothing_beside_it(tmp_path: Path, capfd: pytest.CaptureFixture[str], ending: str) -> None:
    out = tmp_path / "deep" / f"chair.{ending}"
    assert generate("--prompt", "a red chair with a blue hovercraft", "--out", str(out)) == 0
    told = capfd.readouterr().out
    assert f"result       {out}" in told and "prior        embedded" in told
    assert "'hovercraft'" in told and "gen3d models install point-e" in told
    assert names(out.parent) == [out.name] and names(tmp_path) == ["deep"]
    if ending != "OBJ":
        assert len(read(out)[0].faces) > 100
    else:
        assert out.read_text().count("\nf ") > 100


def test_a_folder_of_several(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "row"
    arguments = ["--prompt", "a red chair", "--count", "2", "--seed", "7", "--save-points", "--json"]
    assert generate(*arguments, "--out", str(out)) == 0
    content = json.loads(capfd.readouterr().out)
    assert content["folder"] == str(out) and [made["seed"] for made in content["objects"]] == [7, 8]
    assert {**storage.read_result(out), "folder": str(out)} == content  # type: ignore[dict-item]
    assert set(names(out)) == {*content["files"].values(), "result.json"}
    assert {"mesh.glb", "mesh_2.glb", "points.ply", "points_2.ply"} <= set(names(out))
    assert set(content["sha256"]) == set(content["files"].values())


@pytest.mark.parametrize(
    ("arguments", "words", "field"),
    [
        ([], "There is no prompt.", "prompt"),
        (["--prompt", ""], "There is no prompt.", "prompt"),
        (["--prompt", "a" * 2**20], "--prompt has 1048576 characters.", "params.prompt"),
        (["--image", "missing.png"], "There is no file", "image"),
        (["--image", __file__], "is no picture that can be read", "image"),
        (["--prompt", "a red chair", "--count", "2"], "2 results do not go into the one file", "out"),
        (["--prompt", "a red chair", "--weights", "base40M"], "The weights base40M are not installed.", "weights"),
        (["--prompt", "a red chair", "--system", "magic"], "invalid choice: 'magic'", "arguments"),
    ],
)
def test_refusals_leave_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], words: str, field: str
) -> None:
    assert generate(*arguments, "--out", str(tmp_path / "a" / "chair.glb"), "--json") == 2
    told = capfd.readouterr()
    error = json.loads(told.out)["error"]
    assert words in error["cause"] and error["field"] == field and error["next_step"]
    assert "Traceback" not in told.err and names(tmp_path) == []


def test_fields_are_made_of_words_and_their_techniques_left_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    models = {
        "dream-fields": (tiny.write_clip(tmp_path / "clip"), "--no-dream-fields-localisation"),
        "dreamfusion": (tiny.write_text_to_image(tmp_path / "drawing"), "--dreamfusion-debiasing"),
    }
    for system, (folder, technique) in models.items():
        out = tmp_path / system
        given = ["--system", system, "--weights", str(folder), "--prompt", "red cat", "--iterations", "4"]
        quick = ["--resolution", "32", "--device", "cpu", "--json", technique]
        assert cli.main(["generate", *given, *quick, "--out", str(out)]) == 0
        told = json.loads(capfd.readouterr().out.strip().splitlines()[-1])
        assert told["prior"] == str(folder) and told["steps"] == 4
        assert is_watertight(read(out / told["files"]["ply"])[0]) and (out / "views.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--negative-prompt", "red"], "--negative-prompt is nothing to point-e"),
        (["--no-dream-fields-poses"], "another --system: dream-fields"),
        (["--lora", "cat.safetensors"], "take another --system: dreamfusion"),
        (["--system", "dream-fields", "--points", "9"], "--points is nothing to dream-fields"),
    ],
)
def test_options_of_other_systems_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert cli.main(["generate", "--prompt", "a chair", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert words in capfd.readouterr().err and not list(tmp_path.iterdir())


def test_endings_that_are_not_written_are_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "--prompt", "a chair", "--out", str(tmp_path / "chair.fbx")]) == 2
    assert "ends in .glb, .ply, .obj" in capfd.readouterr().err and not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    out = tmp_path / "chair.glb"
    out.write_text("precious")
    assert generate("--prompt", "a red chair", "--out", str(out)) == 2
    assert out.read_text() == "precious" and names(tmp_path) == ["chair.glb"]


@pytest.mark.parametrize(
    ("given", "field", "step"),
    [
        ({"prompt": "a chair \udcff"}, "params.prompt", "Type the text anew."),
        ({"prompt": "a chair", "dreamfusion": {"back": "\ud83e"}}, "params.dreamfusion.back", "Type the text anew."),
        ({"prompt": "a chair", "start": "/chair\udcff.glb"}, "params.start", "Rename that file or folder."),
    ],
)
def test_half_characters_are_refused(given: dict[str, object], field: str, step: str) -> None:
    """As the wire does, and in its words; files must not have them in their names. Whole ones are kept."""
    with pytest.raises(Gen3DError) as caught:
        settings.parse(settings.GenerateSettings, given)
    assert caught.value.cause == f"{field} holds half of a character (a lone surrogate)."
    assert (caught.value.field, caught.value.next_step) == (field, step)
    assert settings.parse(settings.GenerateSettings, {"prompt": "a 🦊, \ud7ff\ue000"}).prompt == "a 🦊, \ud7ff\ue000"


def test_the_wire_refuses_a_long_prompt_in_the_same_words() -> None:
    with pytest.raises(Gen3DError, match=r"params.prompt has 2001 characters\. Give 2000 at most\."):
        settings.parse(settings.GenerateSettings, {"prompt": "é" * 2001})
    assert settings.parse(settings.GenerateSettings, {"prompt": "é" * 2000}).prompt == "é" * 2000
