# SPDX-License-Identifier: GPL-3.0-or-later
"""What the techniques of Dream Fields bring, with the embedded priors (Jain et al. 2022, table 1).

    .venv/bin/python -m benchmarks.dream_fields_ablation FOLDER [--prompts 8] [--seeds 2]

The ladder of the paper, from fog on: a plain field; held against its opacity; in front of changing backgrounds; in a
cube that follows it. Each rung makes the same prompts with the same seeds, and the dual encoder that guided none of
them says how often a view of a result leads back to its own prompt, among all kinds of things in the same colour: a
cube that is red all over would be found among prompts of other colours. Run again, it makes what is missing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from backend import evaluation, running
from backend.errors import Gen3DError
from backend.priors import embedded, world
from backend.settings import DreamFieldsSettings, EvaluateSettings, GenerateSettings

COLOUR = "red"
PLAIN = {"transmittance": False, "backgrounds": False, "localisation": False}
LADDER = {
    "plain": PLAIN,
    "+ transmittance": PLAIN | {"transmittance": True},
    "+ backgrounds": {"localisation": False},
    "+ localisation": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=0)
    parser.add_argument("--scorer", default=str(embedded.CLIP_SCORER))
    given = parser.parse_args()
    pool = [f"a {COLOUR} {kind.names[0]}" for kind in world.CATEGORIES.values()]
    chosen = np.linspace(0, len(pool) - 1, given.prompts).astype(int)
    given.folder.mkdir(parents=True, exist_ok=True)
    captions = given.folder / "captions.txt"
    captions.write_text("\n".join(pool), "utf-8")
    rungs, empty = [], []
    for rung, (name, told) in enumerate(LADDER.items()):
        rungs.append(given.folder / str(rung))
        empty.append(0)
        for index in chosen:
            for seed in range(given.seeds):
                settings = GenerateSettings(
                    prompt=pool[index],
                    seed=seed,
                    system="dream-fields",
                    weights="embedded",
                    begin="fog",
                    iterations=given.iterations,
                    dream_fields=DreamFieldsSettings(**told),
                )
                empty[-1] += not made(settings, rungs[-1] / f"{index}_{seed}")
        print(f"{name}: made, {empty[-1]} empty", flush=True)
    report = evaluation.evaluate(rungs, EvaluateSettings(clip=given.scorer, captions=str(captions)))
    for name, row, missed in zip(LADDER, report.rows, empty, strict=True):
        assert row.r_precision_colour is not None
        share = row.r_precision_colour * row.count / (row.count + missed)  # an empty field leads nowhere
        print(json.dumps({"rung": name, "R-Precision": round(share, 1), "empty": missed}))


def made(settings: GenerateSettings, folder: Path) -> bool:
    """Whether there is a thing: without the techniques a field may well be empty."""
    if not folder.exists():
        try:
            running.run("generate", settings, folder)
        except (Gen3DError, running.Ended) as error:
            print(f"{folder.name}: {error}")
            return False
    return True


if __name__ == "__main__":
    main()
