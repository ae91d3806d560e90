"""Run Ray's multi-node test cluster on this machine, on 127.0.0.1 only, and kill its processes."""

from __future__ import annotations

import os
import secrets
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from processor import family

ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen only on 127.0.0.1
}


class Machines:
    def __init__(self, count: int) -> None:
        os.environ.update(ENVIRONMENT)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster()
        self._cluster.add_node(num_cpus=0, include_dashboard=False)
        self._nodes: list[Any] = []
        for _ in range(count):
            self.add()
        self.address: str = self._cluster.address

    def add(self) -> None:
        for left in reversed(range(3)):
            try:
                self._nodes.append(self._cluster.add_node(num_cpus=2))
            except Exception:
                if not left:
                    raise
            else:
                return

    def remove(self, number: int) -> None:
        self._cluster.remove_node(self._nodes.pop(number), allow_graceful=False)

    def kill_worker(self, number: int) -> bool:
        raylets = [node.all_processes["raylet"][0].process.pid for node in self._nodes]
        if found := [each for raylet in raylets for each in family(raylet) if "ShareActor" in _name(each)]:
            os.kill(found[number % len(found)], signal.SIGKILL)
        return bool(found)

    def kill_machine(self) -> None:
        self.remove(0)
        self.add()

    def close(self) -> None:
        self._cluster.shutdown()


def _name(process: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    return ""
