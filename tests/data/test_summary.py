"""What one record adds to a summary, and how summaries add up."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, Feedback, Prompt, Step
from redraft.chain.selfee import score_of, verdict_of
from redraft.chain.texts import Turn
from redraft.data.summary import EXAMPLES, OTHERS, DataSummary, add_to, role_fault
from redraft.jobs.licences import UNKNOWN


def by_spaces(text: str) -> int:
    return len(text.split())


def summary_of(*chains: Chain, long: int = 100) -> DataSummary:
    summary = DataSummary()
    for number, chain in enumerate(chains):
        add_to(summary, chain, f"a.jsonl:{number}", "a", by_spaces, long)
    return summary


def judged(*pairs: tuple[str, str | None], **fields: Any) -> Chain:
    """A chain of answers with their feedbacks."""
    steps = tuple(
        Step(answer=answer, feedback=None if text is None else Feedback(text=text, verdict=verdict_of(text)))
        for answer, text in pairs
    )
    return Chain(prompt=Prompt(instruction="Say it."), steps=steps, best=len(steps) - 1, **fields)


def test_lengths_are_counted_by_part_and_in_all() -> None:
    chain = judged(("one two", "shorter please now"), ("one", None))
    summary = summary_of(chain)
    assert summary.tables["prompt length"] == {2: 1}
    assert summary.tables["answer length"] == {2: 1, 1: 1}
    assert summary.tables["feedback length"] == {3: 1}
    assert summary.tables["record length"] == {8: 1}
    assert summary.totals["length"] == 8


def test_all_messages_of_a_talk_are_its_prompt() -> None:
    said = [{"role": role, "content": "a b c"} for role in ("system", "user", "assistant", "user")]
    chain = Chain(prompt=Prompt(messages=tuple(said)), steps=(Step(answer="d"),), best=0)
    summary = summary_of(chain)
    assert summary.tables["prompt length"] == {12: 1}
    assert summary.tables["turns"] == {5: 1}
    assert "roles" not in summary.totals


def test_verdicts_and_scores_are_counted_by_place() -> None:
    summary = summary_of(
        judged(("a", "6/10. Revision is needed."), ("b", "9 out of 10. Revision is not needed.")),
        judged(("a", "Good, 8.5/10")),
    )
    assert summary.tables["verdicts"] == {(1, "revise"): 1, (2, "accept"): 1, (1, "unknown"): 1}
    assert summary.tables["scores"] == {(1, 6.0): 1, (2, 9.0): 1, (1, 8.5): 1}
    assert summary.totals["last scores"] == 2
    assert summary.examples["low score"] == ["a.jsonl:1"]
    assert summary.totals["no verdict"] == summary.totals["undecided"] == 1


def test_a_verdict_in_other_words_lacks_the_phrase_but_is_decided() -> None:
    totals = summary_of(judged(("a", "There is no need for revision."))).totals
    assert (totals["no verdict"], totals["undecided"]) == (1, 0)


@pytest.mark.parametrize(
    ("feedback", "scores"),
    [
        ({"text": "", "verdict": "accept", "by": "checks"}, {}),
        ({"text": "3/10: revision is not needed.", "verdict": "accept", "score": 9.5}, {(1, 9.5): 1}),
    ],
)
def test_checks_need_no_phrase_and_a_score_of_its_own_counts_before_one_in_the_text(
    feedback: dict[str, Any], scores: dict[Any, int]
) -> None:
    steps = (Step(answer="a", feedback=Feedback.model_validate(feedback)),)
    summary = summary_of(Chain(prompt=Prompt(instruction="q"), steps=steps))
    assert summary.tables["scores"] == scores
    totals = summary.totals
    assert (totals["feedbacks"], totals["no verdict"], totals["low score"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Score: 8/10", 8.0),
        ("8.5 out of 10, no, 9 / 10.", 9.0),
        ("10/10!", 10.0),
        ("5/100", None),
        ("due 3/10/2023", None),
        ("15/10", None),
        ("0.25/10 is low", 0.25),
        ("Score: 8", None),
        ("", None),
    ],
)
def test_scores_out_of_ten(text: str, score: float | None) -> None:
    assert score_of(text) == score


def test_a_feedback_that_tells_the_gold_answer_is_a_leak() -> None:
    gold = {"reference": " sorted(items) \n"}
    leak, known = ("sort(items)", "Write sorted(items)."), ("use sorted(items)", "Only sorted(items).")
    summary = summary_of(judged(leak, known, meta=gold), judged(("a", "b"), meta=gold))
    assert summary.totals["gold answers"] == 2
    assert (summary.totals["leaking feedbacks"], summary.totals["new leaks"]) == (2, 1)
    assert (summary.totals["leak"], summary.examples["leak"]) == (1, ["a.jsonl:0"])


def test_a_short_gold_answer_is_no_leak() -> None:
    summary = summary_of(judged(("7", "The answer is 42."), meta={"reference": "42"}))
    assert summary.totals["gold answers"] == 1
    assert "leak" not in summary.totals


def test_empty_and_unchanged_and_cut_answers_are_noted() -> None:
    cut = Chain(prompt=Prompt(instruction="q"), steps=(Step(answer="a", finish="max_tokens"),), best=0)
    summary = summary_of(judged((" ", None)), judged(("a", "b"), ("a ", None)), cut)
    assert summary.examples["empty answer"] == ["a.jsonl:0"]
    assert summary.examples["unchanged"] == ["a.jsonl:1"]
    assert summary.examples["cut"] == ["a.jsonl:2"]


def test_where_a_record_is_from() -> None:
    origin = {"dataset": "gsm8k", "licence": "MIT", "file": "x", "record": 1}
    summary = summary_of(
        judged(("a", None), meta={"origin": origin}),
        judged(("a", None), meta={"source": {"dataset": "flan"}}),
        judged(("a", None), meta={"origin": {"licence": "CC BY-NC 4.0"}}),
        judged(("a", None), meta={"origin": "not an object"}),
        judged(("a", None), meta={"origin": {"licence": "for non-commercial use"}}),
        judged(("a", None), meta={"origin": {"licence": "unknown"}}),
        judged(("a", None), meta={"origin": {"licence": ["MIT", "CC0"]}}),
    )
    assert summary.tables["sources"] == {"gsm8k": 1, "flan": 1, "a": 5}
    assert (summary.tables["licences"][UNKNOWN], summary.tables["licences"]["MIT, CC0"]) == (3, 1)
    assert summary.examples["noncommercial"] == ["a.jsonl:2", "a.jsonl:4"]


def test_a_text_made_to_stop_the_search_for_scores_and_verdicts_does_not() -> None:
    hostile = "1" * 20_000 + " revis" * 5_000 + " 9" * 10_000 + "   " * 10_000 + "/10"
    summary = summary_of(judged(("a", hostile)))
    assert summary.tables["verdicts"] == {(1, "unknown"): 1}


def test_repeats_differ_by_no_more_than_case_and_space() -> None:
    first = Chain(prompt=Prompt(instruction="What is rain?"), steps=(Step(answer="Water."),), best=0)
    same = Chain(prompt=Prompt(instruction="what  is RAIN?\n"), steps=(Step(answer="water."),), best=0)
    other = Chain(prompt=Prompt(instruction="What is rain?"), steps=(Step(answer="Drops."),), best=0)
    summary = summary_of(first, same, other)
    assert len(set(summary.queries)) == 1
    assert [summary.texts[0] == each for each in summary.texts] == [True, True, False]


@pytest.mark.parametrize(
    ("roles", "fault"),
    [
        ("user", None),
        ("system user assistant user assistant", None),
        ("user assistant tool tool assistant user", None),
        ("assistant user", "assistant speaks first"),
        ("user user assistant", "user after user"),
        ("user assistant assistant", "assistant after assistant"),
        ("user system assistant", "a system message after the first turn"),
        ("user tool", "tool after user"),
        ("user <b>oracle</b>", "an unknown role"),
    ],
)
def test_who_speaks_when(roles: str, fault: str | None) -> None:
    assert role_fault([Turn(role, "x") for role in roles.split()]) == fault  # type: ignore[arg-type]


def test_languages_are_told_by_the_beginning_of_question_and_answer() -> None:
    english = Chain(prompt=Prompt(instruction="Please describe how rain comes to fall from the clouds."))
    german = Chain(
        prompt=Prompt(instruction="?"),
        steps=(Step(answer="Der Regen fällt aus den Wolken, weil die Tropfen schwer sind."),),
        best=0,
    )
    languages = summary_of(english, german, judged(("ok", None))).tables["languages"]
    assert languages == {"en": 1, "de": 1, UNKNOWN: 1}


def test_names_of_strangers_are_bounded() -> None:
    summary = DataSummary()
    for number in range(3000):
        part = DataSummary()
        part.name("sources", f"{number:04}" + "x" * 500)
        summary += part
    kinds = summary.tables["sources"]
    assert len(kinds) <= 1001
    assert kinds.total() == 3000
    assert kinds[OTHERS] == 2000
    assert max(map(len, kinds)) <= 60


def test_a_few_examples_are_kept_each_once() -> None:
    total = DataSummary()
    for number in range(100):
        part = DataSummary()
        part.warn("leak", f"a:{number}")
        part.warn("leak", f"a:{number}")
        total += part
    assert total.totals["leak"] == 200
    assert total.examples["leak"] == [f"a:{number}" for number in range(EXAMPLES)]


TEXTS = st.one_of(
    st.sampled_from(["", " ", "8/10. Revision is needed.", "revision is not needed", "a gold answer"]),
    st.text(max_size=20),
)
CHAINS = st.builds(
    lambda asked, pairs, gold: judged(*pairs, meta={"reference": gold}).model_copy(
        update={"prompt": Prompt(instruction=asked)}
    ),
    TEXTS,
    st.lists(st.tuples(TEXTS, st.none() | TEXTS), min_size=1, max_size=4),
    st.none() | TEXTS,
)


@given(st.lists(CHAINS, max_size=6), st.integers(0, 6))
def test_parts_add_up_to_the_whole(chains: list[Chain], cut: int) -> None:
    whole, first, second = DataSummary(), DataSummary(), DataSummary()
    for number, chain in enumerate(chains):
        for summary in (whole, first if number < cut else second):
            add_to(summary, chain, f"a:{number}", "a", by_spaces, 4)
    first += pickle.loads(pickle.dumps(second))  # noqa: S301  (as between processes; it is our own)
    assert first == whole


def test_where_there_is_no_answer_the_gold_one_is_counted_with_its_rationale() -> None:
    meta = {"reference": "4", "rationale": "Two and two."}
    summary = summary_of(Chain(prompt=Prompt(instruction="What is 2 + 2?"), meta=meta), long=8)
    assert summary.tables["answer length"] == {4: 1}
    assert summary.tables["record length"] == {9: 1}
    assert summary.totals["long"] == 1
    assert summary.totals["answers"] == 0


def test_lengths_are_counted_by_step_too() -> None:
    summary = summary_of(judged(("a b", "c"), ("d", None), ("e f g", "h i")))
    assert summary.tables["answer by step"] == {(1, 2): 1, (2, 1): 1, (3, 3): 1}
    assert summary.tables["feedback by step"] == {(1, 1): 1, (3, 2): 1}
    assert not summary_of(Chain(meta={"reference": "4"})).tables["answer by step"]


@pytest.mark.parametrize("about", ["x", {"leaks": 3}, {"leaks": ["x"]}, {"leaks": [], "refusals": []}])
def test_what_a_run_marked_is_counted(about: Any) -> None:
    totals = summary_of(judged(("a", "b"), meta={"generated": about})).totals
    assert totals["records"] == 1
    assert totals["quote"] == (isinstance(about, dict) and bool(about["leaks"]))
    assert totals["refusal"] == 0
