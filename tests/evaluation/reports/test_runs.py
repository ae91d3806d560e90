"""The report on runs: chains with and without a task, scores, several side by side, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")

from redraft.chain import Chain, Step, Usage, write_jsonl
from redraft.errors import RecordError, UsageError
from redraft.evaluation.diagnosis.diagnose import diagnose
from redraft.evaluation.reports.report import describe, page
from redraft.evaluation.reports.runs import RunReport
from redraft.evaluation.stats import paired, proportion
from redraft.evaluation.tasks.tasks import KEY
from tests.cli.verbs import write
from tests.evaluation.diagnosis.made_chains import step, told
from tests.evaluation.made import lines
from tests.evaluation.reports.test_page import BAD, data_of, read


def scored(name: str, *rights: bool, groups: Sequence[str] = (), task: str = "gsm8k", **more: Any) -> Chain:
    usage = Usage(prompt_tokens=10, completion_tokens=5, cost_usd=0.01)
    about: dict[str, Any] = {"stop": "passed" if rights[-1] else "max_revisions", "usage": usage, **more}
    return told(name, marks(rights), task=task, truth={"groups": list(groups)}, **about)


def checked(name: str, *rights: bool, category: str = "") -> Chain:
    steps = tuple(step(guide=mark) for mark in marks(rights))
    meta = {"source": {"category": category}} if category else {}
    return Chain(id=name, steps=steps, best=len(steps) - 1, stop="passed", meta=meta)


def marks(rights: Sequence[bool]) -> str:
    return "".join(str(int(right)) for right in rights)


def kept(path: Path, chains: Sequence[Chain]) -> Path:
    write_jsonl(path, chains)
    return path


def report(*files: Path, **given: Any) -> RunReport:
    found = describe(files, **given)
    assert isinstance(found, RunReport)
    return found


def test_a_run_of_a_task(tmp_path: Path) -> None:
    chains = [scored(str(n), n < 2, n < 3, groups=["level 1" if n < 2 else "level 2"]) for n in range(4)]
    assert lines(report(kept(tmp_path / "run.jsonl", chains))) == [
        "run: gsm8k, 4 answers; 95 % intervals",
        "score 75.0 % 30.1 to 95.4 3 of 4",
        "first answers 50.0 % 15.0 to 85.0 2 of 4",
        "level 1 100.0 % 34.2 to 100.0 2 of 2",
        "level 2 50.0 % 9.5 to 90.5 1 of 2",
        "revisions 4, 1.0 per answer",
        "stopped passed 3 · out of revisions 1",
        "tokens 20 new, 40 in prompts (0 % cached)",
        "cost 0.0400 USD",
        "wrong 3",
    ]
    models = [{"name": f"m{n}", "revision_mode": "native"} for n in range(6)]
    path = kept(tmp_path / "made.jsonl", [scored(each["name"], True, model=each) for each in models])
    (tmp_path / "made.jsonl.run.json").write_text('{"config": {"seed": 5}}')
    assert "model m0, m1, m2, m3, m4 … · native · seed 5" in lines(report(path))


def test_chains_without_a_task_count_if_they_were_checked(tmp_path: Path) -> None:
    """An empty text is not right, as in diagnose: "at most 9 words" passes it."""
    unchecked = Chain(id="c", steps=(Step(answer="x"),), best=0)
    emptied = Chain(id="d", steps=(step(guide="1"), step("\n", guide="1")), best=1)
    silent = Chain(id="e", steps=(step(" ", guide="1"),), best=0)
    chains = [checked("a", False, True), checked("b", False), unchecked, emptied, silent]
    path = kept(tmp_path / "out.jsonl", chains)
    found = report(path)
    [run] = found.runs
    assert (run.tally.chains, run.tally.outcomes) == (5, {"a": True, "b": False, "d": False})
    assert [(each.chain.id, each.best) for each in diagnose(path).chains] == [*run.tally.outcomes.items()]
    assert lines(found)[:3] == [
        "out: 5 answers; 95 % intervals",
        "passed 33.3 % 6.1 to 79.2 1 of 3",
        "first answers 33.3 % 6.1 to 79.2 1 of 3",
    ]
    assert lines(found)[-1] == "not passed b, d"
    rows = [(each["kind"], each["row"]) for each in data_of(read(page(found, "made")))]
    assert rows[:3] == [("passed", "passed"), ("lost", "failed"), ("tied", "not checked")]
    assert lines(report(kept(tmp_path / "none.jsonl", [unchecked]))) == ["none: 1 answer"]


def test_groups_are_categories_of_the_questions_or_of_the_records(tmp_path: Path) -> None:
    path = kept(tmp_path / "out.jsonl", [checked("a", True, category="prose"), checked("b", False)])
    assert list(report(path).runs[0].tally.groups) == ["prose"]
    asked = [{"question_id": name, "text": "?", "category": "maths"} for name in "ab"]
    asked_file = write(tmp_path / "q.jsonl", asked)
    groups = report(path, questions=asked_file).runs[0].tally.groups
    assert {name: (share.hits, share.count) for name, share in groups.items()} == {"maths": (1, 2)}
    tasks = kept(tmp_path / "run.jsonl", [scored("a", True), scored("b", True, groups=["level 1"])])
    assert list(report(tasks, questions=asked_file).runs[0].tally.groups) == ["maths", "level 1"]


def test_runs_side_by_side_are_paired_by_record(tmp_path: Path) -> None:
    old, new = [n < 5 for n in range(10)], [n in (0, 1, 2, 5, 6, 7, 8) for n in range(10)]
    files = [
        kept(tmp_path / f"{name}.jsonl", [scored(str(n), right) for n, right in enumerate(rights)])
        for name, rights in (("old", old), ("new", [*new, True]))
    ]
    found = report(*files)
    [gain] = found.differences
    assert (gain.name, gain.other, gain.count, gain.gain.value) == ("new", "old", 10, 0.2)
    assert (gain.better, gain.worse) == (("5", "6", "7", "8"), ("3", "4"))
    assert gain.p == paired(old, new)
    assert "difference +20.0" in " ".join(lines(found))
    assert "points; 10 records in both" in " ".join(lines(found))
    others = kept(tmp_path / "aqua.jsonl", [scored("0", True, task="aqua")])
    assert report(files[0], others).differences == (), "of two tasks nothing is compared"
    assert "Not at equal tokens" not in " ".join(lines(found))
    truth = {"steps": [[{"name": "words<=9", "passed": True}]] * 2}
    guided = told("0", "01", guide="01", truth=truth, usage=Usage(completion_tokens=12))
    more = kept(tmp_path / "more.jsonl", [guided])
    *_, part = report(files[0], more).sections()
    assert part.notes == [
        "In more, the scoring checks also guided revising.",
        "Not at equal tokens: an answer takes 12 new tokens, against 5.0.",
    ]


def test_failures_beside_the_chains_count_as_in_eval(tmp_path: Path) -> None:
    path = kept(tmp_path / "run.jsonl", [scored("1", True, groups=["x"])])
    failed = [("2", "EmptyReply", "empty reply"), ("3", "EngineError", "outage"), ("1", "EngineError", "old")]
    write(
        tmp_path / "run.jsonl.errors.jsonl",
        [{"id": name, "error": error, "cause": cause} for name, error, cause in failed],
    )
    found = report(path)
    assert found.runs[0].tally.score.rate == proportion(1, 2)
    assert lines(found)[0] == "run: gsm8k, 2 answers; 95 % intervals"
    assert "failed outage 1" in lines(found)
    assert "empty 1 answer, counted as wrong" in lines(found)
    assert "wrong 2" in lines(found)


def test_each_two_of_three_runs_are_corrected_for_being_three(tmp_path: Path) -> None:
    files = [
        kept(tmp_path / f"{name}.jsonl", [scored(str(n), n < right) for n in range(20)])
        for name, right in (("a", 4), ("b", 10), ("c", 11))
    ]
    found = report(*files)
    assert [(each.p, each.of) for each in found.differences] == [(2 / 2**6, 3), (2 / 2**7, 3), (1.0, 3)]
    assert [each.holm for each in found.differences] == [2 * 2 / 2**6, 3 * 2 / 2**7, 1.0]
    assert "p 0.031 exact sign test; 0.062 corrected for 3 comparisons" in lines(found)


def test_the_page_shows_the_answers_side_by_side_and_runs_nothing(tmp_path: Path) -> None:
    prompt = Chain.model_validate({"prompt": {"instruction": BAD}}).prompt
    files = [
        kept(tmp_path / f"{name}.jsonl", [scored("1", right, prompt=prompt), scored("2", True)])
        for name, right in (("old", False), ("new", True))
    ]
    reader = read(page(report(*files), "made"))
    first, second = data_of(reader)
    assert first["question"] == BAD
    assert [each["name"] for each in first["answers"]] == ["old", "new"]
    assert (first["kinds"], second["kinds"]) == (["differ"], ["won"])
    assert first["row"] == "wrong · right"
    assert [each["title"] for each in first["notes"]] == ["old: wrong", "new: right"]
    assert first["notes"][0]["text"] == "✗ final number 7: m"
    assert len(reader.scripts) == 2


@pytest.mark.parametrize(
    "truth",
    [
        "x", {"task": 1}, {"task": "gsm8k", "steps": [[{"name": "x"}]]}, {"task": "gsm8k", "steps": 3},
        {"task": "ifeval", "steps": [[{"name": "x", "passed": True}]]}, {"task": "gsm8k", "groups": [1]},
    ],
)  # fmt: skip
def test_a_truth_that_cannot_be_read_is_named(tmp_path: Path, truth: Any) -> None:
    path = kept(tmp_path / "run.jsonl", [Chain(id="a", meta={KEY: truth})])
    with pytest.raises(RecordError, match=r"a: `meta\.eval` cannot be read"):
        report(path)


def test_a_file_has_one_task_and_is_given_once(tmp_path: Path) -> None:
    path = kept(tmp_path / "run.jsonl", [scored(task, True, task=task) for task in ("gsm8k", "aqua")])
    with pytest.raises(RecordError, match=r"jsonl:2: this chain is from aqua, but the first is from gsm8k"):
        report(path)
    with pytest.raises(UsageError, match=r"run.jsonl is given twice"):
        report(path, path)
