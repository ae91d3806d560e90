"""Curves of score over tokens, and ways compared at equal tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("scipy")

from redraft.chain import Usage
from redraft.evaluation.diagnosis import equal_tokens
from redraft.evaluation.diagnosis.equal_tokens import Curves, Spent, Versus, amount, corrected, verdict
from redraft.evaluation.diagnosis.strategies import Strategy
from redraft.evaluation.diagnosis.table import Table
from redraft.evaluation.diagnosis.truth import known
from redraft.evaluation.stats import Estimate, paired, without_nan
from redraft.evaluation.tables import plain
from tests.evaluation.diagnosis.made_chains import shares, step, told
from tests.evaluation.diagnosis.made_chains import write_run as write


def runs(folder: Path, *, revise: int, best: tuple[int, int] = (10, 12), plain: int = 8) -> Curves:
    write(folder, "plain", 100, shares(plain))
    write(folder, "revise-2", 200, shares(revise))
    write(folder, "best-of-2", 150, shares(best[0]))
    write(folder, "best-of-3", 250, shares(best[1]))
    return curves_in(folder)


def curves_in(folder: Path) -> Curves:
    found = equal_tokens.curves_in(folder, "m", "t")
    assert found is not None
    return found


def versus(found: Curves) -> tuple[Versus, ...]:
    return corrected([found.against("revise", kind) for kind in found.kinds if kind != "revise"])


def by_kind(found: Curves) -> dict[str, Versus]:
    return {each.kind: each for each in versus(found)}


def text_of(found: Curves) -> str:
    return str(Table([found], versus(found), []))


@pytest.mark.parametrize(
    ("written", "kind", "basis", "at", "gain", "finding"),
    [
        # Between two runs, scores and tokens are on the line that joins them: 15 right at 200 tokens.
        ({"best-of-3": (250, 20)}, "best-of", "equal", 200, 30 - 15, "better"),
        # The most revisions are compared, and curves go by tokens.
        (
            {"revise-3": (220, 36), "best-of-2": (230, 20), "best-of-3": (180, 12)},
            *("best-of", "equal", 220, 36 - (0.2 * 12 + 0.8 * 20), "better"),
        ),
        # A way that ends before is compared where it ends: there revising is on its own line, from 8 to 30.
        ({"blind-2": (160, 9)}, "blind", "equal", 160, 8 + 0.6 * 22 - 9, "better"),
        # A way that is cheaper than one answer keeps its own figures. It had those of the single answer.
        ({"mellea-4": (90, 37)}, "mellea", "fewer", 90, 30 - 37, "worse"),
        # One answer is never compared at equal tokens.
        ({}, "plain", "fewer", 100, 30 - 8, "not comparable"),
        # A way that takes more says nothing unless it does worse.
        ({"plain": (300, 8), "dear-2": (400, 38)}, "dear", "more", 400, 30 - 38, "not comparable"),
        ({"plain": (300, 8), "bad-2": (400, 2)}, "bad", "more", 400, 30 - 2, "better"),
        # Chains that were made elsewhere are another way.
        ({"mellea-3": (200, 9)}, "mellea", "equal", 200, 30 - 9, "better"),
    ],
)
def test_ways_are_compared_at_the_most_tokens_that_both_reach(
    tmp_path: Path,
    written: dict[str, tuple[int, int]],
    kind: str,
    basis: str,
    at: int,
    gain: float,
    finding: str,
) -> None:
    runs(tmp_path, revise=30)
    for name, (tokens, right) in written.items():
        write(tmp_path, name, tokens, shares(right))
    found = by_kind(curves_in(tmp_path))[kind]
    assert (found.basis, found.at, found.finding) == (basis, at, finding)
    assert found.decision.gain.value == pytest.approx(gain / 40)


def test_what_is_not_at_equal_tokens_is_marked(tmp_path: Path) -> None:
    runs(tmp_path, plain=8, revise=12, best=(9, 9))
    write(tmp_path, "mellea-4", 90, shares(27))
    found = curves_in(tmp_path)
    text = text_of(found)
    assert "mellea of 4 " in text
    assert "200 tokens against 90 tokens; better in 0 prompts, worse in 15" in text
    said = "Don't revise here: with fewer tokens mellea does better, by 37.5 points (19.0 to 52.4)."
    assert verdict(versus(found)).startswith(said)
    for name in ("best-of-2", "best-of-3", "mellea-4"):
        (tmp_path / "seed-1" / f"{name}.jsonl").unlink()
    write(tmp_path, "revise-2", 600, shares(30))
    assert verdict(versus(curves_in(tmp_path))) == (
        "Undecided: no other way can be compared at equal tokens. "
        "Revising gains 55.0 points (35.7 to 69.0) over one answer, for 500 tokens more a prompt."
    )


@pytest.mark.parametrize("without", ["mellea-4", "revise-2"])
def test_files_without_usage_are_not_compared_at_equal_tokens(tmp_path: Path, without: str) -> None:
    runs(tmp_path, revise=30)
    write(tmp_path, "mellea-4", 150, shares(2))
    write(tmp_path, without, 0, shares(30))
    found = curves_in(tmp_path)
    assert by_kind(found)["mellea"].basis == "unknown"
    text = text_of(found)
    assert f"; some chains of {without.partition('-')[0]} do not record tokens; " in text
    assert "an unknown number of new tokens a prompt" in text
    assert "Not comparable at equal tokens: " in verdict(versus(found))
    json.dumps(without_nan(found), allow_nan=False)
    assert equal_tokens.series(found)


@pytest.mark.parametrize(
    ("revise", "said"),
    [
        (38, "Revise: at equal tokens it does better than best of N, by 67.5 points (47.6 to 79.8)."),
        (11, "Undecided: revising is not shown to do better than one answer or best of N."),
        (2, "Don't revise here: at equal tokens best of N does better, by 22.5 points (7.1 to 35.7)"),
    ],
)
def test_the_sentence(tmp_path: Path, revise: int, said: str) -> None:
    found = runs(tmp_path, revise=revise)
    assert verdict(versus(found)).startswith(said)
    assert f"\nm, revise: {verdict(versus(found))}\nm: No way has more right answers than " in text_of(found)
    same = text_of(runs(tmp_path, revise=8, best=(8, 8)))
    assert same.endswith("m: All ways have the same share of right answers, 20.0 % (10.5 to 34.8).")


def test_one_of_several_ways_has_to_be_clearly_better(tmp_path: Path) -> None:
    """6 of 6 items alone have p = 0.031; as the best of two tests, by Holm's procedure, 0.062."""
    unsure = versus(runs(tmp_path, plain=6, revise=6, best=(12, 12)))
    assert [each.decision.outcome for each in unsure] == ["undecided", "worse"]
    assert [each.p for each in unsure] == [1, 0.0625]
    assert verdict(unsure).startswith("Undecided: ")
    assert verdict(versus(runs(tmp_path, plain=6, revise=6, best=(13, 13)))).startswith("Don't revise here")


def test_at_equal_seconds_other_runs_are_compared_than_at_equal_tokens(tmp_path: Path) -> None:
    found = runs(tmp_path, revise=20, best=(10, 30))
    took = {"plain": 1.0, "revise-2": 2.0, "best-of-2": 1.5, "best-of-3": 2.0}
    timed = tuple(
        replace(point, spent=tuple(each._replace(seconds=took[point.way.name]) for each in point.spent))
        for point in found.points
    )
    timed_curves = replace(found, points=timed, by="seconds")
    assert found.against("revise", "best-of").decision.gain.value == 0, "half-way from 10 to 30 right"
    assert "; interpolated at 200 tokens; in the nearest runs, better in 0 prompts, wo" in text_of(found)
    row = timed_curves.against("revise", "best-of")
    assert (row.basis, row.at, row.decision.gain.value) == ("equal", 2.0, -0.25)
    said = "Don't revise here: at equal seconds best of N does better, by 25.0 points"
    assert verdict(versus(timed_curves)).startswith(said)
    assert "; at 2.0 s; in the nearest runs, better in 0 prompts, worse in 10" in text_of(timed_curves)
    assert timed_curves.against("revise", "plain").basis == "fewer"
    assert equal_tokens.series(timed_curves)["revise"][0][0] == 1.0, "the picture's axis has seconds"


@pytest.mark.parametrize("by", ["tokens", "seconds"])
def test_chance_that_moves_costs_too_makes_no_difference_more_certain(by: equal_tokens.Cost) -> None:
    """A wrong second text is long. Then scores at equal cost show no more than the scores."""
    one, ours, other = shares(20), [*shares(23, 33), *shares(7, 7)], [*shares(20, 23), *shares(17, 17)]
    points = []
    for name, rights in (("plain", one), ("revise-2", ours), ("blind-2", other)):
        second = [0 if name == "plain" else 10 if right else 40 for right in rights]
        costs = (10 + more * (not first) for more, first in zip(second, one, strict=True))
        spent = (Spent(right, cost, 1, cost) for right, cost in zip(rights, costs, strict=True))
        points.append(equal_tokens.Point(Strategy.of(name), tuple(spent)))
    decision = Curves("m", "t", tuple(points), 1, by=by).against("revise", "blind").decision
    assert decision.p == pytest.approx(paired(ours, other))
    assert (decision.better, decision.worse) == (3, 10), "as in the runs"


def test_seeds_are_runs_of_the_same_items(tmp_path: Path) -> None:
    runs(tmp_path, revise=40)
    for way, right in (("plain", 0), ("revise-2", 0), ("best-of-2", 0), ("best-of-3", 0)):
        write(tmp_path, way, 100, shares(right), seed=2)
    found = curves_in(tmp_path)
    assert (found.items, found.seeds) == (40, 2)
    assert found.last("revise").score.value == 0.5
    assert found.last("revise").mean.tokens == 150


def test_seconds_of_all_texts_and_money_stand_beside_the_tokens() -> None:
    text = step().model_copy(update={"usage": Usage(seconds=0.5)})
    made = told("a", "01", usage=Usage(completion_tokens=9, cost_usd=0.002))
    made = made.model_copy(update={"steps": (text, text), "drafts": (text, text)})
    canned = made.model_copy(update={"model": {"engine": "scripted"}})
    guessed = made.model_copy(update={"usage": Usage(completion_tokens=9, estimated=True)})
    for chain, said in (
        (made, ", 2.0 s, 0.002000 USD"),
        (guessed, " (partly estimated), 2.0 s"),
        (canned, ", 0.002000 USD"),
    ):
        [one] = known([chain]).chains
        assert Spent.of(one).beside == said
    assert Spent.mean([Spent.of(one), Spent(1, 1, 1)]).beside == "", "what is unknown of one is of all"


def test_json_and_the_picture_have_every_way(tmp_path: Path) -> None:
    found = runs(tmp_path, revise=30)
    values = without_nan(found)
    told = [(each["kind"], each["texts"], each["tokens"]) for each in values["points"]]
    assert told == [("plain", 1, 100), ("revise", 2, 200), ("best-of", 2, 150), ("best-of", 3, 250)]
    json.dumps(values, allow_nan=False)
    drawn = equal_tokens.series(found)
    assert [*drawn] == ["one answer", "best of N", "revise"]
    assert any(tip.startswith("best of 3: 30.0 % (") for points in drawn.values() for *_, tip in points)


def test_a_folder_without_an_item_in_every_run_has_no_figures(tmp_path: Path) -> None:
    write(tmp_path, "plain", 1, [True])
    assert equal_tokens.curves_in(tmp_path, "m", "t") is None
    write(tmp_path, "revise-2", 1, [True])
    write(tmp_path, "plain", 1, [])
    (tmp_path / "seed-1/plain.jsonl.errors.jsonl").write_text('{"id": "i000", "cause": "c", "error": "e"}\n')
    assert equal_tokens.curves_in(tmp_path, "m", "t") is None


def test_small_figures_are_told_apart_and_zero_has_no_minus() -> None:
    assert [amount(cost, "seconds") for cost in (0.1234, 17.42)] == ["0.123 s", "17.4 s"]
    assert plain(Estimate(-0.04, -0.01, 0.2), 1, sign=True) == ("+0.0", "+0.0 to +0.2")
