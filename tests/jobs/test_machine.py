"""What a machine or container has to give."""

from __future__ import annotations

from pathlib import Path

import pytest

from redraft.jobs.machine import free_memory, instructions, many_streams


def test_pages_of_files_are_no_memory_that_a_container_has_used_up(tmp_path: Path) -> None:
    said = {"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 100\ninactive_file 450\n"}
    for name, text in said.items():
        (tmp_path / name).write_text(text)
    assert free_memory(tmp_path) == 750
    (tmp_path / "memory.current").write_text("2000\n")
    assert free_memory(tmp_path) == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) > 50e6
    assert free_memory(tmp_path / "none") > 50e6


@pytest.mark.parametrize(
    ("flags", "there", "many"),
    [
        ("fpu avx avx2", {"AVX2"}, 8),
        ("fpu avx2 avx512f avx512_vnni amx_tile", {"AVX2", "AVX-512", "VNNI", "AMX"}, 4),
        ("fpu avx2 avx_vnni", {"AVX2", "VNNI"}, 4),
    ],
)
def test_the_instructions_of_a_processor(tmp_path: Path, flags: str, there: set[str], many: int) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags\t\t: {flags}\n\nprocessor : 1\nflags\t\t: fpu\n")
    found = instructions(cpuinfo)
    assert found
    assert {name for name, has in found.items() if has} == there
    assert many_streams(found) == many


def test_instructions_that_no_system_tells(tmp_path: Path) -> None:
    assert instructions(tmp_path / "none") is None
    (tmp_path / "arm").write_text("processor : 0\nFeatures : fp asimd\n")
    assert instructions(tmp_path / "arm") is None
    assert many_streams(None) == 4
