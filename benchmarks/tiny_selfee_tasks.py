"""The exercises that tiny_selfee learns: each can be checked exactly, and each check shows its work.

An exercise is a frozen value: what is asked, which answers pass, a right answer and a plausible wrong one,
and the feedback on any answer. Feedback recomputes in writing, states both values, compares them ("the same",
"different"), and only then gives the verdict. A tick that stands for a search ("ok", "missing") taught a
small model to accept everything; a stated comparison did not.

Nothing here comes from a data set: numbers are drawn, and words are those of `tiny_selfee_lexicon`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from random import Random
from string import ascii_lowercase
from typing import Any, Protocol, Self

import tiny_selfee_json as broken
import tiny_selfee_lexicon as lexicon
from redraft.chain import Prompt
from redraft.verify.parse import parse_checks
from redraft.verify.segment import words as words_of

SHOWN = 120
"""Characters of an answer that feedback quotes at most."""


class Exercise(Protocol):
    """One thing that is asked. Its fields are JSON values, so that it travels in a chain's `meta`."""

    @classmethod
    def draw(cls, rng: Random) -> Self:
        """An exercise by chance."""
        ...

    @property
    def key(self) -> str:
        """What makes two exercises one, however they are worded: held-out ones share none with others."""
        ...

    @property
    def prompt(self) -> Prompt:
        """What is asked."""
        ...

    def passes(self, answer: str) -> bool:
        """Whether an answer is right."""
        ...

    def right(self, rng: Random) -> str:
        """An answer that passes."""
        ...

    def spoiled(self, rng: Random) -> str:
        """An answer such as a small model gets wrong. It may happen to pass."""
        ...

    def work(self, answer: str) -> str:
        """Feedback on an answer up to the comparison: what comes out, and what the answer says."""
        ...


def plain(answer: str) -> str:
    """An answer on one line, as it is compared and quoted."""
    return " ".join(answer.split())


def quoted(answer: str) -> str:
    """An answer as feedback quotes it: on one line, and not at any length."""
    text = plain(answer) or "nothing"
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def feedback(exercise: Exercise, answer: str, right: str) -> str:
    """What the check says of an answer: its work, a comparison, and the verdict in SelFee's words.

    Args:
        exercise: What was asked.
        answer: What was answered.
        right: A right answer. It is said where there are many, and the work leads to none of them.
    """
    if exercise.passes(answer):
        return f"{exercise.work(answer)}: the same. Revision is not needed."
    instance = f" For instance: {numbered(right.split())}" if isinstance(exercise, Sentence) else ""
    return f"{exercise.work(answer)}: different.{instance} Revision is needed."


def wrong(exercise: Exercise, rng: Random) -> str:
    """An answer that does not pass."""
    while exercise.passes(answer := exercise.spoiled(rng)):
        pass
    return answer


@dataclass(frozen=True)
class Add:
    """The sum of two numbers of four digits."""

    a: int
    b: int
    wording: int

    WORDINGS = ("What is {a} + {b}?", "Add {a} and {b}.", "How much is {a} plus {b}?")

    @classmethod
    def draw(cls, rng: Random) -> Self:
        """Two numbers from 1,000 to 9,999."""
        return cls(rng.randint(1000, 9999), rng.randint(1000, 9999), rng.randrange(len(cls.WORDINGS)))

    @property
    def key(self) -> str:
        """Which two numbers, in any order."""
        return f"{min(self.a, self.b)} {max(self.a, self.b)}"

    @property
    def prompt(self) -> Prompt:
        """What is asked."""
        return Prompt(instruction=self.WORDINGS[self.wording].format(a=self.a, b=self.b))

    def passes(self, answer: str) -> bool:
        """The number alone."""
        return plain(answer) == str(self.a + self.b)

    def right(self, rng: Random) -> str:  # noqa: ARG002
        """The sum."""
        return str(self.a + self.b)

    def spoiled(self, rng: Random) -> str:
        """A carry forgotten or taken too often, another digit, two digits exchanged, or one left out."""
        digits = list(str(self.a + self.b))
        place = rng.randrange(len(digits))
        kind = rng.choice(("carry", "carry", "carry", "digit", "exchange", "drop"))
        if kind == "carry":
            return str(self.a + self.b + rng.choice((-1, 1)) * 10 ** rng.randint(0, 3))
        if kind == "digit":
            digits[place] = str(rng.randint(0, 9))
        elif kind == "exchange":
            other = place - 1 if place else 1
            digits[place], digits[other] = digits[other], digits[place]
        else:
            del digits[place]
        return "".join(digits)

    def work(self, answer: str) -> str:
        """Column by column from the right, with what is carried."""
        columns, carry = [], 0
        for x, y in zip(reversed(str(self.a)), reversed(str(self.b)), strict=True):
            total = int(x) + int(y) + carry
            columns.append(f"{x}+{y}{'+1' if carry else ''}={total}")
            carry = total // 10
        return f"{', '.join(columns)}, so {self.a + self.b}, and the answer says {quoted(answer)}"


@dataclass(frozen=True)
class Count:
    """How many words a line has."""

    words: tuple[str, ...]
    wording: int

    WORDINGS = ("How many words are in this line?", "Count the words.")
    FEWEST, MOST = 6, 18

    @classmethod
    def draw(cls, rng: Random) -> Self:
        """A line of nouns and adjectives, none twice."""
        words = rng.sample(lexicon.NOUNS + lexicon.ADJECTIVES, rng.randint(cls.FEWEST, cls.MOST))
        return cls(tuple(words), rng.randrange(len(cls.WORDINGS)))

    @property
    def key(self) -> str:
        """Which words, in any order."""
        return " ".join(sorted(self.words))

    @property
    def prompt(self) -> Prompt:
        """What is asked."""
        return Prompt(instruction=f"{self.WORDINGS[self.wording]}\n{' '.join(self.words)}")

    def passes(self, answer: str) -> bool:
        """The number alone."""
        return plain(answer) == str(len(self.words))

    def right(self, rng: Random) -> str:  # noqa: ARG002
        """The number."""
        return str(len(self.words))

    def spoiled(self, rng: Random) -> str:
        """One or two too many or too few."""
        return str(len(self.words) + rng.choice((-2, -1, -1, 1, 1, 2)))

    def work(self, answer: str) -> str:
        """The words with their numbers."""
        return f"{numbered(self.words)}, so {len(self.words)}, and the answer says {quoted(answer)}"


def numbered(words: tuple[str, ...] | list[str]) -> str:
    """`1 river 2 stone`."""
    return " ".join(f"{number} {word}" for number, word in enumerate(words, start=1))


@dataclass(frozen=True)
class Sort:
    """Words in the order of the alphabet. No two begin with the same letter."""

    words: tuple[str, ...]
    wording: int

    WORDINGS = ("Put these words in alphabetical order:", "Sort these words from A to Z:")
    FEWEST, MOST = 6, 9

    @classmethod
    def draw(cls, rng: Random) -> Self:
        """Nouns and adjectives."""
        by_letter: dict[str, list[str]] = {}
        for word in lexicon.NOUNS + lexicon.ADJECTIVES:
            by_letter.setdefault(word[0], []).append(word)
        letters = rng.sample(sorted(by_letter), rng.randint(cls.FEWEST, cls.MOST))
        return cls(
            tuple(rng.choice(by_letter[letter]) for letter in letters), rng.randrange(len(cls.WORDINGS))
        )

    @property
    def key(self) -> str:
        """Which words, in any order."""
        return " ".join(sorted(self.words))

    @property
    def prompt(self) -> Prompt:
        """What is asked."""
        return Prompt(instruction=f"{self.WORDINGS[self.wording]} {' '.join(self.words)}")

    def passes(self, answer: str) -> bool:
        """All words and no other, in order, with blanks between them."""
        return plain(answer) == self.key

    def right(self, rng: Random) -> str:  # noqa: ARG002
        """The words in order."""
        return self.key

    def spoiled(self, rng: Random) -> str:
        """Two neighbours exchanged, a word left out, one said twice, or one in a wrong place."""
        words = sorted(self.words)
        place = rng.randrange(len(words) - 1)
        kind = rng.choice(("exchange", "exchange", "drop", "twice", "move"))
        if kind == "exchange":
            words[place], words[place + 1] = words[place + 1], words[place]
        elif kind == "drop":
            del words[place]
        elif kind == "twice":
            words[place + 1] = words[place]
        else:
            words.insert(rng.randrange(len(words)), words.pop(place))
        return " ".join(words)

    def work(self, answer: str) -> str:
        """The alphabet, with each word at its letter."""
        at = {word[0]: f"{word[0]} {word}" for word in self.words}
        alphabet = ", ".join(at.get(letter, letter) for letter in ascii_lowercase)
        return f"{alphabet}, so {self.key}, and the answer says {quoted(answer)}"


@dataclass(frozen=True)
class Sentence:
    """A sentence of exactly so many words with a given word in it."""

    length: int
    keyword: str
    wording: int

    WORDINGS = (
        "Write a sentence of exactly {length} words with the word {keyword}.",
        "Use the word {keyword} in a sentence of exactly {length} words.",
    )

    @classmethod
    def draw(cls, rng: Random) -> Self:
        """A length that the lexicon's sentences have, and a noun."""
        length = rng.randint(lexicon.SHORTEST, lexicon.LONGEST)
        return cls(length, rng.choice(lexicon.NOUNS), rng.randrange(len(cls.WORDINGS)))

    @property
    def key(self) -> str:
        """Which length and word."""
        return f"{self.length} {self.keyword}"

    @property
    def prompt(self) -> Prompt:
        """What is asked."""
        wording = self.WORDINGS[self.wording]
        return Prompt(instruction=wording.format(length=self.length, keyword=self.keyword))

    @cached_property
    def _checks(self) -> Any:
        return parse_checks((f"words=={self.length}", f"contains:{self.keyword}"))

    def passes(self, answer: str) -> bool:
        """By redraft's own checks."""
        return bool(answer.strip()) and all(check.check(answer, self.prompt).passed for check in self._checks)

    def right(self, rng: Random) -> str:
        """A sentence of the lexicon's."""
        return lexicon.sentence(rng, self.length, self.keyword)

    def spoiled(self, rng: Random) -> str:
        """A word too many or too few, or another noun."""
        if rng.random() < 0.3:
            return lexicon.sentence(rng, self.length, rng.choice(lexicon.NOUNS))
        near = [
            self.length + off for off in (-1, 1) if lexicon.SHORTEST <= self.length + off <= lexicon.LONGEST
        ]
        return lexicon.sentence(rng, rng.choice(near), self.keyword)

    def work(self, answer: str) -> str:
        """The answer's words with their numbers, the given one marked; then what was found and asked for."""
        said = list(words_of(answer))
        _, contains = self._checks
        found = contains.check(answer, self.prompt).passed
        shown = [f"{word} (found)" if word.lower() == self.keyword else word for word in said]
        has = f"{len(said)} words with {'' if found else 'no '}{self.keyword}"
        return f"{numbered(shown)}, so {has}, and asked for are {self.length} words with {self.keyword}"


@dataclass(frozen=True)
class Mend:
    """JSON with a fault or two, to be made whole. The object's values have to stay as they are."""

    text: str
    whole: str

    INSTRUCTION = "Repair this JSON."

    @classmethod
    def draw(cls, rng: Random) -> Self:
        """A small object, broken in a way that leaves no doubt what it was."""
        whole = json.dumps(broken.thing(rng))
        return cls(broken.broken(rng, whole), whole)

    @property
    def key(self) -> str:
        """Which object."""
        return self.whole

    @property
    def prompt(self) -> Prompt:
        """What is asked; the JSON is the input."""
        return Prompt(instruction=self.INSTRUCTION, input=self.text)

    def passes(self, answer: str) -> bool:
        """JSON of the same object, with its keys in any order."""
        return broken.canonical(answer) == broken.canonical(self.whole)

    def right(self, rng: Random) -> str:  # noqa: ARG002
        """The object, as Python writes it."""
        return self.whole

    def spoiled(self, rng: Random) -> str:
        """A fault that was overlooked or is new, a pair that is gone, or another value."""
        if rng.random() < 0.6:
            return broken.broken(rng, self.whole)
        value: dict[str, Any] = json.loads(self.whole)
        key = rng.choice(list(value))
        if len(value) > 1 and rng.random() < 0.5:
            del value[key]
        else:
            value[key] = broken.value(rng, key)
        return json.dumps(value)

    def work(self, answer: str) -> str:
        """Key by key, then the whole object, and the answer."""
        pairs = [f"{key} is {json.dumps(value)}" for key, value in json.loads(self.whole).items()]
        said = self.whole if self.passes(answer) else quoted(answer)
        return f"{'; '.join(pairs)}; so {self.whole}, and the answer says {said}"


TASKS: Mapping[str, type[Exercise]] = {
    "add": Add,
    "count": Count,
    "sort": Sort,
    "sentence": Sentence,
    "mend": Mend,
}


def name_of(exercise: Exercise) -> str:
    """The task of an exercise."""
    return next(name for name, kind in TASKS.items() if isinstance(exercise, kind))
