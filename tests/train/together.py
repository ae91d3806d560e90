from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from torch import distributed
from transformers.utils import logging

from tests.conftest import ROOT


@contextlib.contextmanager
def forked(folder: Path, ranks: int) -> Iterator[int]:
    rank = next((rank for rank in range(ranks - 1) if os.fork() == 0), ranks - 1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    meeting = f"file://{folder / 'meeting'}"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
    logging.disable_progress_bar()
    try:
        yield rank
    finally:
        distributed.destroy_process_group()


def run_together(module: str, ranks: int, folder: Path) -> str:
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
