"""Each test runs in its own process, because an allocator's settings cannot be undone."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest


def ran(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


HELD = """
from redraft.jobs.machine import give_back_large
from pathlib import Path

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if {given_back}:
    give_back_large(1 << 20)
del (first := [b"x" * (30 << 20)])[:]  # from here on glibc takes blocks of up to that size from its heap
before = resident()
blocks = [b"x" * (8 << 20) for _ in range(10)]
last = b"x" * (8 << 20)
blocks.clear()
print(resident() - before >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
def test_large_blocks_go_back_to_the_system() -> None:
    assert int(ran(HELD.format(given_back=True))) < 12
    assert int(ran(HELD.format(given_back=False))) > 60
