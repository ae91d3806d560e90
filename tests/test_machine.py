"""What a machine or container has to give."""

from __future__ import annotations

from pathlib import Path

from redraft.machine import free_memory


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
