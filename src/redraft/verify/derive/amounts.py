"""Rules for amounts: how many words, sentences, characters and paragraphs, and what "at most 5" says."""

# ruff: noqa: E501  (a pattern is read most easily in one piece)
from __future__ import annotations

import json
import re
from collections.abc import Iterator

from redraft.verify.derive.sentences import OF_PARTS, Found, Sentence, Text, is_negated

_NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_TENS = {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "hundred": 100, "a hundred": 100}
_OF_WORD = {word: number for number, word in enumerate(_NUMBERS)} | _TENS
NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d{1,6}|" + "|".join(sorted(_OF_WORD, key=len, reverse=True)) + ")"
MORE = dict.fromkeys(
    ("at least", "a minimum of", "minimum of", "minimum", "no fewer than", "no less than", "not less than"), 0
) | dict.fromkeys(("more than", "over", "longer than", "greater than"), 1)
LESS = dict.fromkeys(
    (
        *("at most", "a maximum of", "maximum of", "maximum", "max.", "max", "no more than", "not more than"),
        *(
            "no longer than",
            "up to",
            "not exceed",
            "not exceeding",
            "limit of",
            "limit is",
            "limited to",
            "not over",
        ),
        *(
            "limit it to",
            "limit your answer to",
            "limit your response to",
            "limit the response to",
            "limit yourself to",
        ),
    ),
    0,
) | dict.fromkeys(("less than", "fewer than", "under", "below"), -1)
"""What stands before a number -> what to add to it for the least, or the most."""
_BEFORE = rf"(?P<before>(?:{'|'.join([*MORE, *LESS])}|exactly|only|between|in|write))(?: or equal to)?"
_AFTER = r"(?:or|and) (?P<{0}>more|above|less|fewer|under|below)"
AMOUNT = (
    rf"(?:\b{_BEFORE}\s+)?(?<![\w.,$-])(?P<n>{NUMBER})(?P<plus>\s?\+)?(?:\s?(?:to|and|-|–)\s?(?P<m>{NUMBER}))?"
    rf"(?:\s{_AFTER.format('mid')})?"
)
TAIL = (
    rf"(?:\s{_AFTER.format('post')}|\s(?P<bound>minimum|maximum|max|at least|at most|or longer|or shorter))?"
)
FEW_TIMES = r"(?:once|twice|thrice)"


def number(word: str) -> int:
    """Return the value of a number in digits or words."""
    return _OF_WORD[low] if (low := word.lower()) in _OF_WORD else int(word.replace(",", ""))


Bounds = tuple[int | None, int | None]


def bounds_in(match: re.Match[str], before: str = "") -> Bounds | None:
    """Return the bounds that an amount says; None if it says none, or an unsure one. `before` precedes it."""
    found = {name: value.lower() for name, value in match.groupdict().items() if value}
    n, word = number(found["n"]), found.get("before", "")
    after = found.get("mid") or found.get("post") or found.get("bound") or ""
    if "m" in found:
        high = number(found["m"])
        return (n, high) if n < high and word in ("", "between", "in") and not after else None
    if after or "plus" in found:
        at_least = "plus" in found or after in ("more", "above", "minimum", "at least", "or longer")
        if word not in ("", "in"):
            return None
        return (n, None) if at_least else (None, n)
    if is_negated(before):
        return {"more than": (None, n), "longer than": (None, n), "over": (None, n)}.get(word) or (
            (n, None) if word in ("less than", "fewer than") else None
        )
    if word == "exactly":
        return n, n
    if word in MORE:
        return n + MORE[word], None
    if word in LESS:
        return None, n + LESS[word]
    return None


FEW = {"words": 4, "sentences": 1, "characters": 10, "paragraphs": 1}
"""Fewer are no limit of a whole answer."""
_UNITS = {
    "words": r"(?:[a-z-]+ )?words?\b(?! (?:in (?!length|total|your|the)|with|that|which|are|should|must|be|of|or phrases?|starting|beginning"
    r"|per|from|to be|have|appear|each|include))",
    "sentences": r"(?:[a-z-]+ )?sentences?\b(?! (?:that|which|in (?:the|each)|per|starting|beginning|each|from|of the))",
    "characters": r"characters\b(?! (?:in|from|that|who|which|are|named|should|must|with|called|of))",
    "paragraphs": r"(?:[a-z-]+ )?paragraphs?\b(?! (?:that|which|in|per|each|from|of the))",
}


CAPITALS = re.compile(
    r"\bwords? (?:are |be )?(?:in|with|which are|that are|written in) (?:all )?(?:capital|caps|upper)|\ball[- ]caps words|\bcapitali[sz]ed? (?:a few|some|certain|key)\b|"
    r"\bwords which are capital|\bwords be in all capital|\bstress words",
    re.IGNORECASE,
)
"""Some words, and not all, stand in capitals."""


def divided(text: Text) -> bool:
    """Return whether lines of three asterisks part the answer."""
    return text.has(r"(?<!\*)\*\*\*(?!\*)|\bthree asterisk|\b3 ast?erisk")


def lengths(sentence: Sentence) -> Found:
    """Yield the bounds on words, sentences, characters and paragraphs."""
    if OF_PARTS.search(sentence.text):
        return
    for unit, noun in _UNITS.items():
        total = rf"\b(?:number of {unit}|{unit[:-1]} count)\s[^.;,]{{0,40}}?\b(?:be|is|at|to)\s{AMOUNT}(?!\s?[a-z])"
        for match in (
            *sentence.all(rf"{AMOUNT}[\s-]{noun}{TAIL}", negated=True),
            *sentence.all(total, negated=True),
        ):
            if unit == "words" and CAPITALS.search(sentence.text):
                continue
            if unit == "paragraphs" and divided(sentence.of):
                continue
            bounds = bounds_in(match, sentence.before(match))
            said = {name: value for name, value in match.groupdict().items() if value}
            word = said.get("before", "").lower()
            if (
                bounds is None
                and unit in ("sentences", "paragraphs")
                and word in ("in", "only", "write")
                and "m" not in said
            ):
                bounds = (number(match["n"]),) * 2
            if bounds and not (
                (unit == "words" and (bounds[0] or 10) < 10)
                or (bounds[1] is not None and bounds[1] < FEW[unit])
            ):
                yield _counted(unit, *bounds)


def _counted(unit: str, low: int | None, high: int | None) -> str:
    if low == high:
        return f"{unit}=={low}"
    if low is None:
        return f"{unit}<={high}"
    return f"{unit}>={low}" if high is None else f"{unit}={low}..{high}"


def limits(bounds: Bounds) -> Iterator[tuple[str, int]]:
    """Yield bounds as IFEval writes them."""
    low, high = bounds
    if low is not None:
        yield "at least", low
    if high is not None:
        yield "less than", high + 1


def ifeval(kind: str, **values: str | int) -> str:
    """Return a constraint of IFEval in its short form."""
    return f"ifeval:{kind} {json.dumps(values, ensure_ascii=False)}" if values else f"ifeval:{kind}"
