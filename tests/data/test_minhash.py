"""Near duplicates: all similar pairs are found, and no others."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.data.similarity import clusters, coded, jaccard, plan, sets_of


def packed(texts: list[str]) -> list[bytes]:
    return list(map(coded, texts))


def plain_jaccard(one: str, other: str) -> float:
    """Over word 3-shingles, of ASCII texts of three words and more without punctuation."""
    a, b = (
        {tuple(w[i : i + 3]) for i in range(len(w) - 2)} for w in (one.lower().split(), other.lower().split())
    )
    return len(a & b) / len(a | b)


def components(texts: list[str], threshold: float) -> list[int]:
    """Return the first text of each text's cluster, by comparing all pairs."""
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
    """Sentences, a third of which are an earlier one with a word or two changed."""
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


def test_recall_on_pairs_at_and_over_the_threshold() -> None:
    texts = varied(random.Random(1), 300)
    labels = clusters(sets_of(packed(texts)))
    alike = [
        (i, j) for i, j in combinations(range(len(texts)), 2) if plain_jaccard(texts[i], texts[j]) >= 0.8
    ]
    found = sum(labels[i] == labels[j] for i, j in alike)
    assert len(alike) > 40
    assert found >= 0.99 * len(alike)


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.8, 0.9, 1.0])
def test_rows_and_bands_miss_few_at_the_threshold(threshold: float) -> None:
    rows, bands = plan(threshold)
    assert (1 - threshold**rows) ** bands <= 0.005
    assert rows * bands <= 64


def test_a_template_that_all_share_hides_no_duplicates() -> None:
    # 100 words in common with all give a similarity of 0.7, hence often a place in one bucket.
    rng = random.Random(2)
    template = " ".join(f"t{i}" for i in range(100))
    texts = [f"{template} {' '.join(f'u{rng.randrange(10**6)}' for _ in range(20))}" for _ in range(300)]
    copies = [text.rsplit(" ", 1)[0] + " changed" for text in texts[:20]]
    labels = clusters(sets_of(packed([*texts, *copies])))
    assert labels.tolist() == [*range(300), *range(20)]


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
    assert clusters(sets_of([])).tolist() == []
    assert clusters(sets_of([b""])).tolist() == [0]
