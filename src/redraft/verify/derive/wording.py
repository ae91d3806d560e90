"""Rules for words to use and to avoid, how often, and the beginning and the end."""

# ruff: noqa: E501  (a pattern is read most easily in one piece)
from __future__ import annotations

import re

from redraft.verify.derive.amounts import AMOUNT, FEW_TIMES, LESS, MORE, Bounds, bounds_in, ifeval, limits
from redraft.verify.derive.sentences import HIDDEN, OF_PARTS, QUOTED, Found, Sentence, is_negated
from redraft.verify.text import Contains, Lacks

MOST_WORDS = 20
"""Words of a list to use or to avoid; a longer list is hardly one."""


WORD = r"(?!(?:in|the|your|and|or|at|should|must|is|are|to|of|with|for|that|which|anywhere|not|a|an|it|as|be|count|counts|limit|total|game|order|choice|list|you|i|we|they|he|she|from|here|above|below|like|such|have|has|was|were|appears?|only|so|on|by|this|these|those|any)\b)[^\W\d_][\w'’-]{0,30}"
_JOIN = r"(?:\s?,\s?(?:and |or |nor )?|\s(?:and|or|nor|&)\s)(?:the (?:key)?words? )?"
_LIST = rf"(?:{QUOTED}(?:{_JOIN}{QUOTED}){{0,{MOST_WORDS - 1}}})"
_BARE = rf"(?:{WORD}(?:{_JOIN}{WORD}){{0,{MOST_WORDS - 1}}})(?=\s?(?:[.;!?)\]]|$)|\s(?:in|anywhere|throughout|as|within)\b)"
_NOUN = r"(?:the |these |those |any of the |this )?(?:following |exact |specific )*(?:key ?words?|words?|phrases?|terms?|expressions?)"
_NAMED = rf"{_NOUN}(?: of)?(?: {QUOTED})?\s?[:,]?\s?[\[(]?(?P<bare>{_BARE})"
_QUOTES = rf"(?:{_NOUN}|(?:the )?(?:name|names))?\s?:?\s?[\[(]?(?P<list>{_LIST})"
_TIMES = r"(?![^,.;]{0,40}\b(?:times?|once|twice|thrice)\b)"
NO = (
    r"(?:\b(?:not|never|cannot|avoid|without|refrain from|exclude|no)|n't|n’t)\s(?:(?:any|ever|be|allowed|to|of|the|"
    r"using|use|include|including|mention|mentioning|say|saying|contain|containing|have|write|writing|allow|"
    r"under any circumstances)\s){0,6}"
)
_DO = r"\b(?:include|including|includes|contain|contains|containing|use|using|mention|mentioning|mentions|incorporate|incorporating|has|have|add|with)\s(?:(?:all|both|all of|of|in|your|response|answer|the response)\s){0,3}"


def _listed(sentence: Sentence, match: re.Match[str]) -> list[str]:
    found = match.groupdict()
    items = (
        re.findall(QUOTED, found["list"]) if found.get("list") else re.split(_JOIN, found.get("bare") or "")
    )
    words = [sentence.phrase(item) for item in items]
    usable = all(0 < len(word) <= 60 and any(map(str.isalnum, word)) for word in words)
    return [word.rstrip(",.") for word in words] if usable else []


def forbidden(sentence: Sentence) -> Found:
    """Yield the words to avoid."""
    for pattern in (rf"{NO}{_QUOTES}{_TIMES}", rf"{NO}{_NAMED}{_TIMES}"):
        for match in sentence.all(pattern):
            yield from (Lacks(word).name for word in _listed(sentence, match))
    for match in sentence.all(
        rf"\b{_NOUN}\s(?P<list>{_LIST})\s(?:should|must|may|can|shall|do|does)\s?(?:not|never)\s(?:appear|be|occur|show)"
    ):
        yield from (Lacks(word).name for word in _listed(sentence, match))


def wanted(sentence: Sentence) -> Found:
    """Yield the words to use."""
    if re.search(NO, sentence.text, re.IGNORECASE) and not re.search(r"forget", sentence.text, re.IGNORECASE):
        start = next(m.start() for m in re.finditer(NO, sentence.text, re.IGNORECASE))
    else:
        start = len(sentence.text)
    verbs = r"\b(?:include|including|mention|mentioning|contain|containing)\s(?:both )?"
    noun = rf"{_NOUN}\s?:?\s?[\[(]?"
    for pattern in (
        rf"{_DO}{noun}(?P<list>{_LIST}){_TIMES}",
        rf"{_DO}{_NAMED}{_TIMES}",
        rf"{verbs}(?P<list>{_LIST}){_TIMES}",
        rf"(?:\b(?:with|using|has|have|include|includes|contain|contains)\b|\band)\s(?:the |these )?(?:key)?words?\s?:?\s?(?P<list>{_LIST}){_TIMES}",
        rf"\bthe (?:key)?words?\s(?P<list>{QUOTED}) at least once",
    ):
        for match in sentence.all(pattern):
            if match.start() < start and not _EDGE.search(sentence.text[: match.end()][-90:]):
                yield from (Contains(word).name for word in _listed(sentence, match))


_EDGE = re.compile(
    rf"\b(?:start|begin|end|finish|conclude|close|follow|replace|read|titled|called)(?:s|es|ing|ning|ed)?\s[^.;,]{{0,50}}[{HIDDEN}]$|"
    r"\b(?:start|begin|end|finish|conclude)(?:s|ing|ning)?\s(?:\w+\s){0,4}with\s(?:the\s)?(?:word|phrase)\s\w+$",
    re.IGNORECASE,
)
"""A phrase that stands at an edge of the answer."""

_HOW_OFTEN = (
    rf"(?:\bfor\s)?(?:{AMOUNT}\stimes?\b|(?P<least>at least|more than|less than|at most|no more than)\s"
    rf"(?P<few>{FEW_TIMES})\b)"
)
_BY_FEW = {"once": 1, "twice": 2, "thrice": 3}


def _often(match: re.Match[str], before: str) -> Bounds | None:
    if match["n"]:
        return bounds_in(match, before)
    count, word = _BY_FEW[match["few"].lower()], match["least"].lower()
    if is_negated(before):
        return (None, count) if word == "more than" else None
    return (count + MORE[word], None) if word in MORE else (None, count + LESS[word])


def frequencies(sentence: Sentence) -> Found:
    """Yield how often to use a word or a letter."""
    gap = r"[^,.;:]{0,40}?"
    one = rf"\b(?:key)?word\s(?P<what>{QUOTED}|{WORD}){gap}\s{_HOW_OFTEN}"
    mention = rf"\bmention(?:ing)?\s(?P<what>{QUOTED}){gap}\s{_HOW_OFTEN}"
    for match in (*sentence.all(one, negated=True), *sentence.all(mention, negated=True)):
        bounds, word = _often(match, sentence.before(match)), sentence.phrase(match["what"])
        for relation, count in limits(bounds) if bounds and word else ():
            if (relation, count) == ("at least", 1):
                yield Contains(word).name
            elif (relation, count) == ("less than", 1):
                yield Lacks(word).name
            else:
                yield ifeval("keywords:frequency", keyword=word, relation=relation, frequency=count)
    letter = rf"\bletter\s(?P<what>{QUOTED}|[^\W\d_])(?!\w)"
    for match in sentence.all(rf"{letter}{gap}\s{_HOW_OFTEN}", negated=True):
        bounds, word = _often(match, sentence.before(match)), sentence.phrase(match["what"])
        if bounds and len(word) == 1:
            yield from (_letters(word, *limit) for limit in limits(bounds))
    for match in sentence.all(
        rf"{NO}letter\s(?P<what>{QUOTED}|[^\W\d_])(?!\w)(?![^.;]{{0,60}}(?:times|once|twice))"
    ):
        if len(word := sentence.phrase(match["what"])) == 1:
            yield _letters(word, "less than", 1)


def _letters(letter: str, relation: str, count: int) -> str:
    return ifeval(
        "keywords:letter_frequency", letter=letter.lower(), let_relation=relation, let_frequency=count
    )


_WHOLE = r"(?:(?:it|this|the|your|whole|entire|full|reply|response|answer|output|essay|story|poem|song|letter|email|post|article|text|message|summary|with)\s){0,5}"
_SAYING = r"(?:(?:the|this|following|exact|exactly|very|words?|phrases?|sentence|statement|text|line|question|same|of)\s?){0,6}[:,]?\s?"


def ends(sentence: Sentence) -> Found:
    """Yield the last phrase."""
    if OF_PARTS.search(sentence.text):
        return
    said = rf"(?P<what>{QUOTED})(?!\s(?:and|or)\s{QUOTED})"
    for pattern in (
        rf"\b(?:end|ends|ending|finish|finishes|conclude|close)\s{_WHOLE}(?:with|by saying|by)\s{_SAYING}{said}",
        rf"\blast (?:sentence|words|line|phrase) of (?:your|the) (?:\w+\s){{0,2}}(?:should|must|has to) be\s{_SAYING}{said}",
        rf"\bvery end of (?:your|the) (?:\w+\s){{0,2}}(?:should|must) (?:read|be|say)\s{_SAYING}{said}",
        rf"\b(?:end|finish|conclude)\s{_WHOLE}with\s(?:this|the) (?:following )?exact (?:phrase|sentence|words):\s(?P<what>[^{HIDDEN}]{{3,200}})$",
    ):
        for match in sentence.all(pattern):
            if len(phrase := sentence.phrase(match["what"])) > 1:
                yield f"ends:{phrase}"


def starts(sentence: Sentence) -> Found:
    """Yield the first phrase."""
    if re.search(
        r"paragraph|section|stanza|verse|bullet|each|every|\bline|title|sentences\b|post ?script|note|ending",
        sentence.text,
        re.I,
    ):
        return
    for match in sentence.all(
        rf"\b(?:start|begin|starts|begins|starting|beginning)\s{_WHOLE}with\s{_SAYING}(?P<what>{QUOTED})"
    ):
        if (phrase := sentence.phrase(match["what"])) and len(phrase) > 1:
            yield f"starts:{phrase}"
