# SPDX-License-Identifier: GPL-3.0-or-later
"""The real command line around the toy pipeline."""

from __future__ import annotations

import math
import sys

from backend import driver, worker
from backend.__main__ import main
from tests.faults.toy_worker import CHECKPOINT_SECONDS, toy

if __name__ == "__main__":
    driver.CHECKPOINT_SECONDS, driver.CHECKPOINT_SHARE = CHECKPOINT_SECONDS, math.inf
    worker.pipelines = lambda: {"nerf": toy}
    sys.exit(main())
