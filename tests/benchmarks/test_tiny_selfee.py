"""The exercises, records and figures of benchmarks/tiny_selfee. Training them is not a test."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft import Chain, Step, Usage, read_jsonl, write_jsonl
from redraft.chain import Feedback
from redraft.formats.selfee import parse, render, render_steps, verdict_of
from redraft.stats import Judged

TASKS = ["add", "count", "sort", "sentence", "mend"]

seeds = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def tiny(bench: Any) -> Any:
    """The modules of tiny_selfee."""
    parts = {
        name: getattr(bench, f"tiny_selfee_{name}") for name in ("data", "eval", "lexicon", "report", "tasks")
    }
    return SimpleNamespace(main=bench.tiny_selfee, **parts)


# Exercises.


@pytest.mark.parametrize("task", TASKS)
@given(seed=seeds)
def test_right_answers_pass_and_wrong_ones_do_not(tiny: Any, task: str, seed: int) -> None:
    rng = Random(seed)
    exercise = tiny.tasks.TASKS[task].draw(rng)
    assert exercise.passes(exercise.right(rng))
    assert not exercise.passes(tiny.tasks.wrong(exercise, rng))


@pytest.mark.parametrize("task", TASKS)
@given(seed=seeds, answer=st.text(max_size=200) | st.integers(0, 30_000).map(str))
def test_feedback_compares_before_it_decides(tiny: Any, task: str, seed: int, answer: str) -> None:
    rng = Random(seed)
    exercise = tiny.tasks.TASKS[task].draw(rng)
    right = exercise.right(rng)
    for said in (answer, right, tiny.tasks.wrong(exercise, rng)):
        text = tiny.tasks.feedback(exercise, said, right)
        passes = exercise.passes(said)
        said_last = ": the same. Revision is not needed." if passes else ": different."
        assert said_last in text
        assert text.endswith("Revision is not needed." if passes else "Revision is needed.")
        assert verdict_of(text) == ("accept" if passes else "revise")


@pytest.mark.parametrize("task", TASKS)
@given(seed=seeds)
def test_an_answer_and_the_verdict_on_it_are_those_of_what_is_shown(tiny: Any, task: str, seed: int) -> None:
    """What the feedback sets side by side is the same text exactly where the verdict says so."""
    rng = Random(seed)
    exercise = tiny.tasks.TASKS[task].draw(rng)
    for said in (exercise.right(rng), tiny.tasks.wrong(exercise, rng)):
        compared = exercise.work(said).rpartition("so ")[2]
        ours, _, theirs = compared.partition(", and ")
        theirs = theirs.removeprefix("the answer says ").removeprefix("asked for are ")
        assert (ours == theirs) == exercise.passes(said)


def test_addition_is_shown_column_by_column(tiny: Any) -> None:
    text = tiny.tasks.feedback(tiny.tasks.Add(4789, 3167, 0), "8956", "7956")
    assert text == (
        "9+7=16, 8+6+1=15, 7+1+1=9, 4+3=7, so 7956, and the answer says 8956: different. Revision is needed."
    )


@given(a=st.integers(1000, 9999), b=st.integers(1000, 9999))
def test_columns_of_an_addition_are_true(tiny: Any, a: int, b: int) -> None:
    columns = tiny.tasks.Add(a, b, 0).work("0").partition(", so")[0].split(", ")
    totals = [(sum(map(int, left.split("+"))), int(total)) for left, total in (c.split("=") for c in columns)]
    assert all(ours == said for ours, said in totals)
    digits = [str(total % 10) for total, _ in totals[:-1]] + [str(totals[-1][0])]
    assert int("".join(reversed(digits))) == a + b


@given(seed=seeds)
def test_broken_json_cannot_be_parsed(tiny: Any, seed: int) -> None:
    mend = tiny.tasks.Mend.draw(Random(seed))
    with pytest.raises(ValueError, match=r"."):
        json.loads(mend.text)
    assert mend.whole not in mend.text


# Records.


@pytest.mark.parametrize("task", TASKS)
def test_held_out_exercises_are_in_no_training(tiny: Any, task: str) -> None:
    apart = tiny.data.held_out(task, 50)
    assert apart == tiny.data.held_out(task, 50)
    assert len({exercise.key for exercise in apart}) == 50
    learnt = list(tiny.data.training(task, "answers", 400, apart))
    assert len(learnt) == 400
    assert not {exercise.key for exercise in learnt} & {exercise.key for exercise in apart}
    assert learnt != list(tiny.data.training(task, "drafts", 400, apart))


def drafted(tiny: Any, task: str, answers: list[str | None]) -> list[Chain]:
    """Records with drafts; None is a right one."""
    rng = Random(7)
    made = []
    for number, answer in enumerate(answers):
        exercise = tiny.tasks.TASKS[task].draw(rng)
        step = Step(answer=exercise.right(rng) if answer is None else answer)
        record = tiny.data.asked(exercise, f"{task}/{number}")
        made.append(record.model_copy(update={"steps": (step,), "best": 0}))
    return made


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("own", [0, 3, 8, 20])
def test_half_of_the_first_drafts_are_wrong_and_the_models_own_first(tiny: Any, task: str, own: int) -> None:
    drafts = drafted(tiny, task, [*["nonsense"] * own, *[None] * (20 - own)])
    chains = list(tiny.data.chains_on(drafts))
    right = [tiny.eval.passes(chain, chain.steps[0].answer) for chain in chains]
    assert right.count(False) == 10
    assert sum(chain.steps[0].answer == "nonsense" for chain in chains) == min(own, 10)
    assert [chain.meta["draft"] for chain in chains].count("sampled") == min(own, 10) + min(20 - own, 10)


@pytest.mark.parametrize("task", TASKS)
def test_chains_end_with_a_right_answer_and_read_back(tiny: Any, task: str) -> None:
    chains = list(tiny.data.chains_on(drafted(tiny, task, [None, "x"] * 100)))
    assert {len(chain.steps) for chain in chains} == {1, 2, 3}
    for chain in chains:
        verdicts = [step.feedback.verdict for step in chain.steps if step.feedback]
        assert verdicts == ["revise"] * (len(chain.steps) - 1) + ["accept"]
        assert tiny.eval.passes(chain, chain.answer)
        again = parse(render(chain))
        assert again.stop == "accepted"
        assert render_steps(again.steps) == render_steps(chain.steps)


# Figures.


def judged(tiny: Any, verdict: str, answer: str, more: tuple[Step, ...] = (), **given: Any) -> Chain:
    """A chain on 1000 + 1000."""
    feedback = None if verdict == "none" else Feedback(text="…", verdict=verdict)  # type: ignore[arg-type]
    steps = (Step(answer=answer, feedback=feedback), *more)
    record = tiny.data.asked(tiny.tasks.Add(1000, 1000, 0), "add/0")
    usage = Usage(completion_tokens=10)
    return record.model_copy(update={"steps": steps, "best": len(steps) - 1, "usage": usage, **given})


@pytest.mark.parametrize(
    ("verdict", "answer", "counts"),
    [
        ("revise", "7", (1, 1, 0, 0)),
        ("accept", "7", (0, 1, 0, 0)),
        ("accept", "2000", (0, 0, 1, 1)),
        ("revise", "2000", (0, 0, 0, 1, 1)),
        ("unknown", "2000", (0, 0, 0, 1)),
        ("none", "7", (0, 1, 0, 0)),
    ],
)
def test_verdicts_are_held_against_the_check(
    tiny: Any, verdict: str, answer: str, counts: tuple[int, ...]
) -> None:
    found = tiny.eval.outcome([judged(tiny, verdict, answer, stop="accepted")])
    assert found.judged == found.judged_all == (Judged(*counts),)


def test_a_last_answer_that_nobody_judged_counts_for_no_verdict(tiny: Any) -> None:
    chain = judged(tiny, "revise", "7", (Step(answer="8"),), stop="max_revisions")
    found = tiny.eval.outcome([chain])
    assert found.judged_all == (Judged(1, 1, 0, 0),)
    assert (found.first, found.final, found.well_formed) == ((False,), (False,), (True,))


@pytest.mark.parametrize(
    ("stop", "verdict", "good"),
    [
        ("accepted", "accept", True),
        ("accepted", "none", False),
        ("ended", "unknown", False),
        ("max_tokens", "unknown", False),
        ("malformed", "revise", False),
    ],
)
def test_a_chain_that_left_the_format_is_found(tiny: Any, stop: str, verdict: str, good: bool) -> None:
    assert tiny.eval.well_formed(judged(tiny, verdict, "2000", stop=stop)) is good


def test_the_vote_is_the_most_frequent_answer_and_the_earlier_of_two(tiny: Any) -> None:
    def ballot(prompt: str, number: int, answer: str) -> Chain:
        return judged(tiny, "none", answer, id=f"add/{prompt}#{number}")

    said = {"a": ["1", "2000", " 2000"], "b": ["1", "2000"], "c": [*["2000"] * 2, *["3"] * 9]}
    ballots = [ballot(p, n, a) for p, answers in said.items() for n, a in enumerate(answers)]
    found = tiny.eval.votes(list(reversed(ballots)), 3)
    assert found.right == (True, False, False)
    assert found.tokens == (30, 20, 110)


def test_the_control_may_generate_no_fewer_tokens_than_the_chains(tiny: Any) -> None:
    chains = tiny.eval.outcome([judged(tiny, "accept", "2000", stop="accepted")] * 3)
    assert tiny.eval.samples_for(chains, [4, 4, 4]) == 3
    assert tiny.eval.samples_for(chains, [50, 50, 50]) == 1


# The page, and the run.


def found(tiny: Any, name: str, *, gained: bool, well_formed: int = 100) -> Any:
    rejected, accepted = Judged(rejected=1, wrong=1), Judged(accepted=1, right=1)
    first = (False,) * 20 + (True,) * 80
    judged = (rejected,) * 20 + (accepted,) * 80
    formed = (True,) * well_formed + (False,) * (100 - well_formed)
    final = (True,) * 100 if gained else first
    chains = tiny.eval.Outcome(first, final, judged, judged, formed, 1, (40,) * 100)
    once, vote = tiny.eval.Votes(1, first, (5,) * 100), tiny.eval.Votes(8, first, (40,) * 100)
    return tiny.report.Task(name, chains, once, vote)


MADE = {"answers": 15.0, "drafts": 5.0, "chains": 39.0, "control": 39.0}


def test_the_promise_is_two_tasks_that_gain_and_chains_that_keep_to_the_format(tiny: Any) -> None:
    good, idle = found(tiny, "add", gained=True), found(tiny, "mend", gained=False)
    assert tiny.report.reached([good, good, idle], MADE)
    assert not tiny.report.reached([good, idle, idle], MADE)
    assert not tiny.report.reached([good, good, found(tiny, "sort", gained=True, well_formed=80)], MADE)
    assert not tiny.report.reached([good, good, idle], MADE | {"drafts": 7.0})


def test_the_page_says_what_came_out(tiny: Any) -> None:
    tasks = [found(tiny, "add", gained=True), found(tiny, "mend", gained=False)]
    text = tiny.report.part(tasks, tiny.main.SCRIPT, {"answers": 12.3, "chains": 15.0})
    assert text.startswith("## benchmarks/tiny_selfee.py\n")
    assert "| 1 (add) | ≥ 2 | **no** |" in text
    assert "| 27 | ≤ 60 | yes |" in text
    assert "20 of 20, 0 of 80" in text
    assert "100.0 % (96.3 to 100.0)" in text
    assert "80.0 % (71.1 to 86.7), of 8" in text


def test_exercises_are_written_once_and_a_stage_that_is_done_is_not_done_again(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    stages = {
        "exercises": tiny.main.make_exercises,
        "answers": lambda run: ran.append("answers"),
        "drafts": lambda run: ran.append("drafts"),
    }
    monkeypatch.setattr(tiny.main, "STAGES", stages)
    run = tiny.main.Run(tmp_path, tiny.main.QUICK)
    tiny.main.go(run, "answers")
    written = (tmp_path / "held-out.jsonl").read_bytes()
    (tmp_path / "held-out.jsonl").write_bytes(b"")
    spent = tiny.main.go(run, None)
    assert ran == ["answers", "drafts"]
    assert (tmp_path / "held-out.jsonl").read_bytes() == b""
    assert set(spent) == set(stages)
    with pytest.raises(SystemExit, match="another scale"):
        tiny.main.go(tiny.main.Run(tmp_path, tiny.main.FULL), None)
    assert len(written.splitlines()) == len(TASKS) * tiny.main.QUICK.held_out


def test_results_come_from_what_was_answered(tiny: Any, tmp_path: Path) -> None:
    """The files of a run whose model is right at once, and whose control is right every other time."""
    main = tiny.main
    run = main.Run(tmp_path, main.QUICK)
    main.make_exercises(run)
    asked = list(read_jsonl(run.path("held-out.jsonl")))
    write_jsonl(run.path("revised.jsonl"), (said(tiny, chain, right=True, tokens=50) for chain in asked))
    once = (said(tiny, chain, right=number % 2 == 0, tokens=20) for number, chain in enumerate(asked))
    write_jsonl(run.path("once.jsonl"), once)
    write_jsonl(run.path("ballots.jsonl"), main._ballots(run))
    ballots = list(read_jsonl(run.path("ballots.jsonl")))
    assert len(ballots) == 3 * len(asked)  # 3 times 20 tokens are the first that are no fewer than 50
    write_jsonl(run.path("voted.jsonl"), (said(tiny, chain, right=False, tokens=20) for chain in ballots))
    tasks = main.results(run)
    assert [task.name for task in tasks] == TASKS
    for task in tasks:
        assert task.chains.final == (True,) * 4
        assert task.once.right == (True, False, True, False)
        assert (task.vote.samples, task.vote.right, task.vote.tokens) == (3, (False,) * 4, (60,) * 4)


def said(tiny: Any, chain: Chain, *, right: bool, tokens: int) -> Chain:
    """A record with an answer."""
    answer = tiny.data.exercise_of(chain).right(Random(1)) if right else "no idea"
    usage = Usage(completion_tokens=tokens)
    step = Step(answer=answer, feedback=Feedback(text="…", verdict="accept"))
    return chain.model_copy(update={"steps": (step,), "best": 0, "usage": usage, "stop": "accepted"})


@pytest.mark.model
def test_a_run_goes_through_and_goes_on(
    tiny: Any, default_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two steps of each training, and few prompts: what comes out is bad, and is reported."""
    assert default_model.exists()
    assert tiny.main.main(["--work", str(tmp_path), "--quick", "--until", "drafts"]) == 0
    assert tiny.main.main(["--work", str(tmp_path), "--quick"]) == 1
    assert "## benchmarks/tiny_selfee.py" in capfd.readouterr().out
    assert all((tmp_path / f"{name}.gguf").exists() for name in ("answers", "chains", "control"))
