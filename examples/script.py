# SPDX-License-Identifier: GPL-3.0-or-later
"""What the examples share as programs: arguments, what they say meanwhile, and how they end."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from blender_gen3d import api
from blender_gen3d.connection import launcher

PAUSE = 10.0  # seconds between two lines on the progress of a job

_began = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - _began:4.0f} s] {text}", flush=True)


def teller() -> Callable[[api.JobRow], None]:
    """For ``on_progress``: a line now and then."""
    shown = time.monotonic()

    def tell(row: api.JobRow) -> None:
        nonlocal shown
        if row.progress and time.monotonic() - shown > PAUSE:
            shown = time.monotonic()
            say(f"{row.progress.get('phase')}: {100.0 * row.progress.get('fraction', 0.0):.0f} %")

    return tell


def run(main: Callable[[list[str]], None]) -> None:
    """The whole program: ``main`` with its arguments, those after "--" where there is one; then the exit."""
    status = 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was begun is ended as by Ctrl-C
    try:
        main(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:])
        status = 0
    except api.Gen3DError as error:
        print(f"{error.cause} {error.next_step}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        status = 130
    except SystemExit as end:  # argparse has said what was wrong
        status = int(end.code or 0)
    except Exception:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # some versions of Blender crash at their end after an export


def forget_jobs(home: Path) -> None:
    """Ends a backend that an earlier run has left behind, and its jobs: nobody waits for them any more."""
    launcher.end(home)
    shutil.rmtree(home / "jobs", ignore_errors=True)
    for path in home.glob("jobs.sqlite*"):
        path.unlink()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what Blender itself prints on standard output: in some versions, hundreds of lines for a picture."""
    sys.stdout.flush()
    logging.disable(logging.INFO)
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
