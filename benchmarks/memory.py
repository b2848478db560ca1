# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory jobs need: the table behind backend/memory.py.

    .venv/bin/python benchmarks/memory.py [--dataset FOLDER]

Runs each job in a process of its own, as the backend does, and prints the most that it held at any time beside what
backend/memory.py says it needs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from backend import memory

MIB = 2**20
FIELDS: list[dict[str, Any]] = [
    {"system": system, "iterations": 60, **more}
    for system, side in (("dream-fields", 36), ("dreamfusion", 32))
    for more in ({}, {"views": 1}, {"views": 1, "rendered": side})
]
FINE: list[dict[str, Any]] = [
    {"system": "magic3d", "iterations": 60, "magic3d": {"fine_iterations": 10, **more}}
    for more in ({}, {"fine_rendered": 1024}, {"tetrahedra": 256})
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="posed views; without it, only words are measured")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number, (kind, params) in enumerate(cases(given.dataset)):
            said = {name: value for name, value in params.items() if name not in ("prompt", "dataset", "seconds")}
            used = measured(kind, params | {"device": given.device}, Path(folder, str(number)))
            need = memory.need(kind, params, given.device)
            print(f"{kind:9} {json.dumps(said):60} used {used / MIB:6.0f} MiB  said {need / MIB:6.0f} MiB", flush=True)


def cases(dataset: Path | None) -> list[tuple[str, dict[str, Any]]]:
    words: list[dict[str, Any]] = [{}, {"resolution": 64}, {"resolution": 256}, {"points": 4096}, {"count": 3}]
    words += [{"texture": 2048}, *FIELDS, *FINE]
    found = [("generate", {"prompt": "a red chair", **more}) for more in words]
    if dataset is not None:
        views: list[dict[str, Any]] = [
            {"resolution": 64},
            {},
            {"resolution": 384},
            {"resolution": 768},
            {"texture": 1024},
            {"texture": 4096},
        ]
        found += [("nerf", {"dataset": str(dataset), "seconds": 20.0, "mesh": mesh}) for mesh in views]
    return found


def measured(kind: str, params: dict[str, Any], folder: Path) -> int:
    """The most resident memory, in bytes, of a worker on this job."""
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps({"kind": kind, "params": params}))
    worker = [sys.executable, "-m", "backend.worker", str(folder)]
    process = subprocess.Popen(worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    said = [json.loads(line) for line in process.stdout]
    _, _, usage = os.wait4(process.pid, 0)
    if said[-1]["event"] != "done":
        raise SystemExit(f"{kind} {params}: {said[-1]}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
