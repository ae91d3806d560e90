"""Rules for words to use and to avoid, the beginning and the end, case, marks and quotation marks: one table."""

# ruff: noqa: E501  (a pattern is read most easily in one piece)
from __future__ import annotations

import re
from collections.abc import Callable

from redraft.checks.derive.sentences import HIDDEN, OF_PARTS, QUOTED, Found, Sentence
from redraft.checks.text import quoted

MOST_WORDS = 20
"""Words of a list to use or to avoid; a longer list is hardly one."""

_FUNCTION = (
    "in|the|your|and|or|at|should|must|is|are|to|of|with|for|that|which|anywhere|not|a|an|it|as|be|count|counts|"
    "limit|total|order|choice|list|you|i|we|they|he|she|from|here|above|below|like|such|have|has|was|were|"
    "appears?|only|so|on|by|this|these|those|any|anything|his|her|my|our|their|more|too|how|what|why|who"
)
WORD = rf"(?!(?:{_FUNCTION})\b)[^\W\d_][\w'’-]{{0,30}}"
_JOIN = r"(?:\s?,\s?(?:and |or |nor )?|\s(?:and|or|nor|&)\s)(?:the (?:key)?words? )?"
_LIST = rf"(?:{QUOTED}(?:{_JOIN}{QUOTED}){{0,{MOST_WORDS - 1}}})"
_WORDS = rf"(?:{WORD}(?:{_JOIN}{WORD}){{0,{MOST_WORDS - 1}}})"
_END = r"(?=\s?(?:[.;:!?)\]]|$)|\s(?:in|anywhere|throughout|within|at all)\b)"
_NOUN = r"(?:the |these |those |any of the |this )?(?:following |exact |specific )*(?:key ?words?|words?|phrases?|terms?|expressions?)\b"
_NAMED = rf"{_NOUN}(?: of)?\s?[:,]?\s?[\[(]?(?P<bare>{_WORDS}){_END}"
_QUOTES = rf"(?:{_NOUN}|(?:the )?names?)?\s?:?\s?[\[(]?(?P<list>{_LIST})"
_ONCE = r"(?![^,.;]{0,40}\b(?:times?|once|twice|thrice)\b)"
NO = (
    r"(?:\b(?:not|never|cannot|avoid|without|refrain from|exclude|no|leave out|stop|nobody|no one)|n['’]t)\s"
    r"(?:(?:any|want|see|ever|be|allowed|to|of|the|using|use|uses|include|including|mention|mentioning|mentions|say|says|saying|"
    r"contain|containing|have|write|writing|allow|under any circumstances)\s){0,6}"
)
_NAMES = r"(?-i:[A-Z][\w'’-]+)(?:(?:,? and|,) (?-i:[A-Z][\w'’-]+))*"
_END_OF_NAMES = r"(?=\s?(?:[.,;:!?)]|$)|\s(?:in|as|by|at|for|and|somewhere|too|also)\b)"
_MENTION = rf"(?:\b(?:not|never|without)|n['’]t) (?:ever )?mention(?:ing)? (?:of )?(?:the |any )?(?P<bare>{_WORDS}){_END}"
_DO = (
    r"\b(?:includ(?:e|es|ing)|contain(?:s|ing)?|us(?:e|es|ing)|mention(?:s|ing)?|incorporat(?:e|ing)|has|have|add|with)\s"
    r"(?:(?:all|both|of|in|your|response|answer|the response)\s){0,3}"
)


_TEXTS = (
    r"\b(?:notes?|letters?|e-?mails?|messages?|stor(?:y|ies)|poems?|songs?|speech|sentences?|paragraphs?|posts?|essays?|texts?|"
    r"haikus?|slogans?|summar(?:y|ies)|tweets?|captions?|repl(?:y|ies)|answers?|responses?|intro|articles?|reviews?|toasts?|"
    r"jokes?|bio|blurb|ads?|descriptions?|rap|limerick|tale|diary|entry|card|script|outline|report)\b"
)


def is_of_a_thing(sentence: Sentence, match: re.Match[str]) -> bool:
    """Return whether a clause is about what the answer names: "countries that end with"."""
    before = sentence.before(match)
    clause = re.search(r"^(.*)\b(?:that|which)\s(?:[^.;,]{0,60}\sand\s)?(?:\w+\s)?$", before, re.I)
    return clause is not None and not re.search(_TEXTS, clause[1], re.I)


_AT_AN_EDGE = re.compile(
    rf"\b(?:start|begin|end|finish|conclude|close|follow|replace|read|titled|called)(?:s|es|ing|ning|ed)?\s[^.;,]{{0,50}}[{HIDDEN}]$|"
    r"\b(?:start|begin|end|finish|conclude)(?:s|ing|ning)?\s(?:\w+\s){0,4}with\s(?:the\s)?(?:word|phrase)\s\w+$",
    re.IGNORECASE,
)

_WHOLE = (
    r"(?:(?:it|this|the|your|whole|entire|full|reply|response|answer|output|essay|story|poem|song|letter|email|"
    r"post|article|text|message|summary|note|blog|rant|rap|speech|toast|review|caption|tweet|diary|entry|with)\s){0,5}"
)
_SAYING = r"(?:(?:the|this|following|exact|exactly|very|words?|phrases?|sentence|line|question|same|of)\s?){0,6}[:,]?\s?"


_OTHER_START = re.compile(
    r"paragraph|section|stanza|verse|bullet|each|every|\bline|title|sentences\b|post ?script|note|ending",
    re.I,
)


_OF_A_PART = re.compile(
    r"\b(?:titles?|headings?|names?|first|initials?|key ?words?|important|sections?|some|few|\d+|letters? of|headers?)\b",
    re.I,
)
_FOR_A_PART = re.compile(
    r" (?:for|in|on) (?!all|every|the (?:whole|entire|answer))| and (?:explain|describe|add|an?|the)\b", re.I
)


def _of_a_part(sentence: Sentence, match: re.Match[str]) -> bool:
    """Return whether a case is that of a part of the answer."""
    before = sentence.text[: match.end()].rstrip(" ,")[-60:]
    part = _OF_A_PART.search(re.split(r",|\band\b", before)[-1])
    return bool(part or _FOR_A_PART.match(sentence.text, match.end()))


_LAST = re.compile(r"\W*(?:the|its|your) (?:very )?last (?:sentence|line)\b", re.I)


Unless = Callable[[Sentence, re.Match[str]], object]


def wordings(sentence: Sentence) -> Found:
    """Yield what the table below finds."""
    for check, negated, unless, patterns in _TABLE:
        for pattern in patterns:
            for match in sentence.all(pattern, negated=negated):
                if not unless(sentence, match):
                    kind = check.partition(":")[0]
                    yield from (check.format(quoted(each, kind)) for each in _phrases(sentence, match, check))


def _phrases(sentence: Sentence, match: re.Match[str], check: str) -> list[str]:
    """Return what a match names: its `list` of quotations, `bare` words, or `what`, one phrase.

    It is nothing if it has no word. A text that begins or ends with one character may do so by chance.
    """
    found = match.groupdict()
    if "{}" not in check:
        return [check]
    if found.get("what"):
        phrase = sentence.phrase(found["what"])
        return [phrase] if len(phrase) > (0 if check.startswith(("lacks", "contains")) else 1) else []
    if found.get("list"):
        words = [sentence.phrase(item) for item in re.findall(QUOTED, found["list"])]
    else:
        words = re.split(_JOIN, found.get("bare") or "")
    usable = all(0 < len(word) <= 60 and any(map(str.isalnum, word)) for word in words)
    return [word.rstrip(",.") for word in words] if usable else []


_SMALL = r"(?:lower[- ]?case|small letters)"
_LARGE = r"(?:upper[- ]?case|caps|(?:block )?capitals|(?:block )?capital letters|block letters)"
_IN_CASE = (
    r"\b(?:in|all|only|use|using|entirely)(?: in| all| only)? {0}\b"
    r"|(?:^\W*|[,(] ?)(?:and )?(?:all )?{0}(?: letters)?(?: only| please)*(?=[.,;)!]|$)"
    r"|\b(?:make|turn|convert|change)\b[^.;:,]{{1,40}}?\b{0}\b"
)


_MARKS = {
    ",": "commas?",
    "!": "exclamation (?:marks?|points?)",
    "#": "hash-?tags?",
    "—": "em[- ]?dash(?:es)?",
    ";": "semi-?colons?",
    "?": "question marks?",
    "*": "asterisks?",
}


_OTHER_MARKS = r"(?:[\w-]+(?: marks?)?(?:, (?:or |and )?| or | and )){0,3}"
_OF_A_TITLE = r"(?! (?:in|on|for) the (?:title|head|first|subject))\b"
_VERBS = r"\b(?:includ(?:e|es|ing)|mention(?:s|ing)?|contain(?:s|ing)?)\s(?:both )?"
_SAID = rf"(?P<what>{QUOTED})(?!\s(?:and|or)\s{QUOTED})"
_WRAP = r"\b(?:wrap|put|enclose|surround)(?:ped|d|ed)?\b[^.;]{0,80}\bdouble[- ]quot(?:es|ation)"
_NO_CAPITALS = (
    r"\ball (?:of )?(?:the |your )?letters\b[^.;,]{0,40}\blower[- ]?case"
    r"|\b(?:not|no|without|avoid)\b(?! more)[^.;,]{0,20}\bcapital(?: letter)?s?\b|n['’]t use (?:any )?capital"
)


def _said(
    check: str, *patterns: str, negated: bool = False, unless: Unless = lambda *_: None
) -> tuple[str, bool, Unless, tuple[str, ...]]:
    return check, negated, unless, patterns


_TABLE = (
    _said(
        "lacks[part]:{}",
        rf"\bwithout (?:using )?(?:the|any) letters? (?P<what>{QUOTED}|[a-z])\b",
        negated=True,
    ),
    _said(
        "lacks:{}",
        rf"{NO}{_QUOTES}{_ONCE}",
        rf"{NO}{_NAMED}{_ONCE}",
        _MENTION,
        rf"\b{_NOUN}\s(?P<list>{_LIST})\s(?:should|must|may|can|shall|do|does)\s?(?:not|never)\s(?:appear|be|occur)",
        negated=True,
        unless=lambda _, it: re.match(rf"(?:not|n['’]t)\s{QUOTED}", it[0], re.I),  # as in: she is not "shy"
    ),
    _said(
        "contains:{}",
        rf"{_DO}{_NOUN}\s?:?\s?[\[(]?(?P<list>{_LIST}){_ONCE}",
        rf"{_DO}{_NAMED}{_ONCE}",
        rf"{_VERBS}(?P<list>{_LIST}){_ONCE}",
        rf"\bthe (?:key)?words?\s(?P<list>{QUOTED}) at least once",
        rf"\b(?:mention|include the names?|use the names?)\s(?P<bare>{_NAMES}){_END_OF_NAMES}",
        unless=lambda said, it: _AT_AN_EDGE.search(said.text[: it.end()][-90:]) or is_of_a_thing(said, it),
    ),
    _said(
        "contains:{}",
        r"\b(?:include|mention|add|use|with)\s(?:\w+\s){0,3}(?:number|link|url|website|code|hashtag|e-?mail|address)\s(?P<what>[\w#@:/.+-]*[\d@#/][\w#@:/.+-]*\w)",
    ),
    _said(
        "starts:{}",
        rf"\b(?:start|begin)(?:s|ning|ing)?\s{_WHOLE}with\s(?:{_SAYING}(?P<what>{QUOTED})|(?:the\s)?word\s(?P<bare>{WORD}))",
        unless=lambda said, it: _OTHER_START.search(said.text) or is_of_a_thing(said, it),
    ),
    _said(
        "ends:{}",
        rf"\b(?:end|finish|conclude|close|sign off|sign it off|wrap up)(?:s|es|ing)?\s{_WHOLE}(?:with|by saying|by)\s{_SAYING}{_SAID}",
        rf"\blast (?:sentence|words|line|phrase) (?:of (?:your|the) (?:\w+\s){{0,2}})?(?:should|must|has to) (?:be|read|say)\s{_SAYING}{_SAID}",
        rf"\b(?:end|finish|conclude)\s{_WHOLE}with:\s(?P<what>[^{HIDDEN}]{{3,100}})$",
        unless=lambda said, it: (
            (OF_PARTS.search(said.text) and not _LAST.match(said.text)) or is_of_a_thing(said, it)
        ),
    ),
    _said("lowercase", f"{_IN_CASE.format(_SMALL)}|{_NO_CAPITALS}", negated=True, unless=_of_a_part),
    _said("uppercase", _IN_CASE.format(_LARGE), unless=_of_a_part),
    *(
        _said(f"lacks:{mark}", rf"{NO}{_OTHER_MARKS}(?:{name}){_OF_A_TITLE}", negated=True)
        for mark, name in _MARKS.items()
    ),
    _said('starts:"', _WRAP),
    _said('ends:"', _WRAP),
)
"""The check, with a place for each phrase; whether it counts behind a "not" too; where it means something else;
and what people write.
"""
