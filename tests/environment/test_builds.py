# SPDX-License-Identifier: GPL-3.0-or-later
"""What nvidia-smi and AMD's driver say, and which torch follows from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blender_gen3d.environment import places
from blender_gen3d.environment.builds import BUILDS, choose
from blender_gen3d.environment.machine import Gpu, Machine, look, processor, read_amd, read_nvidia, version

LINUX = Machine("linux", "x86_64")
AMD_CPU = "cpu_cores_count 16\nsimd_count 0\nmem_banks_count 1\ngfx_target_version 0\n"
AMD_GPU = "cpu_cores_count 0\nsimd_count 192\nmem_banks_count 1\ngfx_target_version 110000\n"


def nvidia(text: str, system: str = "linux") -> Machine:
    driver, gpus = read_nvidia(text)
    return replace(LINUX, system=system, driver=driver, nvidia=gpus)


@pytest.mark.parametrize(
    ("said", "build", "told"),
    [
        ("580.65.06, 9.0, NVIDIA H200\n", "cuda-13.0", "NVIDIA H200, driver 580.65.6"),
        ("591.44, 12.0, NVIDIA GeForce RTX 5090\n", "cuda-13.0", "RTX 5090"),
        ("581.29, 7.5, NVIDIA GeForce RTX 2060\n", "cuda-13.0", "RTX 2060"),
        ("560.94, 8.6, NVIDIA GeForce RTX 3060 Laptop GPU\n", "cuda-12.6", "driver 560.94"),
        ("580.65.06, 6.1, NVIDIA GeForce GTX 1080\n", "cuda-12.6", "GTX 1080"),
        ("580.65.06, 8.6, NVIDIA RTX A4000\n580.65.06, 6.1, Quadro P400\n", "cuda-12.6", "A4000, Quadro P400"),
        ("591.44, 12.0, NVIDIA RTX PRO 6000\n591.44, 6.1, Quadro P400\n", "cuda-13.0", "PRO 6000"),
        ("572.16, 12.0, NVIDIA GeForce RTX 5080\n", "cpu", "needs driver 580 or newer"),
        ("470.223.02, 8.6, NVIDIA GeForce RTX 3090\n", "cpu", "needs driver 525 or newer"),
        ("525.60.13, 3.7, Tesla K80\n", "cpu", "too old"),
        ("580.65.06, [N/A], NVIDIA Something\n", "cuda-13.0", "NVIDIA Something"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", "cpu", "No GPU"),
        ("", "cpu", "No GPU"),
    ],
)
def test_the_driver_and_the_gpus_decide(said: str, build: str, told: str) -> None:
    for system in ("linux", "win32"):
        choice = choose(nvidia(said, system))
        assert choice.build is BUILDS[build]
        assert told in choice.why


def test_other_hardware() -> None:
    assert choose(Machine("darwin", "arm64")).build.index == ""
    amd = replace(LINUX, amd=read_amd([AMD_CPU, AMD_GPU, AMD_GPU]), rocm=version("7.2.0-43\n"))
    assert amd.amd == 2
    assert choose(amd).build is BUILDS["rocm-7.2"]
    assert "7.2.0" in choose(amd).why
    assert choose(replace(amd, system="win32")).build is BUILDS["cpu"]
    assert choose(replace(LINUX, amd=read_amd([AMD_CPU]))).build is BUILDS["cpu"]
    both = replace(nvidia("580.65.06, 9.0, NVIDIA H200\n"), amd=1)
    assert choose(both).build is BUILDS["cuda-13.0"]


def test_the_user_decides_otherwise() -> None:
    for name, build in BUILDS.items():
        assert choose(nvidia("580.65.06, 9.0, NVIDIA H200\n"), name).build is build


def test_the_builds_are_of_the_pinned_version() -> None:
    text = places.REQUIREMENTS.read_text("utf-8")
    pinned = next(line for line in text.splitlines() if line.startswith("torch=="))
    for build in BUILDS.values():
        assert build.requirement(text) == (f"{pinned}+{build.local}" if build.local else pinned)
        assert build.index.endswith(build.local)


def test_names_and_versions() -> None:
    assert [processor(name) for name in ("AMD64", "x86_64", "aarch64", "arm64")] == ["x86_64"] * 2 + ["arm64"] * 2
    assert version("no") == ()
    assert read_nvidia("580.65.06, 9.0, One, two\n") == ((580, 65, 6), (Gpu("One, two", (9, 0)),))


def test_this_machine_can_be_looked_at() -> None:
    found = look()
    assert found.system in ("linux", "win32", "darwin")
    assert choose(found).why.endswith(".")
