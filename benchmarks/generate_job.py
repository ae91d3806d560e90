"""Run `redraft answer` as a process, with the stand-in teacher.

with working(1_000) as job, Teacher(delay=0.05) as teacher:
run = job.run(teacher, "--parallel", "50")
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from resource import struct_rusage
from typing import Any

from teacher import Teacher


@dataclass(frozen=True)
class Run:
    status: int
    seconds: float
    cpu: float


@dataclass(frozen=True)
class Job:
    folder: Path

    def start(self, teacher: Teacher, *more: str, out: str = "out.jsonl") -> subprocess.Popen[bytes]:
        words = ["answer", str(self.folder / "prompts.txt"), "-o", str(self.folder / out)]
        words += ["-m", teacher.model, "--quiet", "--mode", "prompted", "--seed", "1", *more]
        environment = {**os.environ, "REDRAFT_CONFIG": os.devnull}
        return subprocess.Popen([sys.executable, "-m", "redraft", *words], env=environment)

    def run(self, teacher: Teacher, *more: str, out: str = "out.jsonl") -> Run:
        start = time.perf_counter()
        process = self.start(teacher, *more, out=out)
        used = ended(process)
        return Run(process.returncode, time.perf_counter() - start, used.ru_utime + used.ru_stime)

    def cache(self, name: str = "paid.db") -> tuple[str, str]:
        return "--cache", str(self.folder / name)

    def ids(self, out: str = "out.jsonl") -> list[str]:
        return [json.loads(line)["id"] for line in (self.folder / out).read_bytes().splitlines()]

    def lines(self, out: str = "out.jsonl") -> set[str]:
        lines = (self.folder / out).read_bytes().splitlines()
        return {json.dumps(_timeless(json.loads(line))) for line in lines}


def ended(process: subprocess.Popen[bytes]) -> struct_rusage:
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(each) for name, each in value.items() if name != "seconds"}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


@contextmanager
def working(prompts: int) -> Iterator[Job]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "prompts.txt").open("w") as file:
            file.writelines(f"Describe lighthouse {number}.\n" for number in range(prompts))
        yield Job(folder)
