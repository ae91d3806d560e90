"""Rules for words to use and to avoid, and for the beginning and the end."""

# ruff: noqa: E501  (a pattern is read most easily in one piece)
from __future__ import annotations

import re

from redraft.verify.derive.sentences import HIDDEN, OF_PARTS, QUOTED, Found, Sentence

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


def listed(sentence: Sentence, match: re.Match[str]) -> list[str]:
    """Return the words that a match lists, quoted or bare; none if they are no words."""
    found = match.groupdict()
    if found.get("list"):
        words = [sentence.phrase(item) for item in re.findall(QUOTED, found["list"])]
    else:
        words = re.split(_JOIN, found.get("bare") or "")
    usable = all(0 < len(word) <= 60 and any(map(str.isalnum, word)) for word in words)
    return [word.rstrip(",.") for word in words] if usable else []


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


def forbidden(sentence: Sentence) -> Found:
    """Yield the words to avoid."""
    appear = rf"\b{_NOUN}\s(?P<list>{_LIST})\s(?:should|must|may|can|shall|do|does)\s?(?:not|never)\s(?:appear|be|occur)"
    letter = rf"\bwithout (?:using )?(?:the|any) letters? (?P<letter>{QUOTED}|[a-z])\b"
    for match in sentence.all(letter, negated=True):
        if re.search(r"\b(?:list|name|find|words?|names?)\b", sentence.before(match), re.I):
            continue
        yield f"lacks[part]:{sentence.phrase(match['letter'])}"
    for pattern in (rf"{NO}{_QUOTES}{_ONCE}", rf"{NO}{_NAMED}{_ONCE}", _MENTION, appear):
        for match in sentence.all(pattern, negated=True):
            if not re.match(rf"(?:not|n['’]t)\s{QUOTED}", match[0], re.I):  # as in: she is not "shy"
                yield from (f"lacks:{word}" for word in listed(sentence, match))


def wanted(sentence: Sentence) -> Found:
    """Yield the words to use."""
    verbs = r"\b(?:includ(?:e|es|ing)|mention(?:s|ing)?|contain(?:s|ing)?)\s(?:both )?"
    for pattern in (
        rf"{_DO}{_NOUN}\s?:?\s?[\[(]?(?P<list>{_LIST}){_ONCE}",
        rf"{_DO}{_NAMED}{_ONCE}",
        rf"{verbs}(?P<list>{_LIST}){_ONCE}",
        rf"\bthe (?:key)?words?\s(?P<list>{QUOTED}) at least once",
        rf"\b(?:mention|include the names?|use the names?)\s(?P<bare>{_NAMES}){_END_OF_NAMES}",
        r"\b(?:include|mention|add|use|with)\s(?:\w+\s){0,3}(?:number|link|url|website|code|hashtag|e-?mail|address)\s(?P<what>[\w#@:/.+-]*[\d@#/][\w#@:/.+-]*\w)",
    ):
        for match in sentence.all(pattern):
            if what := match.groupdict().get("what"):
                yield f"contains:{what}"
            elif not (
                _AT_AN_EDGE.search(sentence.text[: match.end()][-90:]) or is_of_a_thing(sentence, match)
            ):
                yield from (f"contains:{word}" for word in listed(sentence, match))


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


def ends(sentence: Sentence) -> Found:
    """Yield the last phrase."""
    last = re.match(r"\W*(?:the|its|your) (?:very )?last (?:sentence|line)\b", sentence.text, re.I)
    if OF_PARTS.search(sentence.text) and not last:
        return
    said = rf"(?P<what>{QUOTED})(?!\s(?:and|or)\s{QUOTED})"
    for pattern in (
        rf"\b(?:end|finish|conclude|close|sign off|sign it off|wrap up)(?:s|es|ing)?\s{_WHOLE}(?:with|by saying|by)\s{_SAYING}{said}",
        rf"\blast (?:sentence|words|line|phrase) (?:of (?:your|the) (?:\w+\s){{0,2}})?(?:should|must|has to) (?:be|read|say)\s{_SAYING}{said}",
        rf"\b(?:end|finish|conclude)\s{_WHOLE}with:\s(?P<what>[^{HIDDEN}]{{3,100}})$",
    ):
        for match in sentence.all(pattern):
            if len(phrase := sentence.phrase(match["what"])) > 1 and not is_of_a_thing(sentence, match):
                yield f"ends:{phrase}"
    for match in sentence.all(rf"\b(?:end|finish)(?:s|ing)?\s{_WHOLE}with\s(?:the\s)?word\s(?P<what>{WORD})"):
        yield f"ends:{match['what']}"


_OTHER_START = re.compile(
    r"paragraph|section|stanza|verse|bullet|each|every|\bline|title|sentences\b|post ?script|note|ending",
    re.I,
)


def starts(sentence: Sentence) -> Found:
    """Yield the first phrase."""
    if _OTHER_START.search(sentence.text):
        return
    for match in sentence.all(
        rf"\b(?:start|begin)(?:s|ning|ing)?\s{_WHOLE}with\s(?:{_SAYING}(?P<what>{QUOTED})|(?:the\s)?word\s(?P<word>{WORD}))"
    ):
        phrase = match["word"] or sentence.phrase(match["what"])
        if len(phrase) > 1 and not is_of_a_thing(sentence, match):
            yield f"starts:{phrase}"
