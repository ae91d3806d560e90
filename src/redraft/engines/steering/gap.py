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
NUMBERS = 3  # maximum number of beginnings that are extended digit by digit
_OTHER = "anom|assem|butter|cost|dead|elder|fami|friend|like|live|lone|love|month|multi|order|supp|time|week"
_ADVERB = re.compile(rf"\b(?:(?!{_OTHER})[a-z]{{4,}}ly|truly|very|quite|also|even)$")
_BARE = re.compile(r"\s*[\w.,;:!?]")  # not the end of emphasis, as in `**really**`
_MODAL = re.compile(r"\b(?:can|could|may|might|must|should|will|would)$")
_AUXILIARY = re.compile(rf"{_MODAL.pattern}|\b(?:do|does|did|is|are|was|were|has|have|had)$")
_NO_NOUN = re.compile(r"\s*(?:[^\w\s]|(?:and|as|at|by|for|from|in|into|is|of|on|or|than|that|to|was|with)\b)")
_FIRST = re.compile(r"\s?(?:\w+|[^\w\s])")
FITTING = -7.5  # minimum log-probability of a word or number, together with the token after it
WORSE, UNSEEN = 2.5, -8.0  # by how much the rest may become less likely; log-probability of unlisted tokens
SHORT = 3  # letters; a token this short, without a space, is a part of many words

Look: TypeAlias = Callable[[str], Awaitable[Likeliest]]  # returns the likeliest tokens after a text
Encode: TypeAlias = Callable[[str], Awaitable[Tokens]]


async def filling(gap: Gap, look: Look, encode: Encode, forbidden: Callable[[str], object]) -> list[str]:
    """Return texts to replace `gap.old + gap.rest`, most probable first; an empty list if no text fits.

    If the word should be removed, the only text is `gap.closed`. `forbidden` returns None for allowed texts.
    """
    if gap.number:
        found = sorted(await _numbers(gap, look, encode), reverse=True)
        texts = (gap.old.removesuffix(gap.number) + number + gap.rest for _, number in found)
        return [text for text in texts if forbidden(text) is None]
    if not (top := await look("")):
        return []
    after = gap.rest[: -len(gap.closed.lstrip())].rstrip()  # the punctuation after the word
    old, other = gap.old + after, gap.rest[len(after) :]
    closing = max(await begun(gap.closed, top, encode), UNSEEN if gap.determined else -math.inf)
    held = _AUXILIARY.search(gap.old) or (gap.determined and _NO_NOUN.match(gap.closed))
    apart = bool(after or _ADVERB.search(gap.old) or not gap.old[-1].isalnum())
    if not (apart or held) and closing > -math.inf:
        apart = closing > max(await begun(other, await look(old), encode), UNSEEN) - WORSE
    if apart and _BARE.match(gap.closed) and await _goes_on(("", gap.closed), (old, other), look, encode):
        return [gap.closed]
    found, chances = list[tuple[float, str]](), dict[str, float]()
    words = [(str(word), chance) for word, chance in top]  # an id of a token without a text is not a word
    for word, chance in [each for each in words if gap.takes(each[0])][: 3 * WORDS]:
        if (len(found) < WORDS or max(found)[0] < FITTING) and forbidden(word + gap.rest) is None:
            chances[word] = await begun(gap.rest, await look(word), encode)
            found.append((chance + chances[word], word))
    least = FITTING
    if found and max(found)[0] < FITTING:  # a word about as likely as the old one is enough
        then = await _at_most(gap.rest, await look(gap.old), encode)
        least = await _at_most(gap.old, top, encode) + then - WORSE
        found = [each for each in found if chances[each[1]] > then - WORSE]
    for _, word in sorted((each for each in found if each[0] > least), reverse=True):
        if await _goes_on((word, gap.rest), (gap.old, gap.rest), look, encode):
            return [word + gap.rest]
    modal = _MODAL.search(gap.old)
    loose = [
        (chance + max(chances[word], UNSEEN), word)
        for word, chance in words
        if word in chances and (chances[word] > UNSEEN or (modal and _MODAL.search(word)))
    ]
    return [max(loose)[1] + gap.rest] if loose else []


async def _at_most(text: str, top: Likeliest, encode: Encode) -> float:
    return max(await begun(text, top, encode), min((chance for _, chance in top), default=0.0))


async def _goes_on(new: tuple[str, str], old: tuple[str, str], look: Look, encode: Encode) -> bool:
    """Return whether the rest is about as probable after the new text as after the old text."""
    chances = list[float]()
    for text, rest in (new, old):
        first = _FIRST.findall(rest)[0]
        chances.append(max(await begun(rest[len(first) :], await look(text + first), encode), UNSEEN))
    return chances[0] > chances[1] - WORSE


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
        numbers = (each for each in longer if re.fullmatch(r"\d+(?:[.,]\d*)*", each[1]))
        begins = nlargest(NUMBERS, (each for each in numbers if not {*each[1]} & {*".,"} - {*gap.number}))
    return [each for each in found if each[0] > FITTING]


async def begun(text: str, top: Likeliest, encode: Encode) -> float:
    """Return the log-probability of a text's first token; -inf for a token that is not in `top`."""
    first = (await encode(text))[:1]
    for token, chance in [(str(token), chance) for token, chance in top if token]:
        whole = first or len(token) > SHORT or not text[len(token) :][:1].isalnum()
        if text.startswith(token) and whole and await encode(token) == first:
            return chance
    return -math.inf
