"""Derive checks of wording: words to use or avoid, beginning and end, case, and punctuation marks.

Other rules derive checks of JSON, of choices such as yes or no, and of the language.
"""

# ruff: noqa: E501  (a pattern is read most easily in one piece)
from __future__ import annotations

import re
from collections.abc import Callable

from redraft.checks.derive.sentences import HIDDEN, OF_PARTS, QUOTED, Found, Sentence, compiled
from redraft.checks.language import BY_NAME
from redraft.checks.text import quoted

MOST_WORDS = 20
"""The most words in a list of words to use or avoid."""

_FUNCTION = (
    "in|the|your|and|or|at|should|must|is|are|to|of|with|for|that|which|anywhere|not|a|an|it|as|be|count|counts|"
    "limit|total|order|choice|list|you|i|we|they|he|she|from|here|above|below|like|such|have|has|was|were|"
    "appears?|only|so|on|by|this|these|those|any|anything|his|her|my|our|their|more|too|how|what|why|who"
)
WORD = rf"(?!(?:{_FUNCTION})\b)[^\W\d_][\w'’-]{{0,30}}"
_JOIN = r"(?:\s?,\s?(?:and |or |nor )?|\s(?:and|or|nor|&)\s)(?:the (?:key)?words? )?"
_LIST = rf"(?:{QUOTED}(?:{_JOIN}{QUOTED}){{0,{MOST_WORDS - 1}}})"
# Words behind a list that are no part of it.
_POLITE = r",?\s(?:please|pls|plz|thanks|thank you|thx)(?:\s*[.;:!?)\n]|$|,?\s(?:in|as|at|with)\b)"
_WORDS = rf"(?:{WORD}(?:(?!{_POLITE}){_JOIN}{WORD}){{0,{MOST_WORDS - 1}}})"
_END = rf"(?=\s?(?:\.(?!\w)|[;:!?)\]]|$)|\s(?:in|anywhere|throughout|within|at all)\b|{_POLITE})"
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
_END_OF_NAMES = r"(?!,? (?:and )?(?:(?-i:[A-Z])\w+|an?|the|my|our|your|his|her|their)\b)(?=\s?(?:[.,;:!?)]|$)|\s(?:in|as|by|at|for|and|somewhere|too|also)\b)"
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
    """Return whether a match is about things, not about the answer: "towns that end with"."""
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
    part = _OF_A_PART.search(re.split(r",|\band\b", sentence.text[: match.end()].rstrip(" ,")[-60:])[-1])
    return bool(part or _FOR_A_PART.match(sentence.text, match.end()))


_LAST = re.compile(r"\W*(?:the|its|your) (?:very )?last (?:sentence|line)\b", re.I)
_ASKS_WHY = re.compile(
    r"\b(?:why|how|whether|when|if|(?<!ensure )(?<!see )(?<!sure )(?<!check )that\s(?=\S))\b"
    r"(?:(?!\band\b| [-–—] )[^.;,:])*$",
    re.I,
)


def _elsewhere(sentence: Sentence, match: re.Match[str]) -> bool:
    of_parts = OF_PARTS.search(sentence.text) and not _LAST.match(sentence.text)
    asks = "ending" not in match[0].lower() and _ASKS_WHY.search(sentence.before(match))
    return bool(of_parts or asks) or is_of_a_thing(sentence, match)


Unless = Callable[[Sentence, re.Match[str]], object]


def wordings(sentence: Sentence) -> Found:
    """Yield the checks of all rows of `_TABLE` that match a sentence."""
    for check, negated, unless, patterns in _TABLE:
        for pattern in patterns:
            for match in sentence.all(pattern, negated=negated):
                if not unless(sentence, match):
                    kind = check.partition(":")[0]
                    yield from (check.format(quoted(each, kind)) for each in _phrases(sentence, match, check))


def _phrases(sentence: Sentence, match: re.Match[str], check: str) -> list[str]:
    """Return a match's phrases, from the group `list` (quotations), `bare` (words) or `what` (a phrase).

    Return nothing if a phrase is unusable, such as one character in `starts:` or `ends:`.
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
        rf"\b(?:end|finish|conclude|close)(?:s|ing)?\s{_WHOLE}(?:with|in|on|by)\s(?:the (?:hash-?tag )?)?(?P<what>[#@]\w[\w-]*)(?! or )",
        rf"\b(?:end|finish|conclude)\s{_WHOLE}with:\s(?P<what>[^{HIDDEN}]{{3,100}})$",
        unless=_elsewhere,
    ),
    *(
        _said(
            f"ends:{mark}",
            rf"\b(?:end|finish|conclude|close)(?:s|es|ing)?\s{_WHOLE}(?:with|in|on|by)\s(?:an? |one |single ){{1,2}}{_MARKS[mark]}(?![\w-])",
            unless=_elsewhere,
        )
        for mark in "?!"
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
"""Each row has a check, in which `{}` stands for a phrase; whether matches after a "not" count; a function
that excludes matches; and the patterns.
"""

_ASKED = (
    r"\b(?:in|as|valid|into|use|using|an?|single|output|return|give(?: me)?|(?:respond|reply|answer) with|to) "
    r"(?:an? |the |valid |single |pure |only )*JSON\b(?! (?:parser|schema|file|library|lines|web|api|token|examples?))"
)
_ASKS = r"\b(?:output|format|extract|respond|response|answer|return|reply|give|provide|write|convert|turn|want|entire)\b"
_LISTED_AS = (
    r"\b(?:list|name|suggest|translate)\b(?:(?! (?:as \w+ as|how|that|which|to|and \w+ (?:it|them)) )[^.])* "
    r"(?:as (?:an? |valid )*JSON(?: (?:list|array|object))?|in JSON format)\W*$"
)
_ITEM = rf"(?:{QUOTED}|{WORD})"
_ANY_ITEM = rf"(?:{QUOTED}|(?!(?:an?|the|any|all|more|others?|so|such|values|etc)\b)[^\W\d_][\w'’-]{{0,30}})"
_KEYS = rf"\b(?:keys|fields)\b(?: are| called| named|:|,)? (?P<keys>{_ITEM}(?:(?!{_POLITE})(?:, | and |, and ){_ANY_ITEM})*)(?=\.(?!\w)|[;:\n]|$|{_POLITE}|\s(?:for|from|of|based|about)\b|,(?: and)? (?:(?:no|nothing|without|but)\b|(?:in|keep|both) (?:(?! and\b)[^,.;:\n(])+(?:[.;:\n]|$)))"
_JSON_LIST = r"\bJSON (?:list|array)\b|\b(?:list|array) of (?:JSON )?objects\b"


def in_json(sentence: Sentence) -> Found:
    """Yield the check for JSON, with the keys that the prompt lists."""
    asked = re.search(_ASKS, sentence.text, re.I) and any(sentence.all(_ASKED))
    if asked or any(sentence.all(_LISTED_AS)):
        keys = compiled(_KEYS).search(sentence.of.masked)
        names = [sentence.phrase(each) for each in re.split(r", and | and |, ", keys["keys"])] if keys else []
        names, listed = names if all(names) else [], sentence.of.has(_JSON_LIST)
        if names and listed:
            yield r"matches:(?s)^[^{\[]*\[\s*\{" + "".join(f'(?=.*"{re.escape(name)}")' for name in names)
        yield f"keys:{','.join(names)}" if names and not listed else "json"


_PAIR = r"yes(?: or | ?/ ?)no|true(?: or | ?/ ?)false"
_OPTION = rf"(?:{QUOTED}|{WORD}|[A-E1-9]\b)"
_OPTIONS = rf"(?:{_OPTION}(?: ?[,/] ?{_OPTION}){{0,8}}(?: ?,? or | ?/ ?){_OPTION})"
_ANSWER = r"\b(?:answer|reply|respond|output|return|say|write|choose|pick)\b"
_ONLY = r"\b(?:just|only|simply|nothing|single word|one word|one of)\b"


def choices(sentence: Sentence) -> Found:
    """Yield the check that the answer is, or begins with, one of several words, such as yes or no."""
    end = r"(?= ?(?:only\b|[.,:;!?)\n–—-]|$))"
    for match in sentence.all(
        rf"(?:{_ANSWER}|{_ONLY})[^.?!:]{{0,30}}?\b(?P<options>{_PAIR})\b(?! \w*(?:questions?|quiz|answers?|statements?|facts?)\b)(?: only)?"
    ):
        yield choice(re.split(r" or | ?/ ?", match["options"]), alone=bool(re.search(_ONLY, match[0], re.I)))
        return
    for match in sentence.all(
        rf"{_ANSWER}(?: \w+){{0,3}}?:? ?\(?(?P<options>{_OPTIONS}){end}(?P<only> only)?"
    ):
        options = [sentence.phrase(each) for each in re.split(r" ?,? or | ?[,/] ?", match["options"])]
        alone = bool(re.search(_ONLY, match[0], re.I))
        if all(options) and (alone or all(len(each) == 1 for each in options)):
            yield choice(options, alone=alone)
            return
    yes_no = re.search(rf"^\W*({_PAIR})\W*(?:$|[:,–—-])|[,–—-] ?({_PAIR})\W*$", sentence.text, re.I)
    if yes_no and (yes_no[1] or _DECIDES.search(sentence.text)):
        yield choice(re.split(r" or | ?/ ?", yes_no[1] or yes_no[2]))


_DECIDES = re.compile(r"^\W*(?:is|are|do|does|did|can|could|should|will|would|was|were|has|have|had)\b", re.I)


def choice(options: list[str], *, alone: bool = False) -> str:
    """Return the check that an answer begins with an option or, if `alone`, is an option and nothing else."""
    words = "|".join(re.escape(each.lower() if len(each) > 1 else each) for each in options)
    end = r"\W*$" if alone else r"\b"
    return rf"matches:(?i)^\W*({words}){end}"


_LANGUAGES = "|".join(BY_NAME)
_WRITES = re.compile(
    r"\b(?:write|written|respond|reply|answer|explain|response|output|describe|rewrite|compose|tell|say|"
    r"please|summari[sz]e|joke|poem|haiku|translate|translation|give|draft|list)\b"
    rf"|^\W*in (?:{_LANGUAGES}):|(?:^\W*|[,(–—-]\s?)(?:all |only |and |but )?in (?:{_LANGUAGES})(?:,? please| only)?\W*$",
    re.I,
)
_OF_A_THING = re.compile(
    r"(?:\b(?:(?:the|these|some|new|first|common|useful) words?|names?|phrases?|terms?|said|says?|call(?:ed)?|works?|books?"
    r"|movies?|films?|songs?|course|class|lyrics|exam|lessons?|fluent|available)\s(?:(?!should|must|be\b|is\b)[\w\U000F0000-\U000FFFF0]+\s){0,3}"
    r"|\b(?:who|whose|where)\b[^.;,:]*)$",
    re.I,
)
"""Matches the text before a language that is not the answer's language, as in "songs in French"."""
_PLAIN = (
    "only|entirely|the|simple|plain|good|proper|formal|standard|modern|brazilian|european|simplified|traditional|"
    "mexican|british|american"
)


def language(sentence: Sentence) -> Found:
    """Yield the check for the language of the answer."""
    if not _WRITES.search(sentence.text) or sentence.of.has(r"\b(?:both|two languages|bilingual)\b"):
        return
    into = "in|into|to" if re.search(r"\btranslat", sentence.text, re.I) else "in|use|using|only"
    ends = r"(?=(?: language)?(?:[.,;:!?)]|$| (?:only|in|and|why|how|no other|without|using|please|that|with|what|for|about)\b))"
    one = rf"(?!(?:,|,? (?:and|or|to)) (?:in )?(?:{_LANGUAGES})\b)"
    spoken = rf"\b(?:{into}) (?:(?:{_PLAIN}) )*(?P<name>{_LANGUAGES})\b{ends}{one}"
    places = [match for match in sentence.all(spoken) if not _OF_A_THING.search(sentence.before(match))]
    if len(found := {BY_NAME[match["name"].lower()] for match in places}) == 1:
        yield f"language:{found.pop()}"
