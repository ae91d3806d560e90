"""ROUGE-L against a pool: the decisions of `rouge_score`, and a pool that grows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.data import similarity
from redraft.data.similarity import Near, Pool
from redraft.data.words import words

Scorer = Callable[[list[str], list[str]], float]


def plain(target: list[str], prediction: list[str]) -> float:
    """ROUGE-L's F from the table of the textbook, in the operations of `rouge_score` 0.1.2."""
    if not target or not prediction:
        return 0
    above = [0] * (len(prediction) + 1)
    for word in target:
        row = [0]
        for i, other in enumerate(prediction):
            row.append(above[i] + 1 if word == other else max(above[i + 1], row[i]))
        above = row
    precision, recall = above[-1] / len(prediction), above[-1] / len(target)
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def released(target: list[str], prediction: list[str]) -> float:
    scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge_score is a peer of benchmarks")
    return float(scorer._score_lcs(target, prediction).fmeasure)


few_words = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "A,", "B."]), max_size=14).map(" ".join)
texts = few_words | st.text(st.characters(max_codepoint=127), max_size=30)  # there, words are the same


@pytest.mark.slow
@pytest.mark.parametrize("scorer", [plain, released])
@given(pool=st.lists(texts, max_size=12), new=texts, threshold=st.sampled_from([0.1, 0.5, 0.7, 0.8, 1.0]))
def test_decisions_are_those_of_rouge_score(
    scorer: Scorer, pool: list[str], new: str, threshold: float
) -> None:
    ours = Pool(threshold)
    for text in pool:
        ours.add(text)
    scores = [scorer(words(text), words(new)) for text in pool]
    assert ours.near(new) == [Near(i, score) for i, score in enumerate(scores) if score > threshold]


def test_ties_round_as_they_do_there() -> None:
    # 7 of 10 words in order: 0.7 exactly, on which side of it depends on the order of operations.
    pool = Pool()
    pool.add("a b c d e f g h i j")
    score = plain(list("abcdefghij"), list("abcdefgxyz"))
    assert bool(pool.near("a b c d e f g x y z")) == (score > 0.7)
    assert pool.near("a b c d e f g h y z") == [Near(0, 0.8000000000000002)]


def test_the_nearest_is_named_and_of_equals_the_first() -> None:
    pool = Pool()
    for text in ("one two three four", "one two three four five", "One two, three; four five!"):
        pool.add(text)
    assert pool.nearest("one two three four five") == Near(1, 1.0)
    assert pool.nearest("none of it is here") is None


def test_words_that_come_twice_count_as_often_as_both_have_them() -> None:
    pool = Pool(0.5)
    pool.add("the the the the")
    assert pool.near("the cat sat down") == []
    assert [near.place for near in pool.near("the the cat the")] == [0]


def test_texts_without_words_are_near_to_nothing() -> None:
    pool = Pool()
    for text in ("", "…", "🙂"):
        assert pool.nearest(text) is None
        pool.add(text)


def test_only_the_first_words_of_a_giant_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "_LONGEST", 4)
    pool = Pool()
    pool.add("a b c d " + "e " * 50)
    assert pool.nearest("a b c d") == Near(0, 1.0)
