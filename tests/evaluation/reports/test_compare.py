"""Figures of reviews: the published ones exactly, and small ones that can be counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")

from redraft.evaluation.reports.compare import Comparison, Tally
from redraft.evaluation.reports.reviews import Report
from tests.cli.verbs import write
from tests.evaluation.made import answer, both, report, review

# What was published, and the counts worked out from the released files: ratio, sums, reviews, both orders.
PUBLISHED = {
    0: (98.19, ((675.0, 674.5), (653.5, 678.5)), Tally(66, 26, 68), Tally(22, 33, 25)),
    3: (102.92, ((689.0, 646.5), (670.0, 674.0)), Tally(87, 26, 47), Tally(32, 31, 17)),
}


def of(path: Path, records: list[dict[str, Any]], **more: Any) -> Comparison:
    [found] = report([write(path / "reviews.jsonl", records)], **more).comparisons
    return found


def released(shared_data: Path, enforced: int, *, answers: bool = False) -> Report:
    selfee, model = shared_data / "selfee", f"selfee_13b_enforce_{enforced}_revisions"
    names = [f"{model}_vs_chatgpt", f"chatgpt_vs_{model}"]
    files = [selfee / "answers" / f"{name}.jsonl" for name in (model, "chatgpt")]
    return report(
        [selfee / "reviews" / f"{name}.jsonl" for name in names],
        answers=files if answers else (),
        questions=shared_data / "questions" / "vicuna_80.jsonl",
    )


@pytest.mark.parametrize("enforced", [0, 3])
@pytest.mark.parametrize("answers", [False, True])
def test_the_published_figures_come_out_to_the_last_digit(
    shared_data: Path, enforced: int, answers: bool
) -> None:
    ratio, sums, reviews, in_both = PUBLISHED[enforced]
    [found] = released(shared_data, enforced, answers=answers).comparisons
    assert (found.model, found.opponent) == (f"selfee_13b_enforce_{enforced}_revisions", "chatgpt")
    assert found.whole.ratio
    assert round(100 * found.whole.ratio.value, 2) == ratio
    assert found.whole.ratio.low < found.whole.ratio.value < found.whole.ratio.high
    assert (found.sums, found.whole.reviews, found.whole.both) == (sums, reviews, in_both)
    assert (found.unreadable, found.left_out, found.whole.questions) == ((), (), 80)


def test_two_turns_of_a_question_are_one_question_in_a_test_too(tmp_path: Path) -> None:
    records = [each | {"turn": turn} for n in range(9) for turn in (1, 2) for each in both(n, (9, 9), (5, 5))]
    for each in records:
        each["review_id"] += f" {each['turn']}"
    found = of(tmp_path, records)
    assert (found.whole.questions, found.whole.both) == (9, Tally(18, 0, 0))
    assert found.p == pytest.approx(2 / 2**9)
    [section] = report([tmp_path / "reviews.jsonl"]).sections()
    assert any(line.note == "18 won, 0 tied, 0 lost, p = 0.0039 over questions" for line in section.lines)


def test_categories_add_up(shared_data: Path) -> None:
    found = released(shared_data, 3)
    categories = found.comparisons[0].by_category(found.material.questions)
    assert list(categories)[:3] == ["generic", "knowledge", "roleplay"]
    assert sum(each.questions for each in categories.values()) == 80
    assert sum(each.reviews.wins for each in categories.values()) == 87


def test_length_goes_with_score_in_the_released_reviews(shared_data: Path) -> None:
    found = released(shared_data, 3, answers=True)
    bias = found.comparisons[0].length_bias
    assert bias
    assert bias.model > bias.opponent
    assert bias.correlation.value == pytest.approx(0.53, abs=0.005)
    assert bias.win_rate.value < 0.5 < 0.625
    [note] = (line.note for each in found.sections() for line in each.lines if "at equal" in line.name)
    assert note.startswith("win rate by AlpacaEval's minimal model, not regularised; extrapolated: selfee")


def test_of_several_comparisons_each_p_is_corrected(tmp_path: Path) -> None:
    records = []
    for model, lost in (("one", 0), ("two", 1)):
        for n in range(8):
            games = both(n, (5, 5), (9, 9)) if n < lost else both(n, (9, 9), (5, 5))
            for each, shown in zip(games, ((model, "old"), ("old", model)), strict=True):
                names = {"model_1": shown[0], "model_2": shown[1]}
                records.append(each | names | {"review_id": f"{model} {n} {shown[0]}"})
    found = report([write(tmp_path / "r.jsonl", records)])
    notes = [line.note for section in found.sections() for line in section.lines]
    assert "8 won, 0 tied, 0 lost, p = 0.0078; 0.016 corrected for 2 comparisons" in notes
    assert "7 won, 0 tied, 1 lost, p = 0.07; 0.07 corrected for 2 comparisons" in notes


def test_a_judge_that_prefers_the_first_answer_is_found_out(tmp_path: Path) -> None:
    records = [each for question in range(20) for each in both(question, (9, 7), (7, 9))]
    [found] = (whole := report([write(tmp_path / "r.jsonl", records)])).comparisons
    notes = [line.note for section in whole.sections() for line in section.lines]
    assert "of questions: the same winner, or a tie; so few that the judge's scores say little" in notes
    assert found.whole.ratio
    assert (found.whole.ratio.value, found.whole.both) == (1, Tally(0, 20, 0))
    assert found.order_bias
    assert found.order_bias.points
    assert (found.shown_first, found.order_bias.points.value) == (Tally(40, 0, 0), 2)
    assert found.order_bias.agreement.value == 0


def test_a_question_is_won_by_winning_in_both_orders(tmp_path: Path) -> None:
    scores = (((9, 8), (7, 7)), ((9, 8), (7, 8)), ((7, 7), (9, 9)), ((8, 8), (8, 8)))
    found = of(tmp_path, [each for number, pair in enumerate(scores) for each in both(number, *pair)])
    assert (found.model, found.opponent) == ("A", "B"), "sides are known by ids alone"
    assert (found.whole.both, found.whole.reviews) == (Tally(1, 2, 1), Tally(3, 3, 2))
    assert (found.whole.win_rate.value, found.p) == (4.5 / 8, 1)


def test_several_judges_vote_in_each_order(tmp_path: Path) -> None:
    records = [
        {**each, "review_id": f"{judge}{each['review_id']}", "judge": str(judge)}
        for judge, scores in enumerate([((9, 9), (7, 7)), ((9, 9), (7, 7)), ((7, 7), (9, 9))])
        for each in both(1, *scores)
    ]
    found = of(tmp_path, records)
    assert (found.whole.both, found.whole.reviews) == (Tally(1, 0, 0), Tally(4, 0, 2))


def test_verdicts_without_scores_have_no_ratio(tmp_path: Path) -> None:
    names = {"question_id": 81, "model_1": "new", "model_2": "old", "judge": ["gpt-4", "pair-v2"]}
    won = {"g1_winner": "model_1", "g2_winner": "model_1"}
    records = [names | won | {"turn": 1}, names | {"g1_winner": "model_1", "g2_winner": "tie", "turn": 2}]
    found = of(tmp_path, records)
    assert (found.model, found.opponent, found.whole.ratio) == ("new", "old", None)
    assert (found.whole.both, found.whole.reviews) == (Tally(1, 1, 0), Tally(3, 1, 0))
    assert found.order_bias
    assert found.order_bias.points is None


def test_the_model_is_that_of_the_first_answers(tmp_path: Path) -> None:
    old, new = (write(tmp_path / f"{name}.jsonl", [answer(name, 1, "x")]) for name in ("old", "new"))
    assert of(tmp_path, both(1, (9, 9), (8, 8)), answers=[old, new]).model == "old"
    assert of(tmp_path, both(1, (9, 9), (8, 8)), answers=[new, old]).model == "new"


def judged(one: str, other: str, score: tuple[float, float]) -> list[dict[str, Any]]:
    return [
        {**review(question, *names, scores), "model_1": names[0], "model_2": names[1]}
        for question in range(5)
        for names, scores in (((one, other), score), ((other, one), score[::-1]))
    ]


def test_other_pairs_in_a_report_do_not_turn_a_pair_round(tmp_path: Path) -> None:
    records = judged("old", "new", (6, 9))
    alone = of(tmp_path, records)
    more = [*records, *judged("best", "old", (9, 9)), *judged("old", "third", (9, 8))]
    found = report([write(tmp_path / "r.jsonl", more)])
    names = [(each.model, each.opponent) for each in found.comparisons]
    assert names == [("old", "new"), ("best", "old"), ("old", "third")]
    assert (alone.model, alone.opponent) == ("old", "new")
    assert found.comparisons[0].whole == alone.whole
    assert [(each["model"], each["opponent"]) for each in found.record()["comparisons"]] == names
    assert [each.title for each in found.sections()][:3] == [f"{one} against {two}" for one, two in names]


def test_a_review_that_says_swapped_shows_the_model_second(tmp_path: Path) -> None:
    first, *rest = judged("old", "new", (6, 9))
    found = of(tmp_path, [first | {"metadata": {"swapped": True}}, *rest])
    assert (found.model, found.opponent) == ("new", "old")


def test_models_differ_against_the_one_that_all_pairs_share_on_either_side(tmp_path: Path) -> None:
    records = [*judged("old", "new", (6, 9)), *judged("best", "old", (9, 9))]
    found = report([write(tmp_path / "r.jsonl", records)])
    [less] = found.differences
    assert (less.model, less.other, less.questions, less.ratio.value) == ("best", "new", 5, 1 - 1.5)
    assert found.ranking
    assert found.ranking.against == "old"


def test_the_same_id_in_two_files_is_told_apart_by_the_names(tmp_path: Path) -> None:
    files = []
    for name, text in (("new", "long " * 9), ("old", "short")):
        files.append(write(tmp_path / f"{name}.jsonl", [{**answer(name, 1, text), "answer_id": "a"}]))
    records = [{**each, "answer1_id": "a", "answer2_id": "a"} for each in both(1, (9, 9), (8, 8))]
    named = [
        records[0] | {"model_1": "new", "model_2": "old"},
        records[1] | {"model_1": "old-7b", "model_2": "new-7b"},
    ]
    found = of(tmp_path, named, answers=files)
    assert found.length_bias
    assert (found.length_bias.model, found.length_bias.opponent) == (45, 5)
