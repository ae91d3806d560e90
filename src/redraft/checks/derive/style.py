"""Rules for JSON, for yes or no and other choices, and for the language."""

# ruff: noqa: E501  (a pattern is read most easily in one piece)
from __future__ import annotations

import re

from redraft.checks.derive.sentences import QUOTED, Found, Sentence, compiled
from redraft.checks.derive.wording import WORD
from redraft.checks.language import BY_NAME

_ASKED = (
    r"\b(?:in|as|valid|into|use|using|an?|single|output|return|give me|respond with|to) "
    r"(?:an? |the |valid |single |pure |only )*JSON\b(?! (?:parser|schema|file|library|lines|web|api|token))"
)
_ASKS = r"\b(?:output|format|extract|respond|response|answer|return|reply|give|provide|write|convert|turn|want|entire)\b"
_ITEM = rf"(?:{QUOTED}|{WORD})"
_KEYS = rf"\b(?:keys|fields)\b(?: are| called| named|:|,)? (?P<keys>{_ITEM}(?:(?:, | and |, and ){_ITEM})*)(?=[.;:\n]|$|\s(?:for|from|of|based|about)\b)"


def in_json(sentence: Sentence) -> Found:
    """Yield that the answer is JSON, with its keys where the prompt lists them."""
    if re.search(_ASKS, sentence.text, re.I) and any(sentence.all(_ASKED)):
        keys = compiled(_KEYS).search(sentence.of.masked)
        names = [sentence.phrase(each) for each in re.split(r", and | and |, ", keys["keys"])] if keys else []
        yield f"keys:{','.join(names)}" if names and all(names) else "json"


_PAIR = r"yes(?: or | ?/ ?)no|true(?: or | ?/ ?)false"
_OPTION = rf"(?:{QUOTED}|{WORD}|[A-E1-9]\b)"
_OPTIONS = rf"(?:{_OPTION}(?: ?[,/] ?{_OPTION}){{0,8}}(?: ?,? or | ?/ ?){_OPTION})"
_ANSWER = r"\b(?:answer|reply|respond|output|return|say|write|choose|pick)\b"
_ONLY = r"\b(?:just|only|simply|nothing|single word|one word|one of)\b"


def choices(sentence: Sentence) -> Found:
    """Yield that the answer is one of some words, such as yes or no, alone or at its beginning."""
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
    """Return the check that an answer begins with one of some options, or is one of them alone."""
    words = "|".join(re.escape(each.lower() if len(each) > 1 else each) for each in options)
    end = r"\W*$" if alone else r"\b"
    return rf"matches:(?i)^\W*({words}){end}"


_NAMES = "|".join(BY_NAME)
_WRITES = re.compile(
    r"\b(?:write|written|respond|reply|answer|explain|response|output|describe|rewrite|compose|tell|say|"
    r"please|summari[sz]e|joke|poem|haiku|translate|translation|give|draft|list)\b"
    rf"|(?:^\W*|[,(–—-]\s?)(?:all |only |and |but )?in (?:{_NAMES})(?:,? please| only)?\W*$",
    re.I,
)
_OF_A_THING = re.compile(
    r"(?:\b(?:(?:the|these|some|new|first|common|useful) words?|names?|phrases?|terms?|said|says?|call(?:ed)?|works?|books?"
    r"|movies?|films?|songs?|course|class|lyrics|exam|lessons?|fluent|available)\s(?:(?!should|must|be\b|is\b)[\w\U000F0000-\U000FFFF0]+\s){0,3}"
    r"|\b(?:who|whose|where)\b[^.;,:]*)$",
    re.I,
)
"""Before a language: it is that of a thing which the answer is about."""
_PLAIN = (
    "only|entirely|the|simple|plain|good|proper|formal|standard|modern|brazilian|european|simplified|traditional|"
    "mexican|british|american"
)


def language(sentence: Sentence) -> Found:
    """Yield the language of the answer."""
    if not _WRITES.search(sentence.text) or sentence.of.has(r"\b(?:both|two languages|bilingual)\b"):
        return
    into = "in|into|to" if re.search(r"\btranslat", sentence.text, re.I) else "in|use|using|only"
    ends = r"(?=(?: language)?(?:[.,;:!?)]|$| (?:only|in|and|why|how|no other|without|using|please|that|with|what|for|about)\b))"
    one = rf"(?!,? (?:and|or|to) (?:in )?(?:{_NAMES})\b)"
    spoken = rf"\b(?:{into}) (?:(?:{_PLAIN}) )*(?P<name>{_NAMES})\b{ends}{one}"
    places = [match for match in sentence.all(spoken) if not _OF_A_THING.search(sentence.before(match))]
    if len(found := {BY_NAME[match["name"].lower()] for match in places}) == 1:
        yield f"language:{found.pop()}"
