from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import Result

pytest.importorskip("scipy")

from redraft.chain import Chain
from tests.cli.verbs import chains, redraft, refused, script, shown, write
from tests.evaluation.tasks.test_tasks import RECORDS


@pytest.fixture(autouse=True)
def _four(_folder: None) -> None:
    write("test.jsonl", [{"question": f"How many? ({n})", "answer": f"So.\n#### {n}"} for n in range(4)])


def run(*args: str, task: str = "gsm8k", file: str = "test.jsonl") -> Result:
    return redraft("eval", task, file, "-o", "out.jsonl", "-m", "script:script.jsonl", "-j", "1", *args)


def plain(*args: str, **where: str) -> Result:
    return run("--max-revisions", "0", *args, **where)


def passed(chain: Chain) -> list[bool]:
    return [all(result["passed"] for result in results) for results in chain.meta["eval"]["steps"]]


def test_the_score_and_the_chains() -> None:
    script("Answer: 0", "Answer: 5", "It is 2.", "#### 3")
    result = plain()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:4] == [
        "gsm8k: 4 answers; 95 % intervals",
        "score  75.0 %  30.1 to 95.4  3 of 4",
        "",
        "answers    4 in out.jsonl",
    ]
    assert any(line.startswith("tokens     ") for line in lines)
    assert "none: answers differ between runs (repeatable: --seed 0 --parallel 1)" in result.stdout
    assert [passed(chain) for chain in chains()] == [[True], [False], [True], [True]]
    assert chains()[1].meta["reference"] == "1"
    said = "\n".join(shown(redraft("show", "out.jsonl")))
    assert (said.count("Score · right\n"), said.count("Score · wrong\n✗ number=1: ")) == (3, 1)
    assert chains()[0].prompt.text.startswith("How many? (0)\n\n")
    script("Answer: 0")
    assert "seed" not in plain("--limit", "1", "--seed", "0", "-o", "two.jsonl").stdout
    script("Answer: 0 gulls, and more.", "Answer: 1")
    cut = plain("--limit", "2", "--max-tokens", "3", "-o", "cut.jsonl").stdout
    assert re.search(r"  cut off +2 +at the token limit, and scored as they are\n", cut)
    assert "\nstopped    out of tokens 2\n" in cut
    script("Answer: 0", "It is right. Revision is not needed.")
    assert "guides" not in run("--limit", "1", "-o", "three.jsonl").stdout + result.stdout


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.usefixtures("default_model")
def test_the_default_model_alone_says_that_nothing_guides_it() -> None:
    result = redraft("eval", "gsm8k", "test.jsonl", "-o", "out.jsonl", "--limit", "1")
    assert "guides     none, so no answer was revised" in result.stdout, result.output


def test_json_has_the_score_alone_on_stdout() -> None:
    script("Answer: 0", "Answer: 5", "It is 2.", "#### 3")
    found = json.loads(plain("--json").stdout)
    assert (found["task"], found["score"]["hits"], found["score"]["count"]) == ("gsm8k", 3, 4)
    assert found["wrong"] == ["test/1"]
    assert 0 < found["score"]["low"] < 0.75 < found["score"]["high"] < 1
    assert found["usage"]["completion_tokens"] > 0
    assert json.loads(plain("--json").stdout) == found, "and again, from the file alone"


def test_an_output_of_another_task_is_left_alone() -> None:
    script(*["Answer: 1"] * 4)
    plain("--limit", "1")
    before = Path("out.jsonl").read_bytes()
    for result in (plain("--guided"), plain("--check", "words<=3"), plain(task="math")):
        refused(result)
    assert Path("out.jsonl").read_bytes() == before


def test_an_empty_answer_is_wrong_and_tried_again() -> None:
    script("Answer: 0", "", "  ", "Answer: 3")
    result = plain("--retries", "0", "--json")
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    assert (found["score"]["hits"], found["score"]["count"]) == (2, 4)
    assert (found["wrong"], found["failed"]) == (["test/1", "test/2"], {"empty reply": 2})
    script("Answer: 1", "Answer: 2")
    assert "4 of 4" in plain("--retries", "0").stdout


def test_where_everything_failed_json_has_no_nan() -> None:
    script(*[{"error": "the server is on fire"}] * 2)
    found = json.loads(plain("--retries", "0", "--limit", "2", "--json").stdout, parse_constant=pytest.fail)
    assert (found["score"]["value"], found["score"]["count"], found["right"]) == (None, 0, [])
    assert sum(found["failed"].values()) == 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "there is no prompt in test.jsonl. A record should have a `question`"),
        ('{"prompt": "Describe rain."}\n', "test.jsonl:1: "),
        ('{"question": "?", "options": ["A)1"], "correct": "A"}\n', "the gold answer 'A' is not a number"),
        ("[1, 2", "test.jsonl"),
        ('{"question": "?", "answer": "#### 1"}\n{"question": "?", "answer": "none"}\n', "test.jsonl:2: "),
    ],
)
def test_a_file_of_another_shape_costs_nothing(content: str, problem: str) -> None:
    Path("test.jsonl").write_text(content)
    script("1")
    refused(plain(), problem)
    assert not Path("out.jsonl").exists()


def test_an_unknown_task_names_the_nearest_or_lists_all() -> None:
    names = ("gsm8k", "aqua", "math", "humaneval", "mbpp", "ifeval", "checks")
    refused(plain(task="sums"), *names, "exercises")
    refused(plain(task="gsm9k"), "Did you mean 'gsm8k'?")


def test_programs_run_only_with_leave_and_one_that_prints_passed_is_wrong(a_sandbox: Path) -> None:
    write("test.jsonl", [RECORDS["mbpp"] | {"task_id": n} for n in range(2)])
    fake = "print('1 passed')\nimport os\nos._exit(0)"
    script(*(f"```python\n{program}\n```" for program in (fake, "def twice(x): return x * 2")))
    refused(plain(task="mbpp"), "--run-code")
    result = plain("--run-code", task="mbpp")
    assert "1 of 2" in result.stdout, result.output
    assert [passed(chain) for chain in chains()] == [[False], [True]]
