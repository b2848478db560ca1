# SPDX-License-Identifier: GPL-3.0-or-later
"""The real server with toy workers and everything logged:  python -m tests.wire.start_server HOME '{"ping": 1.0}'"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

from backend.server import serve
from backend.session import Deadlines

if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    deadlines = Deadlines(**json.loads(sys.argv[2]))
    asyncio.run(serve(Path(sys.argv[1]), worker=(sys.executable, "-m", "tests.wire.toy_worker"), deadlines=deadlines))
