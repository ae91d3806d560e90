"""The programs of examples/ do what docs/examples.md says of them, with canned replies for a model."""

from __future__ import annotations

import asyncio
import json
import runpy
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import redraft.evaluation.stats  # numpy cannot be imported again, and pytester takes imports back
import redraft.revision.api  # noqa: F401
from tests.engines.servers.environments import environment
from tests.integrations.test_libraries import LIBRARIES
from tests.test_docs import ROOT

pytest_plugins = ["pytester"]
EXAMPLES = ROOT / "examples"
WRONG = "```python\ndef median(row):\n    return sorted(row)[len(row) // 2]\n```"
RIGHT = WRONG.replace("sorted(row)[len(row) // 2]", "(min(row) + max(row)) / 2 if row else None")
INVOICE = '{"number": "2026-117", "due": "2026-04-03", "total": %s}'


pytestmark = pytest.mark.usefixtures("here")


def replies(*said: object) -> str:
    Path("replies.jsonl").write_text("".join(json.dumps(each) + "\n" for each in said))
    return "script:replies.jsonl"


@pytest.mark.parametrize(
    ("name", "says", "printed"),
    [
        ("extract_json", [INVOICE % "-1", INVOICE % "1240.5"], ['"total": 1240.5', '"due": "2026-04-03"']),
        (
            "sql",
            ["SELECT nme FROM keepers", "```sql\nSELECT name, since FROM keepers\n```"],
            ["since", "-- it runs"],
        ),
        (
            "sql",
            ["DROP TABLE keepers", "ATTACH 'x' AS y", "PRAGMA user_version = 1", "SELECT 1;;2"],
            ["it does not"],
        ),
        (
            "translate",
            ["Der Wärter putzt.", "Der Wärter putzt die Linse des Leuchtturms."],
            ["des Leuchtturms", "✓"],
        ),
    ],
)
def test_a_program_prints_what_it_found(
    name: str,
    says: list[str],
    printed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [name, replies(*says)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert [text for text in printed if text not in out] == []
    assert not Path("x").exists()


@pytest.mark.usefixtures("a_sandbox")
def test_code_runs_in_the_sandbox(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["code_with_tests", replies(WRONG, RIGHT)])
    runpy.run_path(str(EXAMPLES / "code_with_tests.py"), run_name="__main__")
    assert capsys.readouterr().out.endswith("answer 1: The program passes all 3 tests.\n")


def test_a_route_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "A lighthouse is a tall tower on a coast that has a light on top. Ships see it."
    monkeypatch.setenv("MODEL", replies({"error": "the server is down."}, long, "A tower with a light."))
    app = runpy.run_path(str(EXAMPLES / "fastapi_route.py"))["app"]

    async def ask(route: str, *things: object) -> list[httpx.Response]:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a") as web,
        ):
            return [await web.post(route, json={"thing": thing}) for thing in things]

    down, good, bad = asyncio.run(ask("/describe", "a sun", "a sun", 7))
    assert (down.status_code, down.json()) == (503, {"detail": "the server is down."})
    assert (good.json()["text"], bad.status_code) == ("A tower with a light.", 422)
    down, live = asyncio.run(ask("/describe/live", "a sun", "a sun"))
    assert down.text == 'data: {"error": "the server is down."}\n\n'
    assert live.text.endswith('data: {"all": "A tower with a light.", "passed": true}\n\n')


def test_the_suite_finds_a_share_that_is_too_low(pytester: pytest.Pytester) -> None:
    pytester.makefile(".jsonl", replies='"It is rain."')
    done = pytester.runpytest(
        EXAMPLES / "test_answers.py",
        "-q",
        "--redraft-model",
        "script:replies.jsonl",
        "-p",
        "no:cacheprovider",
    )
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines("*test_json: 0 of 10 answers pass (0% to 28%), and 80% must pass.")


def test_a_table_is_scored(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("answers.csv").write_text("question,answer\nWhat is rain?,Water.\nWhat is snow?,Sorry but no.\n")
    monkeypatch.setattr(sys, "argv", ["score_csv", "answers.csv", "scored.csv", "words<=2", "lacks:sorry"])
    runpy.run_path(str(EXAMPLES / "score_csv.py"), run_name="__main__")
    assert capsys.readouterr().out == "1 of 2 pass: 9% to 91%\n"
    assert Path("scored.csv").read_text().splitlines()[1] == "What is rain?,Water.,1.00,"


@pytest.mark.slow
def test_a_graph_answers() -> None:
    python = environment("bridges", f"--editable {ROOT} {LIBRARIES}") / "python"
    program = [python, "-W", "ignore", EXAMPLES / "langgraph_node.py", replies("word " * 31, "A tower.")]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.stdout == "A tower. True\n", done.stderr
