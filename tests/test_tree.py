# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds of every source file: nothing in it runs foreign code, and the sides share only what is light."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*(ROOT / "backend").rglob("*.py"), *(ROOT / "blender_gen3d").rglob("*.py")])

UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_BUILTINS = {"eval", "exec", "compile", "__import__"}
BLENDER_MODULES = {"bpy", "bmesh", "mathutils", "addon_utils", "gpu", "bl_ui"}


def modules(tree: ast.AST) -> set[str]:
    """Top-level names of everything imported from outside the package, wherever the import stands."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def unsafe(source: str) -> Iterator[str]:
    """Constructs by which data could become code."""
    tree = ast.parse(source)
    yield from sorted(modules(tree) & UNSAFE_MODULES)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in UNSAFE_BUILTINS:
            yield node.id
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        words = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name == "torch.load" and words.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
        if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            yield name
        for word in ("trust_remote_code", "allow_pickle", "shell"):
            if words.get(word, "False") != "False":
                yield f"{word}={words[word]}"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from pickle import loads",
        "eval('1')",
        "run = exec",
        "__import__('os')",
        "torch.load(path)",
        "torch.load(path, weights_only=flag)",
        "yaml.load(text)",
        "np.load(path, allow_pickle=True)",
        "load(name, trust_remote_code=True)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_finds_what_it_is_for(source: str) -> None:
    assert list(unsafe(source))


@pytest.mark.parametrize("source", ["model.eval()", "re.compile('x')", "torch.load(p, weights_only=True)", "'exec'"])
def test_the_search_leaves_harmless_code_alone(source: str) -> None:
    assert not list(unsafe(source))


def test_no_source_can_turn_data_into_code() -> None:
    assert len(SOURCES) > 20
    found = {str(path.relative_to(ROOT)): list(unsafe(path.read_text("utf-8"))) for path in SOURCES}
    assert {name: what for name, what in found.items() if what} == {}


def test_sources_name_their_licence() -> None:
    folders = [ROOT / name for name in ("tests", "examples", "benchmarks")]
    own = [*SOURCES, *ROOT.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    bare = [path for path in own if (text := path.read_text("utf-8")) and "SPDX-License-Identifier" not in text[:120]]
    assert bare == []


def test_the_backend_imports_itself_only_relatively() -> None:
    """In the extension it lies inside the add-on's package and has another name."""
    for path in (ROOT / "backend").rglob("*.py"):
        assert "backend" not in modules(ast.parse(path.read_text("utf-8"))), path


def test_what_both_sides_share_needs_the_standard_library_only() -> None:
    shared = ("errors", "home", "memory", "protocol", "runtime", "settings", "unfinished", "version")
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from backend import {', '.join(shared)};"
        "print(*sorted({name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"__main__", "__mp_main__", "backend"}


def test_modules_without_blender_are_type_checked_strictly() -> None:
    """The list in pyproject.toml is complete, because everything else of the add-on is checked loosely."""
    overrides = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]["overrides"]
    strict = next(entry["module"] for entry in overrides if "enable_error_code" in entry)
    free = set()
    for path in (ROOT / "blender_gen3d").rglob("*.py"):
        if not modules(ast.parse(path.read_text("utf-8"))) & BLENDER_MODULES:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            free.add(name)
    assert free <= set(strict)
