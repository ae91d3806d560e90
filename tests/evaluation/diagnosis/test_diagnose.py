"""What revising did: transitions, rates, verdicts, and what is said about them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

import redraft
from redraft.chain import Chain, Usage, write_jsonl
from redraft.evaluation.diagnosis.diagnose import Diagnosis, diagnose, notes, sections, verdict
from redraft.evaluation.diagnosis.equal_tokens import curves_in
from redraft.evaluation.diagnosis.figures import Changes, by_item, decide, sentence
from redraft.evaluation.stats import paired, without_nan
from tests.evaluation.diagnosis.made_chains import step, told

MIXED = [
    told("a", "01"), told("b", "011"), told("c", "10", best=0), told("d", "100"), told("e", "00"),
    told("f", "1"), told("g", "0"),
]  # fmt: skip


def counts(changes: Changes) -> tuple[int, int, int, int]:
    cells = ((False, True), (True, False), (True, True), (False, False))
    fixed, broken, right, wrong = (changes.count(*cell) for cell in cells)
    return fixed, broken, right, wrong


def rows(found: Diagnosis, part: str) -> dict[str, tuple[str, str, str]]:
    [found_part] = [each for each in sections(found) if each.title == part]
    return {name.strip(): tuple(rest) for name, *rest in found_part.lines}


def test_transitions_are_those_of_the_chains_that_were_revised() -> None:
    found = diagnose(MIXED)
    assert [counts(changes) for changes in found.revisions] == [(2, 2, 0, 1), (0, 0, 1, 1)]
    assert counts(found.of_revised) == (2, 1, 1, 1), "c kept its first answer, which is right"
    assert counts(found.whole) == (2, 1, 2, 2)
    assert (found.items, len(found.revised), found.most) == (7, 5, 2)


outcomes = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


@given(outcomes)
def test_more_is_right_exactly_where_the_ratio_is_above_the_threshold(pairs: list[tuple[bool, bool]]) -> None:
    changes = Changes(tuple((*pair, number) for number, pair in enumerate(pairs)))
    gained = sum(after for _, after in pairs) - sum(before for before, _ in pairs)
    if changes.wrong and changes.right and (changes.fixed or changes.broken):
        assert (changes.ratio > changes.threshold + 1e-9) == (gained > 0)


def test_rates_without_an_answer_of_a_kind_are_not_known() -> None:
    changes = Changes(((False, True, "a"), (False, False, "b")))
    assert math.isnan(changes.eir.value)
    assert math.isnan(changes.ratio)
    assert Changes(((False, True, "a"), (True, True, "b"))).ratio == math.inf


def test_runs_of_an_item_count_as_one_item() -> None:
    found = diagnose([told(name, marks) for name in "abcdefgh" for marks in ("01", "00", "011")])
    assert (found.items, len(found.chains)) == (8, 24)
    assert found.decision.items == 8
    assert found.decision.gain.value == pytest.approx(2 / 3)
    assert found.decision.p < 0.05
    assert "sign-flip tests on each item's mean over its runs" in str(found)
    assert "sign-flip" not in str(diagnose(MIXED))
    assert by_item([(1, "a"), (0, "b"), (0, "a")]) == [0.5, 0.0]
    assert "in 24 runs" in str(found)
    ecr = diagnose([told(name, marks) for name in "abcdefgh" for marks in ("01", "00")]).revisions[0].ecr
    assert 0 < ecr.low < ecr.value == 0.5 < ecr.high < 1, (
        "every item has the same share, which others need not"
    )


def test_figures_are_those_of_the_table_in_any_order_of_the_files(tmp_path: Path) -> None:
    chains = [told(f"t/{n}", "01"[n % 3 > seed]) for seed in (0, 1) for n in range(30)]
    for seed, made in ((0, chains[:30]), (1, chains[:29:-1])):
        (tmp_path / f"seed-{seed}").mkdir()
        for way in ("plain", "revise-2"):
            write_jsonl(tmp_path / f"seed-{seed}" / f"{way}.jsonl", made)
    found, table = diagnose(chains), curves_in(tmp_path, "m", "t")
    assert table
    assert str(found) == str(diagnose(chains[::-1]))
    assert [point.score for point in table.points] == [found.levels[0].right] * 2


def test_turns_of_a_question_count_as_its_runs_do_in_every_figure() -> None:
    def of(name: str, number: int, rights: str, **about: Any) -> Chain:
        texts = tuple("word " * (number * place + 1) for place in range(len(rights)))
        made = told(name, rights, "ra", guide="01" if number % 3 else "10", answers=texts)
        return made.model_copy(update={"meta": made.meta | about})

    every = [(number, "00" if number == 3 else "11" if number == 5 else "01") for number in range(10)]
    runs = [of(f"q{number}", number, rights) for number, rights in every]
    turns = [
        of(f"file/{2 * number + turn}", number, rights, source={"question_id": f"q{number}"})
        for turn in (0, 1)
        for number, rights in every
    ]
    figures = ("items", "levels", "revisions", "of_revised", "verdicts", "decision")
    of_runs, of_turns = (without_nan(diagnose(chains)) for chains in ([*runs, *runs], turns))
    assert {name: of_turns[name] for name in figures} == {name: of_runs[name] for name in figures}
    assert (of_turns["items"], of_turns["decision"]["p"]) == (10, pytest.approx(2 / 2**8))


@pytest.mark.parametrize(("rights", "said"), [("01", "r"), ("10", ""), ("00", "")])
def test_no_sentence_stands_without_the_word_that_tokens_differ(rights: str, said: str) -> None:
    used = [Usage(completion_tokens=tokens) for tokens in (152, 139)]
    chains = [told(str(n), rights, said, usage=used[0] + used[1]) for n in range(8)]
    steps = [step.model_copy(update={"usage": use}) for step, use in zip(chains[0].steps, used, strict=True)]
    found = diagnose([chain.model_copy(update={"steps": tuple(steps)}) for chain in chains])
    both = " with its criticism" * bool(said)
    marked = f"Not at equal tokens: a chain takes 291 new tokens, and its first answer{both} 152. "
    assert verdict(found).endswith(f"{marked}redraft diagnose --tasks compares at equal tokens.")
    for part in ("pays", "Revise"):
        assert part not in verdict(found)
    untold = verdict(diagnose([told(str(n), rights) for n in range(8)]))
    assert "Not at equal tokens: some chains do not record their tokens." in untold


def test_verdicts_against_the_truth() -> None:
    found = diagnose([told("a", "00", "ra"), told("b", "1", "r"), told("c", "1", "a"), told("d", "0", "u")])
    total = found.verdicts.total
    assert (total.rejected, total.wrong, total.accepted, total.right, total.alarms) == (1, 3, 1, 2, 1)
    shown = rows(found, "verdicts: finding answers that need revision")
    assert shown["precision"][0] == "50.0 %"
    assert (shown["recall"][0], shown["recall"][2]) == ("33.3 %", "1 of 3 wrong answers are rejected")
    assert shown["balanced accuracy"][2].startswith(
        "mean of recall and the share of right answers accepted, 1 of 2; unknown verdicts: 1; "
    )
    guided = told("a", "01", guide="01")
    unknown = diagnose([told("a", "0", "u")])
    for own in (unknown, diagnose([told("a", "1")]), diagnose([guided], score=["words<=9"])):
        assert "verdicts: finding answers that need revision" not in str(own)
    judged = guided.model_copy(update={"steps": (*guided.steps, step("z", "r"))})  # the model's own verdict
    assert diagnose([judged], score=["words<=9"]).verdicts.total.alarms == 1


def test_what_is_broken_in_the_end() -> None:
    kept = [told("b", "01"), told("c", "10", best=0), told("d", "10"), told("e", "010")]
    shown = rows(diagnose(kept), "effect of revising")
    assert (shown["right → wrong"][0], shown["right → wrong"][2]) == ("1", "first to best: d")


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ("01", "only wrong answers were revised, so none could get worse"),
        ("10", "only right answers were revised, so none could get better"),
        ("00 11", "nothing changed"),
        ("01 01 10", "above Acc/(1 - Acc) = 0.50: undecided, p = 1"),
        ("01 " * 9 + "11", "above Acc/(1 - Acc) = 0.11: a gain, p = 0.0039"),
        ("01 10", "equal to Acc/(1 - Acc) = 1.00: no difference, p = 1"),
        ("00 10", "below Acc/(1 - Acc) = 1.00: undecided, p = 1"),
    ],
)
def test_whether_iterating_pays_is_said_in_words(pairs: str, words: str) -> None:
    found = diagnose([told(str(n), pair) for n, pair in enumerate(pairs.split())])
    assert rows(found, "effect of revising")["ECR/EIR"][2] == words


def test_chains_without_a_revision_say_nothing_about_revising() -> None:
    found = diagnose([told("a", "1"), told("b", "0")])
    assert verdict(found) == "No answer was revised, so the effect of revising is unknown."
    assert [part.title for part in sections(found)] == ["right answers"]


def test_what_to_know_is_said() -> None:
    echo = told("e", "01").model_copy(update={"steps": (step("x"), step("y", echo=True)), "best": 0})
    cut = told("f", "1").model_copy(update={"stop": "cancelled"})
    many = [told(f"m{n}", "1", best=None) for n in range(7)]
    said = list(notes(diagnose([echo, cut, *many, told("g", "000", task="math"), Chain(id="none")])))
    assert said == [
        "Several tasks are mixed. For separate figures, diagnose each task alone.",
        "Not counted (no answer): 1 (none).",
        "Intervals and p-values are for single rows, not corrected for multiple comparisons.",
        "Chains without a best answer, which count as wrong: 7 (m0, m1, m2, m3, m4 …).",
        "Chains that ended early: 1 (f).",
        "1 revision only echoes a message, and counts as wrong; 1 would pass the checks.",
    ]


marks = st.text("01", min_size=1, max_size=4)


@settings(max_examples=8)
@given(st.lists(st.tuples(marks, st.text("aru ", max_size=4), st.integers(-1, 3)), min_size=1, max_size=12))
def test_any_chains_can_be_described(drawn: list[tuple[str, str, int]]) -> None:
    chains = [
        told(str(n % 7), rights, said[: len(rights)], best=None if best >= len(rights) else best)
        for n, (rights, said, best) in enumerate(drawn)
    ]
    found = diagnose(chains)
    assert "nan" not in str(found)
    json.dumps(without_nan(found), allow_nan=False)
    for changes, number in zip(found.revisions, range(1, 4), strict=False):
        assert sum(counts(changes)) == sum(each.chain.revisions >= number for each in found.chains)


def test_checks_of_a_caller_score() -> None:
    scored = redraft.diagnose(MIXED, score=[lambda answer: "1" in answer, "words<=2"])
    assert scored.tasks == ["given checks"]
    assert scored.whole.fixed == 2


def columns(better: int, worse: int, same: int) -> tuple[list[float], list[float]]:
    return [0.0] * better + [1.0] * worse + [1.0] * same, [1.0] * better + [0.0] * worse + [1.0] * same


def test_a_gain_that_chance_would_not_bring_pays() -> None:
    found = decide(*columns(9, 1, 20))
    assert (found.items, found.better, found.worse, found.outcome) == (30, 9, 1, "better")
    assert found.gain.value == pytest.approx(8 / 30)
    assert found.p == paired([False] * 9 + [True] * 21, [True] * 9 + [False] + [True] * 20)
    assert sentence(found) == (
        "Revising does better here: it adds 26.7 points (3.9 to 46.9) over the first answers; better in 9 "
        "of 30 items, worse in 1, p = 0.021."
    )


def test_undecided_gives_no_number_of_items_to_collect() -> None:
    one, other = columns(6, 2, 32)
    found = decide(one, other)
    assert found.outcome == "undecided"
    said = sentence(found)
    assert said.endswith("(-4.8 to +23.8); better in 6 of 40 items, worse in 2, p = 0.29.")
    said = "Undecided: so far, revising changes the score by -10.0 points (-23.8 to +4.8); better in 2 of "
    assert sentence(decide(other, one)).startswith(said)
    assert sentence(decide(*columns(0, 0, 6))) == "Undecided: revising changes no item's score."


def test_answers_that_the_token_limit_cut_off_are_counted_and_warned_of() -> None:
    cut = step("x", guide="1", finish="max_tokens")
    chains = [
        told(f"t/{n}", "10").model_copy(update={"steps": (cut, step("y", guide="1"))}) for n in range(3)
    ]
    assert rows(found := diagnose(chains), "right answers")["first answer"][2] == "3 of 3; 3 cut off"
    assert "--max-tokens is too small: it cut off up to 100.0 % of the answers, so" in str(found)
    assert "cut off" not in str(diagnose(MIXED))
