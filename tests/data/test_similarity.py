"""ROUGE-L against a pool, and near duplicates: all similar pairs are found, and no others."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.data import similarity
from redraft.data.similarity import Near, Pool, clusters, coded, jaccard, sets_of
from redraft.data.words import words


def plain(target: list[str], prediction: list[str]) -> float:
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
    scorer: Callable[[list[str], list[str]], float], pool: list[str], new: str, threshold: float
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
    assert bool(pool.near("a b c d e f g x y z")) == (plain(list("abcdefghij"), list("abcdefgxyz")) > 0.7)
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


def packed(texts: list[str]) -> list[bytes]:
    return list(map(coded, texts))


def plain_jaccard(one: str, other: str) -> float:
    a, b = (
        {tuple(w[i : i + 3]) for i in range(len(w) - 2)} for w in (one.lower().split(), other.lower().split())
    )
    return len(a & b) / len(a | b)


def components(texts: list[str], threshold: float) -> list[int]:
    labels = list(range(len(texts)))
    for i, j in combinations(range(len(texts)), 2):
        if plain_jaccard(texts[i], texts[j]) >= threshold:
            low, high = sorted((labels[i], labels[j]))
            labels = [low if label == high else label for label in labels]
    return labels


sentences = st.lists(st.sampled_from(list("abcdef")), min_size=3, max_size=12).map(" ".join)


@given(st.lists(sentences, min_size=2, max_size=2))
def test_the_similarity_is_exact(pair: list[str]) -> None:
    found = jaccard(sets_of(packed(pair)), np.array([0, 1]), np.array([1, 1]))
    assert found.tolist() == [plain_jaccard(*pair), 1.0]


@given(st.lists(sentences, max_size=12), st.sampled_from([0.5, 0.8, 1.0]))
def test_what_is_joined_hangs_together_by_similar_pairs(texts: list[str], threshold: float) -> None:
    found, truth = clusters(sets_of(packed(texts)), threshold).tolist(), components(texts, threshold)
    for place, label in enumerate(found):
        assert label <= place
        assert truth[place] == truth[label]


def varied(rng: random.Random, count: int) -> list[str]:
    vocabulary = [f"w{i}" for i in range(400)]
    texts: list[str] = []
    for _ in range(count):
        parts = rng.choices(vocabulary, k=rng.randint(3, 40))
        if texts and rng.random() < 0.35:
            parts = rng.choice(texts).split()
            for _ in range(rng.randint(0, 2)):
                parts[rng.randrange(len(parts))] = rng.choice(vocabulary)
        texts.append(" ".join(parts))
    return texts


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 1.0])
def test_all_pairs_at_and_over_the_threshold_are_found(threshold: float) -> None:
    texts = varied(random.Random(1), 300)
    labels, pairs = clusters(sets_of(packed(texts)), threshold), combinations(range(len(texts)), 2)
    alike = [(i, j) for i, j in pairs if plain_jaccard(texts[i], texts[j]) >= threshold]
    assert len(alike) > 20
    assert all(labels[i] == labels[j] for i, j in alike)


def test_a_template_that_all_share_hides_no_duplicates() -> None:
    # 100 words in common with all give a similarity of 0.7.
    rng = random.Random(2)
    template = " ".join(f"t{i}" for i in range(100))
    texts = [f"{template} {' '.join(f'u{rng.randrange(10**6)}' for _ in range(20))}" for _ in range(300)]
    copies = [text.rsplit(" ", 1)[0] + " changed" for text in texts[:20]]
    assert clusters(sets_of(packed([*texts, *copies]))).tolist() == [*range(300), *range(20)]


def test_one_family_of_thousands_is_one_cluster() -> None:
    texts = [
        f"answer the question below in a few plain and friendly words please number {i}" for i in range(3000)
    ]
    assert set(clusters(sets_of(packed(texts))).tolist()) == {0}


def test_short_and_wordless_texts_are_like_their_equals_alone() -> None:
    texts = ["Hello!", "hello", "hello there", "🙂", "🙂", "🙃", "", "  "]
    assert clusters(sets_of(packed(texts))).tolist() == [0, 0, 2, 3, 3, 5, 6, 7]


def test_scripts_without_spaces_have_shingles_of_characters() -> None:
    one, other = "请写一首关于春天的雨和夏天的风的短诗吧", "请写一首关于春天的雨和夏天的风的短诗"
    assert sets_of([coded(one)]).sizes.tolist() == [len(one) - 2]
    assert clusters(sets_of(packed([one, other, "今天天气很好我们去公园散步吧"]))).tolist() == [0, 0, 2]


def test_nothing_is_in_no_cluster() -> None:
    assert (clusters(sets_of([])).tolist(), clusters(sets_of([b""])).tolist()) == ([], [0])
