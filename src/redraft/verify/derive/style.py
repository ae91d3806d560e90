"""Rules for form: JSON, case, commas, quotation marks, yes or no, and language."""

# ruff: noqa: E501  (a pattern is read most easily in one piece)
from __future__ import annotations

import re

from redraft.collect.language import BY_NAME
from redraft.verify.derive.sentences import QUOTED, Found, Sentence, compiled
from redraft.verify.derive.wording import NO, WORD

YES_NO = r"matches:(?i)^\W*(yes|no)\b"
YES_NO_ALONE = r"matches:(?i)^\W*(yes|no)\W*$"

_ASKED = (
    r"\b(?:in|as|valid|into|use|using|an?|single|output|return|give me|respond with|to) "
    r"(?:an? |the |valid |single |pure |only )*JSON\b(?! (?:parser|schema|file|library|lines|web|api|token))"
)
_ASKS = (
    r"\b(?:output|format|respond|response|answer|return|reply|give|provide|write|convert|turn|want|entire)\b"
)
_ABOUT_CODE = r"\b(?:not|n't|avoid|parse|function|program|script|code|difference)\b[^.;]{0,30}\bJSON|\bJSON (?:and|vs|or)\b"
_ITEM = rf"(?:{QUOTED}|{WORD})"
_KEYS = rf"\b(?:keys|fields)\b(?: are| called| named|:)? (?P<keys>{_ITEM}(?:(?:, | and |, and ){_ITEM})*)(?=[.;:\n]|$)"


def in_json(sentence: Sentence) -> Found:
    """Yield that the answer is JSON, with its keys where the prompt lists them."""
    if re.search(_ABOUT_CODE, sentence.text, re.I) or not re.search(_ASKS, sentence.text, re.I):
        return
    if any(True for _ in sentence.all(_ASKED)):
        keys = compiled(_KEYS).search(sentence.of.masked)
        names = [sentence.phrase(each) for each in re.split(r", and | and |, ", keys["keys"])] if keys else []
        yield f"keys:{','.join(names)}" if names and all(names) else "json"


_OF_A_PART = re.compile(
    r"\b(?:titles?|headings?|names?|first|initials?|key ?words?|important|sections?|some|few|\d+|letters? of|headers?)\b",
    re.I,
)


def case(sentence: Sentence) -> Found:
    """Yield that all letters are small, or all capitals."""
    how = r"(?:in|all|only|use|using|entirely)(?: in| all| only)?"
    small = rf"\b{how} (?:lower[- ]?case|small letters)\b|\ball (?:of )?(?:the |your )?letters\b[^.;,]{{0,40}}\blower[- ]?case"
    large = rf"\b{how} (?:upper[- ]?case|caps|capitals|capital letters)\b"
    none = r"\b(?:not|no|without|avoid)\b(?! more)[^.;,]{0,20}\bcapital(?: letter)?s?\b|n['’]t use (?:any )?capital"
    for name, pattern in (("lowercase", f"{small}|{none}"), ("uppercase", large)):
        for match in sentence.all(pattern, negated=name == "lowercase"):
            if not _OF_A_PART.search(sentence.before(match)[-40:]):
                yield name
                return


def commas(sentence: Sentence) -> Found:
    """Yield that there are no commas."""
    if any(True for _ in sentence.all(rf"{NO}commas?\b|\bcomma[- ]free\b", negated=True)):
        yield "lacks:,"


def quotation(sentence: Sentence) -> Found:
    """Yield that the whole stands in double quotation marks."""
    wrap = r"\b(?:wrap|put|enclose|surround)(?:ped|d|ed)?\b[^.;]{0,80}\bdouble[- ]quot(?:es|ation)"
    whole = r"\b(?:response|answer|output|reply|whole|entire|everything)\b"
    if any(True for _ in sentence.all(wrap)) and re.search(whole, sentence.text, re.I):
        yield from ('starts:"', 'ends:"')


def yes_or_no(sentence: Sentence) -> Found:
    """Yield that the answer is yes or no, alone or at its beginning."""
    for match in sentence.all(
        r"\b(?P<how>answer|reply|respond|say|just|only|simply)\b(?P<between>[^.?!:]{0,30})\byes(?: or |/)no\b"
    ):
        alone = re.search(r"\b(?:just|only|simply|nothing|single word)\b", match[0], re.I)
        yield YES_NO_ALONE if alone else YES_NO


_CODES = BY_NAME | {
    "bengali": "bn",
    "bulgarian": "bg",
    "czech": "cs",
    "danish": "da",
    "farsi": "fa",
    "finnish": "fi",
    "greek": "el",
    "gujarati": "gu",
    "hebrew": "he",
    "hungarian": "hu",
    "indonesian": "id",
    "kannada": "kn",
    "malayalam": "ml",
    "marathi": "mr",
    "nepali": "ne",
    "norwegian": "no",
    "persian": "fa",
    "punjabi": "pa",
    "romanian": "ro",
    "swahili": "sw",
    "swedish": "sv",
    "tamil": "ta",
    "telugu": "te",
    "thai": "th",
    "urdu": "ur",
    "vietnamese": "vi",
    "catalan": "ca",
    "croatian": "hr",
    "serbian": "sr",
    "slovak": "sk",
}
"""Languages that people ask for, by name -> ISO 639 code."""
_WRITES = re.compile(
    r"\b(?:write|written|respond|reply|answer|explain|response|output|describe|rewrite|compose|tell|say|speak|"
    r"please|summari[sz]e|joke|poem|haiku|translate|translation|give|draft|list)\b",
    re.I,
)


def language(sentence: Sentence) -> Found:
    """Yield the language of the answer."""
    if not _WRITES.search(sentence.text) or sentence.of.has(r"\b(?:both|two languages|bilingual)\b"):
        return
    into = "in|into|to" if re.search(r"\btranslat", sentence.text, re.I) else "in|use|using|only"
    ends = r"(?=(?: language)?(?:[.,;:!?)]|$| (?:only|and|why|how|no other|without|using|please|that|with|what|for|about)\b))"
    spoken = rf"\b(?:{into}) (?:only |entirely |the |simple |plain )*(?P<name>{'|'.join(_CODES)})\b{ends}"
    if len(found := {_CODES[match["name"].lower()] for match in sentence.all(spoken)}) == 1:
        yield f"language:{found.pop()}"
