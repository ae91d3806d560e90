"""Tell an answer from talk about the answer: "The answer is not 14 too many." It is never the best answer.

A text that repeats a whole piece of feedback, or only offers help, is such an echo. JSON is never one, nor is
code. Other texts are judged by their words. Those of checks, critics and apologies are talk; all others that
carry meaning belong to the topic, and those of the prompt and the first draft count three times. Words of
talk that these use too, words that the feedback quotes, and numbers beside talk count for neither side.

The words of talk are English: in other languages only repeated feedback is found. benchmarks/RESULTS.md has
the error rates on labelled revisions, and tests/verify/test_echo.py holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from functools import cache
from itertools import takewhile
from typing import NamedTuple

import regex

from redraft.verify.nonanswer import COMMON, DIGIT, MOST_READ, QUOTED, answers_nothing, asks, refuses, stem_of
from redraft.verify.segment import sentences, words

SHARE = 0.3
"""Share of talk in the count, 0 to 1, from which a text is an echo. All thresholds were chosen on the
tuning records of tests/data/echoes.jsonl."""

ANSWERING = 0.3  # share of talk below which a sentence counts as answering
ANSWERED = 0.6  # share of the count in answering sentences up to which a text can be an echo
LEAD = 5  # count of the topic before the first talk from which a text is an answer, whatever follows
LEAST = 2  # an echo has at least two words of talk: "The answer is yes." has one
TOPIC_WEIGHT = 3  # words that a word of the prompt or the first draft counts for

REPEATED = 0.8
"""Share of a text that repeats feedback, and of that feedback that it repeats, from which it is an echo."""

CODE = 0.25  # share of code, in characters, from which a text is never an echo
RUN = 3  # consecutive words that count as repeated. Two in a row are too often shared by chance.
RESULT = 5  # words of the topic that a number stands for if no talk surrounds it: "The correct answer is 42."

Trigram = tuple[str, ...]

_SUBJECTS = (["the", "answer"], ["your", "answer"])
_NUMBER = "#"
_JSON = regex.compile(r'\s*+[\[{]\s*+["\[\]{}]')
_FENCE = regex.compile(r"\s*(?:```|~~~)")
_CODE_LINE = regex.compile(
    r"""
    \w\((?!s\))                                # a call, but not "word(s)"
    | \w\s*[-+*/]?=\s                          # an assignment
    | [;{}]\s*+\Z                               # the end of a statement or the start of a block
    | \A\s*+(?:[{}\[\]] | "\w+"\s*: | </?\w)  # JSON, HTML
    """,
    regex.VERBOSE,
)

_OWN = regex.compile(
    r"\b(?:the|this|my|your)\s(?:\w+\s)?(?:answer|response|reply)\b"
    r"|\bi(?:'ll|'ve| will| have| did| wrote| used)\b"
)
"""How a first answer speaks of itself or of its writer. Without that, words of talk may be its topic."""

_CHECKS_SAY = """
The answer has 2 words, and at most 1 are allowed: 1 too many. And at least 3 are needed: 1 too few.
And exactly 3 are wanted. And 3 to 4 are wanted. The answer contains it once, on line 1. It must not.
The answer contains it 9 times, on lines 1, 2, and more after that. The answer does not contain it.
The answer begins with it and not with it. The answer ends with it and not with it. The answer is empty.
Nothing in the answer matches the pattern. The pattern is found on line 1. One of these has to be fixed. Or:
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
The answer was cut off before its end because it is too long. A check of that answer found.
Here to help. Here to assist. Happy to help. Ready to help. Ready to assist.
"""
"""The sentences of all checks and the ends of offers: any digits for numbers, and nothing quoted."""

_OFFERS = (
    "Sure, here is. Sure, here's. How can I help you? I'm here to help you. I'm ready to help you. "
    "Here is a new answer to the task. Here is another answer to the task. Here's a new answer to the task."
)
"""Nothing but such words is no answer."""


class Vocabulary(NamedTuple):
    """Words of the prompt and first draft, the beginnings of those that are talk, and words of quotations."""

    topic: Set[str]
    stems: Set[str]
    told: Set[str]


class Sides(NamedTuple):
    """How many words of a text are talk about an answer, and how many belong to the topic."""

    talk: int
    topic: int


def talks(answer: str, prompt: str, demand: str = "") -> bool:
    """Return whether a first answer is talk: no feedback came before it, but perhaps a demand.

    It answers nothing (`nonanswer`), repeats the demand, or is about itself by its words.
    """
    text = answer[:MOST_READ]
    if answers_nothing(text, prompt, demand) or repeats(text, demand):
        return True
    if not asks(prompt) or _JSON.match(text) or _is_code(text) or refuses(text):
        return False
    return bool(_OWN.search(QUOTED.sub("", text).casefold())) and _is_talk(text, [demand], prompt)


def echoes(answer: str, heard: Iterable[str], topic: str = "") -> bool:
    """Return whether a text talks about the answer, or repeats feedback, instead of answering.

    Args:
        answer: The text. Only its first 20,000 characters are judged. The time is linear in all lengths.
        heard: The feedback and the requests to revise that came before the text.
        topic: The prompt and the first draft. An answer may use their words freely.
    """
    text, past = answer[:MOST_READ], [message[:MOST_READ] for message in heard]
    if _JSON.match(text) or _is_code(text):
        return False
    tokens = _tokens(text)
    if _covers(tokens, _runs_of_offers()) or any(_repeats(tokens, message) for message in past):
        return True
    return _is_talk(text, past, topic[:MOST_READ])


def repeats(answer: str, message: str) -> bool:
    """Return whether a text is nearly a message, or one item of its list."""
    return _repeats(_tokens(answer[:MOST_READ]), message[:MOST_READ])


def _is_code(text: str) -> bool:
    code = total = 0
    fenced = False
    for line in text.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
            continue
        total += len(line.strip())
        code += len(line.strip()) if fenced or _CODE_LINE.search(line) else 0
    return code > 0 and code >= CODE * total


def _repeats(tokens: Sequence[str], message: str) -> bool:
    """Return whether tokens are nearly those of a message, or of one item of its list of faults."""
    parts = (message, *(line for line in message.splitlines() if line.startswith("- ")))
    own = frozenset(_runs(tokens))
    return any(_covers(tokens, frozenset(_runs(told))) and _covers(told, own) for told in map(_tokens, parts))


def _covers(tokens: Sequence[str], runs: Set[Trigram]) -> bool:
    """Return whether enough tokens stand in runs of others."""
    found = _within(tokens, runs)
    return any(found) and sum(found) >= REPEATED * len(tokens)


def _is_talk(text: str, heard: Iterable[str], topic: str) -> bool:
    """Return whether a text has enough words of talk, and too few in sentences that answer."""
    told = " ".join(piece for message in heard for piece in QUOTED.findall(message))
    asked = frozenset(_tokens(topic))
    stems = frozenset(stem for word in asked if (stem := stem_of(word)))
    known = Vocabulary(asked, stems, frozenset(_tokens(told)))
    sides = [_count(_tokens(part), known) for part in sentences(text)]
    talk, total = sum(side.talk for side in sides), sum(map(sum, sides))
    answering = sum(sum(side) for side in sides if side.talk < ANSWERING * sum(side))
    lead = sum(side.topic for side in takewhile(lambda side: not side.talk, sides))
    return talk >= max(LEAST, SHARE * total) and answering <= ANSWERED * total and lead < LEAD


def _count(tokens: Sequence[str], known: Vocabulary) -> Sides:
    # "The answer has", but not "The answer is" or "The answer to".
    about = tokens[:2] in _SUBJECTS and tokens[2:3] not in (["is"], ["to"], [])
    spoken, stems = _within(tokens, _runs_of_checks()), [stem_of(token) for token in tokens]
    talk = topic = result = 0
    for place, (token, stem) in enumerate(zip(tokens, stems, strict=True)):
        number = token == _NUMBER
        if token in COMMON:
            continue
        if spoken[place] or (about and (stem or number)) or (stem and stem not in known.stems):
            talk += 1
        elif stem or token in known.told:
            continue
        elif not number:
            topic += TOPIC_WEIGHT if token in known.topic else 1
        elif tokens[place - 1 : place] == ["is"] or not any(stems[max(place - 2, 0) : place]):
            result = result or (0 if any(stems[place + 1 : place + 3]) else RESULT)
    return Sides(talk, topic + result)


def _tokens(text: str) -> list[str]:
    """Return the words of a text in lower case; a word with a digit becomes a placeholder."""
    plain = text.casefold().replace("’", "'")
    return [_NUMBER if DIGIT.search(word) else word for word in words(plain)]


@cache
def _runs_of_checks() -> frozenset[Trigram]:
    """Return the runs in the sentences of checks, but for those that end in a number.

    "The answer is 42" is an answer.
    """
    return frozenset(run for run in _runs(_tokens(_CHECKS_SAY)) if run[-1] != _NUMBER)


@cache
def _runs_of_offers() -> frozenset[Trigram]:
    return frozenset(_runs(_tokens(_OFFERS)))


def _runs(tokens: Sequence[str]) -> Iterator[Trigram]:
    return (tuple(tokens[i : i + RUN]) for i in range(len(tokens) - RUN + 1))


def _within(tokens: Sequence[str], runs: Set[Trigram]) -> list[bool]:
    found = [False] * len(tokens)
    for place, run in enumerate(_runs(tokens)):
        if run in runs:
            found[place : place + RUN] = [True] * RUN
    return found
