"""Rules for amounts: how many words, sentences, characters, paragraphs, lines, bullet points and items."""

# ruff: noqa: E501  (a pattern is read most easily in one piece)
from __future__ import annotations

import re

from redraft.verify.derive.sentences import OF_PARTS, Found, Sentence, is_negated

_NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_OF_WORD = {word: number for number, word in enumerate(_NUMBERS)} | {
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "hundred": 100,
    "a hundred": 100,
    "a single": 1,
    "single": 1,
}
NUMBER = rf"(?:\d{{1,3}}(?:,\d{{3}})+|\d{{1,6}}|{'|'.join(sorted(_OF_WORD, key=len, reverse=True))})"

_BEFORE = {
    ("least", 0): r"at least|(?:a )?minimum(?: of)?|no fewer than|(?:no|not) less than",
    ("least", 1): r"more than|over|longer than|greater than",
    (
        "most",
        0,
    ): r"at (?:the )?most|(?:a )?max(?:imum|\.)?(?: of)?|(?:no|not) (?:more|longer) than|up to|within"
    r"|(?:not|n['’]t) (?:exceed|go over)|not exceeding|not over"
    r"|limit(?:ed)?(?: (?!of|to|is|at)\w+){0,3} (?:of|to|is|at)",
    ("most", -1): r"(?:less|fewer|shorter) than|under|below",
    ("exact", 0): r"exactly|only|just",
    ("in", 0): r"in|write|between|using|with|use|give (?:me|us)|provide|to|into",
}
"""What stands before a number -> which bound it says, and what to add."""
_LEAST_AFTER = r"or more|or longer|and more|and above|minimum|min|at least|\+"
_MOST_AFTER = r"or less|or fewer|or shorter|and under|or under|maximum|max|at (?:the )?most|tops"

_ALL_BEFORE = "|".join(_BEFORE.values())
_AMOUNT = (
    rf"(?:\b(?P<before>{_ALL_BEFORE})\s)?(?<![\w.,$€£/-])(?P<n>{NUMBER})(?![\d.]*\d)"
    rf"(?:\s?(?:to|and|-|–)\s?(?P<m>{NUMBER}))?(?:\s?(?P<mid>{_LEAST_AFTER}|{_MOST_AFTER}))?"
)
_AFTER = rf"(?:,? (?P<post>{_LEAST_AFTER}|{_MOST_AFTER})(?!\w))?"
_NOT_ALL = r"(?! (?:that|which|who|from|of|per|each|starting|beginning|are|with|should|must|long ago))"

UNITS = {
    "words": rf"(?:[a-z]+ )?words?\b{_NOT_ALL}(?! in (?!length|total))",
    "sentences": rf"(?:[a-z]+ )?sentences?\b{_NOT_ALL}",
    "characters": rf"(?:characters|chars)\b{_NOT_ALL}(?! in (?!length|total))",
    "paragraphs": rf"(?:[a-z]+ )?paragraphs?\b{_NOT_ALL}",
    "lines": rf"lines?\b{_NOT_ALL}",
    "bullets": r"(?:[a-z]+ ){0,2}bullet(?:ed)?(?:[ -]?(?:points?|list items|items)|s\b)",
    "items": r"(?:clearly )?numbered (?:[a-z]+ )?(?:steps|items|points|tips|lines|instructions)\b",
}
_EXACT = {"sentences", "paragraphs", "lines", "bullets", "items"}
"""Of these, "in three" is exactly three; "in 50 words" may be about 50."""

Bounds = tuple[int | None, int | None]


def number(word: str) -> int:
    """Return the value of a number in digits or words."""
    return _OF_WORD[low] if (low := word.lower()) in _OF_WORD else int(word.replace(",", ""))


def lengths(sentence: Sentence) -> Found:
    """Yield the bounds on how long the answer is."""
    if OF_PARTS.search(sentence.text):
        return
    for unit, noun in UNITS.items():
        for match in sentence.all(rf"{_AMOUNT}(?P<joint>[\s-]){noun}{_AFTER}", negated=True):
            bounds = _bounds(match, unit, sentence.before(match))
            if bounds and (bounds[1] is None or bounds[1] > 0):
                yield _counted(unit, *bounds)


def _bounds(match: re.Match[str], unit: str, before: str) -> Bounds | None:
    """Return the bounds that an amount says; None if it says none, or an unsure one. `before` precedes it."""
    n, word, after = number(match["n"]), (match["before"] or "").lower(), match["mid"] or match["post"] or ""
    says, more = next((key for key, form in _BEFORE.items() if re.fullmatch(form, word)), ("", 0))
    if match["m"]:
        high = number(match["m"])
        return (n, high) if n < high and says in ("", "in", "exact") and not after else None
    if after:
        least = re.fullmatch(_LEAST_AFTER, after.lower())
        return None if says in ("least", "most") else (n, None) if least else (None, n)
    if is_negated(before):
        return {"least": (None, n), "most": (n, None)}.get(says) if more else None
    if says == "least":
        return n + more, None
    if says == "most":
        return None, n + more
    named = unit in _EXACT or n == 1
    if (says == "exact" or (says == "in" and named)) and (unit != "words" or n > 1 or word != "with"):
        return n, n
    return (n, n) if match["joint"] == "-" and unit in ("sentences", "paragraphs") else None


def _counted(unit: str, low: int | None, high: int | None) -> str:
    if low == high:
        return f"{unit}=={low}"
    if low is None:
        return f"{unit}<={high}"
    return f"{unit}>={low}" if high is None else f"{unit}={low}..{high}"


_KINDS = r"(?P<kind>numbered|ordered|bullet(?:ed)?(?:[ -]point)?)"


def lists(sentence: Sentence) -> Found:
    """Yield how many items a list has: "a list of 5 ideas", "list five rivers", "ten names, as a numbered list"."""
    of = rf"\b(?:an?|your|one) (?:(?:short|simple|quick|{_KINDS}) )*list (?:of|with) (?:exactly |only )?(?P<n>{NUMBER}) \w"
    verb = (
        rf"(?:^\W*|[.:,] |please |\band )list (?:exactly |only |out |the |me )*(?P<n>{NUMBER}) (?!of the\b)\w"
    )
    form = rf"\b(?P<n>{NUMBER}) (?:\w+ ){{1,5}}?(?:\w+,? )?(?:as|in) (?:an? |the form of an? )?{_KINDS} list"
    for pattern in (of, verb, form):
        for match in sentence.all(pattern):
            kind = match.groupdict().get("kind") or ""
            if (count := number(match["n"])) > 1:
                yield f"{'bullets' if 'bullet' in kind.lower() else 'items'}=={count}"
