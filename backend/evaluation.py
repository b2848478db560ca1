# SPDX-License-Identifier: GPL-3.0-or-later
"""``gen3d eval``: how good results are, by CLIP R-Precision, P-IS and P-FID.

Every folder given is a row: what ``gen3d generate`` wrote (one result, or a folder of them), or PLY, NPZ and GLB files
whose prompts, where there are some, stand beside them in prompts.json ({"name": "prompt"}) or prompts.csv (name,
prompt). All rows share the captions to choose from and the reference, so that they can be compared.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import storage, terminal, weights
from .errors import Gen3DError
from .geometry import mesh as geometry
from .geometry import reading
from .geometry.mesh import Mesh
from .settings import EvaluateSettings

if TYPE_CHECKING:
    import torch

    from .guidance.clip import Clip
    from .metrics.pointnet import PointNet

    Clouds = list[NDArray[np.float32]]

CLIPS = ("clip-vit-b32", "clip-vit-l14", "clip-vit-b16")  # the first that is installed
POINTNET = "pointnet"
REFERENCE = 512  # things of the embedded world
FEW_RESULTS, FEW_CAPTIONS = 1000, 50


@dataclass(frozen=True)
class Result:
    """A thing that was made; ``shape`` and ``cloud`` read what stands for it in pictures and among clouds."""

    prompt: str
    shape: Callable[[], Mesh]
    cloud: Callable[[], Mesh]


@dataclass
class Row:
    """The figures of one folder; None where there is none. R-Precision in percent."""

    folder: str
    count: int
    r_precision_colour: float | None = None
    r_precision_geometry: float | None = None
    p_is: float | None = None
    p_fid: float | None = None


@dataclass
class Report:
    """Rows, and what they were measured with; ``notes`` say what to keep in mind."""

    rows: list[Row]
    clip: str = ""
    pointnet: str = ""
    reference: str = ""
    captions: int = 0
    views: int = 0
    points: int = 0
    notes: list[str] = field(default_factory=list)


def evaluate(folders: Sequence[Path], settings: EvaluateSettings) -> Report:
    """Raises Gen3DError for folders without results, files that cannot be read, and weights that are not there."""
    from .pipelines.devices import choose_device

    found = [list(results(folder)) for folder in folders]
    for folder, content in zip(folders, found, strict=True):
        if not content:
            step = "Give folders that `gen3d generate` wrote, or with PLY, NPZ or GLB files."
            raise Gen3DError(f"{folder} holds no results.", step, field="results")
    more = _text(Path(settings.captions)).splitlines() if settings.captions else []
    device = choose_device(settings.device)
    report = Report([Row(str(folder), len(content)) for folder, content in zip(folders, found, strict=True)])
    clip, pointnet = load_clip(settings.clip, device, report), load_pointnet(settings.pointnet, device, report)
    if clip is None and pointnet is None:
        cause = "There is neither a CLIP nor a PointNet++ to judge with."
        raise Gen3DError(cause, f"Install them with `gen3d models install {CLIPS[0]} {POINTNET}`.", field="weights")
    for missing, name, what in ((clip is None, CLIPS[0], "R-Precision"), (pointnet is None, POINTNET, "P-IS or P-FID")):
        if missing:
            report.notes.append(f"No {what}: its weights are not there; `gen3d models install {name}` installs them.")
    if pointnet is not None:
        _compare(report, found, pointnet, settings)
    if clip is not None:
        _retrieve(report, found, clip, more, settings)
    return report


def _compare(report: Report, found: list[list[Result]], pointnet: PointNet, settings: EvaluateSettings) -> None:
    """P-IS and P-FID of every row."""
    from .metrics import point_cloud

    report.points = settings.points
    clouds = [_clouds(row, settings, report) for row in found]
    if settings.reference:
        known = list(results(Path(settings.reference)))
        if len(known) < 2:
            cause = f"The reference {settings.reference} holds {len(known)} clouds."
            raise Gen3DError(cause, "Give a folder of at least two.", field="reference")
        reference = _clouds(known, settings, report)
        report.reference = f"{len(known)} of {settings.reference}"
    else:
        reference = _world(REFERENCE, settings)
        report.reference = f"{REFERENCE} things of the embedded world"
    seen: list[point_cloud.Seen] = []
    total = len(reference) + sum(map(len, clouds))
    with terminal.bar() as show:
        for content in (reference, *clouds):
            before = sum(len(own.features) for own in seen)

            def tell(done: int, before: int = before) -> None:
                show((before + done) / total, "PointNet++", f"{before + done} of {total} clouds")

            seen.append(point_cloud.classify(content, pointnet, tell))
    for row, own in zip(report.rows, seen[1:], strict=True):
        row.p_is = point_cloud.inception_score(own.probabilities)
        if row.count > 1:
            row.p_fid = point_cloud.frechet_distance(own.features, seen[0].features)
    smallest = min(len(content) for content in (reference, *clouds))
    if smallest < 2:
        report.notes.append("No P-FID of a single cloud.")
    if smallest < FEW_RESULTS:
        report.notes.append(
            f"Of few results, here {smallest}, P-FID comes out too high and P-IS too low; published are those of 10000."
        )


def _retrieve(
    report: Report, found: list[list[Result]], clip: Clip, more: list[str], settings: EvaluateSettings
) -> None:
    """CLIP R-Precision of every row, among the prompts of all and ``more`` captions."""
    from .metrics.r_precision import r_precision

    prompts = [result.prompt for row in found for result in row]
    if not any(prompts):
        report.notes.append("No R-Precision: the results do not say their prompts.")
        return
    captions = list(dict.fromkeys(said for text in (*prompts, *more) if (said := text.strip())))
    report.captions, report.views = len(captions), settings.views
    if len(captions) < FEW_CAPTIONS:
        chance = 100 / len(captions)
        report.notes.append(f"R-Precision is among {len(captions)} captions only: chance alone gives {chance:.1f} %.")
    if missing := prompts.count(""):
        report.notes.append(f"R-Precision leaves out {missing} results that do not say their prompt.")
    for row, content in zip(report.rows, found, strict=True):
        told = [result for result in content if result.prompt]
        if told:
            objects = ((result.shape(), result.prompt) for result in terminal.each(told, "CLIP"))
            score = r_precision(objects, captions, clip, settings.views)
            row.r_precision_colour, row.r_precision_geometry = score.colour, score.geometry


# --------------------------------------------------------------------------------------------------------- results


def results(folder: Path) -> Iterator[Result]:
    """What a folder holds: see the head of this file. Raises Gen3DError for what cannot be read."""
    if not folder.is_dir():
        raise Gen3DError(f"{folder} is not a folder.", "Give a folder with results.", field="results")
    written = sorted(path.parent for path in folder.rglob("result.json"))
    for place in written:
        yield from _written(place)
    if written:
        return
    prompts = _prompts(folder)
    paths = {path.stem: path for suffix in reversed(reading.SUFFIXES) for path in sorted(folder.glob(f"*{suffix}"))}
    for name, path in sorted(paths.items()):
        prompt = prompts.get(path.name, prompts.get(name, ""))
        if path.suffix == ".npz":
            yield from (Result(prompt, partial(_same, cloud), partial(_same, cloud)) for cloud in reading.read(path))
        else:
            yield Result(prompt, partial(_first, path), partial(_first, path))


def _written(place: Path) -> Iterator[Result]:
    """The objects of a result folder."""
    content = storage.read_result(place) or {}
    prompt = str(content.get("settings", {}).get("prompt", "")).strip()
    for made in content.get("objects", [content]):
        files = made.get("files", {})
        shape = next((place / files[role] for role in ("ply", "mesh", "points") if role in files), None)
        if shape is None:
            raise Gen3DError(f"{place} holds no mesh and no points.", "Leave it out.", field="results")
        yield Result(
            prompt, partial(_first, shape), partial(_first, place / files["points"] if "points" in files else shape)
        )


def _first(path: Path) -> Mesh:
    return reading.read(path)[0]


def _same(mesh: Mesh) -> Mesh:
    return mesh


def _prompts(folder: Path) -> dict[str, str]:
    """By the names of the files, with or without their suffix."""
    table = folder / "prompts.csv"
    if (folder / "prompts.json").exists():
        content = storage.read_json(folder / "prompts.json")
        if content is None or not all(isinstance(value, str) for value in content.values()):
            cause = f"{folder / 'prompts.json'} is not an object of names and prompts."
            raise Gen3DError(cause, 'Write {"name": "prompt"}.', field="results")
    elif table.exists():
        rows = list(csv.reader(_text(table).splitlines()))
        if not all(len(row) == 2 for row in rows if row):
            raise Gen3DError(f"{table} has other than two columns.", "Write name,prompt.", field="results")
        content = {row[0]: row[1] for row in rows if row}
    else:
        content = {}
    return {name.strip(): prompt.strip() for name, prompt in content.items()}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise Gen3DError(f"{path} cannot be read: {error}.", "Give a text file in UTF-8.", field="results") from error


def _clouds(content: Iterable[Result], settings: EvaluateSettings, report: Report) -> Clouds:
    """Each as many points [points, 3]: of a mesh evenly over its surface, of a cloud any, and of a small one again."""
    clouds, small = [], 0
    for index, result in enumerate(content):
        rng, shape = np.random.default_rng((settings.seed, index)), result.cloud()
        if len(shape.faces):
            points = geometry.sample(shape, settings.points, rng)[0]
        else:
            small += len(shape.vertices) < settings.points
            points = np.resize(rng.permutation(shape.vertices), (settings.points, 3))
        clouds.append(points.astype(np.float32))
    if small:
        report.notes.append(f"{small} clouds have fewer than {settings.points} points; some of theirs count again.")
    return clouds


def _world(count: int, settings: EvaluateSettings) -> Clouds:
    from .priors import world

    rng = np.random.default_rng((settings.seed, count))
    return [world.points_of(world.sample(rng), settings.points, rng)[:, :3] for _ in range(count)]


# --------------------------------------------------------------------------------------------------------- judges


def load_clip(source: str, device: torch.device, report: Report) -> Clip | None:
    """The CLIP of that name or path; without one, the best that is there."""
    from .guidance.clip import Clip
    from .priors import embedded

    path, report.clip = weights.choose(source, CLIPS, embedded.CLIP_SCORER)
    return None if path is None else Clip(path, device)


def load_pointnet(source: str, device: torch.device, report: Report) -> PointNet | None:
    """The classifier of that name or path; without one, the best that is there."""
    from .metrics import pointnet
    from .priors import embedded

    path, report.pointnet = weights.choose(source, (POINTNET,), embedded.POINTNET)
    if path is None:
        return None
    state = weights.read(path / "model.safetensors") if path.is_dir() else weights.state_dict(report.pointnet)
    try:
        return pointnet.load(state).to(device)
    except (KeyError, RuntimeError) as error:
        cause = f"{path} holds no PointNet++ of this architecture."
        raise Gen3DError(cause, "Give others, or none.", field="pointnet") from error


# ------------------------------------------------------------------------------------------------ the report


def as_json(report: Report) -> str:
    """The report for programs."""
    return json.dumps(asdict(report))


def table(report: Report) -> str:
    """The report for people."""
    heads = ("results", "R-Prec. colour ↑", "R-Prec. geometry ↑", "P-IS ↑", "P-FID ↓", "folder")
    lines: list[tuple[str, ...]] = [heads]
    for row in report.rows:
        shares = (row.r_precision_colour, row.r_precision_geometry)
        cells = [f"{share:.1f} %" if share is not None else "-" for share in shares]
        cells += [f"{score:.4g}" if score is not None else "-" for score in (row.p_is, row.p_fid)]
        lines.append((str(row.count), *cells, row.folder))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join([*map(str.rjust, line[:-1], widths), line[-1]]) for line in lines]
    if report.clip and report.captions:
        text.append(f"R-Precision by {report.clip}, {report.views} views, among {report.captions} captions.")
    if report.pointnet:
        text.append(f"P-IS and P-FID by {report.pointnet}, {report.points} points, against {report.reference}.")
    text.append("↑ higher is better, ↓ lower is better. R-Precision: how often CLIP picks a result's own words.")
    return "\n".join([*text, *(f"Note: {note}" for note in report.notes)])
