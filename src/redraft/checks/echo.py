"""Recognise a text that is not an answer, but repeats the prompt or a criticism, or only agrees ("Okay.").

Other small talk is not recognised, so that real answers are hardly ever rejected: benchmarks/RESULTS.md has
the rate. Callers test for blank texts (`chain.is_blank`).
"""

from __future__ import annotations

from collections.abc import Iterable

import regex

from redraft.chain import Prompt, is_system
from redraft.checks.segment import words

MOST_READ = 20_000  # most characters to read: enough to recognise a repeating text
FEWEST = 3  # fewest words of a copied message: "Hello!" may answer "Hello!"

_ACK = (
    r"(?:okay|ok|sure(?: thing)?|certainly|of course|absolutely|al(?:l )?right|got it|understood|no problem"
    r"|will do|i will|i'll)"
)
_ACKNOWLEDGED = regex.compile(rf"(?:{_ACK} ?)*{_ACK}(?: do (?:it|that|so))?")
_LEAD = regex.compile(rf"\A\W*(?:{_ACK}\W+)+")

_ASKED = regex.compile(
    rf"\b(?:{_ACK}|acknowledge|confirm|yes|repl(?:y|ies)|respond|say|translat\w+|synonym|remember"
    r"|from now on)\b"
    r"|(?:^|[.!?\n][^\S\n]*)(?:i|i'm|i've|we|he|she|it|it's|they|that|this|my|our|thanks?|hello|hi|don't|never|stop)\b"
)
_QUESTION = regex.compile(r"[?？؟]")
_OPEN = regex.compile(r"\b(?:what|why|how|who|whom|whose|which|when|where)\b")
"""Question words. "Okay." may answer a question without question words, or a prompt that matches `_ASKED`."""

_LABEL = regex.compile(r"\A\W*+\p{L}+\s*:\s+")
_OF_FORM = [["the", "answer", verb] for verb in ("has", "contains", "was", "lacks")] + [["not", "in", "the"]]
"""The first words of checks' messages."""
_LENGTH = regex.compile(r"the (?:answer|text) (?:is|was) (?:not )?(?:too long|cut off)(?: before its end)?")
_DIGIT, _QUOTED, _NUMBER = regex.compile(r"\d"), regex.compile(r"\"[^\"\n]*\""), "#"


def is_echo(answer: str, prompt: Prompt, heard: Iterable[str] = (), demand: str = "") -> bool:
    """Return whether an answer only repeats a message or agrees. The first 20,000 characters are read.

    Args:
        prompt: If it has a system message ("Correct the text"), the answer may equal the user's text.
        heard: Earlier criticisms and requests to revise. A copy may differ in numbers and quotations.
        demand: The demands of checks, which were added to the prompt. A copy of one demand is an echo.
    """
    asked = prompt.said if any(map(is_system, prompt.messages or ())) else prompt.text
    own = _words(answer)
    unlabelled = _words(_LABEL.sub("", answer[:MOST_READ], count=1))  # "Question: …"
    meant = _words(_LEAD.sub("", answer[:MOST_READ].casefold().replace("’", "'"), count=1))  # "I will …"
    requests = [_words(text) for text in {asked, prompt.instruction, demand, f"{asked}\n\n{demand}"}]
    told, rows = ({tuple(_words(row)) for row in text[:MOST_READ].splitlines()} for text in (demand, answer))
    known = f"{asked}\n{demand}"[:MOST_READ].casefold().replace("’", "'")
    invited = _ASKED.search(known) or (_QUESTION.search(known) and not _OPEN.search(known))
    numbered = _numbered(answer)
    return (
        any(_repeats(each, text) for each in (own, unlabelled, meant) for text in requests)
        or (len(own) >= FEWEST and rows <= told | {()})
        or any(
            _repeats(numbered, text) or _begins(numbered, text)
            for text in map(_numbered, (*heard, *demand.splitlines()))
        )
        or bool(heard and _LENGTH.fullmatch(" ".join(own)))
        or bool(not invited and _ACKNOWLEDGED.fullmatch(" ".join(own)))
    )


def _repeats(own: list[str], message: list[str]) -> bool:
    if not FEWEST <= len(message) <= len(own) or {*message} == {_NUMBER}:  # other numbers are not a copy
        return False
    return own == (message * (len(own) // len(message) + 1))[: len(own)]


def _begins(own: list[str], message: list[str]) -> bool:
    same = own[:6] == message[:6] or (own[:4] == message[:4] and own[3:4] == [_NUMBER])
    return same and own[:3] in _OF_FORM


def _words(text: str) -> list[str]:
    return words(text[:MOST_READ].casefold().replace("’", "'"))


def _numbered(text: str) -> list[str]:
    return [_NUMBER if _DIGIT.search(word) else word for word in _words(_QUOTED.sub(" 0 ", text[:MOST_READ]))]
