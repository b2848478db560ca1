#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything a checkout can be asked to do. Standard library only, and any Python from 3.11 on runs it.

    python build.py demo         words to objects, views of an object to its mesh; see demo/ afterwards
    python build.py test         all checks and tests, under every Blender found on this machine
    python build.py zip          dist/gen3d-VERSION.zip, the extension to install in Blender
    python build.py dev-install  that extension in your Blender, with this checkout's backend

Environments are made by pip from the pinned requirements, beside this file: .venv for the backend, and
.venv-bpy-VERSION for each Blender that exists as a Python wheel. They are kept, and follow changed pins. pip's own
settings (index, wheel folder, proxy) hold as ever. GEN3D_BLENDER lists further Blender programs to use.
"""

from __future__ import annotations

import argparse
import functools
import glob
import hashlib
import io
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

if sys.version_info < (3, 11):
    sys.exit("build.py needs Python 3.11 or newer, and this one is older. Call it with a newer one.")

ROOT = Path(__file__).resolve().parent
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
WINDOWS = sys.platform == "win32"

BACKEND_PYTHONS = ("3.11", "3.12", "3.13")  # those for which every pinned package has a wheel
BLENDER_WHEELS = {"5.0.1": "3.11", "4.2.23": "3.11", "4.5.15": "3.11", "5.2.3": "3.13"}  # bpy: Python, favourites first
OLDEST_BLENDER = (4, 2)
WEBSOCKETS_SHA256 = "c6bd2c9781915592b209160d0f017d4c7c82ad53075e6b0c24d2a89299e7f9e9"

BACKEND = ("-e", ".")
CHECKS = ("-r", "requirements-dev.txt")
TEST_TOOLS = ("pytest", "pytest-timeout", "pluggy", "iniconfig", "packaging", "pygments", "websockets")
PURE_PYTHON = ("--no-deps", "--platform", "any", "--only-binary", ":all:")
CHECK_COMMANDS = {
    "ruff check": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "mypy": ["-m", "mypy"],
    "import layers": ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
}


class BuildError(Exception):
    """Something the user can act on: what is wrong, and what to do."""


def surroundings(**more: str) -> dict[str, str]:
    """Environment variables for a child: ours, without what would leak another Python's packages into it."""
    leaks = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
    return {k: v for k, v in os.environ.items() if k not in leaks} | {"PYTHONNOUSERSITE": "1"} | more


def answer(command: list[str], **variables: str) -> str:
    """What a command prints; nothing where it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=surroundings(**variables))
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def succeeds(command: list[str], *, or_empty: bool = False, **variables: str) -> bool:
    """Runs a command before the user's eyes. ``or_empty``: pytest's "no tests collected" is a success, too."""
    print("$", shlex.join(command))
    status = subprocess.run(command, cwd=ROOT, env=surroundings(**variables)).returncode
    return status == 0 or (or_empty and status == 5)


def logged(command: list[str], log: Path, failure: str) -> None:
    """Runs a command that writes into a log file; raises BuildError with the file's end where it fails."""
    with log.open("a", encoding="utf-8") as out:
        done = subprocess.run(command, stdout=out, stderr=out, cwd=ROOT, env=surroundings())
    if done.returncode:
        lines = [line for line in log.read_text("utf-8", "replace").splitlines() if not line.startswith("WARNING")]
        raise BuildError("\n".join([f"{failure}. Mend what {log} ends with, and call again:", *lines[-12:]]))


def read_toml(name: str) -> dict[str, Any]:
    import tomllib

    return tomllib.loads((ROOT / name).read_text("utf-8"))


def pin(package: str) -> str:
    """``package==version`` as the requirement files pin it."""
    text = "".join((ROOT / name).read_text("utf-8") for name in ("requirements.txt", "requirements-dev.txt"))
    found = re.search(rf"^{re.escape(package)}==[^\s;]+", text, re.MULTILINE)
    if not found:
        raise BuildError(f"{package} is not pinned. Add it to requirements-dev.txt.")
    return found.group()


def python_candidates(version: str) -> Iterator[list[str]]:
    yield [sys.executable]
    for folder in os.get_exec_path():
        yield [str(Path(folder, f"python{version}"))]
    home = Path.home()
    for pattern in (
        home / f".pyenv/versions/{version}.*/bin/python{version}",
        home / f".local/share/uv/python/cpython-{version}.*/bin/python{version}",
        Path(os.environ.get("APPDATA") or home, f"uv/python/cpython-{version}.*/python.exe"),
        Path(f"/Library/Frameworks/Python.framework/Versions/{version}/bin/python{version}"),
    ):
        for path in sorted(glob.glob(str(pattern)), reverse=True):
            yield [path]
    if WINDOWS:
        yield ["py", f"-{version}"]


@functools.cache
def find_python(version: str) -> str | None:
    """A Python of this minor version that really runs (a shim on PATH may not) and can make environments."""
    probe = "import sys, venv, ensurepip; print(f'{sys.version_info[0]}.{sys.version_info[1]}', sys.executable)"
    for command in python_candidates(version):
        found = answer([*command, "-c", probe]).split(maxsplit=1)
        if found and found[0] == version:
            return found[1].strip()
    return None


class Blender(NamedTuple):
    """An installed Blender; ``root`` is this checkout as that Blender sees it."""

    command: list[str]
    root: str = str(ROOT)
    variables: dict[str, str] = {}

    def version(self) -> str:
        """Three numbers, or nothing where the program does not run."""
        told = re.search(r"Blender (\d+\.\d+\.\d+)", answer([*self.command, "--version"], **self.variables))
        return told.group(1) if told else ""


def find_blenders() -> list[Blender]:
    """Every Blender on this machine: named ones, the one on PATH, usual places, and unpacked system roots."""
    home = Path.home()
    patterns: list[str | Path] = [p for p in os.environ.get("GEN3D_BLENDER", "").split(os.pathsep) if p]
    patterns += [shutil.which("blender") or "", "/opt/blender*/blender", home / "blender*/blender", "/snap/bin/blender"]
    patterns += [Path(apps, "Blender*.app/Contents/MacOS/Blender") for apps in ("/Applications", home / "Applications")]
    patterns += [Path(os.environ.get("PROGRAMFILES") or "/", "Blender Foundation/Blender*/blender.exe")]
    programs = {Path(path).resolve(): None for pattern in patterns for path in sorted(glob.glob(str(pattern)))}
    found = [Blender([str(program)]) for program in programs]
    # A system root in a folder, with a script "in" that runs a command inside it and shows LAB_BIND as /host.
    roots = sorted(home.glob(".cache/real-blender/*/in"))
    found += [Blender([str(enter), "blender"], "/host", {"LAB_BIND": str(ROOT)}) for enter in roots]
    return [blender for blender in found if blender.version()]


def interpreter(name: str) -> Path:
    return ROOT / name / ("Scripts/python.exe" if WINDOWS else "bin/python")


def digest(step: tuple[str, ...]) -> str:
    """Changes with all that one step of an installation depends on."""
    depends: list[object] = [str(ROOT), step]
    if step == BACKEND:
        project = read_toml("pyproject.toml")
        depends += [(ROOT / "requirements.txt").read_text("utf-8"), project["project"], project["build-system"]]
    if step == CHECKS:
        depends += [(ROOT / "requirements-dev.txt").read_text("utf-8")]
    return hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:16]


def ensure(name: str, base: str, *steps: tuple[str, ...]) -> Path:
    """The interpreter of environment ``name``, holding what each step tells pip to install.

    Each step leaves a stamp with its digest, so that a second call returns at once and a changed pin is followed.
    A marker stands in the environment while pip works: one that was interrupted is made anew.
    """
    folder, python = ROOT / name, interpreter(name)
    stamps = {step: folder / f"gen3d-{number}-{digest(step)}" for number, step in enumerate(steps)}
    marker, log = folder / "gen3d-unfinished", folder / "gen3d-install.log"
    whole = python.exists() and not marker.exists()
    if whole and all(stamp.exists() for stamp in stamps.values()):
        return python
    start = time.monotonic()
    print(f"installing {name} (progress in {log.relative_to(ROOT)})")
    if not whole:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        marker.touch()
        logged([base, "-m", "venv", str(folder)], log, f"{name} could not be made")
    for number, (step, stamp) in enumerate(stamps.items()):
        if stamp.exists():
            continue
        marker.touch()
        for old in folder.glob(f"gen3d-{number}-*"):
            old.unlink()
        try:
            logged([str(python), "-m", "pip", "install", *step], log, f"pip could not fill {name}")
        except BuildError as error:
            if whole and "cancelled by user" not in str(error):  # pip gave up on what had been sound before: keep it
                marker.unlink()
            raise
        stamp.touch()
    marker.unlink(missing_ok=True)
    print(f"installed {name} in {time.monotonic() - start:.0f} s")
    return python


def ensure_backend(*more: tuple[str, ...]) -> Path:
    versions = sorted(BACKEND_PYTHONS, key=lambda version: version != HERE)
    base = next(filter(None, map(find_python, versions)), None)
    if not base:
        raise BuildError(f"The backend needs one of Python {', '.join(BACKEND_PYTHONS)}. Install one and call again.")
    return ensure(".venv", base, BACKEND, *more)


def ensure_wheel(version: str) -> Path:
    """The interpreter of the environment in which this Blender is a Python package."""
    base = find_python(BLENDER_WHEELS[version])
    if not base:
        raise BuildError(f"No Python {BLENDER_WHEELS[version]} was found. Install one for this version of Blender.")
    return ensure(f".venv-bpy-{version}", base, (f"bpy=={version}", *map(pin, TEST_TOOLS)))


def ensure_tools() -> Path:
    """An environment whose folder ``site`` brings pytest to an installed Blender, whatever its Python."""
    site = ("--upgrade", "--target", str(ROOT / ".venv-tools" / "site"))
    return ensure(".venv-tools", sys.executable, (*PURE_PYTHON, *site, *map(pin, TEST_TOOLS)))


def together(jobs: dict[str, Callable[[], Path]], optional: Iterable[str] = ()) -> dict[str, Path | BuildError]:
    """Runs installations two at a time: one unpacks while the other downloads. Optional ones may fail."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        futures = {name: pool.submit(job) for name, job in jobs.items()}
    errors = {name: future.exception() for name, future in futures.items() if name in optional}
    return {n: e if isinstance(e := errors.get(n), BuildError) else futures[n].result() for n in futures}


def websockets_wheel() -> Path:
    """The pure-Python wheel that travels with the extension: downloaded once, checked on every use."""
    wheel = ROOT / "build" / "wheels" / f"{pin('websockets').replace('==', '-')}-py3-none-any.whl"
    if not wheel.exists():
        wheel.parent.mkdir(parents=True, exist_ok=True)
        download = ["-m", "pip", "download", *PURE_PYTHON, "--dest", str(wheel.parent), pin("websockets")]
        logged([str(ensure_tools()), *download], wheel.parent / "download.log", "pip could not download websockets")
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != WEBSOCKETS_SHA256:
        wheel.unlink()
        raise BuildError(f"{wheel.name} is not the pinned file and was removed. Check where pip downloads from.")
    return wheel


def extension_files() -> dict[str, bytes]:
    """What the extension holds, by its path in the zip: the add-on at the root, the backend beneath."""
    files = {name: (ROOT / name).read_bytes() for name in ("blender_manifest.toml", "LICENSE", "requirements.txt")}
    for folder, prefix in (("blender_gen3d", ""), ("backend", "backend/")):
        for path in (ROOT / folder).rglob("*"):
            inside = path.relative_to(ROOT / folder)
            unwanted = any(part.startswith(".") or part in ("__pycache__", "tests") for part in inside.parts)
            if path.is_file() and path.suffix != ".pyc" and not unwanted:
                files[prefix + inside.as_posix()] = path.read_bytes()
    wheel = websockets_wheel()
    if read_toml("blender_manifest.toml")["wheels"] != [f"./wheels/{wheel.name}"]:
        raise BuildError(f"blender_manifest.toml does not list {wheel.name}. Make it agree with requirements.txt.")
    return files | {f"wheels/{wheel.name}": wheel.read_bytes()}


def build_zip(folder: Path = ROOT / "dist") -> Path:
    """Writes the extension. The same tree gives the same bytes: names sorted, dates and modes fixed."""
    target = folder / f"gen3d-{read_toml('blender_manifest.toml')['version']}.zip"
    part = target.with_suffix(f".{os.getpid()}.part")
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(part, "w") as archive:
        for name, content in sorted(extension_files().items()):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)
    os.replace(part, target)
    return target


class Report:
    """What was run, how it went and how long it took."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, bool, float, Counter[str]]] = []
        self.skipped: list[str] = []

    def run(self, name: str, work: Callable[[], bool], proof: Path | None = None) -> None:
        """``proof``: the JUnit report that pytest writes at its end. Blender may exit with 0 before it gets there."""
        print(f"\n──── {name}")
        if proof:
            proof.unlink(missing_ok=True)
        start = time.monotonic()
        good = work() and (proof is None or proof.exists())
        counts = counted(proof) if proof and proof.exists() else Counter[str]()
        self.stages.append((name, good, time.monotonic() - start, counts))

    def finish(self) -> int:
        print("\n──── summary")
        for name, good, seconds, counts in self.stages:
            line = ": ".join(filter(None, (name, told(counts))))
            print(f"{'passed' if good else 'FAILED'}  {seconds:6.1f} s  {line}")
        if self.skipped:
            print("\n" + "!" * 100, "!!  NOT TESTED on this machine:", sep="\n")
            print(*(f"!!    {line}" for line in self.skipped), "!" * 100, sep="\n")
        failed = [name for name, good, *_ in self.stages if not good]
        print(f"\n{'FAILED: ' + ', '.join(failed) if failed else 'all passed'}")
        total = sum((counts for *_, counts in self.stages), Counter[str]())
        print(f"==== {told(total) or 'no test was run'} in {sum(stage[2] for stage in self.stages):.2f}s ====")
        return 1 if failed else 0


def counted(report: Path) -> Counter[str]:
    """How many tests of a JUnit report passed, failed and were skipped."""
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    found = Counter[str]()
    for suite in suites:
        number = {name: int(suite.get(name, 0)) for name in ("tests", "errors", "failures", "skipped")}
        failed = number["errors"] + number["failures"]
        found.update(passed=number["tests"] - failed - number["skipped"], failed=failed, skipped=number["skipped"])
    return found


def told(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {outcome}" for outcome, number in counts.items() if number)


def test(arguments: list[str], slow: bool) -> int:
    """All checks and tests. With pytest's arguments or ``slow``, the tests that those select and nothing else."""
    paths = [argument for argument in arguments if argument.startswith("tests")]
    options = [argument for argument in arguments if argument not in paths] + (["-m", "slow"] if slow else [])
    in_blender = [path for path in paths if path.startswith("tests/blender")]
    outside = [path for path in paths if path not in in_blender]
    if not paths:
        in_blender, outside = ["tests/blender"], ["tests", "--ignore=tests/blender"]
    report = Report()
    wheels: dict[str, Path | BuildError] = {}

    def install() -> bool:
        jobs: dict[str, Callable[[], Path]] = {".venv": lambda: ensure_backend(CHECKS), ".venv-tools": ensure_tools}
        versions = list(BLENDER_WHEELS if in_blender else ())
        made = together(jobs | {v: functools.partial(ensure_wheel, v) for v in versions}, optional=versions)
        wheels.update({version: made[version] for version in versions})
        fitting = [made[version] for version in versions if BLENDER_WHEELS[version] == HERE]
        return not fitting or any(isinstance(python, Path) for python in fitting)

    report.run("install", install)
    python = str(interpreter(".venv"))
    for name, command in CHECK_COMMANDS.items() if not arguments and not slow else ():
        report.run(name, functools.partial(succeeds, [python, *command]))
    if outside:
        proof = ROOT / "build" / "report.xml"
        pytest = [python, "-m", "pytest", *outside, *options, f"--junitxml={proof}"]
        report.run("tests outside Blender", functools.partial(succeeds, pytest, or_empty=bool(options)), proof)
    if in_blender:
        test_blenders(report, wheels, [*in_blender, *options], or_empty=bool(options))
    return report.finish()


def test_blenders(report: Report, wheels: dict[str, Path | BuildError], arguments: list[str], or_empty: bool) -> None:
    """Runs the tests in every Blender; says which could not be had."""
    zipped = build_zip(ROOT / "build")

    def run(title: str, name: str, blender: Blender, start: list[str], tools: str) -> None:
        preferences = ROOT / "build" / f"preferences-{name}"
        shutil.rmtree(preferences, ignore_errors=True)
        preferences.mkdir()
        own = blender.variables | {"BLENDER_USER_RESOURCES": f"{blender.root}/build/{preferences.name}"}
        told = {"GEN3D_ZIP": f"{blender.root}/build/{zipped.name}"}
        if blender.root == str(ROOT):  # elsewhere our interpreter would not run
            told["GEN3D_PYTHON"] = str(interpreter(".venv"))
        inside = [f"{blender.root}/tests/pytest_inside.py", "--", blender.root, tools, json.dumps(told)]
        command = [*start, *inside, *arguments, f"--junitxml={blender.root}/build/{preferences.name}/report.xml"]
        work = functools.partial(succeeds, command, or_empty=or_empty, **own)
        report.run(title, work, preferences / "report.xml")

    for version, made in wheels.items():
        if isinstance(made, BuildError):
            report.skipped.append(f"Blender {version} as a Python wheel: {made}")
        else:
            title = f"Blender {version}, wheel for Python {BLENDER_WHEELS[version]}"
            run(title, f"wheel-{version}", Blender([]), [str(made)], "")
    blenders = find_blenders()
    if not blenders:
        report.skipped.append("An installed Blender: none was found. Name programs in GEN3D_BLENDER.")
    for blender in blenders:
        version = blender.version()
        title = f"Blender {version}, {shlex.join(blender.command)}"
        if tuple(map(int, version.split(".")[:2])) < OLDEST_BLENDER:
            report.skipped.append(f"{title}: it is older than the extension supports.")
            continue
        start = [*blender.command, "--background", "--python-exit-code", "3", "--python"]
        run(title, version, blender, start, f"{blender.root}/.venv-tools/site")


def demo(arguments: list[str]) -> int:
    """Words to objects in Blender; then the whole way on a small scene: capture, train, import."""
    versions = sorted(BLENDER_WHEELS, key=lambda version: BLENDER_WHEELS[version] != HERE)
    version = next((version for version in versions if find_python(BLENDER_WHEELS[version])), versions[0])
    made = together({"backend": ensure_backend, "blender": functools.partial(ensure_wheel, version)})
    folder = next((value for name, value in itertools.pairwise(arguments) if name == "--out"), "demo")
    parts = {
        "words.py": (["--out", folder], ("words.blend", "words.glb", "words.png")),
        "demo_scene.py": (["--out", folder, *arguments], ("result.blend", "result.glb", "compare.png")),
    }
    results = [ROOT / folder / name for _, names in parts.values() for name in names]
    for result in results:
        result.unlink(missing_ok=True)
    for program, (options, names) in parts.items():
        print(f"\n──── examples/{program}")
        good = succeeds([str(made["blender"]), f"examples/{program}", *options], GEN3D_PYTHON=str(made["backend"]))
        if not good or not all((ROOT / folder / name).exists() for name in names):
            raise BuildError("The demo did not finish. The lines above say why.")
    print("\nDone. Look at:", *results, sep="\n  ")
    return 0


def dev_install(program: str | None) -> int:
    """The extension in the user's Blender, told to use this checkout's backend."""
    from backend.home import user_home

    found = [program] if program else [b.command[0] for b in find_blenders() if b.root == str(ROOT)]
    if program and not shutil.which(program):
        raise BuildError(f"{program} is not a program. Name Blender's: build.py dev-install --blender PATH.")
    if not found:
        raise BuildError("No Blender was found. Name its program: build.py dev-install --blender PATH.")
    python = ensure_backend()
    install = ["--command", "extension", "install-file", "-r", "user_default", "-e", str(build_zip())]
    if not succeeds([found[0], *install]):
        raise BuildError(f"{found[0]} did not install the extension. The lines above say why.")
    environment = user_home() / "environment.json"
    environment.parent.mkdir(parents=True, exist_ok=True)
    environment.write_text(json.dumps({"python": str(python)}) + "\n", "utf-8")
    print(f"Installed in {found[0]}. Its backend runs on {python}, as {environment} says.")
    return 0


def main() -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):  # our lines keep their place among those of the programs we run
        sys.stdout.reconfigure(encoding="utf-8", line_buffering=True)
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="build.py", description=__doc__, formatter_class=layout)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("demo", help="further arguments go to examples/demo_scene.py")
    tests = commands.add_parser("test", help="further arguments go to pytest", allow_abbrev=False)
    tests.add_argument("--slow", action="store_true", help="run only the tests that take minutes")
    commands.add_parser("zip")
    install = commands.add_parser("dev-install")
    install.add_argument("--blender", metavar="PATH", help="the Blender program (default: the first one found)")
    options, more = parser.parse_known_args()
    if more and options.command not in ("demo", "test"):
        parser.error(f"unknown: {shlex.join(more)}")
    try:
        if options.command == "zip":
            print(build_zip())
            return 0
        if options.command == "dev-install":
            return dev_install(options.blender)
        return demo(more) if options.command == "demo" else test(more, options.slow)
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("build.py: stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
