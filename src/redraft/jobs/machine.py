"""Report the processors and memory of this machine, and return freed memory to the system."""

from __future__ import annotations

import ipaddress
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if sys.platform == "win32":
    from redraft.jobs import windows


def all_cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_SETS = {"AVX2": {"avx2"}, "AVX-512": {"avx512f"}, "VNNI": {"avx512_vnni", "avx_vnni"}, "AMX": {"amx_tile"}}
"""Instruction sets that engines use, and their flags in /proc/cpuinfo."""


def instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, bool] | None:
    """Return which instruction sets an x86 processor has. Return None if /proc/cpuinfo has no flags."""
    try:
        lines = cpuinfo.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return None
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), None)
    return None if flags is None else {name: bool(flags & known) for name, known in _SETS.items()}


def lacks_avx2() -> bool:
    """Return whether the processor is known to lack AVX2, without which llama.cpp and OpenVINO crash."""
    # Both crash on an emulated Westmere (qemu 7.2), and work on a Haswell, which has AVX2.
    return (instructions() or {}).get("AVX2") is False


def many_streams(has: Mapping[str, bool] | None) -> int:
    """Return the fewest streams with which OpenVINO beats llama.cpp. `has` comes from `instructions()`."""
    # OpenVINO's tokens per second divided by llama.cpp's, with the default model. On one thread with AVX-512
    # and VNNI: 0.9 with 1 stream, 2.0 with 4, 2.4 with 8. On two cores with only AVX2: 0.5 with 1 stream, 1.2
    # with 8 (24 answers, including OpenVINO's longer start), 1.7 with 12, 2.6 with 16.
    return 8 if has and not (has["AVX-512"] or has["VNNI"]) else 4


def has_gpu() -> bool:
    """Return whether this machine seems to have a GPU: an Apple GPU, or an NVIDIA GPU with a driver."""
    mac = platform.system() == "Darwin" and platform.machine() == "arm64"
    return mac or shutil.which("nvidia-smi") is not None


def free_memory(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of memory that new work may use without swapping.

    In a container, the container's limit applies. Cached files count as free. On macOS, return all memory.
    """
    if sys.platform == "win32":
        return windows.free_memory()
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
        limit, used = ((group / f"memory.{name}").read_text("ascii") for name in ("max", "current"))
        if limit.strip() != "max":
            stat = dict(line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
            free = min(free, int(limit) - int(used) + int(stat["inactive_file"]))
    except (OSError, ValueError, KeyError, StopIteration):
        pass  # not Linux, or no such cgroup
    return max(free, 0)


def libc() -> Any:
    """Return the C library. Some functions exist only on Linux."""
    import ctypes

    return ctypes.CDLL(None if os.name == "posix" else "msvcrt")


def trim_heap() -> None:
    """Return the heap's freed memory to the system, if the C library can do that (glibc)."""
    if trim := getattr(libc(), "malloc_trim", None):
        trim(0)


KERNELS = "128"
"""Kernels in oneDNN's cache, one for each tensor shape. Packed rows have hundreds of lengths. A training step
with an adapter needs about 30 for each number of tokens."""
_MMAP_THRESHOLD = -3  # glibc's `M_MMAP_THRESHOLD`, the bytes from which a block has its own mapping


def give_back_large(least: int) -> None:
    """Let the C library return freed blocks of at least `least` bytes to the system at once."""
    if mallopt := getattr(libc(), "mallopt", None):
        mallopt(_MMAP_THRESHOLD, least)


def keep_few_kernels() -> None:
    """Let oneDNN cache 128 kernels instead of 1,024, unless the user has set a number.

    Call this before torch is imported.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)


def use_large_pages() -> None:
    """Let torch allocate large tensors in huge pages, unless the user has set `THP_MEM_ALLOC_ENABLE`.

    Call this before torch is imported.
    """
    # Many small pages are slow to map.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def is_loopback(host: str) -> bool:
    """Return whether a name or address always means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"


def cache_folder() -> Path:
    """Return redraft's cache folder."""
    if named := os.environ.get("REDRAFT_CACHE"):
        return Path(named).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path("~/.cache").expanduser()) / "redraft"
