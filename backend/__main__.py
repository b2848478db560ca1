# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line ``gen3d`` = ``python -m backend``.

    gen3d generate --prompt WORDS --out PATH  words, or a picture, to coloured meshes
    gen3d nerf DATASET --out DIR        posed views to a radiance field, its metrics and its mesh
    gen3d remesh RESULT --out DIR       a new mesh from a saved field, without training
    gen3d render RESULT --out DIR       novel views of a saved field
    gen3d bake MESH --out DIR           a mesh with UVs and a texture, of one with colours or of a saved field
    gen3d personalise IMAGES --prompt WORDS --out PATH  pictures of a thing to a LoRA, for ``generate --lora``
    gen3d serve                         the backend that Blender talks to
    gen3d address                       where it listens, and its token, for a Blender on another computer
    gen3d jobs [list | cancel | resume] the backend's jobs
    gen3d models [list | install | verify | remove | use]  the weights of the text systems
    gen3d eval DIR...                   how good results are: CLIP R-Precision, P-IS, P-FID
    gen3d doctor                        what is missing on this machine, if anything

The options of the first six are made from the settings' dataclasses. With --json, standard output carries exactly
one JSON object, at the end: the result (result.json and "folder"), or {"error": {"cause", "next_step", "field"}}.
Progress goes to standard error. Exit codes: 0 done; 1 unexpected failure, or doctor found a fault; 2 wrong input;
130 stopped by Ctrl-C or a signal, after which the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_type_hints

from . import settings, storage
from .errors import Gen3DError
from .home import runtime_file, user_home
from .version import VERSION

if TYPE_CHECKING:
    from .jobs import Job, JobStore

STOPPED = 130  # the exit code after Ctrl-C
HELP = {
    "generate": "make a coloured mesh of words or of a picture",
    "nerf": "train a radiance field on posed views; metrics, mesh, views",
    "remesh": "take a new mesh out of a saved field, without training",
    "render": "render novel views of a saved field",
    "bake": "give a mesh UVs and a texture of its vertices' colours or of a saved field",
    "personalise": "teach a text-to-image model a thing of your own, from pictures of it",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    as_json = "--json" in arguments
    with suppress(AttributeError, ValueError):  # paths and prompts in any language, on any console
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        given = parser().parse_args(arguments)
        return int(given.command(given))
    except Gen3DError as error:
        return fail(error, as_json, 2)
    except KeyboardInterrupt:
        return fail(Gen3DError("Stopped.", "Nothing was left half-done."), as_json, STOPPED)


def fail(error: Gen3DError, as_json: bool, code: int) -> int:
    if as_json:
        print(json.dumps({"error": {"cause": error.cause, "next_step": error.next_step, "field": error.field}}))
    print(f"gen3d: {error.cause} {error.next_step}", file=sys.stderr)
    return code


# ------------------------------------------------------------------------------------------------------- options


class Parser(argparse.ArgumentParser):
    """Wrong usage is a user's error like any other."""

    def error(self, message: str) -> NoReturn:
        raise Gen3DError(f"{message[:1].upper()}{message[1:]}.", f"See `{self.prog} --help`.", field="arguments")


def parser() -> Parser:
    top = Parser("gen3d", description="Words, pictures and posed views to meshes.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"gen3d {VERSION}")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> Parser:
        made = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.add_argument("--json", action="store_true", help="print one JSON object at the end")
        made.set_defaults(command=run)
        return made

    for kind, cls in settings.KINDS.items():
        local = command(kind, run_here, HELP[kind])
        local.set_defaults(kind=kind)
        where, what = "DIR", "folder of the result; must not be there yet"
        if endings := settings.FILES.get(kind):
            where, what = "PATH", f"{what}. Or one file: a name that ends in {', '.join(endings)}"
        local.add_argument("--out", required=True, metavar=where, help=what)
        add_options(local, cls)
    serve = command("serve", run_server, "run the backend that Blender talks to")
    serve.add_argument("--runtime-file", type=Path, metavar="PATH", help="where to write address and token")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on")
    serve.add_argument(
        "--port", type=int, choices=range(65536), metavar="PORT", default=0, help="0: the system chooses"
    )
    serve.add_argument("--allow-remote", action="store_true", help="allow a host that other machines can reach")
    command("address", run_address, "say where the running backend listens, and its token")
    jobs = command("jobs", run_jobs, "list, cancel or resume the backend's jobs")
    jobs.add_argument("action", nargs="?", choices=("list", "cancel", "resume"), default="list")
    jobs.add_argument("id", nargs="?", default="", help="a job's id, or the beginning of it")
    models = command("models", run_models, "list, install, verify, remove or name the weights of the text systems")
    models.add_argument("action", nargs="?", choices=("list", "install", "verify", "remove", "use"), default="list")
    models.add_argument(
        "names", nargs="*", metavar="NAME", help="weights, or owner/name on the hub; for use: NAME PATH"
    )
    models.add_argument("--offline", action="store_true", help="use no network, only what is there")
    judged = command("eval", run_evaluation, "measure results: CLIP R-Precision, P-IS, P-FID")
    judged.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="results, or PLY, NPZ or GLB files")
    add_options(judged, settings.EvaluateSettings)
    command("doctor", run_doctor, "say what is missing on this machine")
    return top


def add_options(to: argparse.ArgumentParser, cls: type[Any], prefix: str = "") -> None:
    """One option per setting, ``--mesh-level`` for one within another; the one without a default is positional.

    Only what is given lands in the namespace, under the setting's path ("mesh.level").
    """
    hints = get_type_hints(cls)
    for spec in fields(cls):
        kind, path = hints[spec.name], prefix + spec.name
        if is_dataclass(kind):
            add_options(to, kind, f"{path}.")  # type: ignore[arg-type]
            continue
        text = spec.metadata["help"].replace("%", "%%")
        if spec.default is MISSING:
            to.add_argument(path, metavar=spec.name.upper(), help=text)
            continue
        values: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if kind is bool else {"type": kind}
        if kind is not bool:
            values |= {"choices": spec.metadata["choices"], "metavar": spec.name.upper()}
        if spec.metadata["choices"]:
            values["metavar"] = "{" + ",".join(spec.metadata["choices"]) + "}"
        shown = f"{text} (default: {spec.default!r})"
        to.add_argument(option_name(path), dest=path, default=argparse.SUPPRESS, help=shown, **values)


def option_name(path: str) -> str:
    return "--" + path.replace(".", "-").replace("_", "-")


def read_options(cls: type[Any], given: argparse.Namespace) -> Any:
    """The checked settings. Paths become absolute. Raises Gen3DError naming the option."""
    values = _values(cls, vars(given), "")
    try:
        return settings.parse(cls, values)
    except Gen3DError as error:
        if not (error.field or "").startswith("params."):
            raise
        option = option_name(str(error.field).removeprefix("params."))
        raise Gen3DError(error.cause.replace(str(error.field), option), error.next_step, field=error.field) from error


def _values(cls: type[Any], given: dict[str, Any], prefix: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for spec in fields(cls):
        kind, path = get_type_hints(cls)[spec.name], prefix + spec.name
        if is_dataclass(kind):
            values[spec.name] = _values(kind, given, f"{path}.")  # type: ignore[arg-type]
        elif path in given:
            is_path = spec.metadata["subtype"] in ("path", "file") and given[path]
            values[spec.name] = str(Path(given[path]).expanduser().absolute()) if is_path else given[path]
    return values


# -------------------------------------------------------------- generate, nerf, remesh, render, bake, personalise


def run_here(given: argparse.Namespace) -> int:
    """Runs a pipeline in this process and tells what came out."""
    values, out = read_options(settings.KINDS[given.kind], given), Path(given.out).expanduser().absolute()
    if given.kind == "generate":
        refuse_unused(values.system, given)
    from . import running

    try:
        content = running.run(given.kind, values, out)
    except running.Ended as end:
        return fail(end.error, given.json, end.code)
    if given.json:
        print(json.dumps(content))
        return 0
    told = {"result": str(out), **{name: content[name] for name in ("prior",) if name in content}}
    for name, value in {**told, **content.get("metrics", {})}.items():
        if not isinstance(value, dict | list):
            print(f"{name:<12} {value:.4g}" if isinstance(value, float) else f"{name:<12} {value}")
    for note in content.get("notes", ()) if given.kind in settings.FILES else ():
        print(f"{'note':<12} {note}")
    return 0


def refuse_unused(system: str, given: argparse.Namespace) -> None:
    """Raises Gen3DError for an option that only other systems know."""
    known = {*settings.SYSTEMS[system], *settings.OF_ALL_SYSTEMS}
    for path in vars(given):
        name = path.partition(".")[0]
        if name in {spec.name for spec in fields(settings.GenerateSettings)} - known:
            others = ", ".join(other for other, names in settings.SYSTEMS.items() if name in names)
            cause = f"{option_name(path)} is nothing to {system}."
            raise Gen3DError(cause, f"Leave it out, or take another --system: {others}.", field=f"params.{name}")


# ------------------------------------------------------------------------------------ serve, jobs, models, doctor


def run_server(given: argparse.Namespace) -> int:
    import asyncio
    import logging

    from .server import serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    asyncio.run(
        serve(user_home(), given.host, given.runtime_file, port=given.port, allow_remote=given.allow_remote)
    )  # fmt: skip
    return 0


def run_address(given: argparse.Namespace) -> int:
    """Tells what the preferences of a Blender on another computer ask for. The token changes with every start."""
    from . import runtime

    where = runtime.read(runtime_file(user_home()))
    content = {"address": where.authority, "token": f"{where.token}.{where.key}"}
    print(json.dumps(content) if given.json else "\n".join(f"{name:<9}{value}" for name, value in content.items()))
    return 0


def run_jobs(given: argparse.Namespace) -> int:
    from .jobs import JobStore

    store = JobStore(user_home())
    if given.action == "list":
        chosen = store.all()
        content: Any = {"jobs": [as_row(store, job) for job in chosen]}
    else:
        job = find_job(store, given.id)
        chosen = [cancel(store, job) if given.action == "cancel" else store.resume(job.id)]
        content = as_row(store, chosen[0])
        if chosen[0].state in ("queued", "running") and not storage.is_locked(store.home / "engine.lock"):
            print("No backend is running; the next one that starts takes care of it.", file=sys.stderr)
    if given.json:
        print(json.dumps(content))
        return 0
    if not chosen:
        print("There are no jobs.")
    for job in chosen:
        done = f"{(job.progress or {}).get('fraction') or 0:4.0%}" if job.state == "running" else "    "
        told = (job.error or {}).get("cause") or what_for(job)
        print(f"{job.id}  {job.kind:<8} {job.state:<11} {done}  {told}".rstrip())
    return 0


def what_for(job: Job) -> str:
    """The words, or the path, that a job was given."""
    params = job.params
    return str(
        next((params[name] for name in ("prompt", "image", "dataset", "result", "source") if params.get(name)), "")
    )


def as_row(store: JobStore, job: Job) -> dict[str, Any]:
    return {**asdict(job), "folder": str(store.folder(job.id))}


def find_job(store: JobStore, beginning: str) -> Job:
    found = [job for job in store.all() if job.id.startswith(beginning)]
    if not beginning:
        raise Gen3DError("The job's id is missing.", "See `gen3d jobs` for the ids.", field="id")
    if len(found) != 1:
        cause = f"{'Several jobs begin' if found else 'No job begins'} with {beginning[:40]!r}."
        raise Gen3DError(cause, "See `gen3d jobs` for the ids.", field="id")
    return found[0]


def cancel(store: JobStore, job: Job, seconds: float = 6.0) -> Job:
    """Cancels through the backend that runs the job, or, where there is none any more, directly."""
    import time

    deadline = time.monotonic() + seconds
    job = store.request_cancel(job.id)
    while job.state == "running" and time.monotonic() < deadline:
        if not storage.is_locked(store.home / "engine.lock"):
            store.recover()
        time.sleep(0.1)
        job = store.get(job.id)
    return job


def run_models(given: argparse.Namespace) -> int:
    from .models import command

    return command(given.action, given.names, offline=given.offline, as_json=given.json)


def run_evaluation(given: argparse.Namespace) -> int:
    from . import evaluation
    from .running import own_stdout

    with own_stdout():
        report = evaluation.evaluate(given.folders, read_options(settings.EvaluateSettings, given))
    print(evaluation.as_json(report) if given.json else evaluation.table(report))
    return 0


def run_doctor(given: argparse.Namespace) -> int:
    from .doctor import examine

    checks = examine(user_home())
    healthy = all(check.state != "fault" for check in checks)
    if given.json:
        print(json.dumps({"ok": healthy, "checks": [asdict(check) for check in checks]}))
    else:
        for check in checks:
            print(f"{check.state:<6} {check.name:<10} {check.text}")
            if check.next_step:
                print(f"{'':<17} → {check.next_step}")
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
