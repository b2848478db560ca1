# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line as a user meets it: exit codes, one JSON object, Ctrl-C, and nothing half-written."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from backend import __main__ as cli
from backend import doctor, settings, storage
from backend.errors import Gen3DError
from backend.jobs import JobStore
from tests.patience import patience

from .faults import toys

TOY = [sys.executable, str(Path(__file__).parent / "faults" / "toy_cli.py")]


def gen3d(*arguments: str, home: Path, command: list[str] = TOY) -> subprocess.CompletedProcess[str]:
    environment = {**toys.ENVIRONMENT, "GEN3D_HOME": str(home)}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=60)


def plan(tmp_path: Path, **what: Any) -> str:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(what))
    return str(path)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_result_and_one_json_object(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "out"
    done = gen3d("nerf", plan(tmp_path, pause=0.001), "--steps", "20", "--out", str(out), "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["folder"] == str(out) and content["steps"] == 20 and content["settings"]["mesh"]["faces"] == 100_000
    assert {**storage.read_result(out), "folder": str(out)} == content  # type: ignore[dict-item]
    assert json.loads((out / "state.json").read_text()) == toys.expected(20)
    assert names(out) == ["result.json", "state.json"] and names(out.parent) == ["out"]
    assert "100%" in done.stderr and "step 20 of 20" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words", "field"),
    [
        (["--steps", "-1"], "--steps = -1 is out of range", "params.steps"),
        (["--seed", "-1"], "--seed = -1 is out of range", "params.seed"),
        (["--seed", str(2**64)], "--seed = ", "params.seed"),
        (["--seconds", "nan"], "--seconds is not a finite number", "params.seconds"),
        (["--mesh-resolution", "5"], "--mesh-resolution = 5 is out of range", "params.mesh.resolution"),
        (["--steps", "many"], "invalid int value: 'many'", "arguments"),
        (["--preset", "slow"], "invalid choice: 'slow'", "arguments"),
        (["--nonsense"], "Unrecognized arguments: --nonsense", "arguments"),
    ],
)
def test_wrong_input_is_named_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str, field: str
) -> None:
    assert cli.main(["nerf", "data", "--out", str(tmp_path / "a" / "out"), "--json", *arguments]) == 2
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert words in error["cause"] and error["field"] == field and err.startswith(f"gen3d: {error['cause']}")
    assert names(tmp_path) == []


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_command_line_and_wire_refuse_the_same_values_in_the_same_words(seed: int) -> None:
    with pytest.raises(Gen3DError) as wire:
        settings.parse(settings.NerfSettings, {"dataset": "d", "seed": seed})
    with pytest.raises(Gen3DError) as line:
        cli.read_options(settings.NerfSettings, cli.parser().parse_args(["nerf", "d", "--out", "o", f"--seed={seed}"]))
    assert line.value.cause == wire.value.cause.replace("params.seed", "--seed")
    assert (line.value.next_step, line.value.field) == (wire.value.next_step, wire.value.field)


def test_options_are_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = (
        "data --out o --preset paper --seconds 7 --exposure --mesh-level 12.5 --mesh-watertight --mesh-texture 64 "
        "--mesh-normal-map"
    )
    given = cli.parser().parse_args(["nerf", *arguments.split()])
    expected = settings.NerfSettings(
        dataset=str(tmp_path / "data"), preset="paper", seconds=7.0, exposure=True,
        mesh=settings.MeshSettings(level=12.5, watertight=True, texture=64, normal_map=True),
    )  # fmt: skip
    assert cli.read_options(settings.NerfSettings, given) == expected
    plain = cli.read_options(settings.RenderSettings, cli.parser().parse_args(["render", "r", "--out", "o"]))
    assert plain == settings.RenderSettings(result=str(tmp_path / "r"))  # an empty camera path stays empty


def test_a_users_error_and_a_bug_are_told_apart(tmp_path: Path) -> None:
    for fault, code, words in (("gen3d", 2, "The dataset is odd."), ("ZeroDivisionError", 1, "ZeroDivisionError")):
        out = tmp_path / "x" / "out"
        done = gen3d("nerf", plan(tmp_path, error={"3": fault}), "--out", str(out), "--json", home=tmp_path)
        error = json.loads(done.stdout)["error"]
        assert done.returncode == code and words in error["cause"] and f"gen3d: {error['cause']}" in done.stderr
        assert ("Traceback" in done.stderr) == (code == 1)
        assert names(tmp_path) == ["plan.json"]


def test_a_folder_that_is_in_use_is_not_touched(tmp_path: Path) -> None:
    out, part = tmp_path / "out", tmp_path / "fresh.part"
    for folder in (out, part):
        folder.mkdir()
        (folder / "mine").write_text("precious")
    (tmp_path / "file.part").write_text("precious")
    for target in ("out", "fresh", "file"):
        assert cli.main(["nerf", plan(tmp_path), "--out", str(tmp_path / target)]) == 2
    assert names(tmp_path) == ["file.part", "fresh.part", "out", "plan.json"]
    assert names(out) == names(part) == ["mine"]


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["nerf", plan(tmp_path, pause=0.01), "--steps", "300", "--out", str(out), "--json"]
    environment = {**toys.ENVIRONMENT, "GEN3D_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(
        [*TOY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 30
    while not storage.has_checkpoint(tmp_path / "out.part"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    again = gen3d(*arguments, home=tmp_path)
    assert again.returncode == 2 and "Another run" in json.loads(again.stdout)["error"]["cause"]
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 130 and "The same command goes on." in stderr
    assert json.loads(stdout)["error"]["cause"] == "Stopped." and not out.exists()
    other = gen3d(*arguments, "--seed", "5", home=tmp_path)
    assert other.returncode == 2 and "other settings" in json.loads(other.stdout)["error"]["cause"]
    lines = (tmp_path / "out.part" / "trace.txt").read_text().split("\n")
    reached = int(lines[-2])
    done = gen3d(*arguments, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "state.json").read_text()) == toys.expected(300)
    assert 10 < reached < 300 and names(tmp_path) == ["out", "plan.json"]


def test_jobs_lists_cancels_and_resumes(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    a, b = toys.submit(store, "a"), toys.submit(store, "b")

    def jobs(*arguments: str) -> Any:
        done = gen3d("jobs", *arguments, "--json", home=tmp_path)
        return json.loads(done.stdout)

    assert [(row["id"], row["state"]) for row in jobs()["jobs"]] == [(a.id, "queued"), (b.id, "queued")]
    assert jobs("cancel", a.id[:8])["state"] == "cancelled" == store.get(a.id).state
    assert jobs("resume", a.id)["state"] == "queued" == store.get(a.id).state
    assert "begins with 'zzz'" in jobs("cancel", "zzz")["error"]["cause"]
    assert jobs("resume")["error"]["field"] == "id"
    store.claim()  # and its backend is gone
    start = time.monotonic()
    assert jobs("cancel", a.id)["state"] == "cancelled" and time.monotonic() - start < patience(5.0)
    plain = gen3d("jobs", home=tmp_path).stdout.splitlines()
    assert plain[0].startswith(a.id) and "cancelled" in plain[0] and "queued" in plain[1]


def test_jobs_cancel_reaches_a_running_backend(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = toys.submit(store, steps=10_000)
    backend = toys.backend_process(tmp_path)
    try:
        asyncio.run(toys.until(lambda: (store.get(job.id).progress or {}).get("phase") == "train"))
        done = gen3d("jobs", "cancel", job.id, home=tmp_path)
        assert done.returncode == 0 and "cancelled" in done.stdout
    finally:
        backend.kill()
        backend.wait()


def test_serve_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    path, environment = tmp_path / "runtime.json", {**toys.ENVIRONMENT, "GEN3D_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "backend", "serve", "--runtime-file", str(path)]
    server = subprocess.Popen(command, env=environment, cwd=toys.ROOT, stderr=subprocess.PIPE)
    try:
        asyncio.run(toys.until(path.exists))
        found = {check.name: check for check in doctor.examine(tmp_path)}
        assert found["backend"].state == "ok" and str(server.pid) in found["backend"].text
        token = json.loads(path.read_text())["token"]
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=15)
        assert server.returncode == 0 and not path.exists() and token.encode() not in log
    finally:
        server.kill()
        server.communicate()
    refused = gen3d("serve", "--host", "0.0.0.0", home=tmp_path, command=[sys.executable, "-m", "backend"])
    assert refused.returncode == 2 and "--allow-remote" in refused.stderr


def test_doctor_finds_this_machine_healthy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.environ["GEN3D_HOME"] = str(tmp_path)
    try:
        code = cli.main(["doctor", "--json"])
    finally:
        del os.environ["GEN3D_HOME"]
    report = json.loads(capsys.readouterr().out)
    assert (code, report["ok"]) == (0, True)
    assert {"python", "torch", "device", "home", "disk", "jobs", "backend"} <= {row["name"] for row in report["checks"]}
    assert all(row["next_step"] for row in report["checks"] if row["state"] == "fault")


def test_doctor_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    checks = {check.name: check for check in doctor.examine(tmp_path / "file")}
    assert checks["home"].state == "fault" and "GEN3D_HOME" in checks["home"].next_step
    (tmp_path / "runtime.json").write_text("{}")
    assert {check.name: check.state for check in doctor.examine(tmp_path)}["backend"] == "fault"


@pytest.mark.skipif(os.name == "nt", reason="needs a script as a program")
def test_doctor_explains_a_gpu_that_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "no NVIDIA driver" in doctor._why_no_gpu("cpu", "12.8").text
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 470.10\n")
    tool.chmod(0o755)
    assert "driver 470.10 is there" in doctor._why_no_gpu("cpu", "12.8").text
    assert "Update the NVIDIA driver" in doctor._why_no_gpu("cpu", "12.8").next_step
    assert "without CUDA" in doctor._why_no_gpu("cpu", None).text
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert "CUDA_VISIBLE_DEVICES is '7'" in doctor._why_no_gpu("cpu", "12.8").text
