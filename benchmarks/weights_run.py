"""Run `redraft weights …` as a user would, and measure its time and its peak anonymous memory.

Anonymous memory is memory that a process cannot give back: the kernel's `RssAnon` and `RssShmem`, read every
10 ms, of the process and its descendants. Mapped files do not count. Linux only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from processor import family, spent

MB = 1e6

_HELD = re.compile(r"^(?:RssAnon|RssShmem):\s+(\d+) kB", re.MULTILINE)
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
# Runs the command line, and then writes the names of the imported modules, in order.
_LISTING = """
import json, sys
out, sys.argv = sys.argv[1], ["redraft", *sys.argv[2:]]
from redraft.cli import main
try:
    main()
finally:
    json.dump([name for name in sys.modules if not name.startswith("__m")], open(out, "w"))
"""
_IMPORTING = """
import importlib, json, sys, time
for name in json.load(open(sys.argv[1])):
    try:
        importlib.import_module(name)
    except ImportError:
        pass
time.sleep(0.2)
"""


@dataclass(frozen=True)
class Took:
    """The time and memory of a command: seconds, peak anonymous memory, and peak memory, both in bytes.

    `processor` is the processor time of all its processes, in seconds.
    """

    seconds: float
    anonymous: int
    resident: int
    processor: float


def weights(*arguments: str | Path) -> Took:
    return run_command([sys.executable, "-m", "redraft", "weights", *map(str, arguments), "--quiet"])


def run_command(command: Sequence[str]) -> Took:
    """Run a command to its end, and return its time and memory.

    Raises:
        RuntimeError: The command failed. The message contains its output.
    """
    anonymous = resident = 0
    processor = 0.0
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT) as process:
            while process.poll() is None:
                now = list(_statuses(process.pid))
                anonymous = max(anonymous, sum(_kib(_HELD, status) for status in now))
                resident = max(resident, sum(_kib(_PEAK, status) for status in now))
                processor = max(processor, spent(process.pid))
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.01)
        seconds = time.perf_counter() - start
        said.seek(0)
        if process.returncode:
            heard = said.read().decode(errors="replace")
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{heard}")
    return Took(seconds, anonymous * 1024, resident * 1024, processor)


def _statuses(pid: int) -> Iterator[str]:
    """Yield `/proc/PID/status` of a process and its living descendants.

    A child that has not begun its own program is left out, because it shares its parent's memory.
    """
    with suppress(OSError):
        program = Path(f"/proc/{pid}/cmdline").read_bytes()
        for each in family(pid):
            if each == pid or Path(f"/proc/{each}/cmdline").read_bytes() != program:
                yield Path(f"/proc/{each}/status").read_text("utf-8")


def _kib(pattern: re.Pattern[str], status: str) -> int:
    return sum(map(int, pattern.findall(status)))


def imports_of(*arguments: str | Path) -> int:
    """Return the anonymous memory, in bytes, of an idle Python with the imports of `redraft weights …`."""
    with tempfile.TemporaryDirectory() as folder:
        names = str(Path(folder) / "modules.json")
        run_command([sys.executable, "-c", _LISTING, names, "weights", *map(str, arguments), "--quiet"])
        assert "torch" in json.loads(Path(names).read_text("utf-8")), "the command did not import torch"
        return run_command([sys.executable, "-c", _IMPORTING, names]).anonymous


def remove(path: Path) -> None:
    for each in (path, *path.parent.glob(path.name + ".*")):
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink(missing_ok=True)
    os.sync()


def forget(*folders: Path) -> None:
    for path in (path for folder in folders for path in folder.iterdir() if path.is_file()):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
