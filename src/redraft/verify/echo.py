"""Tell a text that is no answer: it repeats the prompt or a criticism, or only acknowledges ("Okay.").

Nothing else counts but a text that shows nothing (`chain.is_blank`), in any language, so an honest answer is
hardly ever refused. Talk in other words passes here, and checks judge it as they judge any text.
benchmarks/RESULTS.md has the rates of both errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import regex

from redraft.chain import Prompt, is_system
from redraft.verify.segment import words

MOST_READ = 20_000  # characters of a text that are read: a looping model is recognised by how it begins
RUN = 3  # consecutive words that count as repeated, and the fewest words of a message that can be
WHOLE = 0.9  # share of a message's words that its copy has at least

_ACK = (
    r"(?:okay|ok|sure(?: thing)?|certainly|of course|absolutely|al(?:l )?right|got it|understood|no problem"
    r"|will do)"
)
_WILL = r"(?:i will|i'll|i am going to|i'm going to)"
_ACKNOWLEDGED = regex.compile(rf"(?:{_ACK} ?)*(?:{_ACK}|{_WILL}(?: do (?:it|that|so))?)")
_PROMISED = regex.compile(rf"(?:{_ACK} )*{_WILL} (?P<what>.+)")

_ASKED = regex.compile(
    rf"\b(?:{_ACK}|{_WILL}|acknowledge|confirm|yes|repl(?:y|ies)|respond|say|translat\w+|synonym|remember"
    r"|from now on)\b|(?:^|[.!?\n]\s*)(?:i|i'm|i've|we|he|she|it|it's|they|that|this|my|our|thanks?|hello|hi"
    r"|don't|never|stop)\b"
)
_QUESTION = regex.compile(r"[?？؟]")
_OPEN = regex.compile(r"\b(?:what|why|how|who|whom|whose|which|when|where)\b")
"""An acknowledgement answers a prompt that names one or tells something, and a question without these."""

_LABEL = regex.compile(r"\W*+\p{L}+\s*:\s+")
_DIGIT, _NUMBER = regex.compile(r"\d"), "#"


def is_echo(answer: str, prompt: Prompt, heard: Iterable[str] = (), demand: str = "") -> bool:
    """Return whether a text is no answer. Only its first 20,000 characters are judged, in linear time.

    Args:
        answer: The text.
        prompt: What was asked. If the system said something too, a copy of the user's text alone may be what
            it wants, such as a text that needs no correction.
        heard: The criticisms and the requests to revise that came before the text.
        demand: What was added to the prompt: the demands of checks.
    """
    asked = prompt.said if any(map(is_system, prompt.messages or ())) else prompt.text
    own = _words(answer)
    unlabelled = _words(_LABEL.sub("", answer[:MOST_READ], count=1))  # "Question: …"
    requests = [_words(text) for text in {asked, prompt.instruction, demand, f"{asked}\n\n{demand}"}]
    return (
        any(_is_copy(each, text) for each in (own, unlabelled) for text in requests)
        or any(_is_copy(_numbered(own), _numbered(_words(text))) for text in heard)
        or _acknowledges(" ".join(own), f"{asked}\n{demand}"[:MOST_READ].casefold().replace("’", "'"))
    )


def _is_copy(own: Sequence[str], message: Sequence[str]) -> bool:
    """Return whether words say nothing but a message, nearly whole: its beginning, its end, and most between.

    The rest of a request, without its first or last words, may be the text on which it asks to work.
    """
    if len(message) < RUN or own[:RUN] != message[:RUN] or own[-RUN:] != message[-RUN:]:
        return False
    if {*message} == {_NUMBER}:  # other numbers are no copy
        return False
    return _share(own, message) == 1 and _share(message, own) >= WHOLE


def _share(words: Sequence[str], others: Sequence[str]) -> float:
    """Return the share of words that stand in runs of other words."""
    runs = {tuple(others[i : i + RUN]) for i in range(len(others) - RUN + 1)}
    found = [False] * len(words)
    for i in range(len(words) - RUN + 1):
        if tuple(words[i : i + RUN]) in runs:
            found[i : i + RUN] = [True] * RUN
    return sum(found) / len(words)


def _acknowledges(text: str, asked: str) -> bool:
    if _ASKED.search(asked) or (_QUESTION.search(asked) and not _OPEN.search(asked)):
        return False
    promised = _PROMISED.fullmatch(text)
    known = {*words(asked), "you", "your"}
    return bool(_ACKNOWLEDGED.fullmatch(text) or (promised and {*promised["what"].split()} <= known))


def _words(text: str) -> list[str]:
    return words(text[:MOST_READ].casefold().replace("’", "'"))


def _numbered(own: Sequence[str]) -> list[str]:
    """Return words with a placeholder for each number: a repeated criticism may count anew."""
    return [_NUMBER if _DIGIT.search(word) else word for word in own]
