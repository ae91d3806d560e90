"""Telling an answer from talk about the answer.

A weak model that is asked to revise often repeats the criticism, with other numbers or in other words, or
says what it would change: "The answer is not 14 too many." Such a text can pass a check and answers nothing.
It is called an echo, and an echo never becomes the best answer.

Each word counts for one of two sides. Words of talk are those that checks and critics speak in ("answer",
"sentence", "too many"), and those that stand in a run of the feedback's words. Every other word that means
something is of the topic. Neither side gets the words of talk that the prompt or the first draft uses too,
words that the feedback quotes, and numbers among words of talk: so a changed number changes nothing. A text
in which talk has a third of the counted words is an echo.

The words of talk are English. In another language only runs of the feedback are found. Whether an answer
copies the prompt, or is true, is not looked at here. The rates of error on labelled revisions are in
benchmarks/RESULTS.md, and tests/verify/test_echo.py holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from functools import cache
from typing import NamedTuple

import regex

from redraft.verify.segment import sentences, words

SHARE = 0.33
"""The part of the counted words, 0 to 1, from which on a text is an echo. Chosen on the tuning records of
tests/data/echoes.jsonl (benchmarks/echo.py)."""

LEAST = 2
"""Fewer words of talk than this make no echo: "The answer is yes." has one."""

RUN = 3
"""Words in a row that a text has to share with the feedback. Two are shared by chance too often."""

LONGEST = 20_000
"""Characters of a text that are looked at: a loop of the model is known by its beginning."""

GATE = 0.5
"""The part of talk from which on a sentence of the feedback is itself talk."""

RESULT = 5
"""For how many words of the topic a number stands that no talk surrounds: "The correct answer is 42."."""

Run = tuple[str, ...]

_NUMBER = "#"
_DIGIT = regex.compile(r"\d")
_QUOTED = regex.compile(r""""[^"\n]{0,80}"|“[^”\n]{0,80}”|(?<!\w)'[^'\n]{0,80}'(?!\w)""")
_LEAD_IN = regex.compile(r"""\A[^:!\n"“\d]{0,100}[:!]""")

_COMMON = frozenset(
    words(
        """
        a about above after all also although always am an and any anything are around as at be because been
        before being below between both but by can could did do does doing done down during each either else
        even ever every everything for from further get gets go goes going got had has have having he her
        here hers him his how however i if in into is it its itself just let like made make makes making may
        maybe me might more most much must my myself neither never no nor not nothing now of off on once one
        only or other our out over own please rather said same say says shall she should since so some
        something still such sure than that the their them then there therefore these they thing things this
        those though through thus to under until up upon us very was way we well were what when where which
        while who whom whose why will with within without would yes yet you your yours i'm i'll i've i'd
        it's that's there's here's let's don't doesn't didn't isn't aren't wasn't weren't can't cannot
        couldn't won't wouldn't shouldn't you're you've you'll we're we've we'll they're they've
        """
    )
)
"""Words that mean nothing by themselves, and count for neither side."""

_TALK = regex.compile(
    r"""
    answer | repl(?:y|ie) | respon[sd] | feedback | critici | critique | review | judge | instruct
    | request | question | prompt | statement | content | found$ | version | draft | text | revis
    | rewrit | rewrote | rephras | reword | reformat | edit | correct | fix | mend | amend | improv
    | clarit | grammar | adjust | modif | chang | remov | delet | add(?:s|ed|ing)?$ | repeat | shorten
    | lengthen | trim | cut | sentence | words?$ | wording | character | letters?$ | paragraph | lines?$
    | column | phras | length | begin | began | starts?$ | ends?$ | ended$ | contain | includ | miss
    | lack | match | fit(?:s|ted)?$ | json | pattern | schema | block | valid | number | digit | language
    | probab | command | exit | status | limit | allow | need | want | requir | must$ | exceed | expect
    | satisf | comply | compli | complain | too$ | many$ | few(?:er)?$ | least$ | exact | count | extra
    | long(?:er)?$ | short(?:er)?$ | total | mistake | error | wrong | right$ | fault | reject | accept
    | fail | pass(?:ed|es)?$ | apolog | sorry | clear | clarif | concis | brief | format | quot | comma
    | punctuat | original | previous | final | complet | incomplet | unfinish | again$ | check
    """,
    regex.VERBOSE,
)
"""Beginnings of the words in which checks, critics and apologies speak; `$` ends a word."""


_CHECKS_SAY = """
The answer has 2 words, and at most 1 are allowed: 1 too many. And at least 3 are needed: 1 too few.
And exactly 3 are wanted. And 3 to 4 are wanted. The answer contains it once, on line 1. It must not.
The answer contains it 9 times, on lines 1, 2, and more after that. The answer does not contain it.
The answer begins with it and not with it. The answer ends with it and not with it. The answer is empty.
Nothing in the answer matches the pattern. The pattern is found on line 1. One of these has to be mended. Or:
The answer is not JSON: Expecting value at line 1, column 1, before it, where it ends. Extra data at line 1.
The answer is not usable JSON: it is nested too deeply. The answer is empty, and JSON is wanted.
The answer has 2 JSON blocks, and exactly one is wanted. The JSON block that begins on line 1 has no closing.
The JSON does not fit the schema: it is a required property, is not of type; and 2 more.
The JSON is not a valid one: Field required. Input should be a valid number. The answer is a valid one.
The answer has no number. Write the result as a number, at the end. Work it out again.
The last number in the answer is 7, on line 1, and it is not right. And it is right.
The answer has no words whose language could be told. The answer is in the language.
The answer seems to be in the language en and not in de (probability 0.9).
The check command failed (exit status 1), and it printed nothing. Ended by. The check command passed.
The check command was stopped: it took longer than 1 s on this answer.
It rejects the answer, and does not say why. It gives the answer 0.5 of 1. It has no complaint.
The judge gives the answer 3 of 10, and 7 is needed.
"""
"""What checks say, with a number for every number and nothing that they quote."""


class Sides(NamedTuple):
    """How many words of a text are talk about an answer, and how many are of the topic."""

    talk: int
    topic: int

    @property
    def share(self) -> float:
        """The part of talk, 0 to 1."""
        return self.talk / (self.talk + self.topic) if self.talk else 0.0


def echoes(answer: str, heard: Iterable[str], topic: str = "") -> bool:
    """Whether a text talks about the answer instead of being one.

    Args:
        answer: The text. Its first 20,000 characters are looked at, in time proportional to all lengths.
        heard: What the writer was told before: feedback, and requests to revise.
        topic: The first draft and the prompt. What they speak of, an answer may speak of too.
    """
    return talk_share(answer, heard, topic) >= SHARE


def talk_share(answer: str, heard: Iterable[str], topic: str = "") -> float:
    """The part of talk in a text, 0 to 1; 0 where there are fewer than two words of it.

    Where the text goes on after a lead-in ("Here is the revised answer:", "Sorry!"), what follows is
    looked at too, and the smaller part counts. Arguments as for `echoes`.
    """
    own = frozenset([None, *map(_stem, _tokens(topic))])
    runs = set(_runs_of_checks())
    quoted: set[str] = set()
    for text in heard:
        runs.update(_talk_runs(text[:LONGEST], own))
        quoted.update(_tokens(" ".join(_QUOTED.findall(text[:LONGEST]))))
    whole, rest = (
        _count(_tokens(part), runs, own, quoted) for part in (answer, _LEAD_IN.sub("", answer[:LONGEST]))
    )
    if whole.talk < LEAST:
        return 0.0
    return min(whole.share, rest.share) if rest.topic else whole.share


def _count(said: Sequence[str], runs: Set[Run], own: Set[str | None], quoted: Set[str]) -> Sides:
    """Counts words by side.

    Args:
        said: The words of a text.
        runs: Of the feedback's words.
        own: Stems of words that are not talk here; None is the stem of all others.
        quoted: Words that the feedback quotes.
    """
    spoken, stems = _within(said, runs), [_stem(word) for word in said]
    talk = [
        word not in _COMMON and (known or stem not in own)
        for word, known, stem in zip(said, spoken, stems, strict=True)
    ]
    topic = 0
    for place, word in enumerate(said):
        if stems[place] or spoken[place] or word in _COMMON or word in quoted:
            continue
        if word != _NUMBER:
            topic += 1
        elif said[place - 1 : place] == ["is"] or not any(stems[max(place - 2, 0) : place]):
            topic += 0 if any(stems[place + 1 : place + 3]) else RESULT
    return Sides(sum(talk), topic)


def _tokens(text: str) -> list[str]:
    """The words of a text in small letters; one that has a digit is a number, whichever."""
    plain = text[:LONGEST].casefold().replace("’", "'")
    return [_NUMBER if _DIGIT.search(word) else word for word in words(plain)]


@cache
def _runs_of_checks() -> frozenset[Run]:
    """The runs of words in what checks say."""
    return frozenset(_runs(_tokens(_CHECKS_SAY)))


def _stem(word: str) -> str | None:
    """The beginning by which a word is known to be talk; None for any other word."""
    found = _TALK.match(word)
    return found[0] if found else None


def _talk_runs(heard: str, own: Set[str | None]) -> Iterator[Run]:
    """The runs of words in those sentences of the feedback that are talk themselves.

    Other sentences of a critic may say how to answer, and an answer may take that over.
    """
    for sentence in sentences(_QUOTED.sub(" ", heard)):
        said = _tokens(sentence)
        if _count(said, frozenset(), own, frozenset()).share >= GATE:
            yield from _runs(said)


def _runs(tokens: Sequence[str]) -> Iterator[Run]:
    """All runs in their order. One that ends in a number is left out: "the answer is 42" is an answer."""
    runs = (tuple(tokens[i : i + RUN]) for i in range(len(tokens) - RUN + 1))
    return (run for run in runs if run[-1] != _NUMBER)


def _within(said: Sequence[str], runs: Set[Run]) -> list[bool]:
    """For each word, whether it stands in one of the runs."""
    found = [False] * len(said)
    for place in range(len(said) - RUN + 1):
        if tuple(said[place : place + RUN]) in runs:
            found[place : place + RUN] = [True] * RUN
    return found
