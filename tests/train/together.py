"""Start processes that train together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def run_together(module: str, ranks: int, folder: Path) -> str:
    """Run a module that forks into so many processes. Return what they printed."""
    ours = {"WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "GLOO_SOCKET_IFNAME": "lo"}
    with subprocess.Popen(
        [sys.executable, "-m", module, str(folder)],
        env={**os.environ, **ours, **meeting},
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
    ) as job:
        try:
            said, _ = job.communicate(timeout=300)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)
    return said
