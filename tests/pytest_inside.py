# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs pytest inside Blender, or inside a Python that has Blender as a package.

    blender --background --python-exit-code 3 --python tests/pytest_inside.py -- ROOT TOOLS VARIABLES [argument ...]
    python tests/pytest_inside.py -- ROOT TOOLS VARIABLES [argument ...]

ROOT is the checkout, TOOLS a folder with pytest ("" where it is installed), VARIABLES a JSON object of environment
variables. It leaves without the interpreter's farewell, because Blender's own takes some versions down.
"""

from __future__ import annotations

import json
import os
import sys

root, tools, variables, *arguments = sys.argv[sys.argv.index("--") + 1 :]
os.chdir(root)
os.environ.update(json.loads(variables))
sys.dont_write_bytecode = True
sys.path[:0] = [folder for folder in (root, tools) if folder]

import pytest  # noqa: E402

status = pytest.main(["-p", "no:cacheprovider", "-W", "default", *arguments])
sys.stdout.flush()
sys.stderr.flush()
os._exit(int(status))
