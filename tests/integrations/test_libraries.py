from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engines.servers.environments import environment

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = "mcp pydantic-ai-slim inspect-ai dspy langgraph verifiers"


def recipes() -> dict[str, str]:
    sections = (ROOT / "docs" / "bridges.md").read_text("utf-8").split("\n## ")[1:]
    found = {each: re.search(r"^```python\n(.*?)^```$", each, re.M | re.S) for each in sections}
    return {
        re.split(r"\n", each)[0].lower().replace("-", "_"): block[1] for each, block in found.items() if block
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    python = environment("bridges", f"--editable {ROOT} {LIBRARIES}") / "python"
    folder = tmp_path_factory.mktemp("bridges")
    (folder / "replies.jsonl").write_text('"It falls from clouds and it is very wet."\n"It is rain."\n')
    (folder / "questions.jsonl").write_text('{"input": "?", "target": ""}\n')
    for name, block in recipes().items():
        (folder / f"on_{name}.py").write_text(block)
    script = Path(__file__).with_name("with_libraries.py")
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": path, "OPENAI_API_KEY": "none"}
    done = subprocess.run(
        [python, "-W", "ignore", script], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    last: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return last


def test_a_check_gives_the_same_score_everywhere(found: dict[str, Any]) -> None:
    scores = found["scores"]
    assert len(scores) == 6
    assert all(each == pytest.approx(scores["judged"]) for each in scores.values()), scores
    assert scores["judged"][0] == 1 > scores["judged"][2] > scores["judged"][1]


WRONG = (
    '- The answer has 9 words, and at most 8 are allowed: 1 too many.\n- The answer does not contain "rain".'
)


def test_what_is_wrong_goes_back_to_the_model(found: dict[str, Any]) -> None:
    loops = found["loops"]
    bad, good = "It falls from clouds and it is very wet.", "It is rain."
    assert loops["graph"] == loops["solver"] == ["?", bad, WRONG, good]
    assert (loops["stubborn"], loops["refined"]) == (["?", bad, *[WRONG, bad] * 2], good)
    first, retried, answer = loops["pydantic_ai"]
    assert (first, answer) == ("?", good)
    assert WRONG in retried


def test_the_tools_of_mcp(found: dict[str, Any]) -> None:
    mcp = found["loops"]["mcp"]
    assert mcp["tools"] == ["ask", "check"]
    assert (mcp["asked"]["answer"], mcp["asked"]["passed"]) == ("It is rain.", True)
    assert mcp["asked"]["steps"][0]["feedback"] == WRONG
    said = ["the check 'command' cannot", "there are no checks", "no check is called 'wrds'", "nope.gguf"]
    assert all(text in told for text, told in zip(said, mcp["refused"], strict=True)), mcp["refused"]
