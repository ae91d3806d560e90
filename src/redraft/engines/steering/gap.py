"""Find a word for a gap in a sentence, or a number to replace another number."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from heapq import nlargest
from typing import TypeAlias

from redraft.engines.base import Likeliest, Tokens
from redraft.engines.steering.form import Gap

WORDS = 4  # words to try in a gap; three times as many if none of them fits
NUMBERS = 3  # most beginnings of numbers that are extended digit by digit
_ADVERB = re.compile(r"(?i)(?:\w{2}ly|\b(?:very|quite|just|so|too|rather|even|also))$")  # can be left out
_FIRST = re.compile(r"\s?(?:\w+|[^\w\s])")
FITTING = -7.5  # the least log-probability of a word or number in a gap with the token after it
WORSE, UNSEEN = 2.5, -8.0  # most log-probability that a new word may cost the rest; the least assumed value
SHORT = 3  # letters; a token this short, without a space, is a part of many words

Look: TypeAlias = Callable[[str], Awaitable[Likeliest]]  # returns the likeliest tokens after a text
Encode: TypeAlias = Callable[[str], Awaitable[Tokens]]


async def filling(gap: Gap, look: Look, encode: Encode, forbidden: Callable[[str], object]) -> list[str]:
    """Return the likely numbers for a gap, best first, or its best word, each with the text after the gap.

    `forbidden` returns None if a text is allowed.
    """
    if gap.number:
        found = sorted(await _numbers(gap, look, encode), reverse=True)
        texts = (gap.old.removesuffix(gap.number) + number + gap.rest for _, number in found)
        return [text for text in texts if forbidden(text) is None]
    top = await look("")
    after = gap.rest[: -len(gap.closed.lstrip())].rstrip()  # the mark that goes with the word
    without = "", gap.closed, gap.old + after, gap.rest[len(after) :]
    closing, kept = [await begun(rest, await look(text), encode) for text, rest in (without[:2], without[2:])]
    found = list[tuple[float, str]]()
    for word, chance in [(str(word), chance) for word, chance in top if gap.takes(str(word))][: 3 * WORDS]:
        more = len(found) < WORDS or max(found)[0] < FITTING
        if more and forbidden(word + gap.rest) is None:
            found.append((chance + await begun(gap.rest, await look(word), encode), word))
    fitting = sorted((each for each in found if each[0] > FITTING), reverse=True)
    ways = [(word, gap.rest, gap.old, gap.rest) for _, word in fitting]
    apart = bool(after or _ADVERB.search(gap.old)) or closing > max(kept, UNSEEN) - WORSE
    for word, rest, old, other in [*[without] * apart, *ways]:
        costs = list[float]()
        for text, then in ((word, rest), (old, other)):
            first = _FIRST.findall(then)[0]
            costs.append(max(await begun(then[len(first) :], await look(text + first), encode), UNSEEN))
        if costs[0] > costs[1] - WORSE:
            return [word + rest]
    return []


async def _numbers(gap: Gap, look: Look, encode: Encode) -> list[tuple[float, str]]:
    lead, most = gap.old.removesuffix(gap.number), max(len(gap.number), 2)
    found, begins = list[tuple[float, str]](), [(0.0, "")]
    while begins:
        longer = list[tuple[float, str]]()
        for chance, number in begins:
            top = await look(lead + number) if len(number) < most else ()
            if number[-1:].isdigit() and number != gap.number:
                ends = max(await begun(gap.rest, top, encode), UNSEEN / 2) if top and gap.rest else 0.0
                found.append((chance + ends, number))
            longer += [
                (chance + more, f"{number}{token}") for token, more in top if isinstance(token, str) and token
            ]
        begins = nlargest(NUMBERS, (each for each in longer if _is_begun(each[1], gap.number)))
    return [each for each in found if each[0] > FITTING]


def _is_begun(text: str, old: str) -> bool:
    return bool(re.fullmatch(r"\d+(?:[.,]\d*)*", text)) and not {*text} & {*".,"} - {*old}


async def begun(text: str, top: Likeliest, encode: Encode) -> float:
    """Return the log-probability of a text's first token; -inf if it is not among the likeliest tokens."""
    first = (await encode(text))[:1]
    for token, chance in [(str(token), chance) for token, chance in top if token]:
        whole = first or len(token) > SHORT or not text[len(token) :][:1].isalnum()
        if text.startswith(token) and whole and await encode(token) == first:
            return chance
    return -math.inf
