"""Without the extra that data needs, every verb says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

VERBS = ("dedupe", "decontaminate", "stats")


@pytest.mark.parametrize("verb", VERBS)
def test_the_extra_is_named(tmp_path: Path, verb: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"instruction": "Say <b>hello</b>, please."}\n')
    missing = "for name in ('numpy', 'rapidfuzz'): sys.modules[name] = None"
    code = f"import sys\n{missing}\nfrom redraft.cli import main\nmain()"
    more = ["--against", "a.jsonl"] if verb == "decontaminate" else []
    command = [sys.executable, "-c", code, "data", verb, "a.jsonl", *more, "--workers", "1"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert "pip install '.[data]'" in result.stderr
    assert "Traceback" not in result.stderr
