"""An article fits the word behind it."""

from __future__ import annotations

import pytest

from redraft.revision.articles import with_article


@pytest.mark.parametrize(
    "word", ["owl", "hour", "uninvited", "umbrella", "8-day", "11th", "honest", "SMS", "X-ray"]
)
def test_words_behind_an(word: str) -> None:
    assert (
        with_article("It is a ", word, "It.")
        == with_article("It is a ", word, "I saw a dog.")
        == ("It is ", f"an {word}")
    )
    assert with_article("It is an ", word, "It.") == ("It is an ", word)


@pytest.mark.parametrize(
    "word", ["cat", "unit", "union", "European", "one-eyed", "useful", "12-day", "CD", "U-turn"]
)
def test_words_behind_a(word: str) -> None:
    assert with_article("It is an ", word, "It.") == ("It is ", f"a {word}")
    assert with_article("It is a ", word, "It.") == ("It is a ", word)


@pytest.mark.parametrize("word", ["historic", "FBI", "NASA"])
def test_other_words_leave_the_article(word: str) -> None:
    for article in ("a", "an"):
        assert with_article(f"It is {article} ", word, "It.") == (f"It is {article} ", word)
