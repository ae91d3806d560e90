"""Without the extra that data needs, every verb says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"instruction": "Say <b>hello</b>, please."}\n')
    missing = "for name in ('numpy', 'rapidfuzz'): sys.modules[name] = None"
    code = f"import sys\n{missing}\nfrom redraft.cli import main\nmain()"
    command = [sys.executable, "-c", code, "data", "dedupe", "a.jsonl", "--workers", "1"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert "pip install '.[data]'" in result.stderr
    assert "Traceback" not in result.stderr
